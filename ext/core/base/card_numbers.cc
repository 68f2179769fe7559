#include "core/base/card_numbers.h"

#include "core/base/blake2b.h"
#include "core/base/digit_runs.h"

namespace assay {
namespace {

constexpr size_t kCardDigitsMin = 13, kCardDigitsMax = 19;
constexpr std::string_view kTokenPrefix = "card-";

bool fits_luhn(std::string_view digits) noexcept {
  int sum = 0;
  bool is_doubled = false;
  for (size_t i = digits.size(); i-- > 0; is_doubled = !is_doubled) {
    const int value = (digits[i] - '0') * (is_doubled ? 2 : 1);
    sum += value / 10 + value % 10;
  }
  return sum % 10 == 0;
}

void append_token(std::string_view digits, std::string_view key, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  out.append(kTokenPrefix);
  for (const uint8_t byte : blake2b<12>(digits, key)) out.append({kHex[byte >> 4], kHex[byte & 15]});
}

// The end of the longest card number that begins at `at`, a digit before which none stands, and ends with a group; null: none does.
const char* card_end(const char* at, const char* end, std::string* card) {
  const char* found = nullptr;
  std::string digits;
  for (int gap = 0; at != end && gap <= kGapCharactersMax && digits.size() <= kCardDigitsMax;) {
    const Character character = character_at(at, end);
    const int value = digit_value(character.point);
    if (is_ascii_letter(character.point)) break;
    at += character.bytes;
    gap = value < 0 ? gap + 1 : 0;
    if (value < 0) continue;
    digits.push_back(static_cast<char>('0' + value));
    const bool ends_group = at == end || digit_value(character_at(at, end).point) < 0;
    if (!ends_group || digits.size() < kCardDigitsMin || digits.size() > kCardDigitsMax || !fits_luhn(digits)) continue;
    found = at;
    *card = digits;
  }
  return found;
}

const char* group_end(const char* at, const char* end) noexcept {
  while (at != end) {
    const Character character = character_at(at, end);
    if (digit_value(character.point) < 0) break;
    at += character.bytes;
  }
  return at;
}

}  // namespace

// What is not ASCII may be digits too.
bool may_hold_card(std::string_view text) noexcept {
  size_t digits = 0;
  for (const char c : text) digits += (c >= '0' && c <= '9') || static_cast<uint8_t>(c) >= 0x80 ? 1 : 0;
  return digits >= kCardDigitsMin;
}

bool append_tokenised(std::string_view text, std::string_view key, std::string& out) {
  if (!may_hold_card(text)) {
    out.append(text);
    return false;
  }
  bool is_found = false;
  std::string card;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    const Character character = character_at(at, end);
    const bool is_digit = digit_value(character.point) >= 0;
    if (const char* const until = is_digit ? card_end(at, end, &card) : nullptr; until != nullptr) {
      append_token(card, key, out);
      is_found = true;
      at = until;
      continue;
    }
    const char* const until = is_digit ? group_end(at, end) : at + character.bytes;
    out.append(at, until);
    at = until;
  }
  return is_found;
}

}  // namespace assay
