#include "core/load/call_headers.h"

#include <nghttp2/nghttp2.h>

#include <string>

namespace assay::load {
namespace {

const uint8_t* bytes_of(const std::string& text) noexcept { return reinterpret_cast<const uint8_t*>(text.data()); }

Status wrong(std::string detail) { return Status(Code::kInvalidRequest, std::move(detail)); }

// What is ours to send: the rest of a call's header.
bool is_reserved(const std::string& name) noexcept {
  return name.empty() || name[0] == ':' || name.compare(0, 5, "grpc-") == 0 || name == "te" || name == "content-type" ||
         name == "connection";
}

// "/package.Service/Method", printable ASCII.
bool is_method(const std::string& method) noexcept {
  const size_t slash = method.find('/', 1);
  if (method.size() > 512 || method.empty() || method[0] != '/') return false;
  if (slash == std::string::npos || slash == 1 || slash + 1 == method.size()) return false;
  for (const char c : method) {
    if (c <= ' ' || c > '~') return false;
  }
  return true;
}

// gRPC's spelling: at most eight digits and a unit.
std::string timeout_text(int64_t timeout_ns) {
  const int64_t us = std::max<int64_t>(timeout_ns / 1000, 1);
  if (us < 100'000'000) return std::to_string(us) + "u";
  return std::to_string(us / 1000) + "m";
}

}  // namespace

Status check_call_headers(const LoadOptions& options) {
  if (!is_method(options.method))
    return wrong("method: expected package.Service/Method, for example assay.v1.ScoringService/Score");
  if (options.metadata.size() > LoadLimits::kMetadataMax) return wrong("metadata: expected at most 64 entries");
  size_t bytes = 0;
  for (const auto& [name, value] : options.metadata) {
    bytes += name.size() + value.size();
    if (is_reserved(name) || nghttp2_check_header_name(bytes_of(name), name.size()) == 0) {
      return wrong("metadata " + printable(name) + ": not a name that can be sent; lower case, and none of gRPC's own");
    }
    if (nghttp2_check_header_value(bytes_of(value), value.size()) == 0)
      return wrong("metadata " + name + ": a value that cannot be sent");
  }
  if (bytes > LoadLimits::kMetadataBytesMax) return wrong("metadata: more than 8 KiB");
  return {};
}

Status make_call_headers(const LoadOptions& options, const Target& target, std::vector<Header>* headers) {
  *headers = {{":method", "POST"},
              {":scheme", options.is_tls ? "https" : "http"},
              {":path", options.method},
              {":authority", target.authority}};
  headers->push_back({"te", "trailers"});
  headers->push_back({"content-type", "application/grpc"});
  headers->push_back({"user-agent", "assay-bench"});
  if (options.timeout_ns > 0) headers->push_back({"grpc-timeout", timeout_text(options.timeout_ns)});
  for (const auto& [name, value] : options.metadata) headers->push_back({name, value});
  return {};
}

}  // namespace assay::load
