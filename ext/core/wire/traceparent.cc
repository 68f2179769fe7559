#include "core/wire/traceparent.h"

#include "core/base/card_numbers.h"

namespace assay {
namespace {

constexpr size_t kVersionBytes = 2, kTraceIdBytes = 32, kSpanIdBytes = 16, kFlagsBytes = 2;
constexpr size_t kTraceIdAt = kVersionBytes + 1;
constexpr size_t kSpanIdAt = kTraceIdAt + kTraceIdBytes + 1;
constexpr size_t kFlagsAt = kSpanIdAt + kSpanIdBytes + 1;
constexpr size_t kBytes = kFlagsAt + kFlagsBytes;
constexpr uint64_t kSampledFlag = 1;

// At most 16 lower-case hexadecimal digits.
bool read_hex(std::string_view digits, uint64_t* out) noexcept {
  uint64_t value = 0;
  for (const char c : digits) {
    if (c >= '0' && c <= '9') {
      value = value << 4 | static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = value << 4 | static_cast<uint64_t>(c - 'a' + 10);
    } else {
      return false;
    }
  }
  *out = value;
  return true;
}

// An id that is a card number would be told to whoever sees a trace. No tracer makes such ids but one in a million.
bool may_be_card(std::string_view id) noexcept {
  for (const char c : id) {
    if (c < '0' || c > '9') return false;
  }
  return holds_card(id);
}

}  // namespace

bool parse_traceparent(std::string_view text, TraceParent* out) noexcept {
  if (text.size() < kBytes) return false;
  if (text[kTraceIdAt - 1] != '-' || text[kSpanIdAt - 1] != '-' || text[kFlagsAt - 1] != '-') return false;
  uint64_t version = 0, flags = 0;
  TraceParent found;
  const bool is_hex = read_hex(text.substr(0, kVersionBytes), &version) &&
                      read_hex(text.substr(kTraceIdAt, kTraceIdBytes / 2), &found.trace_id_high) &&
                      read_hex(text.substr(kTraceIdAt + kTraceIdBytes / 2, kTraceIdBytes / 2), &found.trace_id_low) &&
                      read_hex(text.substr(kSpanIdAt, kSpanIdBytes), &found.span_id) &&
                      read_hex(text.substr(kFlagsAt, kFlagsBytes), &flags);
  if (!is_hex || version == 0xff) return false;
  if (text.size() > kBytes && (version == 0 || text[kBytes] != '-')) return false;
  if ((found.trace_id_high | found.trace_id_low) == 0 || found.span_id == 0) return false;
  if (may_be_card(text.substr(kTraceIdAt, kTraceIdBytes)) || may_be_card(text.substr(kSpanIdAt, kSpanIdBytes))) return false;
  found.is_sampled = (flags & kSampledFlag) != 0;
  *out = found;
  return true;
}

}  // namespace assay
