#include "core/base/digit_runs.h"

#include <algorithm>
#include <iterator>

#include "core/base/utf8.h"

namespace assay {
namespace {

// The zeros of Unicode's decimal digits (general category Nd, version 14) but ASCII's; one to nine follow each.
constexpr uint32_t kZeros[] = {
    0x660,   0x6f0,   0x7c0,   0x966,   0x9e6,   0xa66,   0xae6,   0xb66,   0xbe6,   0xc66,   0xce6,   0xd66,   0xde6,
    0xe50,   0xed0,   0xf20,   0x1040,  0x1090,  0x17e0,  0x1810,  0x1946,  0x19d0,  0x1a80,  0x1a90,  0x1b50,  0x1bb0,
    0x1c40,  0x1c50,  0xa620,  0xa8d0,  0xa900,  0xa9d0,  0xa9f0,  0xaa50,  0xabf0,  0xff10,  0x104a0, 0x10d30, 0x11066,
    0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50,
    0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
};

}  // namespace

bool is_ascii_letter(uint32_t point) noexcept { return (point | 0x20) >= 'a' && (point | 0x20) <= 'z'; }

Character character_at(const char* at, const char* end) noexcept {
  static constexpr uint8_t kLeadMask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
  const size_t bytes = utf8_sequence_bytes(at, end);
  if (bytes == 0) return {0xfffd, 1};
  uint32_t point = static_cast<uint8_t>(at[0]) & kLeadMask[bytes];
  for (size_t i = 1; i < bytes; ++i) point = (point << 6) | (static_cast<uint8_t>(at[i]) & 0x3f);
  return {point, bytes};
}

int digit_value(uint32_t point) noexcept {
  if (point < 0x80) return point >= '0' && point <= '9' ? static_cast<int>(point - '0') : -1;
  const uint32_t* const after = std::upper_bound(std::begin(kZeros), std::end(kZeros), point);
  if (after == std::begin(kZeros) || point - after[-1] > 9) return -1;
  return static_cast<int>(point - after[-1]);
}

const char* number_end(const char* at, const char* end, int* digit_count) noexcept {
  *digit_count = 0;
  const char* last = at;
  for (int gap = 0; at != end && gap <= kGapCharactersMax;) {
    const Character character = character_at(at, end);
    at += character.bytes;
    if (digit_value(character.point) >= 0) {
      ++*digit_count;
      last = at;
      gap = 0;
    } else if (is_ascii_letter(character.point)) {
      break;
    } else {
      ++gap;
    }
  }
  return last;
}

}  // namespace assay
