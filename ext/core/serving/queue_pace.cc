#include "core/serving/queue_pace.h"

#include <algorithm>

namespace assay {
namespace {

constexpr double kNewShare = 1.0 / 8;

}  // namespace

void QueuePace::learn(uint32_t rows, uint32_t rows_max, int64_t run_ns) noexcept {
  const double row_ns = static_cast<double>(std::max<int64_t>(0, run_ns)) / rows;
  if (rows < (rows_max + 1) / 2) {
    row_ns_ = std::min(row_ns_, row_ns);
  } else {
    row_ns_ = row_ns_ == 0 ? row_ns : row_ns_ + kNewShare * (row_ns - row_ns_);
  }
}

}  // namespace assay
