#include "core/serving/card.h"

#include <algorithm>

namespace assay {

void Card::count_fault(CardFault fault, const std::string& text) noexcept {
  faults_[static_cast<size_t>(fault)].add(1);
  const std::lock_guard<std::mutex> lock(mutex_);
  last_fault_ = text;
}

void Card::die(CardFault fault, const std::string& why) noexcept {
  count_fault(fault, why);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_dead()) return;
  why_ = why;
  is_dead_.store(true, std::memory_order_release);
}

std::shared_ptr<CardUse> Card::add_use(const std::string& model, const std::string& version, uint32_t rows_max) {
  auto use = std::make_shared<CardUse>();
  use->model = model;
  use->version = version;
  use->rows_max = rows_max;
  use->rows = rows_max;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto is_gone = [](const std::weak_ptr<CardUse>& old) { return old.expired(); };
  uses_.erase(std::remove_if(uses_.begin(), uses_.end(), is_gone), uses_.end());
  uses_.push_back(use);
  return use;
}

bool Card::check_overdue(int64_t started_ns, int64_t now_ns) noexcept {
  if (!is_dead() && now_ns - started_ns >= options_.hang_ns_max) {
    die(CardFault::kHung, "a run has not come back for " + std::to_string((now_ns - started_ns) / 1'000'000) + " ms");
  }
  return is_dead();
}

CardStats Card::stats(int64_t now_ns) {
  std::vector<std::shared_ptr<CardUse>> uses;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& weak : uses_) {
      if (auto use = weak.lock()) uses.push_back(std::move(use));
    }
  }
  CardStats stats;
  for (const auto& use : uses) {
    if (const int64_t started_ns = use->overdue_since_ns; started_ns != 0) check_overdue(started_ns, now_ns);
    stats.uses.push_back({use->model, use->version, use->rows_max, is_dead() ? 0 : use->rows.load()});
  }
  stats.is_dead = is_dead();
  stats.is_hot = is_hot();
  stats.runs = runs_.get();
  for (size_t i = 0; i < stats.faults.size(); ++i) stats.faults[i] = faults_[i].get();
  for (size_t i = 0; i < stats.cpu_rows.size(); ++i) stats.cpu_rows[i] = cpu_rows_[i].get();
  const std::lock_guard<std::mutex> lock(mutex_);
  stats.why = why_;
  stats.last_fault = last_fault_;
  return stats;
}

}  // namespace assay
