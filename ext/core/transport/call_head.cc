#include "core/transport/call_head.h"

#include "core/transport/grouped.h"
#include "core/transport/grpc_text.h"
#include "core/transport/request_head.h"

namespace assay {

Status read_call_head(const RequestHead& head, int64_t now_ns, CallHead* out) {
  if (head.encoding.data() != nullptr && !parse_message_encoding(head.encoding, &out->encoding))
    return Status(Code::kEncodingUnsupported);
  if (head.timeout.data() != nullptr) {
    int64_t timeout_ns = 0;
    if (!parse_grpc_timeout(head.timeout, &timeout_ns)) {
      return Status(Code::kMalformedCall, "grpc-timeout: expected 1 to 8 digits and one of H M S m u n");
    }
    out->deadline_ns = now_ns + timeout_ns;
  }
  out->traceparent = head.traceparent;
  return Status();
}

std::string too_large_answer(size_t bytes, size_t bytes_max) {
  return grouped(bytes) + " bytes; limits.send_message_bytes_max is " + grouped(bytes_max);
}

std::string too_much_held(size_t bytes_max) {
  return "no room: of messages that are still coming and answers that are not read yet, the server holds " + grouped(bytes_max) +
         " bytes and no more; send it again later, or in one go";
}

}  // namespace assay
