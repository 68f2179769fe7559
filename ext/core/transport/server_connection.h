// ServerConnection: one client's HTTP/2 connection: bytes in and out, its streams, and what a client may not do.
//
// OWNERSHIP. IoThread owns the connection; the connection owns its socket, its nghttp2 session and its streams. One thread.
// WRITES. Whatever a turn gives it to write leaves at the turn's end with one write, or waits for the socket; while it waits, nghttp2
// is asked for nothing more, so that a client that does not read holds what its windows allow and no more.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/policy.h"
#include "core/serving/call_record.h"
#include "core/transport/byte_stream.h"
#include "core/transport/connection_watch.h"
#include "core/transport/event_loop.h"
#include "core/transport/nuisance_budget.h"
#include "core/transport/peer_identity.h"
#include "core/transport/request_head.h"
#include "core/transport/server_stream.h"

namespace assay {

class IoThread;
class RoleTable;
class TlsStream;
class Upstream;

class ServerConnection final : public Pollable, public TurnEnd, public Watched {
 public:
  // Owns `fd`. Protected as the thread is now.
  ServerConnection(IoThread& thread, int fd);
  ~ServerConnection();

  // Greets the client. Not ok: destroy it.
  Status open();
  // The listener drains: calls that last end themselves, the client is asked to go and gets `grace_ns`.
  void drain(int64_t grace_ns);

  // --- for its streams
  IoThread& thread() noexcept { return thread_; }
  nghttp2_session* session() noexcept { return session_; }
  void consume(int32_t stream_id, size_t bytes) noexcept;
  void wants_turn_end() { thread_turn_end(); }
  void wants_fed(ServerStream& stream);
  const PeerIdentity& peer() const noexcept { return peer_; }  // of the client, since its first call was checked
  double random_share() const noexcept;                        // 0..1
  void count_bytes(size_t before, size_t after) noexcept;
  // Counts what a client makes the server do without asking anything (nuisance_budget.h). False: it is too much; the client has
  // been told so, and the connection ends.
  bool spend(int64_t count) noexcept;
  void spend_inflating(size_t idle_bytes) noexcept;
  // The way to the gRPC server behind; made on first use. Null: it cannot be reached.
  Upstream* upstream();

  bool is_leaving() const noexcept { return watch_.is_leaving(); }
  size_t stream_count() const noexcept { return stream_count_; }
  size_t forwarded_count() const noexcept { return forwarded_count_; }
  size_t held_bytes() const noexcept { return held_bytes_; }
  // Of a connection that was killed: the caller owns it, and nothing more is written.
  int take_socket() noexcept { return std::exchange(fd_, -1); }

  // --- Pollable, TurnEnd, Watched
  void on_ready(uint32_t events) noexcept override;
  void on_turn_end() noexcept override;
  void send_ping() noexcept override;
  void send_notice() noexcept override;
  void send_goaway(const char* why) noexcept override;
  void kill(CloseReason why) noexcept override;

 private:
  friend struct ServerCallbacks;
  void thread_turn_end();
  bool read_some() noexcept;
  bool feed(const uint8_t* data, size_t size) noexcept;
  bool write_some() noexcept;
  bool fill_output();
  void listen() noexcept;
  void tell_fed() noexcept;

  void begin_stream(int32_t id);
  std::unique_ptr<ServerStream> make_stream(int32_t id);
  Code check_call(std::string_view method);
  Status deny(Code code);
  std::unique_ptr<ServerStream> make_scoring_call(int32_t id, CallKind kind);
  void end_stream(ServerStream& stream) noexcept;
  void count_forwarded(int change) noexcept;
  bool on_header(size_t bytes) noexcept;
  bool on_frame(const nghttp2_frame& frame);
  bool on_ping(const nghttp2_frame& frame);
  bool on_stream_closed(ServerStream& stream) noexcept;
  void on_sent(const nghttp2_frame& frame) noexcept;
  void on_not_sent(const nghttp2_frame& frame) noexcept;
  bool calm(std::string_view why) noexcept;

  IoThread& thread_;
  int fd_;  // -1: taken
  std::unique_ptr<ByteStream> bytes_;
  const TlsStream* tls_ = nullptr;  // bytes_, if it is one
  bool wants_certificate_ = false;
  PeerIdentity peer_;                            // once a call came
  std::shared_ptr<const RoleTable> peer_roles_;  // what caller_ was made with
  Caller caller_;
  nghttp2_session* session_ = nullptr;
  RequestHead head_;
  size_t header_bytes_ = 0;  // of the header block that is being read, or was read last
  ConnectionWatch watch_;
  NuisanceBudget nuisance_;
  std::vector<std::unique_ptr<Upstream>> upstreams_;  // the last takes calls; those before have some that are not over
  ServerStream* streams_ = nullptr;                   // the newest
  size_t stream_count_ = 0;
  size_t forwarded_count_ = 0;  // of those
  size_t held_bytes_ = 0;       // by their requests and answers
  std::vector<ServerStream*> fed_;
  std::vector<uint8_t> output_;
  size_t output_at_ = 0;
  uint32_t events_ = 0;  // what epoll waits for
  bool is_write_blocked_ = false;
  bool is_calmed_ = false;  // was told ENHANCE_YOUR_CALM: what it sends is not looked at any more
  bool is_dead_ = false;
};

}  // namespace assay
