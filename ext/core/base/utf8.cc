#include "core/base/utf8.h"

namespace assay {
namespace {

bool is_continuation(uint8_t byte) noexcept { return (byte & 0xc0) == 0x80; }

}  // namespace

size_t utf8_sequence_bytes(const char* at, const char* end) noexcept {
  const uint8_t* const b = reinterpret_cast<const uint8_t*>(at);
  const ptrdiff_t left = end - at;
  if (b[0] < 0x80) return 1;
  if (b[0] < 0xc2) return 0;  // a continuation byte, or an overlong form of ASCII
  if (b[0] < 0xe0) return left >= 2 && is_continuation(b[1]) ? 2 : 0;
  if (b[0] < 0xf0) {
    if (left < 3 || !is_continuation(b[1]) || !is_continuation(b[2])) return 0;
    if (b[0] == 0xe0 && b[1] < 0xa0) return 0;   // overlong
    if (b[0] == 0xed && b[1] >= 0xa0) return 0;  // surrogate
    return 3;
  }
  if (b[0] > 0xf4) return 0;
  if (left < 4 || !is_continuation(b[1]) || !is_continuation(b[2]) || !is_continuation(b[3])) return 0;
  if (b[0] == 0xf0 && b[1] < 0x90) return 0;   // overlong
  if (b[0] == 0xf4 && b[1] >= 0x90) return 0;  // past U+10FFFF
  return 4;
}

const char* utf8_find_bad(const char* at, const char* end) noexcept {
  while (at != end) {
    const size_t bytes = utf8_sequence_bytes(at, end);
    if (bytes == 0) return at;
    at += bytes;
  }
  return nullptr;
}

std::string utf8_repaired(std::string_view text) {
  std::string repaired;
  repaired.reserve(text.size());
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const size_t bytes = utf8_sequence_bytes(at, end);
    if (bytes == 0) {
      repaired += '?';
      ++at;
    } else {
      repaired.append(at, bytes);
      at += bytes;
    }
  }
  return repaired;
}

}  // namespace assay
