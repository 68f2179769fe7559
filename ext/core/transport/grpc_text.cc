#include "core/transport/grpc_text.h"

#include "core/base/utf8.h"

namespace assay {
namespace {

constexpr size_t kTimeoutDigitsMax = 8;

// 0: not a unit.
int64_t timeout_unit_ns(char unit) noexcept {
  switch (unit) {
    case 'H': return int64_t{3600} * 1'000'000'000;
    case 'M': return int64_t{60} * 1'000'000'000;
    case 'S': return 1'000'000'000;
    case 'm': return 1'000'000;
    case 'u': return 1'000;
    case 'n': return 1;
    default: return 0;
  }
}

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equals_any_case(std::string_view text, std::string_view lower_case) noexcept {
  if (text.size() != lower_case.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (lower(text[i]) != lower_case[i]) return false;
  }
  return true;
}

// --- grpc-message ---

constexpr size_t kEscapeBytes = 3;

// Whether text[at] stays as it is.
bool is_literal(std::string_view text, size_t at) noexcept {
  const char c = text[at];
  if (c == ' ') return at != 0 && at + 1 != text.size();
  return c > ' ' && c <= '~' && c != '%';
}

// Bytes at the start that stay as they are.
size_t literal_bytes(std::string_view text) noexcept {
  size_t count = 0;
  while (count < text.size() && is_literal(text, count)) ++count;
  return count;
}

void append_escape(char c, std::string* out) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  const uint8_t byte = static_cast<uint8_t>(c);
  const char escape[kEscapeBytes] = {'%', kDigits[byte >> 4], kDigits[byte & 15]};
  out->append(escape, kEscapeBytes);
}

// --- base64 ---

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint32_t kDigitBits = 6;

}  // namespace

bool parse_grpc_timeout(std::string_view text, int64_t* ns) noexcept {
  if (text.size() < 2 || text.size() > kTimeoutDigitsMax + 1) return false;
  const int64_t unit_ns = timeout_unit_ns(text.back());
  if (unit_ns == 0) return false;
  text.remove_suffix(1);
  int64_t count = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    count = count * 10 + (c - '0');
  }
  *ns = count > kGrpcTimeoutNsMax / unit_ns ? kGrpcTimeoutNsMax : count * unit_ns;
  return true;
}

bool is_grpc_content_type(std::string_view text) noexcept {
  std::string_view type = text.substr(0, text.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
  return equals_any_case(type, "application/grpc") || equals_any_case(type, "application/grpc+proto");
}

std::string encode_grpc_message(std::string_view text, size_t bytes_max) {
  std::string encoded;
  size_t at = literal_bytes(text.substr(0, bytes_max));  // nearly always all of it
  encoded.append(text, 0, at);
  while (at < text.size()) {
    const bool literal = is_literal(text, at);
    const size_t sequence = utf8_sequence_bytes(text.data() + at, text.data() + text.size());
    const size_t bytes = sequence == 0 ? 1 : sequence;  // a byte that is not UTF-8 stands for itself
    if ((literal ? 1 : bytes * kEscapeBytes) > bytes_max - encoded.size()) break;
    if (literal) {
      encoded.push_back(text[at]);
    } else {
      for (size_t i = 0; i < bytes; ++i) append_escape(text[at + i], &encoded);
    }
    at += bytes;
  }
  while (at < text.size() && !encoded.empty() && encoded.back() == ' ') encoded.pop_back();  // the cut made it the last
  return encoded;
}

std::string encode_base64(std::string_view bytes) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  const size_t size = bytes.size(), whole = size / 3 * 3;
  std::string text((size * 4 + 2) / 3, '\0');
  char* out = text.data();
  for (size_t at = 0; at < whole; at += 3) {
    const uint32_t bits = uint32_t{data[at]} << 16 | uint32_t{data[at + 1]} << 8 | data[at + 2];
    for (uint32_t shift = 24; shift > 0;) *out++ = kAlphabet[bits >> (shift -= kDigitBits) & 63];
  }
  if (whole == size) return text;
  const uint32_t bits = uint32_t{data[whole]} << 16 | (whole + 1 < size ? uint32_t{data[whole + 1]} << 8 : 0);
  for (uint32_t shift = 24; out != text.data() + text.size();) *out++ = kAlphabet[bits >> (shift -= kDigitBits) & 63];
  return text;
}

}  // namespace assay
