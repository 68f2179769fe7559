// nghttp2's name-value pairs of our own texts.
#pragma once

#include <nghttp2/nghttp2.h>

#include <string_view>

namespace assay {

// Borrows both: nghttp2 copies them when a frame is submitted.
inline nghttp2_nv nv(std::string_view name, std::string_view value) noexcept {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())), reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())),
          name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

}  // namespace assay
