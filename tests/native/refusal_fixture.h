// What every refusal must be, whatever was sent: its status is well formed and fits into trailers.
#pragma once

#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/wire/response.h"
#include "core/wire/wire_reader.h"

namespace fixture {

using namespace assay;

// Aborts where it is not. `message`: what is refused; `violations` may be null.
inline void check_refusal(const Status& status, const Violations* violations, std::string_view message) {
  ASSAY_ASSERT(status.offset <= message.size());
  const std::string encoded = encode_rpc_status(status, violations);
  ASSAY_ASSERT(encoded.size() < 8 * 1024);
  WireFault fault;
  WireReader in(encoded, fault);
  while (!in.at_end()) {
    uint32_t tag = 0;
    std::string_view text;
    ASSAY_ASSERT(in.read_tag(&tag));
    ASSAY_ASSERT(tag == wire_tag(2, WireType::kDelimited) ? in.read_text(&text, "message") : in.skip(tag));
  }
}

}  // namespace fixture
