#include "core/base/blake2b.h"

#include <algorithm>
#include <cstring>

#include "core/base/status.h"

namespace assay {
namespace {

// RFC 7693, section 2.6: the fractional parts of the square roots of the first eight primes.
constexpr std::array<uint64_t, 8> kInitial = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                              0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

// Section 2.7: the order in which each round takes the message's words. Rounds 10 and 11 are 0 and 1 again.
constexpr uint8_t kOrder[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

constexpr uint64_t rotate_right(uint64_t value, int bits) noexcept { return value >> bits | value << (64 - bits); }

inline void mix(uint64_t* v, int a, int b, int c, int d, uint64_t x, uint64_t y) noexcept {
  v[a] += v[b] + x;
  v[d] = rotate_right(v[d] ^ v[a], 32);
  v[c] += v[d];
  v[b] = rotate_right(v[b] ^ v[c], 24);
  v[a] += v[b] + y;
  v[d] = rotate_right(v[d] ^ v[a], 16);
  v[c] += v[d];
  v[b] = rotate_right(v[b] ^ v[c], 63);
}

// A round, unrolled by its number: the compiler then knows where each word comes from, which halves the time.
template <int kRound>
inline void mix_round(uint64_t* v, const uint64_t* m) noexcept {
  constexpr const uint8_t* kFrom = kOrder[kRound];
  mix(v, 0, 4, 8, 12, m[kFrom[0]], m[kFrom[1]]);
  mix(v, 1, 5, 9, 13, m[kFrom[2]], m[kFrom[3]]);
  mix(v, 2, 6, 10, 14, m[kFrom[4]], m[kFrom[5]]);
  mix(v, 3, 7, 11, 15, m[kFrom[6]], m[kFrom[7]]);
  mix(v, 0, 5, 10, 15, m[kFrom[8]], m[kFrom[9]]);
  mix(v, 1, 6, 11, 12, m[kFrom[10]], m[kFrom[11]]);
  mix(v, 2, 7, 8, 13, m[kFrom[12]], m[kFrom[13]]);
  mix(v, 3, 4, 9, 14, m[kFrom[14]], m[kFrom[15]]);
}

}  // namespace

Blake2b::Blake2b(size_t digest_bytes, std::string_view key) noexcept : state_(kInitial), digest_bytes_(digest_bytes) {
  ASSAY_ASSERT(digest_bytes >= 1 && digest_bytes <= 64 && key.size() <= 64);
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
    for (; buffered_bytes_ == 0 && bytes.size() > kBlockBytes; bytes.remove_prefix(kBlockBytes))
      compress(reinterpret_cast<const uint8_t*>(bytes.data()), false);
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
  std::memcpy(out, state_.data(), digest_bytes_);  // little-endian, as all of this project
}

void Blake2b::compress(const uint8_t* block, bool is_last) noexcept {
  compressed_bytes_ += kBlockBytes;
  uint64_t m[16], v[16];
  std::memcpy(m, block, sizeof m);
  std::copy(state_.begin(), state_.end(), v);
  std::copy(kInitial.begin(), kInitial.end(), v + 8);
  v[12] ^= compressed_bytes_;
  if (is_last) v[14] = ~v[14];
  mix_round<0>(v, m), mix_round<1>(v, m), mix_round<2>(v, m), mix_round<3>(v, m), mix_round<4>(v, m), mix_round<5>(v, m);
  mix_round<6>(v, m), mix_round<7>(v, m), mix_round<8>(v, m), mix_round<9>(v, m), mix_round<10>(v, m), mix_round<11>(v, m);
  for (size_t i = 0; i < state_.size(); ++i) state_[i] ^= v[i] ^ v[i + 8];
}

}  // namespace assay
