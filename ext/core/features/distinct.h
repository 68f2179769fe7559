// DistinctSet: counts different cells, on the stack, bounded by the ring.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/base/limits.h"
#include "core/base/status.h"

namespace assay {

class DistinctSet {
 public:
  // For at most `cells_max` cells; only as much of the table as they need is touched.
  explicit DistinctSet(uint32_t cells_max) noexcept {
    ASSAY_ASSERT(cells_max <= limits::kExactEventsMax + 1);
    uint32_t size = 16;
    while (size < 2 * cells_max && size < kSizeMax) size *= 2;
    mask_ = size - 1;
    std::memset(table_, 0, size * sizeof table_[0]);
  }

  void add(uint64_t cell) noexcept {
    if (cell == 0) {  // 0 marks a free place
      has_zero_ = true;
      return;
    }
    uint64_t place = cell;  // spreads small integers; hashes are spread already
    place = (place ^ (place >> 32)) * 0x9E37'79B9'7F4A'7C15;
    for (uint32_t i = static_cast<uint32_t>(place >> 40) & mask_;; i = (i + 1) & mask_) {
      if (table_[i] == cell) return;
      if (table_[i] != 0) continue;
      table_[i] = cell;
      ++count_;
      return;
    }
  }

  uint32_t count() const noexcept { return count_ + has_zero_; }

 private:
  static constexpr uint32_t kSizeMax = 2 * limits::kExactEventsMax;  // half full at most, but for one
  static_assert((kSizeMax & (kSizeMax - 1)) == 0);

  uint32_t mask_ = 0;
  uint32_t count_ = 0;
  bool has_zero_ = false;
  uint64_t table_[kSizeMax];
};

}  // namespace assay
