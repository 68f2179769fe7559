// LaneMemory: the rows of one lane, by slot index. One block, allocated when the lane loads: slots * stride bytes.
//
//   stride = row_bytes + 16 * ceil(inputs / 64) + 24 * views + 8 + output_bytes, rounded up to a cache line
//
// The last two are for ModelInfer: what the call wants, and what the model gave for the row. A model that does not answer it has neither.
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
  LaneMemory(const FeaturePlan& plan, uint32_t output_bytes, uint32_t slots);

  bool is_allocated() const noexcept { return block_ != nullptr; }
  size_t stride() const noexcept { return stride_; }
  // Where FeatureReader::read puts the row of this slot, and where finish() finds it.
  RowOut out(uint32_t slot) const noexcept;
  const uint8_t* row(uint32_t slot) const noexcept { return base_ + static_cast<size_t>(slot) * stride_; }

  // For ModelInfer, whose rows come finished. REQUIRES: output_bytes > 0.
  // Where the row goes; nothing is missing, imputed or wrong with its views.
  uint8_t* open_row(uint32_t slot) const noexcept;
  // InferCall::outputs_wanted, in the slot of the call's head.
  uint64_t& outputs_wanted(uint32_t slot) const noexcept {
    return *reinterpret_cast<uint64_t*>(base_ + static_cast<size_t>(slot) * stride_ + wanted_offset_);
  }
  // The row's outputs, laid out by the lane's InferSchema.
  uint8_t* outputs(uint32_t slot) const noexcept {
    return base_ + static_cast<size_t>(slot) * stride_ + wanted_offset_ + sizeof(uint64_t);
  }

 private:
  struct Free {
    void operator()(void* block) const noexcept { std::free(block); }
  };

  size_t missing_offset_ = 0;
  size_t imputed_offset_ = 0;
  size_t views_offset_ = 0;
  size_t view_count_ = 0;
  size_t wanted_offset_ = 0;
  size_t stride_ = 0;
  std::unique_ptr<void, Free> block_;
  uint8_t* base_ = nullptr;  // into block_, on a cache line
};

}  // namespace assay
