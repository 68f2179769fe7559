// FlatWriter: protobuf fields into memory that is large enough: WireWriter without its checks, for what is written for every row.
//
// REQUIRES: room behind at() for all that is put there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/wire/wire_reader.h"

namespace assay {

class FlatWriter {
 public:
  explicit FlatWriter(char* at) noexcept : at_(at) {}

  char* at() const noexcept { return at_; }

  // Left out when it is 0 or empty, as proto3 does without presence.
  void varint(uint32_t field, uint64_t value) noexcept {
    if (value == 0) return;
    put_raw(wire_tag(field, WireType::kVarint));
    put_raw(value);
  }
  void text(uint32_t field, std::string_view value) noexcept {
    if (!value.empty()) put_delimited(field, value);
  }

  void put_fixed64(uint32_t field, uint64_t value) noexcept {
    put_raw(wire_tag(field, WireType::kFixed64));
    std::memcpy(at_, &value, 8);
    at_ += 8;
  }
  void put_double(uint32_t field, double value) noexcept {
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    put_fixed64(field, bits);
  }
  void put_delimited(uint32_t field, std::string_view value) noexcept {
    put_raw(wire_tag(field, WireType::kDelimited));
    put_raw(value.size());
    std::memcpy(at_, value.data(), value.size());
    at_ += value.size();
  }
  // An element of a packed field, inside its message().
  void put_raw(uint64_t value) noexcept {
    for (; value >= 0x80; value >>= 7) *at_++ = static_cast<char>(value | 0x80);
    *at_++ = static_cast<char>(value);
  }

  // A nested message of fewer than 16 KiB: write() adds its fields. Its length is a varint of two bytes, however short it is.
  template <typename Write>
  void message(uint32_t field, Write&& write) noexcept {
    put_raw(wire_tag(field, WireType::kDelimited));
    framed(write);
  }
  // The same without a field before it.
  template <typename Write>
  void framed(Write&& write) noexcept {
    char* const length = at_;
    at_ += 2;
    write();
    const size_t bytes = static_cast<size_t>(at_ - length) - 2;
    length[0] = static_cast<char>((bytes & 0x7f) | 0x80);
    length[1] = static_cast<char>(bytes >> 7);
  }

 private:
  char* at_;
};

}  // namespace assay
