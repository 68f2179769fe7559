#include "core/serving/lane_memory.h"

namespace assay {
namespace {
constexpr size_t kCacheLine = 64;
static_assert(sizeof(FoldResult) == 24, "the formula in lane_memory.h and ext/README.md says 24");
}  // namespace

LaneMemory::LaneMemory(const FeaturePlan& plan, uint32_t slots) {
  const size_t bitmap_bytes = (plan.spec().inputs.size() + 63) / 64 * sizeof(uint64_t);
  missing_offset_ = (plan.row_bytes() + 7) / 8 * 8;
  imputed_offset_ = missing_offset_ + bitmap_bytes;
  views_offset_ = imputed_offset_ + bitmap_bytes;
  stride_ = (views_offset_ + plan.views().size() * sizeof(FoldResult) + kCacheLine - 1) / kCacheLine * kCacheLine;
  // Zeroed: padding between tensor segments must be the same in every row.
  block_.reset(std::calloc(stride_ * slots + kCacheLine, 1));
  const uintptr_t start = reinterpret_cast<uintptr_t>(block_.get());
  base_ = reinterpret_cast<uint8_t*>((start + kCacheLine - 1) / kCacheLine * kCacheLine);
}

RowOut LaneMemory::out(uint32_t slot) const noexcept {
  uint8_t* const row = base_ + static_cast<size_t>(slot) * stride_;
  RowOut out;
  out.row = row;
  out.missing = reinterpret_cast<uint64_t*>(row + missing_offset_);
  out.imputed = reinterpret_cast<uint64_t*>(row + imputed_offset_);
  out.views = reinterpret_cast<FoldResult*>(row + views_offset_);
  return out;
}

}  // namespace assay
