#include "core/features/json_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/base/limits.h"

namespace assay {
namespace {

constexpr uint64_t repeated(uint8_t byte) noexcept { return 0x0101010101010101u * byte; }

// High bits mark zero bytes; the lowest mark is exact, those above it may be false.
constexpr uint64_t zero_bytes(uint64_t word) noexcept { return (word - repeated(0x01)) & ~word & repeated(0x80); }

// The first byte from `at` on that ends a run of plain string bytes: '"', '\\' or a control character; `end` if none.
const char* find_special(const char* at, const char* end) noexcept {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  for (; end - at >= 8; at += 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    const uint64_t control = (word - repeated(0x20)) & ~word & repeated(0x80);
    const uint64_t special = zero_bytes(word ^ repeated('"')) | zero_bytes(word ^ repeated('\\')) | control;
    if (special != 0) return at + (__builtin_ctzll(special) >> 3);
  }
#endif
  while (at != end && *at != '"' && *at != '\\' && static_cast<uint8_t>(*at) >= 0x20) ++at;
  return at;
}

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

const char* skip_digits(const char* at, const char* end) noexcept {
  while (at != end && is_digit(*at)) ++at;
  return at;
}

// A float that from_chars could not represent is too small or too large: which, says the decimal exponent of its first
// significant digit. REQUIRES: a JSON number with a significant digit.
bool is_underflow(const char* at, const char* end) noexcept {
  int64_t magnitude = 0, exponent = 0;
  bool is_significant = false, is_fraction = false;
  for (at += *at == '-' ? 1 : 0; at != end && (is_digit(*at) || *at == '.'); ++at) {
    if (*at == '.') {
      is_fraction = true;
      continue;
    }
    is_significant |= *at != '0';
    if (is_significant) {
      magnitude += is_fraction ? 0 : 1;
    } else {
      magnitude -= is_fraction ? 1 : 0;
    }
  }
  if (at == end) return magnitude <= 0;
  const bool is_negative = at[1] == '-';
  for (at += is_digit(at[1]) ? 1 : 2; at != end; ++at) exponent = std::min<int64_t>(exponent * 10 + (*at - '0'), 1'000'000);
  return magnitude + (is_negative ? -exponent : exponent) <= 0;
}

void append_utf8(uint32_t point, std::string& out) {
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += {static_cast<char>(0xc0 | point >> 6), static_cast<char>(0x80 | (point & 0x3f))};
  } else if (point < 0x10000) {
    out += {static_cast<char>(0xe0 | point >> 12), static_cast<char>(0x80 | (point >> 6 & 0x3f)),
            static_cast<char>(0x80 | (point & 0x3f))};
  } else {
    out += {static_cast<char>(0xf0 | point >> 18), static_cast<char>(0x80 | (point >> 12 & 0x3f)),
            static_cast<char>(0x80 | (point >> 6 & 0x3f)), static_cast<char>(0x80 | (point & 0x3f))};
  }
}

}  // namespace

const char* json_type_name(JsonType type) noexcept {
  switch (type) {
    case JsonType::kObject: return "object";
    case JsonType::kArray: return "array";
    case JsonType::kString: return "string";
    case JsonType::kNumber: return "number";
    case JsonType::kBool: return "bool";
    case JsonType::kNull: return "null";
    case JsonType::kBad: break;
  }
  return "?";
}

void JsonReader::skip_space() noexcept {
  while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\r' || *at_ == '\n')) ++at_;
}

bool JsonReader::fail(const char* at, const char* expected) noexcept {
  if (error_ == nullptr) {
    error_ = expected;
    error_at_ = at;
  }
  return false;
}

JsonType JsonReader::peek() noexcept {
  skip_space();
  if (at_ == end_) return JsonType::kBad;
  switch (*at_) {
    case '{': return JsonType::kObject;
    case '[': return JsonType::kArray;
    case '"': return JsonType::kString;
    case 't':
    case 'f': return JsonType::kBool;
    case 'n': return JsonType::kNull;
    default: return *at_ == '-' || is_digit(*at_) ? JsonType::kNumber : JsonType::kBad;
  }
}

bool JsonReader::enter() noexcept {
  if (++depth_ > limits::kJsonDepthMax) return fail(at_, "less nesting");
  ++at_;
  return true;
}

bool JsonReader::open_object() noexcept {
  if (peek() != JsonType::kObject) return fail(at_, "an object");
  is_first_ = true;
  return enter();
}

bool JsonReader::next_key(std::string_view* key) {
  if (!is_ok()) return false;
  skip_space();
  if (at_ != end_ && *at_ == '}') {
    ++at_;
    --depth_;
    is_first_ = false;
    return false;
  }
  if (!is_first_) {
    if (at_ == end_ || *at_ != ',') return fail(at_, "',' or '}'");
    ++at_;
  }
  is_first_ = false;
  if (peek() != JsonType::kString) return fail(at_, "a key in double quotes");
  if (!read_string(key)) return false;
  skip_space();
  if (at_ == end_ || *at_ != ':') return fail(at_, "':'");
  ++at_;
  return true;
}

bool JsonReader::read_string(std::string_view* out) {
  if (peek() != JsonType::kString) return fail(at_, "a string");
  const char* const start = ++at_;
  at_ = find_special(at_, end_);
  if (at_ == end_) return fail(at_, "'\"' at the end of the string");
  if (*at_ == '\\') return unescape(start, out);
  if (*at_ != '"') return fail(at_, "no raw control character in a string");
  *out = {start, static_cast<size_t>(at_ - start)};
  ++at_;
  return true;
}

// The slow path: copies into scratch, which never moves, because a string is never longer than it was written.
bool JsonReader::unescape(const char* start, std::string_view* out) {
  if (scratch_.capacity() < static_cast<size_t>(end_ - begin_)) scratch_.reserve(static_cast<size_t>(end_ - begin_));
  const size_t scratch_start = scratch_.size();
  for (;;) {
    scratch_.append(start, static_cast<size_t>(at_ - start));
    if (at_ == end_) return fail(at_, "'\"' at the end of the string");
    if (*at_ == '"') break;
    if (*at_ != '\\') return fail(at_, "no raw control character in a string");
    ++at_;
    if (!append_escape()) return false;
    start = at_;
    at_ = find_special(at_, end_);
  }
  ++at_;
  *out = {scratch_.data() + scratch_start, scratch_.size() - scratch_start};
  return true;
}

bool JsonReader::append_escape() {
  constexpr const char* kEscape = "one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX";
  if (at_ == end_) return fail(at_, kEscape);
  switch (*at_++) {
    case '"': scratch_ += '"'; return true;
    case '\\': scratch_ += '\\'; return true;
    case '/': scratch_ += '/'; return true;
    case 'b': scratch_ += '\b'; return true;
    case 'f': scratch_ += '\f'; return true;
    case 'n': scratch_ += '\n'; return true;
    case 'r': scratch_ += '\r'; return true;
    case 't': scratch_ += '\t'; return true;
    case 'u': break;
    default: return fail(at_ - 1, kEscape);
  }
  uint32_t point;
  if (!read_hex4(&point)) return false;
  if (point >= 0xd800 && point < 0xe000) {
    uint32_t low = 0;
    if (point >= 0xdc00 || end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') return fail(at_, "a surrogate pair");
    at_ += 2;
    if (!read_hex4(&low)) return false;
    if (low < 0xdc00 || low >= 0xe000) return fail(at_, "a surrogate pair");
    point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
  }
  append_utf8(point, scratch_);
  return true;
}

bool JsonReader::read_hex4(uint32_t* unit) noexcept {
  if (end_ - at_ < 4) return fail(at_, "four hex digits");
  *unit = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = static_cast<char>(*at_ | 0x20);
    if (is_digit(*at_)) {
      *unit = *unit * 16 + static_cast<uint32_t>(*at_ - '0');
    } else if (c >= 'a' && c <= 'f') {
      *unit = *unit * 16 + static_cast<uint32_t>(c - 'a' + 10);
    } else {
      return fail(at_, "four hex digits");
    }
  }
  return true;
}

bool JsonReader::read_number(JsonNumber* out) noexcept {
  if (peek() != JsonType::kNumber) return fail(at_, "a number");
  const char* const start = at_;
  const char* at = at_ + (*at_ == '-' ? 1 : 0);
  const char* const digits = at;
  at = skip_digits(at, end_);
  if (at == digits) return fail(at, "a digit");
  if (*digits == '0' && at - digits > 1) return fail(digits + 1, "no leading zero");
  *out = JsonNumber();
  out->is_integer = true;
  const char* const integer_end = at;
  if (at != end_ && *at == '.') {
    const char* const fraction = ++at;
    at = skip_digits(at, end_);
    if (at == fraction) return fail(at, "a digit");
    out->is_integer = false;
  }
  if (at != end_ && (*at == 'e' || *at == 'E')) {
    ++at;
    if (at != end_ && (*at == '+' || *at == '-')) ++at;
    const char* const exponent = at;
    at = skip_digits(at, end_);
    if (at == exponent) return fail(at, "a digit");
    out->is_integer = false;
  }
  at_ = at;
  if (out->is_integer) {
    out->is_representable = std::from_chars(start, integer_end, out->int64).ec == std::errc();
    return true;
  }
  const auto result = std::from_chars(start, at, out->float64);
  if (result.ec == std::errc() && std::isfinite(out->float64)) return true;
  out->float64 = 0.0;
  out->is_representable = is_underflow(start, at);
  return true;
}

bool JsonReader::read_literal(std::string_view literal) noexcept {
  const auto left = static_cast<size_t>(end_ - at_);
  if (left < literal.size() || std::memcmp(at_, literal.data(), literal.size()) != 0) return fail(at_, "true, false or null");
  at_ += literal.size();
  return true;
}

bool JsonReader::read_bool(bool* out) noexcept {
  if (peek() != JsonType::kBool) return fail(at_, "true or false");
  *out = *at_ == 't';
  return read_literal(*out ? "true" : "false");
}

bool JsonReader::read_null() noexcept { return peek() == JsonType::kNull ? read_literal("null") : fail(at_, "null"); }

bool JsonReader::skip_value() {
  std::string_view text;
  JsonNumber number;
  bool truth;
  switch (peek()) {
    case JsonType::kObject:
      if (!open_object()) return false;
      while (next_key(&text)) {
        if (!skip_value()) return false;
      }
      return is_ok();
    case JsonType::kArray: return skip_array();
    case JsonType::kString: return read_string(&text);
    case JsonType::kNumber: return read_number(&number);
    case JsonType::kBool: return read_bool(&truth);
    case JsonType::kNull: return read_null();
    case JsonType::kBad: break;
  }
  return fail(at_, "a value");
}

bool JsonReader::skip_array() {
  if (!enter()) return false;
  skip_space();
  if (at_ != end_ && *at_ == ']') {
    ++at_;
    --depth_;
    return true;
  }
  for (;;) {
    if (!skip_value()) return false;
    skip_space();
    if (at_ == end_ || (*at_ != ',' && *at_ != ']')) return fail(at_, "',' or ']'");
    if (*at_++ == ']') break;
  }
  --depth_;
  return true;
}

bool JsonReader::finish() noexcept {
  skip_space();
  return is_ok() && (at_ == end_ || fail(at_, "the end of the line"));
}

}  // namespace assay
