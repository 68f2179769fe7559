// RefusedCall: a request that is answered when its headers are read. Whatever else it sends is thrown away.
#pragma once

#include <string>
#include <utility>

#include "core/transport/server_connection.h"
#include "core/transport/server_stream.h"

namespace assay {

class RefusedCall final : public ServerStream {
 public:
  // Refused as gRPC, or (http_status) because it is not gRPC.
  RefusedCall(ServerConnection& connection, int32_t id, const Status& status) : ServerStream(connection, id) { end(status); }
  RefusedCall(ServerConnection& connection, int32_t id, int http_status) : ServerStream(connection, id) { end_http(http_status); }

  void on_data(std::string_view bytes) noexcept override { give_credit(bytes.size()); }
  void on_end() noexcept override {}
  void on_closed() noexcept override {}
};

}  // namespace assay
