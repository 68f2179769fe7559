// SecondSeries: what happened in each second of a run, over all of its threads.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/load/histogram.h"

namespace assay::load {

struct Second {
  uint64_t ok = 0;      // answers that came in it
  uint64_t failed = 0;  // calls that ended otherwise
  int64_t p50_ns = 0;   // of ok; 0: there were none
  int64_t p99_ns = 0;
  int64_t max_ns = 0;
};

// Threads tell a second when it is over for them; its quantiles are known when the last one has. Thread-safe. Memory: 576 KiB and
// 40 bytes a second.
class SecondSeries {
 public:
  // `seconds_max`: later ones count as the last.
  SecondSeries(size_t threads, size_t seconds_max);

  // REQUIRES: each thread tells each second once, in order, those without calls too.
  void add(size_t second, uint64_t failed, const LogHistogram& ok);
  // Those that are over for all threads.
  std::vector<Second> seconds() const;
  // The last of them; all 0 where there is none yet.
  Second last() const;
  // Nothing comes any more: what only some threads have told counts as it is.
  void finish();

 private:
  // A second that not all threads have told. Threads are less than so many seconds apart, or quantiles are of those that came in time.
  struct Open {
    size_t told = 0;
    LogHistogram ok;
  };
  void close_oldest();  // REQUIRES: mutex_ is held

  const size_t threads_;
  const size_t seconds_max_;
  mutable std::mutex mutex_;
  std::vector<Second> seconds_;  // guarded by mutex_, as is the rest
  size_t closed_ = 0;            // seconds before it are over
  std::array<Open, 4> open_;     // by second modulo their number
};

}  // namespace assay::load
