#include "core/load/second_series.h"

#include <algorithm>

namespace assay::load {

SecondSeries::SecondSeries(size_t threads, size_t seconds_max) : threads_(threads), seconds_max_(seconds_max) {}

void SecondSeries::add(size_t second, uint64_t failed, const LogHistogram& ok) {
  const std::lock_guard<std::mutex> lock(mutex_);
  second = std::min(second, seconds_max_ - 1);
  if (second >= seconds_.size()) seconds_.resize(second + 1);
  while (second >= closed_ + open_.size()) close_oldest();
  seconds_[second].ok += ok.count();
  seconds_[second].failed += failed;
  if (second < closed_) return;  // told late: it counts, its latencies are past counting
  Open& open = open_[second % open_.size()];
  open.ok.merge(ok);
  ++open.told;
  while (closed_ < seconds_.size() && open_[closed_ % open_.size()].told >= threads_) close_oldest();
}

std::vector<Second> SecondSeries::seconds() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {seconds_.begin(), seconds_.begin() + static_cast<std::ptrdiff_t>(closed_)};
}

Second SecondSeries::last() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return closed_ == 0 ? Second() : seconds_[closed_ - 1];
}

void SecondSeries::finish() {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (closed_ < seconds_.size()) close_oldest();
}

void SecondSeries::close_oldest() {
  if (closed_ >= seconds_.size()) seconds_.resize(closed_ + 1);
  Open& open = open_[closed_ % open_.size()];
  Second& second = seconds_[closed_++];
  second.p50_ns = std::max<int64_t>(open.ok.quantile(0.5), 0);
  second.p99_ns = std::max<int64_t>(open.ok.quantile(0.99), 0);
  second.max_ns = open.ok.max();
  open.ok.clear();
  open.told = 0;
}

}  // namespace assay::load
