// ForwardedCall: a call that the gRPC server behind answers: frames go through, in both directions, as they come.
//
// Nothing is held without limit: what one side sends keeps its flow control credit until the other side has taken it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/transport/byte_queue.h"
#include "core/transport/server_stream.h"
#include "core/transport/upstream.h"

namespace assay {

class ForwardedCall final : public ServerStream, public UpstreamCall {
 public:
  // Answered at once where the server behind cannot take it.
  static std::unique_ptr<ServerStream> make(ServerConnection& connection, int32_t id, RequestHead& head);
  ForwardedCall(ServerConnection& connection, int32_t id) noexcept : ServerStream(connection, id) {}

  bool is_forwarded() const noexcept override { return true; }

  // --- the client's side
  void on_data(std::string_view bytes) noexcept override;
  void on_end() noexcept override;
  void on_closed() noexcept override;
  void on_written() noexcept override;
  int64_t abandon_cost() const noexcept override;

  // --- the side of the server behind
  void on_upstream_headers(std::vector<HeaderField> fields, bool is_last) noexcept override;
  void on_upstream_data(std::string_view bytes) noexcept override;
  void on_upstream_end() noexcept override;
  void on_upstream_closed(uint32_t error_code) noexcept override;
  ssize_t read_request(uint8_t* data, size_t size, uint32_t* flags) noexcept override;

 private:
  bool begin(Upstream& upstream, const RequestHead& head);
  void resume_request() noexcept;

  Upstream* upstream_ = nullptr;  // null: it is over there
  int32_t upstream_id_ = -1;
  ByteQueue request_;  // came from the client, not yet taken by the server behind
  bool has_request_end_ = false;
  bool is_request_deferred_ = false;
  size_t answer_held_ = 0;  // bytes of the answer that hold credit of the server behind
};

}  // namespace assay
