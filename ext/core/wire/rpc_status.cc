// encode_rpc_status() and rpc_message(): how a refusal looks to a client. Failure path only.
#include <algorithm>
#include <string>

#include "core/base/utf8.h"
#include "core/wire/response.h"
#include "core/wire/wire_writer.h"

namespace assay {
namespace {

constexpr std::string_view kDomain = "assay";
constexpr const char* kTypePrefix = "type.googleapis.com/google.rpc.";
constexpr size_t kViolationsInMessageMax = 3;
constexpr size_t kDetailBytesMax = 512;  // the message travels in a header

size_t violation_bytes(const Violation& violation) {
  return WireWriter::delimited_bytes(1, WireWriter::delimited_bytes(1, violation.field.size()) +
                                            WireWriter::delimited_bytes(2, violation.description.size()) +
                                            WireWriter::delimited_bytes(3, std::string_view(reason_of(violation.code)).size()));
}

// How many violations are listed: a status that is too large for the peer's header limit would lose all of them.
size_t listed_count(const Violations& violations) {
  size_t bytes = 0, count = 0;
  for (const Violation& violation : violations.list()) {
    bytes += violation_bytes(violation);
    if (bytes > limits::kViolationsBytesMax) break;
    ++count;
  }
  return count;
}

// At most kDetailBytesMax bytes of text that a protobuf string may hold.
std::string safe_detail(std::string_view detail) {
  std::string safe = utf8_repaired(detail.substr(0, kDetailBytesMax));
  if (detail.size() > kDetailBytesMax) safe += "...";
  return safe;
}

template <typename Write>
void append_any(WireWriter& out, const char* type, Write&& write) {
  out.message(3, [&] {
    out.text(1, std::string(kTypePrefix) + type);
    out.message(2, write);
  });
}

void append_error_info(WireWriter& out, const Status& status) {
  const bool is_about_bytes = status.code == Code::kMalformedMessage || status.code == Code::kMalformedJson || status.offset != 0;
  append_any(out, "ErrorInfo", [&] {
    out.text(1, reason_of(status.code));
    out.text(2, kDomain);
    if (!is_about_bytes) return;
    out.message(3, [&] {
      out.text(1, "byte_offset");
      out.text(2, std::to_string(status.offset));
    });
  });
}

void append_bad_request(WireWriter& out, const Violations& violations) {
  append_any(out, "BadRequest", [&] {
    for (size_t i = 0; i < listed_count(violations); ++i) {
      const Violation& violation = violations.list()[i];
      out.message(1, [&] {
        out.text(1, violation.field);
        out.text(2, violation.description);
        out.text(3, reason_of(violation.code));
      });
    }
  });
}

// "features["amount"] is int64; expected float64."
std::string sentence(const Violation& violation) {
  return violation.field.empty() ? violation.description + "." : violation.field + " " + violation.description + ".";
}

std::string violations_text(const Violations& violations) {
  const size_t shown = std::min(violations.list().size(), kViolationsInMessageMax);
  std::string text;
  for (size_t i = 0; i < shown; ++i) text.append(" ").append(sentence(violations.list()[i]));
  if (violations.count() > shown) text += " " + std::to_string(violations.count() - shown) + " more.";
  const size_t listed = listed_count(violations);
  if (violations.count() > listed) text += " The details list the first " + std::to_string(listed) + ".";
  return text;
}

}  // namespace

std::string rpc_message(const Status& status, const Violations* violations) {
  std::string message = code_info(status.code).message;
  if (!status.detail.empty()) message += " (" + safe_detail(status.detail) + ")";
  if (violations != nullptr && !violations->empty()) message += violations_text(*violations);
  return message;
}

std::string encode_rpc_status(const Status& status, const Violations* violations) {
  const CodeInfo& info = code_info(status.code);
  std::string bytes;
  WireWriter out(bytes);
  out.varint(1, static_cast<uint64_t>(info.grpc));
  out.text(2, rpc_message(status, violations));
  append_error_info(out, status);
  if (violations != nullptr && !violations->empty()) append_bad_request(out, *violations);
  if (info.retry_ms > 0) {
    append_any(out, "RetryInfo", [&] { out.duration_ns(1, int64_t{info.retry_ms} * 1'000'000); });
  }
  return bytes;
}

}  // namespace assay
