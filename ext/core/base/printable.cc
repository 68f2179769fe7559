// printable(): text from outside made safe to show.
#include <cstdio>

#include "core/base/digit_runs.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

namespace assay {
namespace {

constexpr size_t kPrintableBytesMax = 64;
constexpr int kMaskedDigitsMin = 12;  // the shortest card number
constexpr std::string_view kCut = "...";
constexpr std::string_view kMask = "<digits>";

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
    if (at >= short_until && digit_value(character_at(at, end).point) >= 0) {
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
