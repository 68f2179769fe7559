// The load generator's histogram against sorted samples.
#include <algorithm>
#include <cmath>

#include "check.h"
#include "core/load/histogram.h"
#include "core/load/second_series.h"

using namespace assay;
using namespace assay::load;

namespace {

constexpr double kErrorMax = 0.001;
constexpr double kQuantiles[] = {0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0};

// The definition: the smallest value that a share q of all does not pass.
int64_t exact_quantile(const std::vector<int64_t>& sorted, double q) {
  const auto rank = static_cast<size_t>(std::max(1.0, std::ceil(q * static_cast<double>(sorted.size()) - 1e-6)));
  return sorted[rank - 1];
}

bool is_near(int64_t found, int64_t wanted) {
  return std::abs(static_cast<double>(found - wanted)) <= kErrorMax * static_cast<double>(wanted);
}

// Over all magnitudes that latencies have.
int64_t any_latency(std::mt19937_64& random) {
  return static_cast<int64_t>(std::exp(std::uniform_real_distribution<double>(0, std::log(1e13))(random)));
}

}  // namespace

TEST(quantiles_are_those_of_the_sorted_samples) {
  auto random = check::random_engine();
  for (int round = 0; round < check::scaled(40); ++round) {
    LogHistogram histogram;
    std::vector<int64_t> samples(std::uniform_int_distribution<size_t>(1, 3000)(random));
    const bool is_narrow = round % 2 == 0;
    const int64_t around = any_latency(random);
    for (int64_t& sample : samples) {
      sample = is_narrow ? around + static_cast<int64_t>(random() % 1000) : any_latency(random);
      histogram.record(sample);
    }
    std::sort(samples.begin(), samples.end());
    for (const double q : kQuantiles) CHECK(is_near(histogram.quantile(q), exact_quantile(samples, q)));
    CHECK_EQ(histogram.count(), samples.size());
    CHECK_EQ(histogram.min(), samples.front());
    CHECK_EQ(histogram.max(), samples.back());
    CHECK_EQ(histogram.quantile(1.0), samples.back());
  }
}

TEST(merged_is_as_if_recorded_together) {
  auto random = check::random_engine();
  LogHistogram one, other, both;
  for (int i = 0; i < 5000; ++i) {
    const int64_t sample = any_latency(random);
    (i % 3 == 0 ? one : other).record(sample);
    both.record(sample);
  }
  one.merge(other);
  one.merge(LogHistogram());
  for (const double q : kQuantiles) CHECK_EQ(one.quantile(q), both.quantile(q));
  CHECK_EQ(one.count(), both.count());
  CHECK_EQ(one.min(), both.min());
  CHECK_EQ(one.max(), both.max());
  uint64_t count = 0;
  int64_t before = -1;
  for (const auto& bucket : one.buckets()) {
    CHECK(bucket.value > before);
    before = bucket.value;
    count += bucket.count;
  }
  CHECK_EQ(count, one.count());
}

TEST(values_past_the_range_saturate) {
  LogHistogram histogram;
  for (const int64_t value : {int64_t{-5}, int64_t{0}, LogHistogram::kValueMax, LogHistogram::kValueMax + 1, INT64_MAX})
    histogram.record(value);
  CHECK_EQ(histogram.count(), 5u);
  CHECK_EQ(histogram.min(), 0);
  CHECK_EQ(histogram.max(), LogHistogram::kValueMax);
  CHECK_EQ(histogram.buckets().size(), 2u);
}

TEST(every_edge_of_a_bucket_is_kept_within_the_error) {
  for (int bit = 0; bit < LogHistogram::kValueBits; ++bit) {
    for (const int64_t value : {(int64_t{1} << bit) - 1, int64_t{1} << bit, (int64_t{1} << bit) + 1}) {
      LogHistogram histogram;
      histogram.record(value);
      histogram.record(LogHistogram::kValueMax);  // so that the first is not the largest
      CHECK(is_near(histogram.buckets().front().value, value));
    }
  }
}

TEST(an_empty_histogram_has_no_quantile) {
  LogHistogram histogram;
  CHECK_EQ(histogram.quantile(0.5), -1);
  CHECK_EQ(histogram.max(), 0);
  histogram.record(7);
  histogram.clear();
  CHECK_EQ(histogram.quantile(0.5), -1);
  CHECK_EQ(histogram.min(), 0);
}

TEST(lost_calls_count_as_endlessly_slow) {
  LogHistogram histogram;
  for (int i = 1; i <= 990; ++i) histogram.record(i);
  CHECK_EQ(histogram.quantile(0.99), 981);  // of those that were answered
  CHECK_EQ(histogram.quantile(0.99, 10), 990);
  CHECK_EQ(histogram.quantile(0.991, 10), -1);
  CHECK_EQ(histogram.quantile(0.5, 10), 500);
}

TEST(seconds_are_told_when_every_thread_has_ended_them) {
  SecondSeries series(2, 100);
  LogHistogram one, other;
  one.record(100);
  other.record(300);
  series.add(0, 1, one);
  CHECK_EQ(series.seconds().size(), 0u);
  series.add(1, 0, LogHistogram());
  series.add(0, 2, other);
  REQUIRE(series.seconds().size() == 1);
  CHECK_EQ(series.last().ok, 2u);
  CHECK_EQ(series.last().failed, 3u);
  CHECK_EQ(series.last().p50_ns, 100);
  CHECK_EQ(series.last().max_ns, 300);
  series.add(1, 0, other);
  series.add(2, 0, one);
  series.finish();
  REQUIRE(series.seconds().size() == 3);
  CHECK_EQ(series.seconds()[1].p99_ns, 300);
  CHECK_EQ(series.seconds()[2].p99_ns, 100);
}

TEST(a_thread_far_behind_loses_no_call) {
  SecondSeries series(2, 10);
  LogHistogram one;
  one.record(100);
  for (size_t second = 0; second < 8; ++second) series.add(second, 0, one);
  for (size_t second = 0; second < 8; ++second) series.add(second, 0, one);
  series.add(50, 0, one);  // past the end of the run: with the last
  series.finish();
  uint64_t ok = 0;
  for (const Second& second : series.seconds()) ok += second.ok;
  CHECK_EQ(ok, 17u);
  CHECK_EQ(series.seconds().size(), 10u);
}

ASSAY_TEST_MAIN
