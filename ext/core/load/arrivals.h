// When calls are to be sent.
//
// CLOSED LOOP: each stream sends its next call when its last one is answered. A server that stalls is sent less, so what it does
// to callers who do not wait for one another is not seen (coordinated omission). It finds the most that a server can do.
//
// OPEN LOOP: calls arrive at times that the server has no part in, at even distances or as a Poisson process, and the latency of a
// call is counted from the time it was *intended* to be sent. A call that found no free stream is sent as soon as there is one;
// until then it waits in a bounded backlog. What arrives at a full backlog is dropped and counted, never silently.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/load/histogram.h"
#include "core/load/window.h"

namespace assay::load {

enum class ArrivalKind : uint8_t { kClosedLoop, kConstant, kPoisson };

// The intended times, one after the other. One thread's; the same seed gives the same times.
class ArrivalSchedule {
 public:
  // REQUIRES: kConstant or kPoisson, rate_per_s > 0. `phase`: which part of the first gap passes before the first constant arrival.
  ArrivalSchedule(ArrivalKind kind, double rate_per_s, int64_t start_ns, int64_t end_ns, uint64_t seed, double phase = 0);

  int64_t next_ns() const noexcept { return next_ns_; }  // INT64_MAX: there is none before end_ns
  void pop() noexcept;                                   // REQUIRES: there is one
  void end(int64_t end_ns) noexcept;                     // none from here on

 private:
  double exponential() noexcept;
  void set_next() noexcept;

  ArrivalKind kind_;
  double gap_ns_;
  int64_t start_ns_;
  int64_t end_ns_;
  uint64_t random_state_;
  uint64_t index_ = 0;  // kConstant: of the next arrival. Multiplied, not summed up: sums drift
  double phase_;
  double offset_ns_ = 0;  // kPoisson: of the next arrival, from start_ns_
  int64_t next_ns_ = 0;
};

// Calls that are due and not yet sent. 8 bytes each. One thread's.
class OpenLoop {
 public:
  // `backlog_max` > 0. Only what is intended within `window` is counted.
  OpenLoop(const ArrivalSchedule& schedule, size_t backlog_max, const Window& window);

  // Takes all that is due at `now_ns` into the backlog, or drops it.
  void advance(int64_t now_ns) noexcept;
  size_t backlog() const noexcept { return count_; }
  // Takes out the oldest: its intended time. REQUIRES: backlog() > 0.
  int64_t take() noexcept;

  int64_t next_ns() const noexcept { return schedule_.next_ns(); }
  void end(int64_t end_ns) noexcept { schedule_.end(end_ns); }
  uint64_t offered() const noexcept { return offered_; }  // of the window: all that was due, dropped ones included
  uint64_t dropped() const noexcept { return dropped_; }
  // How late this thread noticed that a call was due: its own fault, not the server's. Of the window.
  const LogHistogram& lag() const noexcept { return lag_; }

 private:
  ArrivalSchedule schedule_;
  Window window_;
  std::vector<int64_t> ring_;
  size_t first_ = 0;
  size_t count_ = 0;
  uint64_t offered_ = 0;
  uint64_t dropped_ = 0;
  LogHistogram lag_;
};

}  // namespace assay::load
