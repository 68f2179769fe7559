// CallHead: what the headers of a scoring call say, read once for all of its kinds.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base/status.h"
#include "core/transport/message_reader.h"

namespace assay {

class RequestHead;

struct CallHead {
  MessageEncoding encoding = MessageEncoding::kIdentity;
  int64_t deadline_ns = 0;  // 0: none
  std::string_view traceparent;
};

// kMalformedCall, kEncodingUnsupported.
Status read_call_head(const RequestHead& head, int64_t now_ns, CallHead* out);

// The detail of kAnswerTooLarge.
std::string too_large_answer(size_t bytes, size_t bytes_max);
// The detail of kMessageTooLarge where all calls together keep too much.
std::string too_much_held(size_t bytes_max);

}  // namespace assay
