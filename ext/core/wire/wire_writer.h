// WireWriter: appends protobuf fields to a string in one pass, as google.protobuf would write them (shortest varints).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/wire/wire_reader.h"

namespace assay {

class WireWriter {
 public:
  // REQUIRES: `out` outlives the writer.
  explicit WireWriter(std::string& out) noexcept : out_(out) {}

  // A proto3 field without presence is left out when it is 0 or empty; put_*() writes it whatever it is (oneof, optional).
  void varint(uint32_t field, uint64_t value) {
    if (value != 0) put_varint(field, value);
  }
  void text(uint32_t field, std::string_view value) {
    if (!value.empty()) put_delimited(field, value);
  }

  void put_varint(uint32_t field, uint64_t value) {
    char head[20];
    char* at = encode_varint(wire_tag(field, WireType::kVarint), head);
    append(head, encode_varint(value, at));
  }

  void put_double(uint32_t field, double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    put_fixed64(field, bits);
  }

  void put_fixed64(uint32_t field, uint64_t value) {
    char bytes[13];
    char* const at = encode_varint(wire_tag(field, WireType::kFixed64), bytes);
    std::memcpy(at, &value, 8);
    append(bytes, at + 8);
  }

  // A string, bytes, or a message that is encoded already.
  void put_delimited(uint32_t field, std::string_view value) {
    char head[20];
    char* at = encode_varint(wire_tag(field, WireType::kDelimited), head);
    append(head, encode_varint(value.size(), at));
    out_.append(value);
  }

  // The head of a field whose `bytes` bytes the caller appends.
  void put_length(uint32_t field, size_t bytes) {
    char head[20];
    char* at = encode_varint(wire_tag(field, WireType::kDelimited), head);
    append(head, encode_varint(bytes, at));
  }
  // An element of a packed field.
  void put_raw_varint(uint64_t value) {
    char bytes[10];
    append(bytes, encode_varint(value, bytes));
  }

  // Writes a nested message: write() adds its fields. One byte is kept for the length, which nearly always is enough; a
  // longer message is moved up once.
  template <typename Write>
  void message(uint32_t field, Write&& write) {
    char head[10];
    append(head, encode_varint(wire_tag(field, WireType::kDelimited), head));
    const size_t length_at = out_.size();
    out_.push_back('\0');
    write();
    const size_t bytes = out_.size() - length_at - 1;
    char length[10];
    const size_t length_bytes = static_cast<size_t>(encode_varint(bytes, length) - length);
    if (__builtin_expect(length_bytes > 1, 0)) out_.insert(length_at + 1, length_bytes - 1, '\0');
    std::memcpy(&out_[length_at], length, length_bytes);
  }

  // google.protobuf.Duration. Always written: 0 ns is an empty message. Seconds and nanos have the same sign.
  void duration_ns(uint32_t field, int64_t ns) {
    message(field, [&] {
      varint(1, static_cast<uint64_t>(ns / 1'000'000'000));
      varint(2, static_cast<uint64_t>(ns % 1'000'000'000));
    });
  }

  static size_t varint_bytes(uint64_t value) noexcept {
    return value == 0 ? 1 : (static_cast<size_t>(64 - __builtin_clzll(value)) + 6) / 7;
  }
  // The size of a string, bytes or message field, its tag included.
  static size_t delimited_bytes(uint32_t field, size_t payload_bytes) noexcept {
    return varint_bytes(field << 3) + varint_bytes(payload_bytes) + payload_bytes;
  }

 private:
  static char* encode_varint(uint64_t value, char* at) noexcept {
    for (; value >= 0x80; value >>= 7) *at++ = static_cast<char>(value | 0x80);
    *at++ = static_cast<char>(value);
    return at;
  }
  void append(const char* begin, const char* end) { out_.append(begin, static_cast<size_t>(end - begin)); }

  std::string& out_;
};

}  // namespace assay
