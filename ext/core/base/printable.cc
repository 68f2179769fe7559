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

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_separator(char c) noexcept { return c == ' ' || c == '-'; }

// The end of the run of digits that starts at `at`. Cards are often written in groups, so single separators belong to it.
const char* digit_run_end(const char* at, const char* end, int* digit_count) noexcept {
  *digit_count = 0;
  const char* last = at;
  for (; at != end; ++at) {
    if (is_digit(*at)) {
      ++*digit_count;
      last = at + 1;
    } else if (!is_separator(*at) || at + 1 == end || !is_digit(at[1])) {
      break;
    }
  }
  return last;
}

uint32_t code_point(const char* at, size_t bytes) noexcept {
  static constexpr uint8_t kLeadMask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
  uint32_t point = static_cast<uint8_t>(at[0]) & kLeadMask[bytes];
  for (size_t i = 1; i < bytes; ++i) point = (point << 6) | (static_cast<uint8_t>(at[i]) & 0x3f);
  return point;
}

// Control characters, and those that reorder or hide what stands beside them.
bool is_unsafe(uint32_t point) noexcept {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || (point >= 0x200b && point <= 0x200f) ||
         (point >= 0x2028 && point <= 0x202e) || (point >= 0x2060 && point <= 0x206f) || point == 0xfeff;
}

// How one character is shown. Moves `at` past it.
std::string shown_character(const char*& at, const char* end) {
  char escaped[16];
  const size_t bytes = utf8_sequence_bytes(at, end);
  if (bytes == 0) {
    std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<uint8_t>(*at++));
    return escaped;
  }
  const char* const start = at;
  at += bytes;
  if (*start == '"' || *start == '\\') return {'\\', *start};
  const uint32_t point = code_point(start, bytes);
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
  const char* masked_until = at;  // digits before it are of a run too short to mask
  while (at != end && shown.size() <= kPrintableBytesMax) {
    if (shown.size() + kCut.size() <= kPrintableBytesMax) fitting_bytes = shown.size();
    if (is_digit(*at) && at >= masked_until) {
      int digit_count = 0;
      masked_until = digit_run_end(at, end, &digit_count);
      if (digit_count >= kMaskedDigitsMin) {
        shown += kMask;
        at = masked_until;
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
