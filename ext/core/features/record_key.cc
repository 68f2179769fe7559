#include "core/features/record_key.h"

namespace assay {
namespace {

constexpr char kHexDigits[] = "0123456789abcdef";
constexpr size_t kHashBytesShown = 4;

bool is_plain(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
         c == '~';
}

void append_hex(uint8_t byte, std::string& out) {
  out += kHexDigits[byte >> 4];
  out += kHexDigits[byte & 15];
}

void append_encoded(std::string_view text, std::string& out) {
  for (const char c : text) {
    if (is_plain(c)) {
      out += c;
    } else {
      out += '%';
      append_hex(static_cast<uint8_t>(c), out);
    }
  }
}

}  // namespace

void append_record_key(const ViewSpec& view, std::string_view entity_kind, std::string_view entity_id, std::string& out) {
  out += "a1:{";
  append_encoded(entity_kind, out);
  out += ':';
  append_encoded(entity_id, out);
  out += "}:";
  append_encoded(view.name, out);
  out += ':';
  for (size_t i = 0; i < kHashBytesShown; ++i) append_hex(view.view_hash[i], out);
}

}  // namespace assay
