#include "core/transport/request_head.h"

namespace assay {
namespace {

constexpr size_t kFieldOverhead = 32;

}  // namespace

size_t RequestHead::field_bytes(nghttp2_rcbuf* name, nghttp2_rcbuf* value) noexcept {
  return nghttp2_rcbuf_get_buf(name).len + nghttp2_rcbuf_get_buf(value).len + kFieldOverhead;
}

void RequestHead::clear() noexcept {
  fields_.clear();
  bytes_ = 0;
  method = path = content_type = te = timeout = encoding = traceparent = {};
}

void RequestHead::add(nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t flags) {
  bytes_ += field_bytes(name, value);
  if (is_too_large()) return;
  fields_.emplace_back(name, value, flags);
  note(fields_.back().name(), fields_.back().value());
}

// Of several of one name the last holds; gRPC leaves that open.
void RequestHead::note(std::string_view name, std::string_view value) noexcept {
  switch (name.size()) {
    case 2:
      if (name == "te") te = value;
      break;
    case 5:
      if (name == ":path") path = value;
      break;
    case 7:
      if (name == ":method") method = value;
      break;
    case 11:
      if (name == "traceparent") traceparent = value;
      break;
    case 12:
      if (name == "content-type") content_type = value;
      if (name == "grpc-timeout") timeout = value;
      break;
    case 13:
      if (name == "grpc-encoding") encoding = value;
      break;
    default: break;
  }
}

}  // namespace assay
