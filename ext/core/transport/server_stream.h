// ServerStream: one HTTP/2 stream of a client, and the writing of its answer. What it does with what comes is for its kinds:
// UnaryCall, ScoreStreamCall, ForwardedCall, RefusedCall.
//
// LIFE. Made when the request's headers are whole; told data, the client's end and its own end, in this order; destroyed by the
// connection when HTTP/2 has closed the stream. One answer: headers and messages, then trailers; or trailers alone.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/transport/byte_queue.h"

namespace assay {

class ServerConnection;

class ServerStream {
 public:
  ServerStream(ServerConnection& connection, int32_t id) noexcept;
  virtual ~ServerStream();
  ServerStream(const ServerStream&) = delete;
  ServerStream& operator=(const ServerStream&) = delete;

  int32_t id() const noexcept { return id_; }
  virtual bool is_forwarded() const noexcept { return false; }  // counts among those that the gRPC server behind answers
  // What it costs if the client gives the call up now, beside the frame that says so. In NuisanceBudget's coin.
  virtual int64_t abandon_cost() const noexcept { return 0; }

  // Bytes of the request's body. Valid until on_fed(). They hold flow control credit until give_credit().
  virtual void on_data(std::string_view bytes) noexcept = 0;
  virtual void on_end() noexcept = 0;  // the client has sent everything
  // All that the connection had read was told. Called if ServerConnection::wants_fed() was, once.
  virtual void on_fed() noexcept {}
  virtual void on_closed() noexcept = 0;  // the stream is gone: nobody waits any more. The last call
  // The listener drains: say so and come to an end, if the call lasts by itself.
  virtual void on_drain() noexcept {}
  // More of the answer may be written: the client has read some.
  virtual void on_written() noexcept {}

  // --- for the connection: nghttp2 asks for the next bytes of the answer
  ssize_t read_output(uint8_t* data, size_t size, uint32_t* flags) noexcept;

 protected:
  // Room for `bytes` more of the request: what on_data() brought has been dealt with.
  void give_credit(size_t bytes) noexcept;

  void give_all_credit() noexcept { give_credit(held_credit_); }
  // Says how many bytes of the request are kept now. False: all calls together keep more than they may.
  bool keep_request(size_t bytes) noexcept;

  bool has_answered() const noexcept { return has_headers_ || is_ended_; }
  bool is_ended() const noexcept { return is_ended_; }  // the answer's end is there, or under way
  void start_answer() noexcept;                         // gRPC's response headers; once, before the first message
  void start_answer(const std::vector<nghttp2_nv>& headers) noexcept;
  void add_message(std::string_view payload);  // REQUIRES: started
  void add_bytes(std::string_view bytes);      // framed already
  size_t unwritten() const noexcept { return output_.size(); }

  // The end: trailers after all that was added, or trailers alone if nothing was started.
  void end_ok() noexcept;
  void end(GrpcCode grpc, std::string_view message, std::string_view rpc_status, uint32_t retry_ms);
  void end(const Status& status);
  void end_as(std::vector<std::pair<std::string, std::string>> trailers);
  void end_headers(const std::vector<nghttp2_nv>& headers) noexcept;  // an answer of headers alone. REQUIRES: nothing was started
  // An answer that is not gRPC's: the caller does not speak it.
  void end_http(int status);
  // Ends without an answer.
  void reset(uint32_t error_code) noexcept;

  ServerConnection& connection_;

 private:
  void finish() noexcept;
  void count_bytes() noexcept;
  bool submit_trailers() noexcept;
  void resume() noexcept;

  const int32_t id_;
  bool has_headers_ = false;
  bool is_ended_ = false;
  bool is_ok_ = false;        // the trailers are grpc-status 0 and nothing else
  bool is_deferred_ = false;  // nghttp2 asked for bytes and there were none
  friend class ServerConnection;
  friend struct ServerCallbacks;
  ServerStream* previous_ = nullptr;  // the connection's list
  ServerStream* next_ = nullptr;
  bool wants_fed_ = false;
  size_t held_credit_ = 0;
  size_t request_bytes_ = 0;  // that are kept
  size_t counted_bytes_ = 0;  // those, the answer's and the stream's own, as the connection has counted them
  ByteQueue output_;
  std::vector<std::pair<std::string, std::string>> trailers_;
};

}  // namespace assay
