#include "core/base/blake2bp.h"

#include <algorithm>
#include <cstring>

#include "core/base/blake2b_kernel.h"

namespace assay {
namespace {

using Lanes = Blake2bp::Lanes;

constexpr size_t kBlockBytes = 128;
// The parameter block's first words (RFC 7693, section 2.8, and the paper's table): 64 bytes of digest, no key, fan-out 4, depth 2;
// then, for the third, the depth of the node and 64 bytes of inner digest. The second is the node's offset.
constexpr uint64_t kParameters = 64 | 4 << 16 | 2 << 24;
constexpr uint64_t kLeafParameters = 64 << 8;
constexpr uint64_t kRootParameters = 1 | 64 << 8;

// Word i of each lane's block.
__attribute__((always_inline)) inline void load_words(const char* stripe, Lanes (&m)[16]) noexcept {
  uint64_t words[4][16];
  std::memcpy(words, stripe, sizeof words);
  for (int i = 0; i < 16; ++i) m[i] = Lanes{words[0][i], words[1][i], words[2][i], words[3][i]};
}

constexpr Lanes kLastNode = {0, 0, 0, ~uint64_t{0}};  // of the leaves it is the last lane's

__attribute__((always_inline)) inline void compress_stripe(Lanes (&state)[8], const char* stripe, const Lanes& bytes,
                                                           const Lanes& last_block) noexcept {
  Lanes m[16];
  load_words(stripe, m);
  blake2b_kernel::compress<Lanes>(state, m, bytes, last_block, last_block & kLastNode);
}

void compress_plain(Lanes (&state)[8], const char* stripe, const Lanes& bytes, const Lanes& last_block) noexcept {
  compress_stripe(state, stripe, bytes, last_block);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void compress_avx2(Lanes (&state)[8], const char* stripe, const Lanes& bytes,
                                                   const Lanes& last_block) noexcept {
  compress_stripe(state, stripe, bytes, last_block);
}
const bool kHasAvx2 = (__builtin_cpu_init(), __builtin_cpu_supports("avx2") != 0);
#endif

void compress(Lanes (&state)[8], const char* stripe, const Lanes& bytes, const Lanes& last_block) noexcept {
#if defined(__x86_64__)
  if (__builtin_expect(kHasAvx2, 1)) return compress_avx2(state, stripe, bytes, last_block);
#endif
  compress_plain(state, stripe, bytes, last_block);
}

// Of the four leaves' digests, 64 bytes each.
Digest32 hash_root(const Lanes (&leaves)[8]) noexcept {
  uint64_t words[Blake2bp::kLanes * 8];
  for (size_t lane = 0; lane < Blake2bp::kLanes; ++lane) {
    for (size_t i = 0; i < 8; ++i) words[lane * 8 + i] = leaves[i][lane];
  }
  uint64_t state[8], m[16];
  std::copy(std::begin(blake2b_kernel::kInitial), std::end(blake2b_kernel::kInitial), state);
  state[0] ^= kParameters;
  state[2] ^= kRootParameters;
  constexpr uint64_t kOnes = ~uint64_t{0};
  std::memcpy(m, words, sizeof m);
  blake2b_kernel::compress<uint64_t>(state, m, kBlockBytes, 0, 0);
  std::memcpy(m, words + 16, sizeof m);
  blake2b_kernel::compress<uint64_t>(state, m, 2 * kBlockBytes, kOnes, kOnes);
  Digest32 digest;
  std::memcpy(digest.data(), state, digest.size());
  return digest;
}

}  // namespace

Blake2bp::Blake2bp() noexcept {
  for (size_t i = 0; i < 8; ++i) state_[i] = Lanes{} + blake2b_kernel::kInitial[i];
  state_[0] ^= Lanes{} + kParameters;
  state_[1] ^= Lanes{0, 1, 2, 3};
  state_[2] ^= Lanes{} + kLeafParameters;
}

void Blake2bp::update(std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    if (buffered_bytes_ == buffer_.size()) {
      hashed_bytes_ += kBlockBytes;
      compress(state_, buffer_.data(), hashed_bytes_, Lanes{});
      buffered_bytes_ -= kStripeBytes;
      std::memcpy(buffer_.data(), buffer_.data() + kStripeBytes, kStripeBytes);
    }
    // What is whole and has a whole one behind it need not be copied.
    for (; buffered_bytes_ == 0 && bytes.size() >= 2 * kStripeBytes; bytes.remove_prefix(kStripeBytes)) {
      hashed_bytes_ += kBlockBytes;
      compress(state_, bytes.data(), hashed_bytes_, Lanes{});
    }
    const size_t taken = std::min(buffer_.size() - buffered_bytes_, bytes.size());
    std::memcpy(buffer_.data() + buffered_bytes_, bytes.data(), taken);
    buffered_bytes_ += taken;
    bytes.remove_prefix(taken);
  }
}

Digest32 Blake2bp::finish() noexcept {
  std::memset(buffer_.data() + buffered_bytes_, 0, buffer_.size() - buffered_bytes_);
  for (size_t begin = 0; begin == 0 || begin < buffered_bytes_; begin += kStripeBytes) {
    Lanes taken{}, is_last{}, is_used{};
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const size_t at = begin + lane * kBlockBytes;
      const size_t left = buffered_bytes_ > at ? buffered_bytes_ - at : 0;
      taken[lane] = std::min(left, kBlockBytes);
      is_last[lane] = at + kStripeBytes >= buffered_bytes_ ? ~uint64_t{0} : 0;
      is_used[lane] = begin == 0 || left > 0 ? ~uint64_t{0} : 0;  // a lane without bytes hashes one block of none
    }
    hashed_bytes_ += taken;
    Lanes state[8];
    std::copy(std::begin(state_), std::end(state_), state);
    compress(state, buffer_.data() + begin, hashed_bytes_, is_last);
    for (size_t i = 0; i < 8; ++i) state_[i] = (state[i] & is_used) | (state_[i] & ~is_used);
  }
  return hash_root(state_);
}

}  // namespace assay
