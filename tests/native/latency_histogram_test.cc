// The lanes' latency histogram: percentiles against sorted samples, the bounds of /metrics against their definition, many
// threads.
#include "core/serving/latency_histogram.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "check.h"
#include "core/serving/lane_metrics.h"

using namespace assay;

namespace {

// By its definition.
size_t slow_bucket(int64_t value) {
  return static_cast<size_t>(
      std::find_if(kLatencyBoundsNs.begin(), kLatencyBoundsNs.end(), [&](int64_t bound) { return value <= bound; }) -
      kLatencyBoundsNs.begin());
}

int64_t low_of(size_t fine) { return fine == 0 ? 0 : kFineUpperNs[fine - 1] + 1; }

// The middle of the bucket of the value with this rank, from 1.
double value_at(const LatencyHistogram& histogram, uint64_t rank) {
  uint64_t seen = 0;
  for (size_t fine = 0; fine < kFineBuckets; ++fine) {
    seen += histogram.counts()[fine];
    if (seen >= rank) return static_cast<double>(low_of(fine) + kFineUpperNs[fine]) / 2;
  }
  return -1;
}

// Over all magnitudes from a microsecond to 100 s.
int64_t any_latency(std::mt19937_64& random) {
  return static_cast<int64_t>(std::exp(std::uniform_real_distribution<double>(std::log(1e3), std::log(1e11))(random)));
}

}  // namespace

TEST(percentiles_are_within_two_percent_from_a_microsecond_to_100_s) {
  auto random = check::random_engine();
  for (int round = 0; round < check::scaled(40); ++round) {
    LatencyHistogram histogram;
    std::vector<int64_t> samples(std::uniform_int_distribution<size_t>(1, 3000)(random));
    const int64_t around = any_latency(random);
    for (int64_t& sample : samples) {
      sample = round % 2 == 0 ? around + static_cast<int64_t>(random() % 100'000) : any_latency(random);
      histogram.add(sample);
    }
    std::sort(samples.begin(), samples.end());
    for (const double q : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const auto rank = static_cast<size_t>(std::max(1.0, std::ceil(q * static_cast<double>(samples.size()))));
      const auto exact = static_cast<double>(samples[rank - 1]);
      CHECK(std::abs(value_at(histogram, rank) - exact) < 0.02 * exact);
    }
    CHECK_EQ(histogram.count(), samples.size());
  }
}

TEST(fine_buckets_follow_each_other_and_none_is_wide) {
  for (size_t fine = 0; fine < kFineBuckets; ++fine) {
    const int64_t low = low_of(fine), upper = kFineUpperNs[fine];
    if (upper < low) continue;  // a bound that a bucket ended with anyway
    CHECK_EQ(fine_bucket(low), fine);
    CHECK_EQ(fine_bucket(upper), fine);
    if (low >= 64) CHECK(static_cast<double>(upper - low) < 0.032 * static_cast<double>(low));
  }
  CHECK_EQ(fine_bucket(-5), 0u);
  CHECK_EQ(fine_bucket(INT64_MAX), kFineBuckets - 1);
  CHECK_EQ(kFineUpperNs[kFineBuckets - 1], (int64_t{1} << 37) - 1);
}

TEST(counts_at_every_bound_are_exact_and_inclusive) {
  CHECK(std::is_sorted(kLatencyBoundsNs.begin(), kLatencyBoundsNs.end()));
  auto random = check::random_engine();
  LatencyHistogram histogram;
  Histogram<kLatencyBoundsNs.size()> expected;
  const auto add = [&](int64_t ns) {
    histogram.add(ns);
    expected.add(slow_bucket(ns), ns);
  };
  for (const int64_t bound : kLatencyBoundsNs) {
    for (const int64_t ns : {bound - 1, bound, bound + 1}) add(ns);
  }
  for (int i = 0; i < check::scaled(200'000); ++i) add(static_cast<int64_t>(random() >> (random() % 38 + 26)));
  add(0);
  add(-5);
  add(int64_t{1} << 50);
  const auto found = histogram.by_bounds();
  CHECK(found.counts == expected.counts);
  CHECK_EQ(found.sum, expected.sum);
}

TEST(threads_lose_nothing_and_a_copy_has_whole_calls) {
  constexpr size_t kThreads = 8;  // more than there are sets
  const int calls = check::scaled(20'000);
  Slab slab(kThreads * 2);
  std::vector<uint32_t> slots(slab.size());
  REQUIRE(slab.allocate(slab.size(), slots.data()));
  LaneMetrics metrics;
  for (size_t t = 0; t < kThreads; ++t) {  // a call of two rows for each thread
    for (size_t row = 0; row < 2; ++row) {
      Slot& slot = slab[slots[2 * t + row]];
      slot.next = row == 0 ? slots[2 * t + 1] : kNoSlot;
      slot.outcome = Code::kOk;
      slot.priority = t % 2 == 0 ? Priority::kInteractive : Priority::kBulk;
      for (size_t i = 0; i < slot.stamps.size(); ++i) slot.stamps[i] = static_cast<int64_t>((t + 1) * i * 1000);
    }
  }
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < calls; ++i) {
        metrics.add_call(slab, slots[2 * t]);
        metrics.add_batch(2);
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    LaneHistograms look;
    metrics.add_to(look);
    const uint64_t rows = look.inference[0].count() + look.inference[1].count();
    CHECK_EQ(rows % 2, 0u);
    for (const LatencyHistogram& stage : look.stages) CHECK_EQ(stage.count(), rows);
  }
  for (std::thread& thread : threads) thread.join();
  LaneHistograms sum;
  metrics.add_to(sum);
  const auto each = static_cast<uint64_t>(calls);
  CHECK_EQ(sum.inference[0].count(), kThreads * each);
  CHECK_EQ(sum.inference[1].count(), kThreads * each);
  CHECK_EQ(sum.inference[2].count(), 0u);
  CHECK_EQ(sum.batch_rows.counts[1], kThreads * each);
  int64_t expected_sum = 0;
  for (size_t t = 0; t < kThreads; ++t)
    expected_sum += static_cast<int64_t>(t + 1) * static_cast<int64_t>(Stamp::kDone) * 1'000 * 2 * calls;
  CHECK_EQ(sum.inference[0].sum() + sum.inference[1].sum(), expected_sum);
}

ASSAY_TEST_MAIN
