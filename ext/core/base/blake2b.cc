#include "core/base/blake2b.h"

#include <algorithm>
#include <cstring>

#include "core/base/blake2b_kernel.h"
#include "core/base/status.h"

namespace assay {

Blake2b::Blake2b(size_t digest_bytes, std::string_view key) noexcept : digest_bytes_(digest_bytes) {
  ASSAY_ASSERT(digest_bytes >= 1 && digest_bytes <= 64 && key.size() <= 64);
  std::copy(std::begin(blake2b_kernel::kInitial), std::end(blake2b_kernel::kInitial), state_);
  state_[0] ^= 0x01010000 ^ key.size() << 8 ^ digest_bytes;
  if (key.empty()) return;
  buffer_.fill(0);
  std::memcpy(buffer_.data(), key.data(), key.size());
  buffered_bytes_ = kBlockBytes;
}

void Blake2b::update(std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    if (buffered_bytes_ == kBlockBytes) {  // more follows: it is not the last block
      compress(buffer_.data(), false);
      buffered_bytes_ = 0;
    }
    for (; buffered_bytes_ == 0 && bytes.size() > kBlockBytes; bytes.remove_prefix(kBlockBytes)) compress(bytes.data(), false);
    const size_t taken = std::min(kBlockBytes - buffered_bytes_, bytes.size());
    std::memcpy(buffer_.data() + buffered_bytes_, bytes.data(), taken);
    buffered_bytes_ += taken;
    bytes.remove_prefix(taken);
  }
}

void Blake2b::finish(uint8_t* out) noexcept {
  std::memset(buffer_.data() + buffered_bytes_, 0, kBlockBytes - buffered_bytes_);
  compressed_bytes_ -= kBlockBytes - buffered_bytes_;  // compress() counts a whole block
  compress(buffer_.data(), true);
  std::memcpy(out, state_, digest_bytes_);  // little-endian, as all of this project
}

void Blake2b::compress(const char* block, bool is_last) noexcept {
  compressed_bytes_ += kBlockBytes;
  uint64_t m[16];
  std::memcpy(m, block, sizeof m);
  blake2b_kernel::compress<uint64_t>(state_, m, compressed_bytes_, is_last ? ~uint64_t{0} : 0, 0);
}

}  // namespace assay
