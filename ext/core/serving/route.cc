#include "core/serving/route.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/hash.h"

namespace assay {

bool is_in_share(std::string_view model, std::string_view salt, std::string_view id, double share) noexcept {
  // A zero between the parts, which no name and no text on the wire that counts ends in: parts do not run into each other.
  std::array<char, 2 * (limits::kNameBytesMax + 1) + limits::kIdBytesMax> bytes;
  char* at = bytes.data();
  const auto put = [&at](std::string_view part, size_t bytes_max) {
    const size_t size = std::min(part.size(), bytes_max);
    std::memcpy(at, part.data(), size);
    at += size;
  };
  put(model, limits::kNameBytesMax);
  *at++ = '\0';
  put(salt, limits::kNameBytesMax);
  *at++ = '\0';
  put(id, limits::kIdBytesMax);
  const uint64_t hash = xxh64({bytes.data(), static_cast<size_t>(at - bytes.data())});
  return static_cast<double>(hash >> 11) * 0x1p-53 < share;  // 53 bits: exact in a double, and always below 1
}

}  // namespace assay
