// QueuePace: how long a row that is queued now would wait, from how long full batches took.
//
// A queue of bounded length alone lets goodput collapse: where the model needs longer for a full queue than callers wait, every row
// is run just before, or after, nobody wants it any more. So a row is taken only if its wait leaves half of its time for its run.
//
// One number, nanoseconds a row: a moving average over batches that were at least half full, where the run's fixed cost is spread
// as it is in a full queue. A smaller batch can only lower it, so that no stall keeps rows out for good: whoever is refused makes
// batches small. Not thread-safe: the lane's mutex guards it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace assay {

class QueuePace {
 public:
  // A runner that takes up to `rows_max` rows took `rows` (> 0) and was done with them after `run_ns`.
  void learn(uint32_t rows, uint32_t rows_max, int64_t run_ns) noexcept;

  // Whether a row with `time_left_ns` can wait behind `rows_ahead` others, waiting or running. Nothing is known: it can.
  bool has_time(uint32_t rows_ahead, size_t runners, int64_t time_left_ns) const noexcept {
    const double half_ns = 0.5 * static_cast<double>(std::max<int64_t>(0, time_left_ns));
    return rows_ahead * row_ns_ <= half_ns * static_cast<double>(runners);
  }

 private:
  double row_ns_ = 0;  // 0: no batch was half full yet
};

}  // namespace assay
