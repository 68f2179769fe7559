// printable(): text from outside made safe to show.
#include <cstdio>

#include "core/base/status.h"
#include "core/base/utf8.h"

namespace assay {
namespace {

constexpr size_t kPrintableBytesMax = 64;
constexpr int kMaskedDigitsMin = 12;  // the shortest card number
constexpr std::string_view kCut = "...";
constexpr std::string_view kMask = "<digits>";
constexpr int kGapCharactersMax = 3;  // between two digits of one number: "4111 - 1111"

struct Character {
  uint32_t point;  // U+FFFD for a byte that is not UTF-8
  size_t bytes;
};

// REQUIRES: at < end.
Character character_at(const char* at, const char* end) noexcept {
  static constexpr uint8_t kLeadMask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
  const size_t bytes = utf8_sequence_bytes(at, end);
  if (bytes == 0) return {0xfffd, 1};
  uint32_t point = static_cast<uint8_t>(at[0]) & kLeadMask[bytes];
  for (size_t i = 1; i < bytes; ++i) point = (point << 6) | (static_cast<uint8_t>(at[i]) & 0x3f);
  return {point, bytes};
}

// Also those that look or read like 0 to 9: Arabic, Persian, Devanagari, full width, mathematical.
bool is_digit(uint32_t point) noexcept {
  for (const uint32_t zero : {uint32_t{'0'}, 0x660u, 0x6f0u, 0x966u, 0xff10u}) {
    if (point >= zero && point <= zero + 9) return true;
  }
  return point >= 0x1d7ce && point <= 0x1d7ff;
}

bool is_ascii_letter(uint32_t point) noexcept { return (point | 0x20) >= 'a' && (point | 0x20) <= 'z'; }

// The end of the number that starts at `at`. People and programs write cards in groups, with whatever they like between them.
const char* number_end(const char* at, const char* end, int* digit_count) noexcept {
  *digit_count = 0;
  const char* last = at;
  for (int gap = 0; at != end && gap <= kGapCharactersMax;) {
    const Character character = character_at(at, end);
    at += character.bytes;
    if (is_digit(character.point)) {
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

// Control characters, and those that reorder or hide what stands beside them.
bool is_unsafe(uint32_t point) noexcept {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || (point >= 0x200b && point <= 0x200f) ||
         (point >= 0x2028 && point <= 0x202e) || (point >= 0x2060 && point <= 0x206f) || point == 0xfeff;
}

// How one character is shown. Moves `at` past it.
std::string shown_character(const char*& at, const char* end) {
  char escaped[16];
  if (utf8_sequence_bytes(at, end) == 0) {
    std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<uint8_t>(*at++));
    return escaped;
  }
  const char* const start = at;
  const auto [point, bytes] = character_at(at, end);
  at += bytes;
  if (*start == '"' || *start == '\\') return {'\\', *start};
  if (!is_unsafe(point)) return std::string(start, bytes);
  std::snprintf(escaped, sizeof escaped, point < 0x80 ? "\\x%02x" : "\\u%04x", point);
  return escaped;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string shown;
  size_t fitting_bytes = 0;  // of `shown`, when kCut must still fit
  const char* at = text.data();
  const char* const end = at + text.size();
  const char* short_until = at;  // digits before it are of a number too short to mask
  while (at != end && shown.size() <= kPrintableBytesMax) {
    if (shown.size() + kCut.size() <= kPrintableBytesMax) fitting_bytes = shown.size();
    if (at >= short_until && is_digit(character_at(at, end).point)) {
      int digit_count = 0;
      short_until = number_end(at, end, &digit_count);
      if (digit_count >= kMaskedDigitsMin) {
        shown += kMask;
        at = short_until;
        continue;
      }
    }
    shown += shown_character(at, end);
  }
  if (shown.size() <= kPrintableBytesMax && at == end) return shown;
  shown.resize(fitting_bytes);
  return shown.append(kCut);
}

}  // namespace assay
