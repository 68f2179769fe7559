#include "core/load/arrivals.h"

#include <cmath>

#include "core/base/seeded_random.h"
#include "core/base/status.h"

namespace assay::load {

ArrivalSchedule::ArrivalSchedule(ArrivalKind kind, double rate_per_s, int64_t start_ns, int64_t end_ns, uint64_t seed,
                                 double phase)
    : kind_(kind), gap_ns_(1e9 / rate_per_s), start_ns_(start_ns), end_ns_(end_ns), random_state_(seed), phase_(phase) {
  ASSAY_ASSERT(kind != ArrivalKind::kClosedLoop && rate_per_s > 0);
  if (kind_ == ArrivalKind::kPoisson) offset_ns_ = exponential();
  set_next();
}

void ArrivalSchedule::pop() noexcept {
  ++index_;
  if (kind_ == ArrivalKind::kPoisson) offset_ns_ += exponential();
  set_next();
}

void ArrivalSchedule::end(int64_t end_ns) noexcept {
  end_ns_ = end_ns;
  if (next_ns_ >= end_ns_) next_ns_ = INT64_MAX;
}

double ArrivalSchedule::exponential() noexcept { return -std::log1p(-random_unit(random_state_)) * gap_ns_; }

void ArrivalSchedule::set_next() noexcept {
  const double offset_ns = kind_ == ArrivalKind::kConstant ? (static_cast<double>(index_) + phase_) * gap_ns_ : offset_ns_;
  next_ns_ = start_ns_ + static_cast<int64_t>(offset_ns);
  if (next_ns_ >= end_ns_) next_ns_ = INT64_MAX;
}

OpenLoop::OpenLoop(const ArrivalSchedule& schedule, size_t backlog_max, const Window& window)
    : schedule_(schedule), window_(window), ring_(backlog_max) {
  ASSAY_ASSERT(backlog_max > 0);
}

void OpenLoop::advance(int64_t now_ns) noexcept {
  for (; schedule_.next_ns() <= now_ns; schedule_.pop()) {
    const int64_t intended_ns = schedule_.next_ns();
    const bool is_counted = window_.contains(intended_ns);
    const bool is_dropped = count_ == ring_.size();
    offered_ += is_counted;
    dropped_ += is_counted && is_dropped;
    if (is_counted) lag_.record(now_ns - intended_ns);
    if (is_dropped) continue;
    size_t place = first_ + count_++;
    if (place >= ring_.size()) place -= ring_.size();
    ring_[place] = intended_ns;
  }
}

int64_t OpenLoop::take() noexcept {
  const int64_t intended_ns = ring_[first_];
  if (++first_ == ring_.size()) first_ = 0;
  --count_;
  return intended_ns;
}

}  // namespace assay::load
