// RequestHead: the header block of one request, as it is read. One a connection: header blocks do not interleave in HTTP/2.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace assay {

// A header field that holds on to nghttp2's reference-counted bytes, so that forwarding copies nothing.
class HeaderField {
 public:
  HeaderField(nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t flags) noexcept : name_(name), value_(value), flags_(flags) {
    nghttp2_rcbuf_incref(name_);
    nghttp2_rcbuf_incref(value_);
  }
  HeaderField(HeaderField&& other) noexcept : name_(other.name_), value_(other.value_), flags_(other.flags_) {
    other.name_ = other.value_ = nullptr;
  }
  HeaderField& operator=(HeaderField&&) = delete;
  HeaderField(const HeaderField&) = delete;
  ~HeaderField() {
    if (name_ == nullptr) return;
    nghttp2_rcbuf_decref(name_);
    nghttp2_rcbuf_decref(value_);
  }

  std::string_view name() const noexcept { return view(name_); }
  std::string_view value() const noexcept { return view(value_); }
  // Borrows the bytes: REQUIRES that the field lives until the frame was made.
  nghttp2_nv nv() const noexcept {
    const std::string_view n = name(), v = value();
    auto* name_bytes = const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(n.data()));
    auto* value_bytes = const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(v.data()));
    return {name_bytes, value_bytes, n.size(), v.size(), static_cast<uint8_t>(flags_ & NGHTTP2_NV_FLAG_NO_INDEX)};
  }

 private:
  static std::string_view view(nghttp2_rcbuf* buffer) noexcept {
    const nghttp2_vec bytes = nghttp2_rcbuf_get_buf(buffer);
    return {reinterpret_cast<const char*>(bytes.base), bytes.len};
  }
  nghttp2_rcbuf* name_;
  nghttp2_rcbuf* value_;
  uint8_t flags_;
};

class RequestHead {
 public:
  explicit RequestHead(size_t bytes_max) : bytes_max_(bytes_max) { fields_.reserve(16); }

  // As HTTP/2 reckons it (RFC 9113, section 6.5.2).
  static size_t field_bytes(nghttp2_rcbuf* name, nghttp2_rcbuf* value) noexcept;

  void clear() noexcept;
  // Past the limit nothing more is kept, but reading goes on: the client gets an answer that says so.
  void add(nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t flags);

  const std::vector<HeaderField>& fields() const noexcept { return fields_; }
  bool is_too_large() const noexcept { return bytes_ > bytes_max_; }

  // Without data(): not there. Valid until clear().
  std::string_view method, path, content_type, te, timeout, encoding, traceparent;

 private:
  void note(std::string_view name, std::string_view value) noexcept;

  const size_t bytes_max_;
  size_t bytes_ = 0;
  std::vector<HeaderField> fields_;
};

}  // namespace assay
