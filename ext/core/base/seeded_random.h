// Random numbers that come again with the same seed (SplitMix64, Steele, Lea and Flood 2014).
#pragma once

#include <cstdint>

namespace assay {

inline uint64_t random_next(uint64_t& state) noexcept {
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

// In [0, 1).
inline double random_unit(uint64_t& state) noexcept { return static_cast<double>(random_next(state) >> 11) * 0x1p-53; }

// In [0, end), end < 2^32: the upper half of a product (Lemire 2019). Numbers are as likely but for end / 2^32.
inline uint64_t random_below(uint64_t& state, uint64_t end) noexcept { return (random_next(state) >> 32) * end >> 32; }

}  // namespace assay
