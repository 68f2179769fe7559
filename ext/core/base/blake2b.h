// BLAKE2b (RFC 7693): digests of model inputs and tokens for card numbers.
//
// With a key it is a MAC: without the key nobody can tell which card number a token stands for by trying all of them, as they could
// with a plain hash (PCI DSS 4.0.1, 3.5.1.1).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace assay {

class Blake2b {
 public:
  // REQUIRES: 1 <= digest_bytes <= 64, key of at most 64 bytes. Empty: without a key.
  explicit Blake2b(size_t digest_bytes, std::string_view key = {}) noexcept;

  void update(std::string_view bytes) noexcept;
  // Writes digest_bytes to `out`. The object is used up.
  void finish(uint8_t* out) noexcept;

 private:
  static constexpr size_t kBlockBytes = 128;
  void compress(const char* block, bool is_last) noexcept;

  uint64_t state_[8];
  std::array<char, kBlockBytes> buffer_;
  uint64_t compressed_bytes_ = 0;  // 2^64 bytes are never hashed: the counter's upper half stays 0
  size_t buffered_bytes_ = 0;
  size_t digest_bytes_;
};

using Digest32 = std::array<uint8_t, 32>;
using Digest16 = std::array<uint8_t, 16>;

// Of one piece.
template <size_t kBytes>
std::array<uint8_t, kBytes> blake2b(std::string_view bytes, std::string_view key = {}) noexcept {
  std::array<uint8_t, kBytes> digest;
  Blake2b hash(kBytes, key);
  hash.update(bytes);
  hash.finish(digest.data());
  return digest;
}

}  // namespace assay
