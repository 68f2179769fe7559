#include "core/load/load_connection.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace assay::load {
namespace {

constexpr size_t kWriteBytes = 64 << 10;  // gathered for one write
constexpr int kReadsMax = 16;             // of one connection, before others have their turn
constexpr uint32_t kStreamWindow = 1 << 20;
constexpr int32_t kConnectionWindow = 1 << 30;
constexpr uint32_t kCallsMax = (uint32_t{1} << 30) - 1;  // stream numbers of one connection
constexpr size_t kMessageBytesMax = 256;
constexpr int64_t kGreetingNsMax = 5'000'000'000;
constexpr int64_t kRetryNsMin = 10'000'000, kRetryNsMax = 1'000'000'000;
constexpr char kNotHttp2[] = "it does not speak HTTP/2";
constexpr int32_t kStatusMax = static_cast<int32_t>(Outcome::kUnauthenticated);

// A number of at most three digits; -1: it is none.
int32_t small_number(const uint8_t* text, size_t size) noexcept {
  if (size == 0 || size > 3) return -1;
  int32_t number = 0;
  for (size_t i = 0; i < size; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    number = number * 10 + (text[i] - '0');
  }
  return number;
}

bool is_name(const uint8_t* name, size_t size, std::string_view wanted) noexcept {
  return size == wanted.size() && std::memcmp(name, wanted.data(), size) == 0;
}

nghttp2_nv view_of(const Header& header) noexcept {
  const auto bytes = [](const std::string& text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data())); };
  // nghttp2 takes pointers to what it may change and, with these flags, neither changes nor copies it.
  constexpr uint8_t kFlags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
  return {bytes(header.name), bytes(header.value), header.name.size(), header.value.size(), kFlags};
}

}  // namespace

// `context` is the connection in all of them.
struct LoadConnection::Callbacks {
  static LoadConnection& self(void* context) noexcept { return *static_cast<LoadConnection*>(context); }
  static Call* call_of(nghttp2_session* session, int32_t stream) noexcept {
    return static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void*) noexcept {
    const bool is_status = is_name(name, name_size, "grpc-status");
    const bool is_message = !is_status && is_name(name, name_size, "grpc-message");
    if (!is_status && !is_message && !is_name(name, name_size, ":status")) return 0;
    Call* const call = call_of(session, frame->hd.stream_id);
    if (call == nullptr) return 0;
    if (is_message) {
      call->message.assign(reinterpret_cast<const char*>(value), std::min(value_size, kMessageBytesMax));
    } else if (is_status) {
      const int32_t status = small_number(value, value_size);
      call->grpc_status = status < 0 || status > kStatusMax ? static_cast<int32_t>(Outcome::kUnknownStatus) : status;
    } else {
      call->http_status = small_number(value, value_size);
    }
    return 0;
  }

  static int on_data(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t*, size_t size, void*) noexcept {
    if (Call* const call = call_of(session, stream)) call->answer_bytes += size;
    return 0;
  }

  static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* context) noexcept {
    LoadConnection& connection = self(context);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      connection.leave();
    } else if (frame->hd.type == NGHTTP2_SETTINGS && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
      connection.peer_streams_ = nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
      if (connection.state_ == State::kGreeting) {
        connection.state_ = State::kOpen;
        connection.retry_delay_ns_ = 0;
        if (connection.has_been_open_) connection.tally_.live().reconnects.add();
        connection.has_been_open_ = true;
      }
    }
    return 0;
  }

  static int on_stream_close(nghttp2_session* session, int32_t stream, uint32_t error_code, void* context) noexcept {
    if (Call* const call = call_of(session, stream)) self(context).end_call(*call, outcome_of(*call, error_code));
    return 0;
  }

  static ssize_t read_body(nghttp2_session*, int32_t, uint8_t* buffer, size_t size, uint32_t* flags, nghttp2_data_source* source,
                           void*) noexcept {
    Call& call = *static_cast<Call*>(source->ptr);
    const size_t count = std::min(size, call.body_bytes - call.body_at);
    std::memcpy(buffer, call.body + call.body_at, count);
    call.body_at += count;
    if (call.body_at == call.body_bytes) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(count);
  }

  // Made once, kept for the process.
  static const nghttp2_session_callbacks* all() {
    static const nghttp2_session_callbacks* const callbacks = [] {
      nghttp2_session_callbacks* made = nullptr;
      ASSAY_ASSERT(nghttp2_session_callbacks_new(&made) == 0);
      nghttp2_session_callbacks_set_on_header_callback(made, on_header);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, on_data);
      nghttp2_session_callbacks_set_on_frame_recv_callback(made, on_frame);
      nghttp2_session_callbacks_set_on_stream_close_callback(made, on_stream_close);
      return made;
    }();
    return callbacks;
  }
};

LoadConnection::LoadConnection(const ConnectionSettings& settings, Tally& tally, int epoll_fd, std::vector<uint8_t>& read_buffer)
    : settings_(settings), tally_(tally), epoll_fd_(epoll_fd), read_buffer_(read_buffer), calls_(settings.streams_max) {
  for (const Header& header : settings.headers) headers_.push_back(view_of(header));
  for (Call& call : calls_) free_.push_back(&call);
  out_.reserve(2 * kWriteBytes);
}

LoadConnection::~LoadConnection() { close(Outcome::kUnanswered, {}, now_ns_); }

void LoadConnection::connect(int64_t now_ns) {
  ASSAY_ASSERT(state_ == State::kDown);
  now_ns_ = begun_ns_ = now_ns;
  fd_ = start_connection(settings_.address);
  if (fd_ < 0) return close(Outcome::kConnectionLost, std::strerror(errno), now_ns);
  state_ = State::kConnecting;
  watched_ = EPOLLOUT;
  epoll_event event{};
  event.events = watched_;
  event.data.ptr = this;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd_, &event) != 0) close(Outcome::kConnectionLost, std::strerror(errno), now_ns);
}

uint32_t LoadConnection::room() const noexcept {
  if (state_ != State::kOpen) return 0;
  const uint32_t most = std::min(settings_.streams_max, peer_streams_);
  return most > open_count_ ? most - open_count_ : 0;
}

void LoadConnection::open_call(std::string_view frame, int64_t intended_ns, int64_t now_ns) {
  ASSAY_ASSERT(room() > 0);
  Call& call = *free_.back();
  free_.pop_back();
  call.intended_ns = intended_ns;
  call.sent_ns = now_ns;
  call.body = frame.data();
  call.body_bytes = frame.size();
  call.body_at = call.answer_bytes = 0;
  call.http_status = 0;
  call.grpc_status = -1;
  call.is_open = true;
  call.is_timed_out = false;
  call.message.clear();
  nghttp2_data_provider body{};
  body.source.ptr = &call;
  body.read_callback = Callbacks::read_body;
  call.stream = nghttp2_submit_request(session_, nullptr, headers_.data(), headers_.size(), &body, &call);
  ASSAY_ASSERT(call.stream > 0);
  ++open_count_;
  if (settings_.timeout_ns > 0) append(call);
  tally_.call_sent();
  if (++opened_count_ == kCallsMax) leave();
}

void LoadConnection::on_ready(uint32_t events, int64_t now_ns) {
  now_ns_ = now_ns;
  if (state_ == State::kConnecting) return on_connected(now_ns);
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive();
  is_blocked_ = false;
  if (state_ != State::kDown && stream_->read_wants_write()) receive();
}

void LoadConnection::flush(int64_t now_ns) {
  now_ns_ = now_ns;
  do {
    write_all();
    // A handshake that a write finished may have brought data along, of which epoll says nothing.
    if (session_ != nullptr && stream_->has_pending()) receive();
  } while (session_ != nullptr && !is_blocked_ && has_more_to_write());
  if (session_ == nullptr) return;
  const bool is_left = state_ == State::kLeaving && open_count_ == 0;
  const bool is_done = is_left || (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0);
  if (is_done && !has_more_to_write()) {
    return state_ == State::kGreeting ? close(Outcome::kConnectionLost, kNotHttp2, now_ns) : lose();
  }
  watch();
}

void LoadConnection::tick(int64_t now_ns) {
  now_ns_ = now_ns;
  if (state_ == State::kDown) {
    if (now_ns >= retry_ns_) connect(now_ns);
    return;
  }
  const bool is_greeting = state_ == State::kConnecting || state_ == State::kGreeting;
  if (is_greeting && now_ns - begun_ns_ > kGreetingNsMax) {
    return close(Outcome::kConnectionLost, "it takes the connection and says nothing", now_ns);
  }
  while (oldest_ != nullptr && now_ns - oldest_->sent_ns >= settings_.timeout_ns) {
    Call& call = *oldest_;
    unlink(call);
    call.is_timed_out = true;  // it ends when the reset is written
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, call.stream, NGHTTP2_CANCEL);
  }
}

void LoadConnection::close(Outcome outcome, std::string why, int64_t now_ns) {
  now_ns_ = now_ns;
  const bool is_orderly = state_ == State::kLeaving;
  state_ = State::kDown;
  nghttp2_session_del(session_);  // calls nothing back
  session_ = nullptr;
  stream_.reset();
  if (fd_ >= 0) ::close(fd_);  // epoll forgets it
  fd_ = -1;
  out_.clear();
  out_at_ = 0;
  is_blocked_ = false;
  for (Call& call : calls_) {
    if (call.is_open) end_call(call, outcome);
  }
  opened_count_ = 0;
  failure_ = std::move(why);
  retry_delay_ns_ = is_orderly ? 0 : std::clamp(2 * retry_delay_ns_, kRetryNsMin, kRetryNsMax);
  retry_ns_ = now_ns + retry_delay_ns_;
}

// --- implementation ---

void LoadConnection::on_connected(int64_t now_ns) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return close(Outcome::kConnectionLost, std::strerror(error), now_ns);
  state_ = State::kGreeting;
  stream_ = settings_.stream_maker->make(fd_);
  make_session();
}

void LoadConnection::make_session() {
  ASSAY_ASSERT(nghttp2_session_client_new(&session_, Callbacks::all(), this) == 0);
  const nghttp2_settings_entry entries[] = {
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
  };
  ASSAY_ASSERT(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries, std::size(entries)) == 0);
  ASSAY_ASSERT(nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow) == 0);
}

bool LoadConnection::has_more_to_write() const noexcept {
  return out_at_ < out_.size() || nghttp2_session_want_write(session_) != 0;
}

void LoadConnection::write_all() {
  while (session_ != nullptr && !is_blocked_) {
    pull();
    if (out_at_ == out_.size()) return;
    size_t count = 0;
    const IoResult result = stream_->write(out_.data() + out_at_, out_.size() - out_at_, &count);
    if (result == IoResult::kFailed || result == IoResult::kClosed) return lose();
    is_blocked_ = result == IoResult::kBlocked;
    out_at_ += count;
    tally_.live().sent_bytes.add(count);
  }
}

// The connection has ended by itself.
void LoadConnection::lose() {
  std::string why = settings_.stream_maker->failure_of(*stream_);
  if (why.empty())
    why = state_ == State::kGreeting ? "the connection ended before HTTP/2 began" : "the server closed the connection";
  close(Outcome::kConnectionLost, std::move(why), now_ns_);
}

void LoadConnection::receive() {
  for (int reads = 0; reads < kReadsMax && state_ != State::kDown; ++reads) {
    size_t count = 0;
    const IoResult result = stream_->read(read_buffer_.data(), read_buffer_.size(), &count);
    if (result == IoResult::kBlocked) return;
    if (result != IoResult::kOk) return lose();
    tally_.live().received_bytes.add(count);
    if (!take(read_buffer_.data(), count)) return;
    if (count < read_buffer_.size() && !stream_->has_pending()) return;
  }
}

// False: the connection is gone.
bool LoadConnection::take(const uint8_t* data, size_t size) {
  const ssize_t taken = nghttp2_session_mem_recv(session_, data, size);
  if (taken >= 0) return true;
  close(Outcome::kConnectionLost, state_ == State::kGreeting ? kNotHttp2 : nghttp2_strerror(static_cast<int>(taken)), now_ns_);
  return false;
}

// Gathers frames up to kWriteBytes.
void LoadConnection::pull() {
  if (out_at_ == out_.size()) {
    out_.clear();
    out_at_ = 0;
  }
  while (out_.size() - out_at_ < kWriteBytes) {
    const uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_, &data);
    ASSAY_ASSERT(size >= 0);  // no memory
    if (size == 0) return;
    out_.insert(out_.end(), data, data + size);
  }
}

// Asks epoll for what is waited for, if that has changed.
void LoadConnection::watch() noexcept {
  const bool is_write_wanted = (is_blocked_ && !stream_->write_wants_read()) || stream_->read_wants_write();
  const uint32_t wanted = EPOLLIN | (is_write_wanted ? uint32_t{EPOLLOUT} : 0);
  if (wanted == watched_) return;
  watched_ = wanted;
  epoll_event event{};
  event.events = wanted;
  event.data.ptr = this;
  ASSAY_ASSERT(epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd_, &event) == 0);
}

void LoadConnection::leave() noexcept {
  if (state_ == State::kOpen || state_ == State::kGreeting) state_ = State::kLeaving;
}

Outcome LoadConnection::outcome_of(const Call& call, uint32_t error_code) noexcept {
  if (call.is_timed_out) return Outcome::kTimedOut;
  if (call.grpc_status > 0) return static_cast<Outcome>(call.grpc_status);
  if (call.grpc_status == 0) return call.answer_bytes >= 5 ? Outcome::kOk : Outcome::kNoMessage;
  if (call.http_status != 0 && call.http_status != 200) return Outcome::kHttpError;
  return error_code == NGHTTP2_NO_ERROR ? Outcome::kNoStatus : Outcome::kReset;
}

void LoadConnection::end_call(Call& call, Outcome outcome) {
  unlink(call);
  call.is_open = false;
  --open_count_;
  free_.push_back(&call);
  tally_.call_ended(call.intended_ns, now_ns_, outcome, call.message);
}

void LoadConnection::append(Call& call) noexcept {
  call.older = newest_;
  call.newer = nullptr;
  (newest_ != nullptr ? newest_->newer : oldest_) = &call;
  newest_ = &call;
}

// One that is in no list: nothing happens.
void LoadConnection::unlink(Call& call) noexcept {
  if (call.older == nullptr && oldest_ != &call) return;
  (call.older != nullptr ? call.older->newer : oldest_) = call.newer;
  (call.newer != nullptr ? call.newer->older : newest_) = call.older;
  call.older = call.newer = nullptr;
}

}  // namespace assay::load
