// The five bytes in front of every gRPC message: a flag that says whether it is compressed, and its length, big-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace assay {

inline constexpr size_t kMessagePrefixBytes = 5;

struct MessagePrefix {
  uint8_t flag;  // 0: as it is, 1: compressed; nothing else is legal
  uint32_t payload_bytes;
};

// REQUIRES: kMessagePrefixBytes readable bytes.
inline MessagePrefix read_message_prefix(const char* bytes) noexcept {
  const auto* const b = reinterpret_cast<const uint8_t*>(bytes);
  return {b[0], uint32_t{b[1]} << 24 | uint32_t{b[2]} << 16 | uint32_t{b[3]} << 8 | b[4]};
}

// REQUIRES: kMessagePrefixBytes writable bytes.
inline void write_message_prefix(MessagePrefix prefix, char* bytes) noexcept {
  bytes[0] = static_cast<char>(prefix.flag);
  for (int i = 0; i < 4; ++i) bytes[1 + i] = static_cast<char>(prefix.payload_bytes >> (24 - 8 * i) & 255);
}

// What goes in front of an uncompressed message. To encode one in place: append this for 0 bytes, append the payload, and write
// the prefix anew.
// REQUIRES: payload_bytes <= UINT32_MAX.
inline void append_message_prefix(size_t payload_bytes, std::string* out) {
  ASSAY_ASSERT(payload_bytes <= std::numeric_limits<uint32_t>::max());
  char prefix[kMessagePrefixBytes];
  write_message_prefix({0, static_cast<uint32_t>(payload_bytes)}, prefix);
  out->append(prefix, kMessagePrefixBytes);
}

// An uncompressed message, whole. REQUIRES: payload.size() <= UINT32_MAX.
inline void append_message(std::string_view payload, std::string* out) {
  out->reserve(out->size() + kMessagePrefixBytes + payload.size());
  append_message_prefix(payload.size(), out);
  out->append(payload);
}

}  // namespace assay
