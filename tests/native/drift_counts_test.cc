// Drift counts: every value in the bin where a plain search puts it, every scored row once, from several threads too.
#include "core/serving/drift_counts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <thread>

#include "check.h"
#include "sample_plan.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Inputs of every tensor type, `each` of them, whose elements stand the other way round than the inputs.
std::shared_ptr<const FeaturePlan> plan_of_all_types(uint32_t each) {
  PlanSpec spec = sample::empty_spec();
  spec.request_features = {sample::feature("ratio", Dtype::kFloat64), sample::feature("count", Dtype::kInt64),
                           sample::feature("is_new", Dtype::kBool)};
  const uint16_t ratio = sample::feature_node(spec, 0);
  const uint16_t count = sample::feature_node(spec, 1);
  const uint16_t is_new = sample::feature_node(spec, 2);
  const std::pair<TensorType, uint16_t> kinds[] = {{TensorType::kFloat32, ratio},
                                                   {TensorType::kFloat64, ratio},
                                                   {TensorType::kInt32, count},
                                                   {TensorType::kInt64, count},
                                                   {TensorType::kBool, is_new}};
  spec.request_features[1].minimum = Value::of(int64_t{-1000});
  spec.request_features[1].maximum = Value::of(int64_t{1000});
  for (uint16_t t = 0; t < std::size(kinds); ++t) {
    spec.tensors.push_back({"tensor_" + std::to_string(t), kinds[t].first, each});
    for (uint32_t i = 0; i < each; ++i) {
      spec.inputs.push_back(
          {"input_" + std::to_string(spec.inputs.size()), kinds[t].second, t, each - 1 - i, WhenNull::kError, 0});
    }
  }
  return sample::compile(std::move(spec));
}

// One row with its bits, as a lane's memory has it.
struct RawRow {
  explicit RawRow(const FeaturePlan& plan)
      : plan(plan), bytes(plan.row_bytes() / 8), imputed((plan.spec().inputs.size() + 63) / 64) {}
  RowOut out() {
    RowOut out;
    out.row = reinterpret_cast<uint8_t*>(bytes.data());
    out.imputed = imputed.data();
    return out;
  }
  // Puts the value into the input as its tensor has it; what comes back is the double that this equals.
  double set(size_t input, double value) {
    const InputSpec& spec = plan.spec().inputs[input];
    uint8_t* const segment = out().row + plan.segments()[spec.tensor].offset_bytes;
    switch (plan.spec().tensors[spec.tensor].type) {
      case TensorType::kFloat32: return put(segment, spec.element, static_cast<float>(value));
      case TensorType::kFloat64: return put(segment, spec.element, value);
      case TensorType::kInt32: return put(segment, spec.element, static_cast<int32_t>(std::isfinite(value) ? value : 0));
      case TensorType::kInt64: return put(segment, spec.element, static_cast<int64_t>(std::isfinite(value) ? value : 0));
      case TensorType::kBool: return put(segment, spec.element, static_cast<uint8_t>(value > 0));
    }
    return kNan;
  }
  template <typename T>
  double put(uint8_t* segment, uint32_t element, T value) {
    std::memcpy(segment + element * sizeof(T), &value, sizeof(T));
    return static_cast<double>(value);
  }

  const FeaturePlan& plan;
  std::vector<uint64_t> bytes;
  std::vector<uint64_t> imputed;
};

// By its definition.
size_t slow_bin(const std::vector<double>& edges, double value) {
  return static_cast<size_t>(std::upper_bound(edges.begin(), edges.end(), value) - edges.begin());
}

std::vector<double> random_edges(std::mt19937_64& random, size_t count, bool is_float32) {
  std::vector<double> edges;
  for (size_t i = 0; i < count; ++i) {
    const double edge = static_cast<double>(static_cast<int64_t>(random() % 4001) - 2000) / 7.0;
    edges.push_back(is_float32 ? static_cast<double>(static_cast<float>(edge)) : edge);
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  return edges;
}

// A value at, beside or far from an edge; sometimes none.
double random_value(std::mt19937_64& random, const std::vector<double>& edges) {
  const uint64_t kind = random() % 16;
  if (kind == 0) return kNan;
  if (kind == 1) return random() % 2 == 0 ? kInfinity : -kInfinity;
  if (kind < 6 || edges.empty()) return static_cast<double>(static_cast<int64_t>(random() % 1001) - 500);
  const double edge = edges[random() % edges.size()];
  if (kind < 10) return edge;
  if (kind < 12) return std::nextafter(edge, kInfinity);
  if (kind < 14) return std::nextafter(edge, -kInfinity);
  const auto near = static_cast<float>(edge);
  return static_cast<double>(std::nextafter(near, kind == 14 ? INFINITY : -INFINITY));
}

DriftSpec house_drift() {
  DriftSpec spec;
  spec.is_on = true;
  spec.input_edges = {{0.5}, {0.0, 0.5}, {100, 200, 300}, {1}};
  spec.score_edges = {0.25, 0.5, 0.75};
  return spec;
}

}  // namespace

TEST(every_value_is_in_the_bin_where_a_plain_search_puts_it) {
  std::mt19937_64 random = check::random_engine();
  for (int round = 0; round < check::scaled(12); ++round) {
    const std::shared_ptr<const FeaturePlan> plan = plan_of_all_types(1 + static_cast<uint32_t>(random() % 40));
    const size_t inputs = plan->spec().inputs.size();
    DriftSpec spec;
    spec.is_on = true;
    for (size_t i = 0; i < inputs; ++i) spec.input_edges.push_back(random_edges(random, random() % 20, random() % 2 == 0));
    spec.score_edges = random_edges(random, random() % 20, false);
    const std::vector<double> thresholds = random_edges(random, random() % 4, false);
    REQUIRE(check_drift_spec(spec, *plan).ok());
    DriftCounts counts(spec, *plan, thresholds);
    DriftShard* const shards[] = {counts.add_shard(), counts.add_shard()};
    DriftTotals expected;
    expected.score_counts.resize(spec.score_edges.size() + 1);
    expected.alert_counts.resize(thresholds.size());
    for (size_t i = 0; i < inputs; ++i) expected.input_counts.emplace_back(spec.input_edges[i].size() + 1);
    expected.null_counts.resize(inputs);
    expected.imputed_counts.resize(inputs);
    for (int n = 0; n < 300; ++n) {
      RawRow row(*plan);
      for (size_t i = 0; i < inputs; ++i) {
        const double value = row.set(i, random_value(random, spec.input_edges[i]));
        if (std::isfinite(value)) {
          ++expected.input_counts[i][slow_bin(spec.input_edges[i], value)];
        } else {
          ++expected.null_counts[i];
        }
        if (random() % 8 == 0) {
          row.imputed[i / 64] |= uint64_t{1} << (i % 64);
          ++expected.imputed_counts[i];
        }
      }
      double score = kNan;
      while (!std::isfinite(score)) score = random_value(random, spec.score_edges);
      ++expected.score_counts[slow_bin(spec.score_edges, score)];
      for (size_t i = 0; i < thresholds.size(); ++i) expected.alert_counts[i] += score >= thresholds[i] ? 1 : 0;
      DriftShard& shard = *shards[random() % 2];
      const std::lock_guard<DriftShard> lock(shard);
      shard.add(row.out(), score);
    }
    const DriftTotals found = counts.totals();
    CHECK_EQ(found.scores, 300u);
    CHECK(found.score_counts == expected.score_counts);
    CHECK(found.alert_counts == expected.alert_counts);
    CHECK(found.input_counts == expected.input_counts);
    CHECK(found.null_counts == expected.null_counts);
    CHECK(found.imputed_counts == expected.imputed_counts);
  }
}

TEST(edges_beyond_float32_and_int64_beyond_2_53) {
  const std::shared_ptr<const FeaturePlan> plan = plan_of_all_types(1);
  DriftSpec spec;
  spec.is_on = true;
  const double wide = 9'007'199'254'740'992.0;  // 2^53: the next int64 is rounded to it
  spec.input_edges = {{-1e300, 0.1, 1e300}, {-1e300, 0.1, 1e300}, {0}, {wide, wide + 2}, {1}};
  DriftCounts counts(spec, *plan, {});
  DriftShard& shard = *counts.add_shard();
  const float largest = std::numeric_limits<float>::max();
  for (const double value : {static_cast<double>(largest), -static_cast<double>(largest), static_cast<double>(0.1F), 0.1}) {
    RawRow row(*plan);
    row.set(0, value);
    row.set(1, value);
    row.put(row.out().row + plan->segments()[3].offset_bytes, 0, int64_t{9'007'199'254'740'993});
    const std::lock_guard<DriftShard> lock(shard);
    shard.add(row.out(), 0.0);
  }
  const DriftTotals found = counts.totals();
  CHECK(found.input_counts[0] == (std::vector<uint64_t>{0, 1, 3, 0}));  // 0.1F is more than 0.1
  CHECK(found.input_counts[1] == (std::vector<uint64_t>{0, 1, 3, 0}));
  CHECK(found.input_counts[3] == (std::vector<uint64_t>{0, 4, 0}));
}

TEST(edges_that_are_none_are_refused) {
  const std::shared_ptr<const FeaturePlan> plan = plan_of_all_types(1);
  DriftSpec good;
  good.is_on = true;
  good.input_edges.resize(5);
  CHECK(check_drift_spec(good, *plan).ok());
  DriftSpec spec = good;
  spec.input_edges.resize(4);
  CHECK(check_drift_spec(spec, *plan).code == Code::kModelUnsupported);
  for (const std::vector<double>& edges : {std::vector<double>{1, 1}, {2, 1}, {kNan}, {0, kInfinity}}) {
    spec = good;
    spec.input_edges[2] = edges;
    const Status status = check_drift_spec(spec, *plan);
    CHECK(status.code == Code::kModelUnsupported);
    CHECK(status.detail.find("input_2") != std::string::npos);
    spec = good;
    spec.score_edges = edges;
    CHECK(check_drift_spec(spec, *plan).detail.find("score") != std::string::npos);
  }
  House house;
  LaneSpec lane = house.lane_spec();
  lane.drift = house_drift();
  lane.drift.input_edges.pop_back();
  CHECK(house.add(std::move(lane)).code == Code::kModelUnsupported);
}

TEST(rows_that_got_a_score_are_counted_and_no_others) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.drift = house_drift();
  REQUIRE(house.add(std::move(spec)).ok());
  REQUIRE(house.add(house.lane_spec("other")).ok());
  house.fake->is_failing = [](const std::vector<int64_t>& amounts) {
    return std::find(amounts.begin(), amounts.end(), 13) != amounts.end();
  };
  house.fake->score = [](int64_t amount) { return amount == 14 ? kNan : static_cast<double>(amount) / 1000.0; };
  CHECK(house.batch({score_request(100), score_request(13), without_ratio(2), score_request(14), score_request(750)}).code ==
        Code::kOk);
  CHECK(house.score(300).code == Code::kOk);
  CHECK(house.stream(score_request(500)).code == Code::kOk);
  CHECK(house.engine.cancel(house.score(8).call));
  CHECK(house.score(9, with_timeout_ms(1)).code == Code::kOk);
  CHECK(house.score(10, with_model("other")).code == Code::kOk);
  house.clock.advance_ns(kMs);
  while (house.step() + house.step("other") > 0) continue;
  house.drain();
  const std::vector<LaneDrift> lanes = house.engine.drift();
  REQUIRE(lanes.size() == 1);  // who has no edges is not in it
  CHECK_EQ(lanes[0].model, "fraud");
  CHECK(lanes[0].decisions == (std::vector<Decision>{Decision::kReview, Decision::kDecline}));
  const DriftTotals& found = lanes[0].totals;
  CHECK_EQ(found.scores, 4u);
  CHECK(found.score_counts == (std::vector<uint64_t>{1, 1, 1, 1}));
  CHECK(found.alert_counts == (std::vector<uint64_t>{2, 1}));
  CHECK(found.input_counts[2] == (std::vector<uint64_t>{0, 1, 0, 3}));
  CHECK(found.input_counts[3] == (std::vector<uint64_t>{4, 0}));
  CHECK(found.imputed_counts == (std::vector<uint64_t>{0, 0, 0, 4}));
  CHECK(house.engine.remove_lane("fraud", "1").ok());
  CHECK(house.engine.drift().empty());
}

TEST(runners_count_and_others_read_at_once) {
  EngineOptions options;
  options.slots = 1024;
  options.batch_call_rows_max = 64;
  House house(options);
  LaneSpec spec = house.lane_spec();
  spec.drift = house_drift();
  spec.has_threads = true;
  for (int i = 0; i < 2; ++i) spec.runners.push_back(house.make_runner(std::make_shared<Fake>()));
  spec.inline_runner = house.make_runner(std::make_shared<Fake>());
  spec.options.inline_overrun_ns = kSecond;
  REQUIRE(house.add(std::move(spec)).ok());
  const int calls = check::scaled(200);
  std::atomic<bool> is_over{false};
  std::thread reader([&] {
    uint64_t before = 0;
    while (!is_over.load()) {
      const std::vector<LaneDrift> lanes = house.engine.drift();
      uint64_t rows = 0;
      for (const uint64_t count : lanes[0].totals.input_counts[2]) rows += count;
      CHECK_EQ(rows, lanes[0].totals.scores);
      CHECK(lanes[0].totals.scores >= before);
      before = lanes[0].totals.scores;
    }
  });
  uint64_t rows = 0;
  for (int i = 0; i < calls; ++i) {
    if (i % 3 == 0) {
      const Submission one = house.score(i);
      if (one.is_complete) house.engine.finish(one.call);
      rows += one.code == Code::kOk ? 1 : 0;
    } else {
      const std::vector<std::string> batch(16, score_request(i));
      rows += house.batch(batch).code == Code::kOk ? batch.size() : 0;
    }
    house.drain();
  }
  house.engine.drain();
  while (!house.engine.wait_idle(kMs)) house.drain();
  is_over = true;
  reader.join();
  CHECK_EQ(house.engine.drift()[0].totals.scores, rows);
  CHECK(rows > 0);
}

ASSAY_TEST_MAIN
