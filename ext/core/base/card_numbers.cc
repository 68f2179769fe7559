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

// The first digits and the lengths of the numbers of one kind of card, as its network publishes them.
struct Issuer {
  uint16_t first, last;  // of `prefix_digits` digits
  uint8_t prefix_digits, digits_min, digits_max;
};
constexpr Issuer kIssuers[] = {
    {4, 4, 1, 16, 16},       {4, 4, 1, 19, 19},                                 // Visa
    {51, 55, 2, 16, 16},     {2221, 2720, 4, 16, 16},                           // Mastercard
    {34, 34, 2, 15, 15},     {37, 37, 2, 15, 15},                               // American Express
    {6011, 6011, 4, 16, 16}, {644, 659, 3, 16, 16},                             // Discover, RuPay
    {300, 305, 3, 14, 14},   {36, 36, 2, 14, 14},     {38, 39, 2, 14, 14},      // Diners Club
    {3528, 3589, 4, 16, 16}, {62, 62, 2, 16, 19},     {2200, 2204, 4, 16, 16},  // JCB, UnionPay, Mir
    {5018, 5018, 4, 16, 19}, {5020, 5020, 4, 16, 19}, {5038, 5038, 4, 16, 19},  // Maestro
    {5893, 5893, 4, 16, 19}, {6304, 6304, 4, 16, 19}, {6759, 6763, 4, 16, 19},
};

// Whether such a number begins at the front of `digits`.
bool begins_with(std::string_view digits, const Issuer& issuer) noexcept {
  if (digits.size() < issuer.digits_min) return false;
  int prefix = 0;
  for (size_t i = 0; i < issuer.prefix_digits; ++i) prefix = prefix * 10 + (digits[i] - '0');
  if (prefix < issuer.first || prefix > issuer.last) return false;
  for (size_t length = issuer.digits_min; length <= issuer.digits_max && length <= digits.size(); ++length) {
    if (fits_luhn(digits.substr(0, length))) return true;
  }
  return false;
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

// The end of the run of digits that begins at `at`, and the run in ASCII.
const char* group_end(const char* at, const char* end, std::string* digits) {
  digits->clear();
  while (at != end) {
    const Character character = character_at(at, end);
    const int value = digit_value(character.point);
    if (value < 0) break;
    digits->push_back(static_cast<char>('0' + value));
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

bool holds_card(std::string_view digits) noexcept {
  for (; digits.size() >= kCardDigitsMin; digits.remove_prefix(1)) {
    for (const Issuer& issuer : kIssuers) {
      if (begins_with(digits, issuer)) return true;
    }
  }
  return false;
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
    if (digit_value(character.point) < 0) {
      out.append(at, character.bytes);
      at += character.bytes;
      continue;
    }
    const char* until = card_end(at, end, &card);
    bool is_card = until != nullptr;
    if (!is_card) {
      until = group_end(at, end, &card);
      is_card = holds_card(card);
    }
    is_card ? append_token(card, key, out) : static_cast<void>(out.append(at, until));
    is_found |= is_card;
    at = until;
  }
  return is_found;
}

}  // namespace assay
