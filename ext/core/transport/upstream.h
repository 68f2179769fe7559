// Upstream: the way of one client's connection to the gRPC server behind: an HTTP/2 session of its own over a Unix socket.
//
// One a client connection, made for its first forwarded call: so the server behind sees each client's limits and order, and a
// client that stops reading holds up nobody else. One that has had no call for a while is closed, and one that the server behind
// asks to go (GOAWAY) ends its calls while the next calls get another.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/transport/byte_stream.h"
#include "core/transport/event_loop.h"
#include "core/transport/request_head.h"
#include "core/transport/timer_heap.h"

namespace assay {

class IoThread;

// One call as the upstream session sees it.
class UpstreamCall {
 public:
  virtual void on_upstream_headers(std::vector<HeaderField> fields, bool is_last) noexcept = 0;
  virtual void on_upstream_data(std::string_view bytes) noexcept = 0;  // holds credit until Upstream::consume()
  virtual void on_upstream_end() noexcept = 0;                         // END_STREAM on data: not gRPC, but HTTP/2
  virtual void on_upstream_closed(uint32_t error_code) noexcept = 0;   // the last call
  // The next bytes of the request: as nghttp2_data_source_read_callback.
  virtual ssize_t read_request(uint8_t* data, size_t size, uint32_t* flags) noexcept = 0;

 protected:
  ~UpstreamCall() = default;
};

class Upstream final : public Pollable, public TurnEnd {
 public:
  // Null: the server behind cannot be reached.
  static std::unique_ptr<Upstream> connect(IoThread& thread);
  Upstream(IoThread& thread, int fd);
  ~Upstream();  // its calls are closed first, with an error

  // The call's stream id; negative: no call can be begun. `call` must outlive its on_upstream_closed(), or cancel().
  int32_t begin(const std::vector<nghttp2_nv>& headers, UpstreamCall& call);
  void resume(int32_t id) noexcept;  // read_request() has bytes again
  void consume(int32_t id, size_t bytes) noexcept;
  // The client is gone: the call ends there too, and hears nothing more.
  void cancel(int32_t id) noexcept;
  bool takes_calls() const noexcept;  // it is not broken, and was not asked to go
  bool is_idle() const noexcept { return calls_.empty(); }

  void on_ready(uint32_t events) noexcept override;
  void on_turn_end() noexcept override;

 private:
  friend struct UpstreamCallbacks;
  bool open();
  bool read_some() noexcept;
  bool write_some() noexcept;
  void fail() noexcept;
  void forget(std::vector<std::pair<int32_t, UpstreamCall*>>::iterator entry);
  void on_idle_time(int64_t) noexcept { fail(); }
  void wants_turn_end();
  UpstreamCall* call_of(int32_t id) noexcept;

  IoThread& thread_;
  int fd_;  // -1: closed
  std::unique_ptr<ByteStream> bytes_;
  nghttp2_session* session_ = nullptr;
  std::vector<HeaderField> fields_;  // of the header block that is being read
  std::vector<std::pair<int32_t, UpstreamCall*>> calls_;
  std::vector<uint8_t> output_;
  size_t output_at_ = 0;
  uint32_t events_ = 0;
  bool is_broken_ = false;
  MemberTimer<Upstream, &Upstream::on_idle_time> idle_{*this};
};

}  // namespace assay
