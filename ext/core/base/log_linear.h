// LogLinear: buckets of whole numbers that are as wide as a fixed part of what they hold (the idea of HdrHistogram).
//
// Numbers below 2^(kSubBits + 1) have a bucket each. From there on each power of two is cut into 2^kSubBits buckets of one
// width, so the middle of a bucket is off by at most a part 2^-(kSubBits + 1) of any number in it. Numbers of more than
// kValueBits bits do not fit: clamp them to kValueMax. Only the arithmetic; who counts what is the business of its users.
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay {

template <int kSubBits, int kValueBits>
struct LogLinear {
  static constexpr uint64_t kValueMax = (uint64_t{1} << kValueBits) - 1;
  static constexpr size_t kBuckets = size_t{kValueBits - kSubBits + 1} << kSubBits;

  // REQUIRES: value <= kValueMax.
  static size_t index_of(uint64_t value) noexcept {
    if (value < (uint64_t{2} << kSubBits)) return value;
    const int shift = 63 - __builtin_clzll(value) - kSubBits;
    return (static_cast<size_t>(shift) << kSubBits) + (value >> shift);
  }
  // The smallest number in a bucket, and how many numbers are in it.
  static constexpr uint64_t low_of(size_t index) noexcept {
    return static_cast<uint64_t>(index - (shift_of(index) << kSubBits)) << shift_of(index);
  }
  static constexpr uint64_t width_of(size_t index) noexcept { return uint64_t{1} << shift_of(index); }
  static constexpr uint64_t middle_of(size_t index) noexcept { return low_of(index) + width_of(index) / 2; }

 private:
  static constexpr size_t shift_of(size_t index) noexcept {
    return index < (size_t{2} << kSubBits) ? 0 : (index >> kSubBits) - 1;
  }
};

}  // namespace assay
