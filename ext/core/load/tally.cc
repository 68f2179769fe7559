#include "core/load/tally.h"

namespace assay::load {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

// Calls that ended because the run did say nothing about how long they would have taken.
constexpr bool has_latency(Outcome outcome) noexcept { return outcome != Outcome::kUnanswered; }

}  // namespace

void Tally::call_sent() noexcept {
  live_.sent.add();
  live_.in_flight.add();
  if (live_.in_flight.get() > live_.in_flight_max.get()) live_.in_flight_max.set(live_.in_flight.get());
}

void Tally::call_ended(int64_t intended_ns, int64_t now_ns, Outcome outcome, const std::string& message) noexcept {
  advance(now_ns);
  const bool is_ok = outcome == Outcome::kOk;
  const int64_t latency_ns = now_ns - intended_ns;
  live_.ended.add();
  live_.in_flight.set(live_.in_flight.get() - 1);
  if (is_ok) {
    live_.ok.add();
    second_ok_.record(latency_ns);
    counted_.ok_in_window += window_.contains(now_ns);
  } else {
    ++second_failed_;
  }
  if (!window_.contains(intended_ns)) return;
  const size_t index = static_cast<size_t>(outcome);
  ++counted_.outcomes[index];
  if (is_ok) {
    counted_.ok.record(latency_ns);
    return;
  }
  if (has_latency(outcome)) counted_.failed.record(latency_ns);
  if (counted_.messages[index].empty()) counted_.messages[index] = message;
}

void Tally::end_seconds(int64_t now_ns) noexcept {
  while (now_ns >= second_end_ns_) {
    series_.add(second_++, second_failed_, second_ok_);
    second_ok_.clear();
    second_failed_ = 0;
    second_end_ns_ += kSecondNs;
  }
}

}  // namespace assay::load
