// Time from outside: every timing rule of the core reads a Clock, so that a test can move it.
#pragma once

#include <atomic>
#include <cstdint>

namespace assay {

// Monotonic time. Deadlines and stamps are nanoseconds of one Clock; they mean nothing elsewhere.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now_ns() const noexcept = 0;
};

// CLOCK_MONOTONIC. The same clock as Python's time.monotonic_ns() on Linux.
class SystemClock final : public Clock {
 public:
  int64_t now_ns() const noexcept override;
  static const SystemClock& instance() noexcept;
};

// Microseconds since 1970-01-01 UTC by this machine's clock. It may jump: only for bounds on event times, never for deadlines.
int64_t wall_now_us() noexcept;

// Stands still until told. Thread-safe.
class ManualClock final : public Clock {
 public:
  int64_t now_ns() const noexcept override { return now_ns_.load(std::memory_order_acquire); }
  void advance_ns(int64_t delta_ns) noexcept { now_ns_.fetch_add(delta_ns, std::memory_order_acq_rel); }

 private:
  std::atomic<int64_t> now_ns_{1'000'000'000};
};

}  // namespace assay
