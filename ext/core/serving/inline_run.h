// InlineRun: one row, run by the thread that submits it.
//
// To hand a row to a runner and its answer back takes two wakes, which cost the event loop more than a small tree model's run. A
// lane whose model was proved that quick has one of these, and a row that nothing waits before is run at once, here.
//
// SAFETY. The submitting thread keeps the timers of all calls, so a run must not hold it up. Who makes the lane gives an inline
// runner only to a model that no row can make slow (models/fixed_work.py) and whose run was measured. A run that takes longer than
// overrun_ns all the same is an overrun: rows go to the runners for 100 times as long as it took, so that overruns cost the thread
// at most 1 % of its time.
//
// STATES. free -> taken (try_take) -> free, or resting until a time (give_back). Guarded by the lane's mutex; run() is called without.
#pragma once

#include <cstdint>
#include <memory>

#include "core/serving/batch_run.h"

namespace assay {

// Rest after an overrun, in multiples of what it took.
inline constexpr int64_t kInlineRestFactor = 100;

class InlineRun {
 public:
  InlineRun(std::unique_ptr<BatchRun> run, int64_t overrun_ns) : run_(std::move(run)), overrun_ns_(overrun_ns), batch_(1) {}

  // False: another thread has it, or it rests.
  bool try_take(int64_t now_ns) noexcept;
  // REQUIRES: taken. After an overrun it rests; returns whether it was one.
  bool give_back(int64_t started_ns, int64_t ended_ns) noexcept;
  bool is_taken() const noexcept { return is_taken_; }

  // Runs the row to its end. REQUIRES: taken by this thread.
  void run(const QueuedRow& row) noexcept;

 private:
  const std::unique_ptr<BatchRun> run_;
  const int64_t overrun_ns_;
  FormedBatch batch_;
  int64_t rests_until_ns_ = INT64_MIN;
  bool is_taken_ = false;
};

}  // namespace assay
