// BLAKE2b's compression function (RFC 7693, section 3.2) over words of one or of several instances side by side.
#pragma once

#include <cstdint>

namespace assay::blake2b_kernel {

// Section 2.6: the fractional parts of the square roots of the first eight primes.
inline constexpr uint64_t kInitial[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                         0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

// Section 2.7: the order in which each round takes the message's words. Rounds 10 and 11 are 0 and 1 again.
inline constexpr uint8_t kOrder[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

// Inlined whatever the compiler thinks: only then are the numbers of words known, and is the code the caller's target's.
#define ASSAY_KERNEL inline __attribute__((always_inline))

template <int kBits, typename Word>
ASSAY_KERNEL void mix_bits(Word& value, const Word& other) noexcept {
  value ^= other;
  value = value >> kBits | value << (64 - kBits);
}

template <typename Word>
ASSAY_KERNEL void mix(Word& a, Word& b, Word& c, Word& d, const Word& x, const Word& y) noexcept {
  a += b + x;
  mix_bits<32>(d, a);
  c += d;
  mix_bits<24>(b, c);
  a += b + y;
  mix_bits<16>(d, a);
  c += d;
  mix_bits<63>(b, c);
}

template <int kRound, typename Word>
ASSAY_KERNEL void mix_round(Word (&v)[16], const Word (&m)[16]) noexcept {
  constexpr const uint8_t* kFrom = kOrder[kRound];
  mix(v[0], v[4], v[8], v[12], m[kFrom[0]], m[kFrom[1]]);
  mix(v[1], v[5], v[9], v[13], m[kFrom[2]], m[kFrom[3]]);
  mix(v[2], v[6], v[10], v[14], m[kFrom[4]], m[kFrom[5]]);
  mix(v[3], v[7], v[11], v[15], m[kFrom[6]], m[kFrom[7]]);
  mix(v[0], v[5], v[10], v[15], m[kFrom[8]], m[kFrom[9]]);
  mix(v[1], v[6], v[11], v[12], m[kFrom[10]], m[kFrom[11]]);
  mix(v[2], v[7], v[8], v[13], m[kFrom[12]], m[kFrom[13]]);
  mix(v[3], v[4], v[9], v[14], m[kFrom[14]], m[kFrom[15]]);
}

// `state` takes the block `m` in. `bytes`: hashed so far, this block included. `last_block`, `last_node`: all ones where they hold.
template <typename Word>
ASSAY_KERNEL void compress(Word (&state)[8], const Word (&m)[16], const Word& bytes, const Word& last_block,
                           const Word& last_node) noexcept {
  Word v[16];
  for (int i = 0; i < 8; ++i) {
    v[i] = state[i];
    v[i + 8] = Word{} + kInitial[i];
  }
  v[12] ^= bytes;
  v[14] ^= last_block;
  v[15] ^= last_node;
  mix_round<0>(v, m), mix_round<1>(v, m), mix_round<2>(v, m), mix_round<3>(v, m), mix_round<4>(v, m), mix_round<5>(v, m);
  mix_round<6>(v, m), mix_round<7>(v, m), mix_round<8>(v, m), mix_round<9>(v, m), mix_round<10>(v, m), mix_round<11>(v, m);
  for (int i = 0; i < 8; ++i) state[i] ^= v[i] ^ v[i + 8];
}

#undef ASSAY_KERNEL

}  // namespace assay::blake2b_kernel
