// WireReader: one message's fields, read in place. Bounds-checked, no allocation, no recursion, hostile bytes welcome.
//
// What it accepts is what google.protobuf (upb) accepts: tags and lengths of up to five bytes and varints of up to ten,
// overlong or not; unknown fields of every wire type, groups included. tests/property/test_decoder.py holds it to that.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

namespace assay {

enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kDelimited = 2, kStartGroup = 3, kEndGroup = 4, kFixed32 = 5 };

constexpr uint32_t wire_tag(uint32_t field, WireType type) noexcept { return field << 3 | static_cast<uint32_t>(type); }

// Why reading stopped. All strings are literals: nothing of the message gets into an error.
struct WireFault {
  Code code = Code::kOk;
  const char* at = nullptr;     // the first bad byte
  const char* field = nullptr;  // the field's name where it is known
  const char* what = nullptr;
};

// Readers of nested messages share the fault of the outermost. After a method returned false only the fault may be used.
class WireReader {
 public:
  // REQUIRES: bytes and fault outlive the reader.
  WireReader(std::string_view bytes, WireFault& fault) noexcept : WireReader(bytes, fault, limits::kWireDepthMax) {}

  // A reader of a field's payload, one level deeper.
  WireReader nested(std::string_view payload) const noexcept { return {payload, *fault_, depth_left_ - 1}; }

  bool at_end() const noexcept { return at_ == end_; }
  const char* position() const noexcept { return at_; }
  bool fail(const char* at, const char* what, const char* field = nullptr, Code code = Code::kMalformedMessage) noexcept {
    *fault_ = {code, at, field, what};
    return false;
  }

  // The next field's tag: its number (never 0) and wire type. REQUIRES: !at_end().
  bool read_tag(uint32_t* tag) noexcept {
    const char* const start = at_;
    if (!read_short_varint<UINT32_MAX>(tag, "a tag is cut off, or longer than five bytes")) return false;
    return __builtin_expect(*tag >> 3 != 0, 1) || fail(start, "a field has the number 0");
  }

  bool read_varint(uint64_t* value) noexcept {
    if (__builtin_expect(at_ != end_ && static_cast<int8_t>(*at_) >= 0, 1)) {
      *value = static_cast<uint8_t>(*at_++);
      return true;
    }
    return read_long_varint(value);
  }

  // Any bit set is true, also one that a narrower type would lose.
  bool read_bool(bool* value) noexcept {
    uint64_t wide = 0;
    const bool is_read = read_varint(&wide);
    *value = wide != 0;
    return is_read;
  }

  // int32, uint32 and enums are cut to their low 32 bits, as protobuf does.
  bool read_int32(int32_t* value) noexcept {
    uint64_t wide = 0;
    const bool is_read = read_varint(&wide);
    *value = static_cast<int32_t>(static_cast<uint32_t>(wide));
    return is_read;
  }

  bool read_uint32(uint32_t* value) noexcept {
    uint64_t wide = 0;
    const bool is_read = read_varint(&wide);
    *value = static_cast<uint32_t>(wide);
    return is_read;
  }

  bool read_double(double* value) noexcept {
    if (end_ - at_ < 8) return fail(at_, "a 64-bit value is cut off");
    std::memcpy(value, at_, 8);
    at_ += 8;
    return true;
  }

  bool read_fixed32(uint32_t* value) noexcept {
    if (end_ - at_ < 4) return fail(at_, "a 32-bit value is cut off");
    std::memcpy(value, at_, 4);
    at_ += 4;
    return true;
  }

  bool read_delimited(std::string_view* payload, const char* field = nullptr) noexcept {
    const char* const start = at_;
    uint32_t bytes = 0;
    if (!read_short_varint<INT32_MAX>(&bytes, "a length is cut off, too large, or longer than five bytes")) return false;
    if (__builtin_expect(bytes > static_cast<size_t>(end_ - at_), 0)) {
      return fail(start, "a length runs past the end of its message", field);
    }
    *payload = {at_, bytes};
    at_ += bytes;
    return true;
  }

  // A string field: UTF-8, or the whole message is refused.
  bool read_text(std::string_view* text, const char* field) noexcept {
    std::string_view payload;
    if (!read_delimited(&payload, field)) return false;
    const char* const bad = utf8_find_bad(payload);
    if (__builtin_expect(bad != nullptr, 0)) return fail(bad, "text is not UTF-8", field);
    *text = payload;
    return true;
  }

  // Passes over the field whose tag was read: an unknown one, or a known one with another wire type.
  bool skip(uint32_t tag) noexcept;

 private:
  WireReader(std::string_view bytes, WireFault& fault, int depth_left) noexcept
      : at_(bytes.data()), end_(bytes.data() + bytes.size()), fault_(&fault), depth_left_(depth_left) {}

  // Tags and lengths: at most five bytes, whose value is at most kMax.
  template <uint32_t kMax>
  bool read_short_varint(uint32_t* value, const char* what) noexcept {
    if (__builtin_expect(at_ != end_ && static_cast<int8_t>(*at_) >= 0, 1)) {
      *value = static_cast<uint8_t>(*at_++);
      return true;
    }
    uint64_t wide = 0;
    for (int i = 0; i < 5 && at_ + i != end_; ++i) {
      const uint8_t byte = static_cast<uint8_t>(at_[i]);
      wide |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
      if (byte >= 0x80) continue;
      if (wide > kMax) break;
      at_ += i + 1;
      *value = static_cast<uint32_t>(wide);
      return true;
    }
    return fail(at_, what);
  }

  bool read_long_varint(uint64_t* value) noexcept;
  bool skip_value(uint32_t tag) noexcept;
  bool skip_group(uint32_t field) noexcept;

  const char* at_;
  const char* end_;
  WireFault* fault_;
  int depth_left_;
};

}  // namespace assay
