#include "core/features/resp_scanner.h"

#include <algorithm>

namespace assay {

bool read_resp_length(std::string_view text, int64_t* length) noexcept {
  if (text == "-1") {
    *length = -1;
    return true;
  }
  if (text.empty() || text.size() > 18) return false;
  *length = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    *length = *length * 10 + (c - '0');
  }
  return true;
}

RespScanner::Found RespScanner::scan(std::string_view bytes) noexcept {
  if (failed_ != Found::kAll) return failed_;
  if (bytes.size() > kBytesMax) return fail(Found::kTooLarge);
  for (;;) {
    while (depth_ > 0 && left_[depth_] == 0) --depth_;
    if (left_[depth_] == 0) break;
    if (values_left_ == 0) return fail(Found::kTooLarge);
    const Found found = scan_one(bytes);
    if (found != Found::kAll) return found == Found::kMore ? found : fail(found);
    --values_left_;
  }
  return place_ == bytes.size() ? Found::kAll : fail(Found::kNotResp);
}

// Passes one answer that has none in it, or the head of one that has. kAll: it is whole.
RespScanner::Found RespScanner::scan_one(std::string_view bytes) noexcept {
  const std::string_view rest = bytes.substr(place_);
  const size_t end = rest.substr(0, kLineBytesMax).find("\r\n");
  if (!rest.empty() && std::string_view("+-:_#,($=!*~%>").find(rest[0]) == std::string_view::npos) return Found::kNotResp;
  if (end == std::string_view::npos) return rest.size() >= kLineBytesMax ? Found::kTooLarge : Found::kMore;
  const char type = rest[0];
  const size_t line_bytes = end + 2;
  if (std::string_view("+-:_#,(").find(type) != std::string_view::npos) {
    place_ += line_bytes;
    --left_[depth_];
    return Found::kAll;
  }
  int64_t length = 0;
  if (!read_resp_length(rest.substr(1, end - 1), &length)) return Found::kNotResp;
  const auto size = static_cast<uint64_t>(std::max<int64_t>(length, 0));
  if (size > kBytesMax) return Found::kTooLarge;
  if (type == '*' || type == '~' || type == '%' || type == '>') {
    if (depth_ + 1 == kDepthMax) return Found::kTooLarge;
    if (type == '>' && (depth_ > 0 || length < 0)) return Found::kNotResp;
    place_ += line_bytes;
    if (type != '>') --left_[depth_];
    left_[++depth_] = type == '%' ? 2 * size : size;
    return Found::kAll;
  }
  const size_t whole_bytes = line_bytes + (length < 0 ? 0 : size + 2);
  if (rest.size() < whole_bytes) return line_bytes + size > kBytesMax ? Found::kTooLarge : Found::kMore;
  if (length >= 0 && rest.substr(whole_bytes - 2, 2) != "\r\n") return Found::kNotResp;
  place_ += whole_bytes;
  --left_[depth_];
  return Found::kAll;
}

}  // namespace assay
