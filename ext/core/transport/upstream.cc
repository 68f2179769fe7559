#include "core/transport/upstream.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/transport/io_thread.h"
#include "core/transport/plain_stream.h"
#include "core/transport/server_callbacks.h"

namespace assay {
namespace {

constexpr size_t kOutputBytesMax = 128u << 10;
constexpr uint32_t kStreamWindow = 64u << 10;  // of answers that the client has not read yet
// Room for as many calls as one client may forward: one that is not read must not stop the others.
constexpr int32_t kConnectionWindow = 16 << 20;
constexpr int64_t kIdleNsMax = 30'000'000'000;

}  // namespace

std::unique_ptr<Upstream> Upstream::connect(IoThread& thread) {
  const std::string& path = thread.options().forward_path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return nullptr;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return nullptr;
  // A Unix socket connects at once, or its backlog is full.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd);
    return nullptr;
  }
  auto upstream = std::make_unique<Upstream>(thread, fd);
  return upstream->open() ? std::move(upstream) : nullptr;
}

Upstream::Upstream(IoThread& thread, int fd) : thread_(thread), fd_(fd), bytes_(std::make_unique<PlainStream>(fd)) {}

Upstream::~Upstream() {
  fail();
  if (session_ != nullptr) nghttp2_session_del(session_);
  thread_.loop().forget_turn_end(*this);
}

// --- calls

bool Upstream::takes_calls() const noexcept { return !is_broken_ && nghttp2_session_check_request_allowed(session_) != 0; }

int32_t Upstream::begin(const std::vector<nghttp2_nv>& headers, UpstreamCall& call) {
  if (!takes_calls()) return -1;
  nghttp2_data_provider source{};
  source.source.ptr = &call;
  source.read_callback = [](nghttp2_session*, int32_t, uint8_t* data, size_t size, uint32_t* flags, nghttp2_data_source* from,
                            void*) { return static_cast<UpstreamCall*>(from->ptr)->read_request(data, size, flags); };
  const int32_t id = nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(), &source, &call);
  if (id < 0) return id;
  calls_.emplace_back(id, &call);
  thread_.loop().timers().cancel(idle_);
  wants_turn_end();
  return id;
}

void Upstream::resume(int32_t id) noexcept {
  if (is_broken_) return;
  nghttp2_session_resume_data(session_, id);
  wants_turn_end();
}

void Upstream::consume(int32_t id, size_t bytes) noexcept {
  if (is_broken_) return;
  nghttp2_session_consume(session_, id, bytes);
  wants_turn_end();
}

void Upstream::cancel(int32_t id) noexcept {
  if (is_broken_) return;
  const auto found = std::find_if(calls_.begin(), calls_.end(), [id](const auto& entry) { return entry.first == id; });
  if (found == calls_.end()) return;
  forget(found);
  // Also where the request was not sent yet: nghttp2 then never sends it.
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
  wants_turn_end();
}

void Upstream::forget(std::vector<std::pair<int32_t, UpstreamCall*>>::iterator entry) {
  calls_.erase(entry);
  if (calls_.empty()) thread_.loop().timers().set(idle_, thread_.loop().now_ns() + kIdleNsMax);
}

UpstreamCall* Upstream::call_of(int32_t id) noexcept {
  for (const auto& [stream, call] : calls_) {
    if (stream == id) return call;
  }
  return nullptr;
}

// --- bytes

void Upstream::on_ready(uint32_t events) noexcept {
  if (is_broken_) return;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !read_some()) return fail();
  if ((events & EPOLLOUT) != 0) wants_turn_end();
}

bool Upstream::read_some() noexcept {
  std::vector<uint8_t>& buffer = thread_.read_buffer();
  size_t count = 0;
  const IoResult result = bytes_->read(buffer.data(), buffer.size(), &count);
  if (result == IoResult::kBlocked) return true;
  if (result != IoResult::kOk) return false;
  wants_turn_end();
  return nghttp2_session_mem_recv(session_, buffer.data(), count) >= 0;
}

void Upstream::on_turn_end() noexcept {
  if (!is_broken_ && !write_some()) fail();
}

bool Upstream::write_some() noexcept {
  for (;;) {
    if (output_at_ == output_.size()) {
      output_.clear();
      output_at_ = 0;
      while (output_.size() < kOutputBytesMax) {
        const uint8_t* data = nullptr;
        const ssize_t size = nghttp2_session_mem_send(session_, &data);
        if (size <= 0) break;
        output_.insert(output_.end(), data, data + size);
      }
    }
    const bool is_written = output_.empty();
    size_t count = 0;
    const IoResult result =
        is_written ? IoResult::kBlocked : bytes_->write(output_.data() + output_at_, output_.size() - output_at_, &count);
    if (result == IoResult::kClosed || result == IoResult::kFailed) return false;
    output_at_ += count;
    if (result == IoResult::kOk) continue;
    const uint32_t events = is_written ? EPOLLIN : EPOLLIN | EPOLLOUT;
    if (events != events_) thread_.loop().change(fd_, events, *this);
    events_ = events;
    return nghttp2_session_want_read(session_) != 0 || nghttp2_session_want_write(session_) != 0;
  }
}

// Every call hears that it is over. The object goes when its connection needs another, or ends.
void Upstream::fail() noexcept {
  if (is_broken_) return;
  is_broken_ = true;
  thread_.loop().timers().cancel(idle_);
  thread_.loop().remove(fd_, *this);
  bytes_.reset();
  ::close(fd_);
  fd_ = -1;
  const auto calls = std::move(calls_);
  calls_.clear();
  for (const auto& [id, call] : calls) call->on_upstream_closed(NGHTTP2_REFUSED_STREAM);
}

void Upstream::wants_turn_end() { thread_.loop().at_turn_end(*this); }

// --- nghttp2's side

struct UpstreamCallbacks {
  static Upstream& self(void* user) { return *static_cast<Upstream*>(user); }

  static int begin_headers(nghttp2_session*, const nghttp2_frame*, void* user) {
    self(user).fields_.clear();
    return 0;
  }
  static int header(nghttp2_session*, const nghttp2_frame*, nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t flags,
                    void* user) {
    self(user).fields_.emplace_back(name, value, flags);
    return 0;
  }
  static int frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    const bool is_last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type != NGHTTP2_HEADERS && !(frame->hd.type == NGHTTP2_DATA && is_last)) return 0;
    UpstreamCall* call = self(user).call_of(frame->hd.stream_id);
    if (call == nullptr) return 0;
    if (frame->hd.type == NGHTTP2_DATA) {
      call->on_upstream_end();
    } else {
      call->on_upstream_headers(std::move(self(user).fields_), is_last);
      self(user).fields_.clear();
    }
    return 0;
  }
  static int data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* bytes, size_t size, void* user) {
    UpstreamCall* call = self(user).call_of(id);
    if (call == nullptr) {
      self(user).consume(id, size);
    } else {
      call->on_upstream_data({reinterpret_cast<const char*>(bytes), size});
    }
    return 0;
  }
  static int stream_closed(nghttp2_session*, int32_t id, uint32_t error_code, void* user) {
    Upstream& upstream = self(user);
    UpstreamCall* call = upstream.call_of(id);
    if (call == nullptr) return 0;
    upstream.forget(std::find(upstream.calls_.begin(), upstream.calls_.end(), std::make_pair(id, call)));
    call->on_upstream_closed(error_code);
    return 0;
  }

  static nghttp2_session_callbacks* make() {
    nghttp2_session_callbacks* callbacks = nullptr;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return nullptr;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, stream_closed);
    return callbacks;
  }
};

bool Upstream::open() {
  static nghttp2_session_callbacks* const callbacks = UpstreamCallbacks::make();
  nghttp2_option* option = nullptr;
  if (callbacks == nullptr || nghttp2_option_new(&option) != 0) return false;
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_max_send_header_block_length(option, sent_header_bytes_max(thread_.options()));
  const int made = nghttp2_session_client_new2(&session_, callbacks, this, option);
  nghttp2_option_del(option);
  if (made != 0) return false;
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  if (!thread_.loop().add(fd_, EPOLLIN, *this).ok()) return false;
  events_ = EPOLLIN;
  wants_turn_end();
  return true;
}

}  // namespace assay
