// Histograms: every value in its bucket, every answered row once in each, no time lost between the stages.
#include "core/serving/lane_metrics.h"

#include <algorithm>
#include <numeric>

#include "check.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

// By its definition.
template <size_t kBounds>
size_t slow_bucket(const std::array<int64_t, kBounds>& bounds, int64_t value) {
  return static_cast<size_t>(std::find_if(bounds.begin(), bounds.end(), [&](int64_t bound) { return value <= bound; }) -
                             bounds.begin());
}

template <size_t kBounds>
uint64_t total(const Histogram<kBounds>& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), uint64_t{0});
}

LaneHistograms histograms(const House& house) {
  const EngineMetrics metrics = house.engine.metrics();
  CHECK_EQ(metrics.lanes.size(), 1u);
  return metrics.lanes.empty() ? LaneHistograms() : metrics.lanes[0].histograms;
}

}  // namespace

TEST(batch_buckets_are_inclusive_above_at_every_bound) {
  CHECK(std::is_sorted(kBatchRowsBounds.begin(), kBatchRowsBounds.end()));
  for (uint32_t rows = 1; rows <= 5000; ++rows) {
    CHECK_EQ(batch_rows_bucket(rows), slow_bucket(kBatchRowsBounds, static_cast<int64_t>(rows)));
  }
}

TEST(stages_of_a_row_are_where_its_stamps_say_and_add_up) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.fake->on_gather = [&](const auto&) { house.clock.advance_ns(3 * kMs); };
  const CallContext context{house.clock.now_ns() - 1 * kMs, 0};
  CHECK(house.engine.submit_score(score_request(7), context, &house.queue, 1).code == Code::kOk);
  house.clock.advance_ns(20 * kMs);
  house.step();
  house.clock.advance_ns(400'000);
  house.drain();
  const LaneHistograms found = histograms(house);
  const std::array<int64_t, kStages.size()> expected = {1 * kMs, 0, 20 * kMs, 3 * kMs, 0, 0, 0, 400'000};
  int64_t sum = 0;
  for (size_t stage = 0; stage < kStages.size(); ++stage) {
    if (kStages[stage].end == Stamp::kExplained) {  // nobody asked: there was no such stage
      CHECK_EQ(found.stages[stage].count(), 0u);
      continue;
    }
    CHECK_EQ(found.stages[stage].sum(), expected[stage]);
    CHECK_EQ(found.stages[stage].by_bounds().counts[slow_bucket(kLatencyBoundsNs, expected[stage])], 1u);
    CHECK_EQ(found.stages[stage].count(), 1u);
    sum += found.stages[stage].sum();
  }
  CHECK_EQ(found.inference[0].sum(), sum);
  CHECK_EQ(found.inference[0].by_bounds().counts[slow_bucket(kLatencyBoundsNs, sum)], 1u);
  CHECK_EQ(found.batch_rows.sum, 1);
}

TEST(every_answered_row_is_counted_once_and_no_other) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.options.batch_rows_max = 3;
  REQUIRE(house.add(std::move(spec)).ok());
  house.fake->is_failing = [](const std::vector<int64_t>& amounts) {
    return std::find(amounts.begin(), amounts.end(), 13) != amounts.end();
  };
  CHECK(house.batch({score_request(1), score_request(13), without_ratio(2), score_request(4), score_request(5)}).code ==
        Code::kOk);
  CHECK(house.score(6).code == Code::kOk);
  CHECK(house.stream(score_request(7)).code == Code::kOk);
  CHECK(house.engine.cancel(house.score(8).call));
  CHECK(house.score(9, with_timeout_ms(1)).code == Code::kOk);
  CHECK(house.score(10, with_model("none")).code == Code::kUnknownModel);
  house.clock.advance_ns(kMs);
  while (house.step() > 0) continue;
  house.drain();
  const EngineStats stats = house.engine.stats();
  const EngineMetrics metrics = house.engine.metrics();
  const LaneHistograms found = histograms(house);
  CHECK_EQ(stats.answered_rows, 5u);
  CHECK_EQ(found.inference[0].count(), 2u);  // a call of one row is interactive unless it says otherwise
  CHECK_EQ(found.inference[1].count(), 3u);  // a batch is bulk
  CHECK_EQ(found.inference[2].count(), 0u);
  for (size_t stage = 0; stage < kStages.size(); ++stage) {
    CHECK_EQ(found.stages[stage].count(), kStages[stage].end == Stamp::kExplained ? 0u : stats.answered_rows);
  }
  CHECK_EQ(total(found.batch_rows), stats.batch_count);
  CHECK_EQ(static_cast<uint64_t>(found.batch_rows.sum), stats.batched_rows);
  CHECK_EQ(metrics.failed_rows[static_cast<size_t>(Code::kModelRunFailed)], 1u);
  CHECK_EQ(metrics.failed_rows[static_cast<size_t>(Code::kInvalidRequest)], 1u);
  CHECK_EQ(metrics.refused_calls[static_cast<size_t>(Code::kUnknownModel)], 1u);
  CHECK_EQ(metrics.expired_rows, 1u);
  CHECK_EQ(stats.answered_rows + stats.failed_rows + stats.cancelled_rows + stats.shed_rows + metrics.expired_rows,
           stats.accepted_rows);
}

TEST(the_age_of_the_queue_is_that_of_the_row_that_waits_longest) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const auto age_ns = [&] { return house.engine.metrics().lanes.at(0).oldest_queued_ns; };
  CHECK_EQ(age_ns(), 0);
  CHECK(house.batch({score_request(1), score_request(2)}).code == Code::kOk);
  house.clock.advance_ns(3 * kMs);
  CHECK(house.score(3).code == Code::kOk);  // of a higher priority, and younger
  house.clock.advance_ns(2 * kMs);
  CHECK_EQ(age_ns(), 5 * kMs);
  while (house.step() > 0) continue;
  CHECK_EQ(age_ns(), 0);
  house.drain();
}

TEST(lanes_have_histograms_of_their_own) {
  House house;
  REQUIRE(house.add(house.lane_spec("fraud", "1")).ok());
  REQUIRE(house.add(house.lane_spec("fraud", "2")).ok());
  for (int64_t amount = 0; amount < 3; ++amount)
    CHECK(house.score(amount, with_version(amount == 0 ? "1" : "2")).code == Code::kOk);
  house.step("fraud", "1");
  house.step("fraud", "2");
  house.drain();
  const EngineMetrics metrics = house.engine.metrics();
  REQUIRE(metrics.lanes.size() == 2);
  for (const LaneSnapshot& lane : metrics.lanes) {
    CHECK_EQ(lane.histograms.inference[0].count(), lane.version == "1" ? 1u : 2u);
  }
  CHECK(house.engine.remove_lane("fraud", "1").ok());
  CHECK_EQ(house.engine.metrics().lanes.size(), 1u);
}

ASSAY_TEST_MAIN
