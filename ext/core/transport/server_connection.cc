#include "core/transport/server_connection.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>

#include "core/base/random.h"
#include "core/transport/call_head.h"
#include "core/transport/forwarded_call.h"
#include "core/transport/grpc_text.h"
#include "core/transport/io_thread.h"
#include "core/transport/plain_stream.h"
#include "core/transport/refused_call.h"
#include "core/transport/role_table.h"
#include "core/transport/score_stream_call.h"
#include "core/transport/server_callbacks.h"
#include "core/transport/tls.h"
#include "core/transport/unary_call.h"
#include "core/transport/upstream.h"

namespace assay {
namespace {

constexpr size_t kOutputBytesMax = 128u << 10;   // gathered for one write
constexpr size_t kOutputBytesKept = 64u << 10;   // of a connection that has nothing to write
constexpr size_t kQueuedFramesMax = 20'000;      // that the client does not read: it is closed
constexpr int32_t kConnectionWindow = 16 << 20;  // what all its calls together may send ahead
constexpr uint32_t kStreamWindow = 256u << 10;
// Bombs: so many bytes of headers past their limit, or of what a message inflates to beyond what is usual, are one nuisance.
constexpr size_t kBombBytes = 4096;
// Of an answer in one frame: a client that lets it out byte by byte earns nothing by that.
constexpr size_t kEarningDataBytes = 64;
constexpr std::array<uint8_t, 8> kKeepalivePing = {'k', 'e', 'e', 'p', 0, 0, 0, 0};
constexpr std::array<uint8_t, 8> kNoticePing = {'l', 'e', 'a', 'v', 'e', 0, 0, 0};

// Of the methods that are answered here; CallKind{}: another.
CallKind scoring_call(std::string_view path) noexcept {
  constexpr std::string_view kService = "/assay.v1.ScoringService/";
  if (path == "/inference.GRPCInferenceService/ModelInfer") return CallKind::kInfer;
  if (path.substr(0, kService.size()) != kService) return CallKind{};
  const std::string_view method = path.substr(kService.size());
  if (method == "Score") return CallKind::kUnary;
  if (method == "ScoreBatch") return CallKind::kBatch;
  if (method == "ScoreStream") return CallKind::kStream;
  return CallKind{};
}

}  // namespace

ServerConnection::ServerConnection(IoThread& thread, int fd)
    : thread_(thread),
      fd_(fd),
      wants_certificate_(thread.protection().roles != nullptr),
      head_(thread.options().metadata_bytes_max),
      watch_(*this, thread.loop().timers(), thread.options(), thread.loop().now_ns(), random_share()),
      nuisance_(thread.loop().now_ns()) {
  caller_.needs_certificate = wants_certificate_;
  if (thread.protection().tls == nullptr) {
    bytes_ = std::make_unique<PlainStream>(fd);
    return;
  }
  auto tls = std::make_unique<TlsStream>(fd, *thread.protection().tls);
  tls_ = tls.get();
  bytes_ = std::move(tls);
}

ServerConnection::~ServerConnection() {
  while (streams_ != nullptr) end_stream(*streams_);
  upstreams_.clear();
  if (session_ != nullptr) nghttp2_session_del(session_);
  if (events_ != 0) thread_.loop().remove(fd_, *this);
  thread_.loop().forget_turn_end(*this);
  bytes_.reset();
  if (fd_ >= 0) ::close(fd_);
}

Status ServerConnection::open() {
  if (!make_server_session(thread_.options(), this, &session_)) return Status(Code::kInternal, "nghttp2 session");
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, thread_.options().connection_streams_max},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(thread_.options().metadata_bytes_max)},
  };
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  const Status status = thread_.loop().add(fd_, EPOLLIN, *this);
  if (!status.ok()) return status;
  events_ = EPOLLIN;
  wants_turn_end();
  return Status();
}

void ServerConnection::drain(int64_t grace_ns) {
  for (ServerStream* stream = streams_; stream != nullptr; stream = stream->next_) stream->on_drain();
  watch_.send_away(thread_.loop().now_ns(), grace_ns, "draining");
}

// --- for its streams

void ServerConnection::consume(int32_t stream_id, size_t bytes) noexcept {
  if (bytes == 0) return;
  nghttp2_session_consume(session_, stream_id, bytes);
  thread_turn_end();
}

void ServerConnection::wants_fed(ServerStream& stream) {
  if (stream.wants_fed_) return;
  stream.wants_fed_ = true;
  fed_.push_back(&stream);
}

void ServerConnection::count_bytes(size_t before, size_t after) noexcept {
  held_bytes_ += after - before;
  thread_.count_bytes(before, after);
}

bool ServerConnection::spend(int64_t count) noexcept {
  return !is_calmed_ && (nuisance_.spend(thread_.loop().now_ns(), count) || calm({}));
}

void ServerConnection::spend_inflating(size_t idle_bytes) noexcept {
  if (idle_bytes >= kBombBytes) spend(static_cast<int64_t>(idle_bytes / kBombBytes));
}

double ServerConnection::random_share() const noexcept { return static_cast<double>(random_u64() >> 11) * 0x1p-53; }

Upstream* ServerConnection::upstream() {
  if (!upstreams_.empty() && upstreams_.back()->takes_calls()) return upstreams_.back().get();
  const auto is_over = [](const auto& upstream) { return upstream->is_idle(); };
  upstreams_.erase(std::remove_if(upstreams_.begin(), upstreams_.end(), is_over), upstreams_.end());
  std::unique_ptr<Upstream> made = Upstream::connect(thread_);
  if (made == nullptr) return nullptr;
  upstreams_.push_back(std::move(made));
  return upstreams_.back().get();
}

// --- bytes in

void ServerConnection::on_ready(uint32_t events) noexcept {
  if (is_dead_) return;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !read_some()) return;
  if ((events & EPOLLOUT) != 0) {
    if (bytes_->read_wants_write() && !read_some()) return;
    wants_turn_end();
  }
}

// About one buffer a turn, so that a client that sends much does not hold up the others: the socket stays readable, and epoll tells it again.
bool ServerConnection::read_some() noexcept {
  std::vector<uint8_t>& buffer = thread_.read_buffer();
  size_t total = 0;
  do {
    size_t count = 0;
    switch (bytes_->read(buffer.data(), buffer.size(), &count)) {
      case IoResult::kOk: break;
      case IoResult::kBlocked: listen(); return true;
      case IoResult::kClosed: kill(CloseReason::kClient); return false;
      case IoResult::kFailed: kill(CloseReason::kBroken); return false;
    }
    watch_.on_bytes(thread_.loop().now_ns());
    if (!feed(buffer.data(), count)) return false;
    total += count;
  } while (bytes_->has_pending() && total < buffer.size());  // what TLS still has is read at the turn's end
  return true;
}

bool ServerConnection::feed(const uint8_t* data, size_t size) noexcept {
  const ssize_t read = nghttp2_session_mem_recv(session_, data, size);
  tell_fed();
  wants_turn_end();
  if (read >= 0 && !is_calmed_) return true;
  // What nghttp2 has to say about it (GOAWAY) goes out with what is there, as far as the socket takes it.
  write_some();
  kill(is_calmed_ || read == NGHTTP2_ERR_FLOODED ? CloseReason::kFlood : CloseReason::kProtocol);
  return false;
}

// Calls whose requests are whole are submitted now, together.
void ServerConnection::tell_fed() noexcept {
  for (size_t i = 0; i < fed_.size() && !is_calmed_; ++i) {
    ServerStream* stream = fed_[i];
    if (stream == nullptr) continue;
    stream->wants_fed_ = false;
    stream->on_fed();
  }
  fed_.clear();
  thread_.submit_waiting();
}

// --- bytes out

void ServerConnection::thread_turn_end() { thread_.loop().at_turn_end(*this); }

void ServerConnection::on_turn_end() noexcept {
  if (is_dead_ || !write_some()) return;
  if (bytes_->has_pending() && !read_some()) return;  // a write may have ended the handshake, and brought more
  // What nghttp2 has given is not what the socket has taken.
  const bool is_written = output_at_ == output_.size();
  const bool wants_none = nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
  if (is_written && (wants_none || is_calmed_)) kill(is_calmed_ ? CloseReason::kFlood : CloseReason::kLeft);
}

// False: the connection is gone, or will be.
bool ServerConnection::write_some() noexcept {
  for (;;) {
    if (output_at_ == output_.size() && !fill_output()) {
      kill(CloseReason::kProtocol);
      return false;
    }
    if (output_.empty()) {
      if (output_.capacity() > kOutputBytesKept) std::vector<uint8_t>().swap(output_);
      is_write_blocked_ = false;
      listen();
      return true;
    }
    size_t count = 0;
    switch (bytes_->write(output_.data() + output_at_, output_.size() - output_at_, &count)) {
      case IoResult::kOk: output_at_ += count; break;
      case IoResult::kBlocked:
        is_write_blocked_ = true;
        listen();
        if (nghttp2_session_get_outbound_queue_size(session_) <= kQueuedFramesMax) return true;
        kill(CloseReason::kUnread);
        return false;
      case IoResult::kClosed:
      case IoResult::kFailed: kill(CloseReason::kBroken); return false;
    }
  }
}

// False: nghttp2 has given up.
bool ServerConnection::fill_output() {
  output_.clear();
  output_at_ = 0;
  while (output_.size() < kOutputBytesMax) {
    const uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_, &data);
    if (size < 0) return false;
    if (size == 0) break;
    output_.insert(output_.end(), data, data + size);
  }
  return true;
}

void ServerConnection::listen() noexcept {
  const bool wants_out = (is_write_blocked_ && !bytes_->write_wants_read()) || bytes_->read_wants_write();
  const uint32_t events = wants_out ? EPOLLIN | EPOLLOUT : EPOLLIN;
  if (events == events_ || is_dead_) return;
  events_ = events;
  thread_.loop().change(fd_, events, *this);
}

// --- Watched

void ServerConnection::send_ping() noexcept {
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kKeepalivePing.data());
  wants_turn_end();
}

void ServerConnection::send_notice() noexcept {
  nghttp2_submit_shutdown_notice(session_);  // and, once it is sent, a ping: on_sent()
  wants_turn_end();
}

void ServerConnection::send_goaway(const char* why) noexcept {
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                        reinterpret_cast<const uint8_t*>(why), std::strlen(why));
  wants_turn_end();
}

// The object lives on until the end of the turn: whoever called may be one of its own functions.
void ServerConnection::kill(CloseReason why) noexcept {
  if (is_dead_) return;
  is_dead_ = true;
  bytes_->close_write();
  thread_.loop().remove(fd_, *this);
  events_ = 0;
  thread_.bury(*this, why);
}

// --- frames

void ServerConnection::begin_stream(int32_t id) {
  std::unique_ptr<ServerStream> made = make_stream(id);
  ServerStream* stream = made.release();  // ours: end_stream() deletes it
  stream->next_ = streams_;
  if (streams_ != nullptr) streams_->previous_ = stream;
  streams_ = stream;
  if (stream->is_forwarded()) count_forwarded(1);
  if (stream_count_++ == 0) watch_.on_streams(1, thread_.loop().now_ns());
  nghttp2_session_set_stream_user_data(session_, id, stream);
}

// What answers the request whose headers are in head_.
std::unique_ptr<ServerStream> ServerConnection::make_stream(int32_t id) {
  if (head_.is_too_large()) { return std::make_unique<RefusedCall>(*this, id, thread_.refuse(Code::kMetadataTooLarge)); }
  if (head_.method != "POST") return std::make_unique<RefusedCall>(*this, id, 405);
  if (!is_grpc_content_type(head_.content_type)) return std::make_unique<RefusedCall>(*this, id, 415);
  // Whatever it says is "trailers": nghttp2 lets nothing else through.
  if (head_.te.data() == nullptr) {
    const char* const detail = "\"te: trailers\" is missing: what stands on the way may not let trailers through";
    return std::make_unique<RefusedCall>(*this, id, thread_.refuse(Code::kMalformedCall, detail));
  }
  const Code access = check_call(head_.path);
  if (access != Code::kOk) return std::make_unique<RefusedCall>(*this, id, deny(access));
  const CallKind kind = scoring_call(head_.path);
  if (kind != CallKind{}) return make_scoring_call(id, kind);
  return ForwardedCall::make(*this, id, head_);
}

// The roles are looked up anew where the table has changed; whether the certificate has expired, at every call.
Code ServerConnection::check_call(std::string_view method) {
  if (wants_certificate_) {
    const std::shared_ptr<const RoleTable>& roles = thread_.protection().roles;
    if (!peer_.has_certificate) peer_ = identity_of(*tls_);
    // A table that was taken away gives nothing to those who came while it was there, and takes nothing.
    if (roles != nullptr && (peer_roles_ != roles || peer_.has_expired(::time(nullptr)))) {
      peer_roles_ = roles;
      caller_ = roles->caller_of(peer_, ::time(nullptr));
    }
  }
  const Code code = check_access(thread_.options().listener, method, caller_);
  if (code != Code::kUnknownMethod) return code;
  const std::vector<std::string>& allowed = thread_.options().test_only_methods;
  return std::find(allowed.begin(), allowed.end(), method) != allowed.end() ? Code::kOk : code;
}

Status ServerConnection::deny(Code code) {
  const std::string_view principal = peer_.principals.empty() ? std::string_view() : std::string_view(peer_.principals.front());
  Status status = thread_.deny(code, head_.path, principal);
  if (code == Code::kMissingCertificate && peer_.has_certificate) {
    status.detail = "it has expired since it was shown; connect with a new one";
  }
  if (code == Code::kMissingRole) {
    const std::string shown = principal.empty() ? "without a name" : printable(principal);
    status.detail = "principal " + shown + "; its roles: " + role_names(caller_.roles);
  }
  return status;
}

std::unique_ptr<ServerStream> ServerConnection::make_scoring_call(int32_t id, CallKind kind) {
  CallHead head;
  Status status = read_call_head(head_, thread_.loop().now_ns(), &head);
  if (status.ok() && kind == CallKind::kStream) status = thread_.claim_stream();
  if (!status.ok()) return std::make_unique<RefusedCall>(*this, id, thread_.refuse(status.code, status.detail));
  if (kind == CallKind::kStream) return std::make_unique<ScoreStreamCall>(*this, id, head);
  return std::make_unique<UnaryCall>(*this, id, kind, head);
}

void ServerConnection::count_forwarded(int change) noexcept {
  forwarded_count_ += static_cast<size_t>(change);
  thread_.counters().open_forwarded_calls.add(static_cast<uint64_t>(change));  // wraps, as the other does
}

void ServerConnection::end_stream(ServerStream& stream) noexcept {
  stream.on_closed();
  if (stream.held_credit_ > 0 && session_ != nullptr) nghttp2_session_consume_connection(session_, stream.held_credit_);
  if (stream.wants_fed_) std::replace(fed_.begin(), fed_.end(), &stream, static_cast<ServerStream*>(nullptr));
  if (stream.next_ != nullptr) stream.next_->previous_ = stream.previous_;
  (stream.previous_ != nullptr ? stream.previous_->next_ : streams_) = stream.next_;
  if (stream.is_forwarded()) count_forwarded(-1);
  delete &stream;
  if (--stream_count_ == 0 && !is_dead_) watch_.on_streams(0, thread_.loop().now_ns());
}

// False: the client misbehaves; the connection ends.
bool ServerConnection::on_frame(const nghttp2_frame& frame) {
  const int64_t now_ns = thread_.loop().now_ns();
  auto* stream = static_cast<ServerStream*>(nghttp2_session_get_stream_user_data(session_, frame.hd.stream_id));
  switch (frame.hd.type) {
    case NGHTTP2_HEADERS:
      if (frame.headers.cat == NGHTTP2_HCAT_REQUEST) {
        begin_stream(frame.hd.stream_id);
        stream = static_cast<ServerStream*>(nghttp2_session_get_stream_user_data(session_, frame.hd.stream_id));
      }
      break;
    case NGHTTP2_DATA:
      if (frame.hd.length == frame.data.padlen && (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 && !spend(1)) return false;
      break;
    case NGHTTP2_PING: return on_ping(frame);
    case NGHTTP2_SETTINGS:
      if ((frame.hd.flags & NGHTTP2_FLAG_ACK) == 0) watch_.on_settings(now_ns);
      return spend(1);
    default: return spend(1);
  }
  if ((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 || stream == nullptr) return true;
  stream->on_end();
  return true;
}

bool ServerConnection::on_ping(const nghttp2_frame& frame) {
  const int64_t now_ns = thread_.loop().now_ns();
  if (!spend(1)) return false;
  if ((frame.hd.flags & NGHTTP2_FLAG_ACK) == 0) return watch_.on_client_ping(now_ns) || calm("too_many_pings");
  if (std::equal(kNoticePing.begin(), kNoticePing.end(), frame.ping.opaque_data)) watch_.on_notice_answered(now_ns);
  return true;
}

// An answer that ended before the request: the client need not send the rest (RFC 9113, section 8.1).
void ServerConnection::on_sent(const nghttp2_frame& frame) noexcept {
  // Not together with it: nghttp2 sends pings first, and then the answer would not say that the client has read the GOAWAY.
  if (frame.hd.type == NGHTTP2_GOAWAY && frame.goaway.last_stream_id == INT32_MAX) {
    nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kNoticePing.data());
  }
  if (frame.hd.type == NGHTTP2_HEADERS || frame.hd.type == NGHTTP2_DATA) watch_.on_answer_sent();
  // Earned by what is answered, not by what is asked: a call that is reset at once was no request.
  const bool is_end = frame.hd.type == NGHTTP2_HEADERS && (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (is_end || (frame.hd.type == NGHTTP2_DATA && frame.hd.length >= kEarningDataBytes)) nuisance_.earn_request();
  if (!is_end) return;
  if (nghttp2_session_get_stream_remote_close(session_, frame.hd.stream_id) == 0) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR);
  }
}

// An answer that nghttp2 cannot send (a header block past its limit) must not leave the client waiting.
void ServerConnection::on_not_sent(const nghttp2_frame& frame) noexcept {
  if (frame.hd.type != NGHTTP2_HEADERS) return;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_INTERNAL_ERROR);
}

bool ServerConnection::on_stream_closed(ServerStream& stream) noexcept {
  const int64_t cost = stream.abandon_cost();
  end_stream(stream);
  return cost == 0 || spend(cost);
}

// A field that stands in HPACK's table takes one byte to say, and all of its own to look at.
bool ServerConnection::on_header(size_t bytes) noexcept {
  header_bytes_ += bytes;
  return header_bytes_ <= thread_.options().metadata_bytes_max || spend(static_cast<int64_t>(1 + bytes / kBombBytes));
}

// Always false, for whoever says so.
bool ServerConnection::calm(std::string_view why) noexcept {
  if (is_calmed_) return false;
  is_calmed_ = true;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_ENHANCE_YOUR_CALM,
                        reinterpret_cast<const uint8_t*>(why.data()), why.size());
  wants_turn_end();
  return false;
}

// --- nghttp2's side

struct ServerCallbacks {
  static ServerConnection& self(void* user) { return *static_cast<ServerConnection*>(user); }

  static int result(bool is_fine) { return is_fine ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE; }

  static int begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    self(user).header_bytes_ = 0;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) self(user).head_.clear();
    return 0;
  }
  static int header(nghttp2_session*, const nghttp2_frame* frame, nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t flags,
                    void* user) {
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) self(user).head_.add(name, value, flags);
    return result(self(user).on_header(RequestHead::field_bytes(name, value)));
  }
  // Such a request is malformed and its stream is reset (RFC 9113, section 8.1.1); the field was looked at all the same.
  static int invalid_header(nghttp2_session*, const nghttp2_frame*, nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t,
                            void* user) {
    const bool is_fine = self(user).on_header(RequestHead::field_bytes(name, value));
    return is_fine ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : NGHTTP2_ERR_CALLBACK_FAILURE;
  }
  static int frame(nghttp2_session*, const nghttp2_frame* frame, void* user) { return result(self(user).on_frame(*frame)); }
  // Each is answered by a reset, which the client does not pay for as it does for its own.
  static int invalid_frame(nghttp2_session*, const nghttp2_frame*, int, void* user) { return result(self(user).spend(1)); }
  static int data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* bytes, size_t size, void* user) {
    auto* stream = static_cast<ServerStream*>(nghttp2_session_get_stream_user_data(session, id));
    if (stream == nullptr) {
      self(user).consume(id, size);
      return 0;
    }
    stream->held_credit_ += size;
    stream->on_data({reinterpret_cast<const char*>(bytes), size});
    return 0;
  }
  static int stream_closed(nghttp2_session* session, int32_t id, uint32_t, void* user) {
    auto* stream = static_cast<ServerStream*>(nghttp2_session_get_stream_user_data(session, id));
    return result(stream == nullptr || self(user).on_stream_closed(*stream));
  }
  static int sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    self(user).on_sent(*frame);
    return 0;
  }
  static int not_sent(nghttp2_session* session, const nghttp2_frame* frame, int, void* user) {
    if (nghttp2_session_get_stream_user_data(session, frame->hd.stream_id) != nullptr) self(user).on_not_sent(*frame);
    return 0;
  }

  static nghttp2_session_callbacks* make() {
    nghttp2_session_callbacks* callbacks = nullptr;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return nullptr;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, header);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, stream_closed);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, not_sent);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, invalid_frame);
    return callbacks;
  }
};

bool make_server_session(const TransportOptions& options, ServerConnection* connection, nghttp2_session** session) {
  // Made once, for every connection of every thread: nghttp2 copies the table.
  static nghttp2_session_callbacks* const callbacks = ServerCallbacks::make();
  nghttp2_option* option = nullptr;
  if (callbacks == nullptr || nghttp2_option_new(&option) != 0) return false;
  nghttp2_option_set_no_auto_window_update(option, 1);
  // Closed streams are kept for RFC 7540's priorities alone, which no gRPC client uses.
  nghttp2_option_set_no_closed_streams(option, 1);
  set_flood_limits(option, options);
  const int made = nghttp2_session_server_new2(session, callbacks, connection, option);
  nghttp2_option_del(option);
  return made == 0;
}

}  // namespace assay
