#include "core/serving/inline_run.h"

namespace assay {

bool InlineRun::try_take(int64_t now_ns) noexcept {
  if (is_taken_ || now_ns < rests_until_ns_) return false;
  is_taken_ = true;
  return true;
}

bool InlineRun::give_back(int64_t started_ns, int64_t ended_ns) noexcept {
  ASSAY_ASSERT(is_taken_);
  is_taken_ = false;
  const int64_t took_ns = ended_ns - started_ns;
  if (took_ns <= overrun_ns_) return false;
  rests_until_ns_ = ended_ns + kInlineRestFactor * took_ns;
  return true;
}

void InlineRun::run(const QueuedRow& row) noexcept {
  batch_.clear();
  batch_.rows.push_back(row);
  run_->run(batch_, row.queued_ns);
}

}  // namespace assay
