// Tally: what one thread of a run has counted.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "core/load/histogram.h"
#include "core/load/outcome.h"
#include "core/load/second_series.h"
#include "core/load/window.h"

namespace assay::load {

// Written by one thread, read by any. Cheaper than an atomic addition: no other thread writes.
class LiveCount {
 public:
  void add(uint64_t n = 1) noexcept { set(get() + n); }
  void set(uint64_t n) noexcept { count_.store(n, std::memory_order_relaxed); }
  uint64_t get() const noexcept { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> count_{0};
};

// Of the whole run, its warm-up included.
struct LiveCounts {
  LiveCount sent;
  LiveCount ended;
  LiveCount ok;
  LiveCount in_flight;
  LiveCount in_flight_max;
  LiveCount backlog;
  LiveCount reconnects;
  LiveCount received_bytes;  // of HTTP/2, before TLS
  LiveCount sent_bytes;
};

// The counted part: calls that were intended within the window.
struct Counted {
  LogHistogram ok;
  LogHistogram failed;  // of calls that ended otherwise but had an end: statuses, resets
  std::array<uint64_t, kOutcomeCount> outcomes{};
  std::array<std::string, kOutcomeCount> messages;  // the first grpc-message of each, percent-encoded as it came
  uint64_t ok_in_window = 0;                        // answers that *came* within it: of any call. The rate
};

class Tally {
 public:
  // `series` must outlive this.
  explicit Tally(SecondSeries& series) : series_(series) {}

  // Once, before the first call. Seconds are counted from `start_ns`, that of the warm-up.
  void begin(int64_t start_ns, const Window& window) noexcept {
    window_ = window;
    second_end_ns_ = start_ns + 1'000'000'000;
  }

  void call_sent() noexcept;
  void call_ended(int64_t intended_ns, int64_t now_ns, Outcome outcome, const std::string& message) noexcept;
  // Ends the seconds that are over at `now_ns`.
  void advance(int64_t now_ns) noexcept {
    if (now_ns >= second_end_ns_) end_seconds(now_ns);
  }
  // The window ends now, before its time.
  void cut(int64_t now_ns) noexcept {
    if (now_ns < window_.end_ns) window_.end_ns = now_ns;
  }

  const Window& window() const noexcept { return window_; }
  const Counted& counted() const noexcept { return counted_; }
  LiveCounts& live() noexcept { return live_; }
  const LiveCounts& live() const noexcept { return live_; }

 private:
  void end_seconds(int64_t now_ns) noexcept;

  Window window_;
  SecondSeries& series_;
  LiveCounts live_;
  Counted counted_;
  size_t second_ = 0;
  int64_t second_end_ns_ = INT64_MAX;
  LogHistogram second_ok_;
  uint64_t second_failed_ = 0;
};

}  // namespace assay::load
