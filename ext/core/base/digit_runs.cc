#include "core/base/digit_runs.h"

#include "core/base/utf8.h"

namespace assay {

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
  for (const uint32_t zero : {uint32_t{'0'}, 0x660u, 0x6f0u, 0x966u, 0xff10u}) {
    if (point >= zero && point <= zero + 9) return static_cast<int>(point - zero);
  }
  return point >= 0x1d7ce && point <= 0x1d7ff ? static_cast<int>((point - 0x1d7ce) % 10) : -1;
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
