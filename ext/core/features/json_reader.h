// JsonReader: strict JSON (RFC 8259), one value after the other, without a tree.
//
// The caller asks for what it expects next; a wrong byte stops the reader for good (is_ok() is false) and error_offset() says
// where. Not allowed: comments, trailing commas, NaN, leading zeros, lone surrogates, raw control characters, nesting past
// kJsonDepthMax.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/value.h"

namespace assay {

enum class JsonType : uint8_t { kBad, kObject, kArray, kString, kNumber, kBool, kNull };

// A number as it was written: 5716 and 5716.0 are different types.
struct JsonNumber {
  bool is_integer = false;       // no fraction and no exponent
  bool is_representable = true;  // the integer fits int64, or the float is finite in float64
  int64_t int64 = 0;
  double float64 = 0.0;  // correctly rounded; too small for float64 is 0
};

class JsonReader {
 public:
  // REQUIRES: `text` is UTF-8 and outlives every string read, and so does `scratch`, which takes the strings that had escapes.
  JsonReader(std::string_view text, std::string& scratch) noexcept
      : begin_(text.data()), at_(text.data()), end_(text.data() + text.size()), scratch_(scratch) {}

  // Skips white space and says what comes next. kBad: nothing that starts a value.
  JsonType peek() noexcept;

  // Reads '{'. Then: while (next_key(&key)) { read or skip one value }.
  bool open_object() noexcept;
  // True: the next key and its ':' are read. False: the object has ended, or the reader has failed.
  bool next_key(std::string_view* key);

  bool read_string(std::string_view* out);
  bool read_number(JsonNumber* out) noexcept;
  bool read_bool(bool* out) noexcept;
  bool read_null() noexcept;
  // Any value, checked and forgotten.
  bool skip_value();
  // True: only white space is left.
  bool finish() noexcept;

  bool is_ok() const noexcept { return error_ == nullptr; }
  size_t error_offset() const noexcept { return static_cast<size_t>(error_at_ - begin_); }
  const char* error() const noexcept { return error_; }  // what was expected; a literal

 private:
  void skip_space() noexcept;
  bool fail(const char* at, const char* expected) noexcept;
  bool enter() noexcept;
  bool read_literal(std::string_view literal) noexcept;
  bool unescape(const char* start, std::string_view* out);
  bool append_escape();
  bool read_hex4(uint32_t* unit) noexcept;
  bool skip_array();

  const char* const begin_;
  const char* at_;
  const char* const end_;
  std::string& scratch_;
  const char* error_ = nullptr;
  const char* error_at_ = nullptr;
  int depth_ = 0;
  bool is_first_ = false;  // the next key is its object's first: no ',' before it
};

const char* json_type_name(JsonType type) noexcept;

}  // namespace assay
