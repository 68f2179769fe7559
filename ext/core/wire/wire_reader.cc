#include "core/wire/wire_reader.h"

namespace assay {

bool WireReader::read_long_varint(uint64_t* value) noexcept {
  uint64_t wide = 0;
  for (int i = 0; i < 10 && at_ + i != end_; ++i) {
    const uint8_t byte = static_cast<uint8_t>(at_[i]);
    wide |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);  // bits past the 64th fall off, as in protobuf
    if (byte >= 0x80) continue;
    at_ += i + 1;
    *value = wide;
    return true;
  }
  return fail(at_, "a varint is cut off, or longer than ten bytes");
}

bool WireReader::skip(uint32_t tag) noexcept {
  switch (static_cast<WireType>(tag & 7)) {
    case WireType::kStartGroup: return skip_group(tag >> 3);
    case WireType::kEndGroup: return fail(at_, "a group ends that was not begun");
    default: return skip_value(tag);
  }
}

// Anything but groups.
bool WireReader::skip_value(uint32_t tag) noexcept {
  uint64_t ignored = 0;
  std::string_view payload;
  switch (static_cast<WireType>(tag & 7)) {
    case WireType::kVarint: return read_varint(&ignored);
    case WireType::kDelimited: return read_delimited(&payload);
    case WireType::kFixed64:
    case WireType::kFixed32: {
      const ptrdiff_t bytes = (tag & 7) == static_cast<uint32_t>(WireType::kFixed64) ? 8 : 4;
      if (end_ - at_ < bytes) return fail(at_, "a fixed-size value is cut off");
      at_ += bytes;
      return true;
    }
    default: return fail(at_, "a field has a wire type that does not exist");
  }
}

// Groups within groups are followed with a stack of ours, not the thread's. Within a group upb lets the field number 0 pass.
bool WireReader::skip_group(uint32_t field) noexcept {
  uint32_t open[limits::kWireDepthMax];
  int depth = 0;
  if (depth_left_ < 1) return fail(at_, "groups are nested too deeply");
  open[depth++] = field;
  while (depth > 0) {
    const char* const start = at_;
    uint32_t tag = 0;
    if (at_end()) return fail(start, "a group does not end");
    if (!read_short_varint<UINT32_MAX>(&tag, "a tag is cut off, or longer than five bytes")) return false;
    switch (static_cast<WireType>(tag & 7)) {
      case WireType::kStartGroup:
        if (depth == depth_left_) return fail(start, "groups are nested too deeply");
        open[depth++] = tag >> 3;
        break;
      case WireType::kEndGroup:
        if (open[--depth] != tag >> 3) return fail(start, "a group ends that was not begun");
        break;
      default:
        if (!skip_value(tag)) return false;
    }
  }
  return true;
}

}  // namespace assay
