#include "core/serving/lane_memory.h"

#include <cstring>

namespace assay {
namespace {
constexpr size_t kCacheLine = 64;
static_assert(sizeof(FoldResult) == 24, "the formula in lane_memory.h and ext/README.md says 24");
}  // namespace

LaneMemory::LaneMemory(const FeaturePlan& plan, uint32_t output_bytes, uint32_t slots) : view_count_(plan.views().size()) {
  const size_t bitmap_bytes = (plan.spec().inputs.size() + 63) / 64 * sizeof(uint64_t);
  missing_offset_ = (plan.row_bytes() + 7) / 8 * 8;
  imputed_offset_ = missing_offset_ + bitmap_bytes;
  views_offset_ = imputed_offset_ + bitmap_bytes;
  wanted_offset_ = views_offset_ + view_count_ * sizeof(FoldResult);
  const size_t infer_bytes = output_bytes > 0 ? sizeof(uint64_t) + output_bytes : 0;
  stride_ = (wanted_offset_ + infer_bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
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

uint8_t* LaneMemory::open_row(uint32_t slot) const noexcept {
  const RowOut row = out(slot);
  std::memset(row.missing, 0, views_offset_ - missing_offset_);
  for (size_t i = 0; i < view_count_; ++i) row.views[i] = FoldResult();
  return row.row;
}

}  // namespace assay
