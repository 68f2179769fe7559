// UTF-8 as Unicode defines it (table 3-7): no overlong forms, no surrogates, nothing past U+10FFFF. NUL is text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace assay {

// Bytes of the well-formed sequence at `at`, 0 if there is none. REQUIRES: at < end.
size_t utf8_sequence_bytes(const char* at, const char* end) noexcept;

// The first byte from `at` on that does not belong to well-formed UTF-8, or null if all do. For text that is not all ASCII.
const char* utf8_find_bad(const char* at, const char* end) noexcept;

// Null, or the first bad byte of `text`. Ids and names are ASCII nearly always: they cost one load for 8 bytes.
inline const char* utf8_find_bad(std::string_view text) noexcept {
  constexpr uint64_t kHighBits = 0x8080808080808080;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (; end - at >= 8; at += 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    if ((word & kHighBits) != 0) return utf8_find_bad(at, end);
  }
  uint8_t high = 0;
  for (const char* rest = at; rest != end; ++rest) high |= static_cast<uint8_t>(*rest);
  return (high & 0x80) == 0 ? nullptr : utf8_find_bad(at, end);
}

// `text` with each byte that is not UTF-8 replaced by '?'. For text from the operating system on its way into a protobuf string.
std::string utf8_repaired(std::string_view text);

}  // namespace assay
