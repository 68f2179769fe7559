// LaneMemory: the rows of one lane, by slot index. One block, allocated when the lane loads: slots * stride bytes.
//
//   stride = row_bytes + 16 * ceil(inputs / 64) + 24 * views, rounded up to a cache line
//
// The kernel gives the pages when they are first written, so what is resident follows the most slots ever used at once.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "core/features/feature_reader.h"

namespace assay {

class LaneMemory {
 public:
  // False from is_allocated(): the operating system has no such block.
  LaneMemory(const FeaturePlan& plan, uint32_t slots);

  bool is_allocated() const noexcept { return block_ != nullptr; }
  size_t stride() const noexcept { return stride_; }
  // Where FeatureReader::read puts the row of this slot, and where finish() finds it.
  RowOut out(uint32_t slot) const noexcept;
  const uint8_t* row(uint32_t slot) const noexcept { return base_ + static_cast<size_t>(slot) * stride_; }

 private:
  struct Free {
    void operator()(void* block) const noexcept { std::free(block); }
  };

  size_t missing_offset_ = 0;
  size_t imputed_offset_ = 0;
  size_t views_offset_ = 0;
  size_t stride_ = 0;
  std::unique_ptr<void, Free> block_;
  uint8_t* base_ = nullptr;  // into block_, on a cache line
};

}  // namespace assay
