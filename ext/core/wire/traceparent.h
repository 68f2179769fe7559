// The W3C trace context of a call (https://www.w3.org/TR/trace-context/): which trace and span called us, and whether they are kept.
#pragma once

#include <cstdint>
#include <string_view>

namespace assay {

// Ids as they are printed: trace_id_high is the first 16 digits of the trace id. Neither id is 0.
struct TraceParent {
  uint64_t trace_id_high = 0;
  uint64_t trace_id_low = 0;
  uint64_t span_id = 0;  // the caller's
  bool is_sampled = false;
};

// Reads a traceparent header: lower-case digits in the lengths of version 00, no id of zeros or with a card number in it, no version
// ff. Of a later version the known fields are read and what follows behind a dash is left alone. False: not one; `out` is unchanged.
bool parse_traceparent(std::string_view text, TraceParent* out) noexcept;

}  // namespace assay
