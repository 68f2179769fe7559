#include "core/serving/lane_metrics.h"

#include <algorithm>
#include <thread>

namespace assay {
namespace {

size_t value_bits(uint64_t value) noexcept { return value == 0 ? 0 : 64 - static_cast<size_t>(__builtin_clzll(value)); }

// Which set a thread tries first: as they come, so that a few threads have one each.
size_t my_set() noexcept {
  static std::atomic<size_t> threads{0};
  thread_local const size_t mine = threads.fetch_add(1, std::memory_order_relaxed);
  return mine;
}

}  // namespace

// Takes a set, the one that is `wished` if it is free, and gives it back.
class LaneMetrics::Taken {
 public:
  // Some set is free unless as many threads as there are sets are adding at this moment: then it looks again.
  Taken(std::array<Set, kSets>& sets, size_t wished) noexcept {
    while (!try_take(sets[wished % kSets])) ++wished;
  }
  explicit Taken(Set& set) noexcept {
    while (!try_take(set)) std::this_thread::yield();  // who has it may have lost its processor
  }
  ~Taken() { set_->is_taken.store(false, std::memory_order_release); }
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;

  LaneHistograms& histograms() const noexcept { return set_->histograms; }

 private:
  bool try_take(Set& set) noexcept {
    set_ = &set;
    return !set.is_taken.exchange(true, std::memory_order_acquire);
  }

  Set* set_ = nullptr;
};

LaneHistograms& LaneHistograms::operator+=(const LaneHistograms& other) noexcept {
  for (size_t i = 0; i < inference.size(); ++i) inference[i] += other.inference[i];
  for (size_t i = 0; i < stages.size(); ++i) stages[i] += other.stages[i];
  batch_rows += other.batch_rows;
  return *this;
}

size_t batch_rows_bucket(uint32_t rows) noexcept {
  return rows <= 1 ? 0 : std::min(value_bits(rows - 1), kBatchRowsBounds.size());
}

void LaneMetrics::add_batch(uint32_t rows) noexcept {
  const size_t bucket = batch_rows_bucket(rows);
  const Taken taken(sets_, my_set());
  taken.histograms().batch_rows.add(bucket, rows);
}

void LaneMetrics::add_call(const Slab& slab, uint32_t head) noexcept {
  const auto add = [](LatencyHistogram& histogram, const Stamps& stamps, Stamp start, Stamp end) {
    histogram.add(stamps[static_cast<size_t>(end)] - stamps[static_cast<size_t>(start)]);
  };
  const Taken taken(sets_, my_set());
  LaneHistograms& histograms = taken.histograms();
  const Priority priority = slab[head].priority;  // unspecified only where nothing is answered
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) {
    const Slot& slot = slab[index];
    if (slot.outcome != Code::kOk) continue;
    add(histograms.inference[priority_index(priority)], slot.stamps, Stamp::kReceived, Stamp::kDone);
    for (size_t i = 0; i < kStages.size(); ++i) {
      if (kStages[i].is_in(slot.stamps)) add(histograms.stages[i], slot.stamps, kStages[i].start, kStages[i].end);
    }
  }
}

void LaneMetrics::add_to(LaneHistograms& sum) const noexcept {
  for (Set& set : sets_) {
    const Taken taken(set);
    sum += taken.histograms();
  }
}

}  // namespace assay
