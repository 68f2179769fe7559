// Transaction + store -> row: against a slow reference, and every rule of nulls, defaults and conversions by name.
#include "core/features/feature_reader.h"
#include "core/base/clock.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>

#include "check.h"
#include "core/features/event_writer.h"
#include "core/features/operations.h"
#include "sample_plan.h"

using namespace assay;
using sample::add_input;
using sample::derived_node;
using sample::feature;
using sample::feature_node;
using sample::kDayUs;
using sample::view_node;

namespace {

// A plan bound to a store of its own, and what the last read gave.
struct Bench {
  explicit Bench(PlanSpec spec) : plan(sample::compile(std::move(spec))), store(std::make_shared<EmbeddedStore>(64 << 20)) {
    CHECK_EQ(FeatureReader::create(plan, store, &reader).detail, "");
    CHECK_EQ(EventWriter::create(plan, store, {}, &writer).detail, "");
    row.resize(plan->row_bytes() / 8);
    missing.resize((plan->spec().inputs.size() + 63) / 64);
    imputed = missing;
    views.resize(plan->views().size());
  }

  bool read(const Transaction& transaction) {
    violations.clear();
    for (uint64_t& word : row) word = ~uint64_t{0};  // whatever was there must be gone
    for (uint64_t& word : missing) word = ~uint64_t{0};
    for (uint64_t& word : imputed) word = ~uint64_t{0};
    const bool is_good =
        reader->read(transaction, *scratch,
                     {reinterpret_cast<uint8_t*>(row.data()), missing.data(), imputed.data(), views.data()}, violations);
    CHECK_EQ(is_good, violations.empty());
    return is_good;
  }

  template <typename T>
  T element(size_t input) const {
    const InputSpec& spec = plan->spec().inputs[input];
    T value;
    std::memcpy(
        &value,
        reinterpret_cast<const uint8_t*>(row.data()) + plan->segments()[spec.tensor].offset_bytes + spec.element * sizeof(T),
        sizeof(T));
    return value;
  }
  bool is_missing(size_t input) const { return (missing[input / 64] >> (input % 64) & 1) != 0; }
  bool is_imputed(size_t input) const { return (imputed[input / 64] >> (input % 64) & 1) != 0; }
  std::string said() const {
    std::string text;
    for (const Violation& violation : violations.list())
      text += std::string(reason_of(violation.code)) + " " + violation.field + ";";
    return text;
  }

  std::shared_ptr<const FeaturePlan> plan;
  std::shared_ptr<EmbeddedStore> store;
  std::shared_ptr<const FeatureReader> reader;
  std::shared_ptr<const EventWriter> writer;
  std::unique_ptr<ReadScratch> scratch{new ReadScratch};
  std::vector<uint64_t> row, missing, imputed;
  std::vector<FoldResult> views;
  Violations violations;
};

Transaction transaction(const FeaturePlan& plan, std::string_view id, int64_t time_us) {
  Transaction made;
  made.clear(plan.spec().entities.size(), plan.spec().request_features.size());
  made.id = id;
  made.event_time_us = time_us;
  made.entities[0] = "customer";
  if (plan.spec().entities.size() > 1) made.entities[1] = "terminal";
  return made;
}

// One feature `x` of this dtype, not required, into one element.
struct OneInput {
  Dtype dtype;
  TensorType type;
  WhenNull when_null = WhenNull::kError;
  double fallback = 0.0;
  Value default_value{};
};

Bench one_input(const OneInput& one) {
  PlanSpec spec = sample::empty_spec();
  spec.request_features.push_back(feature("x", one.dtype, false));
  spec.request_features[0].default_value = one.default_value;
  if (one.dtype == Dtype::kInt64 && one.type == TensorType::kFloat32) {
    spec.request_features[0].minimum = Value::of(int64_t{-16777216});
    spec.request_features[0].maximum = Value::of(int64_t{16777216});
  }
  spec.tensors.push_back({"input", one.type, 0});
  add_input(spec, feature_node(spec, 0), one.when_null, one.fallback);
  return Bench(std::move(spec));
}

bool read_x(Bench& bench, const Value& x) {
  Transaction request = transaction(*bench.plan, "1", 0);
  request.features[0] = x;
  return bench.read(request);
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct SlowEvent {
  std::string id;
  int64_t time_us;
  int64_t amount;
  std::string customer, terminal;
  bool is_fraud;
};

// The demo's 15 inputs, computed the obvious way from all events so far.
std::vector<float> slow_row(const std::vector<SlowEvent>& history, const SlowEvent& now) {
  std::vector<float> row = {static_cast<float>(static_cast<double>(now.amount) / 100.0),
                            weekday_of(now.time_us) >= 5 ? 1.0f : 0.0f, hour_of(now.time_us) <= 6 ? 1.0f : 0.0f};
  for (const int64_t days : {1, 7, 30}) {
    int64_t count = 1, sum = now.amount;
    for (const SlowEvent& event : history) {
      if (event.customer != now.customer || event.id == now.id) continue;
      if (event.time_us <= now.time_us - days * kDayUs || event.time_us > now.time_us) continue;
      ++count;
      sum += event.amount;
    }
    row.push_back(static_cast<float>(count));
    row.push_back(static_cast<float>(static_cast<double>(sum) / static_cast<double>(count) / 100.0));
  }
  for (const int64_t days : {1, 7, 30}) {
    int64_t count = 0, frauds = 0;
    const int64_t end_us = now.time_us - 7 * kDayUs;
    for (const SlowEvent& event : history) {
      if (event.terminal != now.terminal || event.id == now.id) continue;
      if (event.time_us <= end_us - days * kDayUs || event.time_us > end_us) continue;
      ++count;
      frauds += event.is_fraud ? 1 : 0;
    }
    row.push_back(static_cast<float>(count));
    row.push_back(count == 0 ? 0.0f : static_cast<float>(static_cast<double>(frauds) / static_cast<double>(count)));
  }
  return row;
}

Transaction to_transaction(const SlowEvent& event, const FeaturePlan& plan) {
  Transaction made = transaction(plan, event.id, event.time_us);
  made.entities[0] = event.customer;
  made.entities[1] = event.terminal;
  made.features[0] = Value::of(event.amount);
  made.is_fraud = event.is_fraud ? 1 : 0;
  return made;
}

void check_stream_against_reference(int events, std::mt19937_64& random) {
  Bench bench(sample::demo_spec());
  std::vector<SlowEvent> history;
  int64_t time_us = 1522540800000000;
  for (int i = 0; i < events; ++i) {
    if (random() % 4 != 0)
      time_us += static_cast<int64_t>(random() % 4) * kDayUs / 8;  // often the same microsecond, often a boundary
    SlowEvent event{std::to_string(i),
                    time_us,
                    static_cast<int64_t>(random() % 20'000),
                    std::to_string(random() % 3),
                    std::to_string(random() % 3),
                    random() % 5 == 0};
    const std::vector<float> expected = slow_row(history, event);
    REQUIRE(bench.read(to_transaction(event, *bench.plan)));
    for (size_t k = 0; k < expected.size(); ++k) CHECK_EQ(bench.element<float>(k), expected[k]);
    CHECK(bench.writer->write(to_transaction(event, *bench.plan)) == Code::kOk);
    CHECK(bench.writer->write(to_transaction(event, *bench.plan)) == Code::kEventDuplicate);
    history.push_back(event);
    // A retry after ingestion does not count itself twice.
    REQUIRE(bench.read(to_transaction(event, *bench.plan)));
    for (size_t k = 0; k < expected.size(); ++k) CHECK_EQ(bench.element<float>(k), expected[k]);
  }
}

}  // namespace

// A stream's length is fixed, because the reference looks at every event of it for every row.
TEST(the_demo_agrees_with_a_slow_reference) {
  std::mt19937_64 random = check::random_engine();
  for (int stream = 0; stream < check::scaled(1); ++stream) check_stream_against_reference(1'500, random);
}

TEST(an_unknown_entity_has_empty_windows) {
  Bench bench(sample::demo_spec());
  Transaction request = transaction(*bench.plan, "1", 1522540831000000);
  request.features[0] = Value::of(int64_t{5716});
  REQUIRE(bench.read(request));
  CHECK_EQ(bench.element<float>(0), 57.16f);
  CHECK_EQ(bench.element<float>(3), 1.0f);  // itself
  CHECK_EQ(bench.element<float>(4), 57.16f);
  CHECK_EQ(bench.element<float>(9), 0.0f);  // a count of nothing is a value
  CHECK(!bench.is_missing(9));
  CHECK_EQ(bench.element<float>(10), 0.0f);  // a rate of nothing is not
  CHECK(bench.is_missing(10) && bench.is_imputed(10));
  CHECK(!bench.views[0].is_found && !bench.views[1].is_found);
}

TEST(a_label_is_not_known_while_scoring) {
  PlanSpec spec = sample::demo_spec();
  Bench bench(spec);
  Transaction request = transaction(*bench.plan, "1", 1522540831000000);
  request.features[0] = Value::of(int64_t{1});
  REQUIRE(bench.read(request));
  const std::vector<uint64_t> without = bench.row;
  request.is_fraud = 1;
  REQUIRE(bench.read(request));
  CHECK(bench.row == without);
}

TEST(floats_to_float32) {
  Bench bench = one_input({Dtype::kFloat64, TensorType::kFloat32});
  REQUIRE(read_x(bench, Value::of(0.1)));
  CHECK_EQ(bench.element<float>(0), 0.1f);
  REQUIRE(read_x(bench, Value::of(3.4028234663852886e38)));
  CHECK(!read_x(bench, Value::of(3.5e38)));
  CHECK_EQ(bench.said(), "OUT_OF_RANGE inputs[\"input_0\"];");
  CHECK(!read_x(bench, Value::of(-1e300)));
  REQUIRE(read_x(bench, Value::of(-1e-60)));  // rounds to -0.0
  CHECK(!std::signbit(bench.element<float>(0)));
  CHECK(!read_x(bench, Value::of(std::nan(""))));  // no decoder lets it through; the last line of defence
  CHECK_EQ(bench.said(), "NOT_FINITE inputs[\"input_0\"];");
  CHECK(!read_x(bench, Value::of(kInfinity)));
  CHECK_EQ(bench.said(), "NOT_FINITE inputs[\"input_0\"];");
}

TEST(floats_to_float64) {
  Bench bench = one_input({Dtype::kFloat64, TensorType::kFloat64});
  REQUIRE(read_x(bench, Value::of(1e300)));
  CHECK_EQ(bench.element<double>(0), 1e300);
  REQUIRE(read_x(bench, Value::of(-0.0)));
  CHECK(!std::signbit(bench.element<double>(0)));
  CHECK(!read_x(bench, Value::of(-kInfinity)));
}

TEST(integers_to_floats_stay_exact) {
  Bench narrow = one_input({Dtype::kInt64, TensorType::kFloat32});
  REQUIRE(read_x(narrow, Value::of(int64_t{-16777216})));
  CHECK_EQ(narrow.element<float>(0), -16777216.0f);
  CHECK(!read_x(narrow, Value::of(int64_t{16777217})));
  CHECK_EQ(narrow.said(), "OUT_OF_RANGE inputs[\"input_0\"];");
  Bench wide = one_input({Dtype::kInt64, TensorType::kFloat64});
  REQUIRE(read_x(wide, Value::of(int64_t{1} << 53)));
  CHECK_EQ(wide.element<double>(0), 9007199254740992.0);
  CHECK(!read_x(wide, Value::of((int64_t{1} << 53) + 1)));
}

TEST(integers_to_integers) {
  Bench narrow = one_input({Dtype::kInt64, TensorType::kInt32});
  REQUIRE(read_x(narrow, Value::of(int64_t{INT32_MIN})));
  CHECK_EQ(narrow.element<int32_t>(0), INT32_MIN);
  CHECK(!read_x(narrow, Value::of(int64_t{INT32_MAX} + 1)));
  CHECK(!read_x(narrow, Value::of(INT64_MIN)));
  Bench wide = one_input({Dtype::kInt64, TensorType::kInt64});
  REQUIRE(read_x(wide, Value::of(INT64_MIN)));
  CHECK_EQ(wide.element<int64_t>(0), INT64_MIN);
}

TEST(truth_to_everything) {
  for (const bool x : {false, true}) {
    const auto check_type = [&](TensorType type, auto expected) {
      Bench bench = one_input({Dtype::kBool, type});
      CHECK(read_x(bench, Value::of(x)));
      CHECK_EQ(bench.element<decltype(expected)>(0), expected);
    };
    check_type(TensorType::kFloat32, x ? 1.0f : 0.0f);
    check_type(TensorType::kFloat64, x ? 1.0 : 0.0);
    check_type(TensorType::kInt32, int32_t{x});
    check_type(TensorType::kInt64, int64_t{x});
    check_type(TensorType::kBool, x);
  }
}

TEST(null_says_what_its_input_declares) {
  Bench error = one_input({Dtype::kFloat64, TensorType::kFloat32});
  CHECK(!read_x(error, Value()));
  CHECK_EQ(error.said(), "NULL_INPUT inputs[\"input_0\"];");
  CHECK(error.is_missing(0) && !error.is_imputed(0));
  Bench nan = one_input({Dtype::kFloat64, TensorType::kFloat32, WhenNull::kNan});
  REQUIRE(read_x(nan, Value()));
  CHECK(std::isnan(nan.element<float>(0)));
  CHECK(nan.is_missing(0) && !nan.is_imputed(0));
  Bench wide_nan = one_input({Dtype::kFloat64, TensorType::kFloat64, WhenNull::kNan});
  REQUIRE(read_x(wide_nan, Value()));
  CHECK(std::isnan(wide_nan.element<double>(0)));
  Bench fallback = one_input({Dtype::kFloat64, TensorType::kFloat32, WhenNull::kDefault, -7.5});
  REQUIRE(read_x(fallback, Value()));
  CHECK_EQ(fallback.element<float>(0), -7.5f);
  CHECK(fallback.is_missing(0) && fallback.is_imputed(0));
  REQUIRE(read_x(fallback, Value::of(1.0)));
  CHECK(!fallback.is_missing(0) && !fallback.is_imputed(0));
  Bench integer = one_input({Dtype::kInt64, TensorType::kInt32, WhenNull::kDefault, -1.0});
  REQUIRE(read_x(integer, Value()));
  CHECK_EQ(integer.element<int32_t>(0), -1);
  Bench truth = one_input({Dtype::kBool, TensorType::kBool, WhenNull::kDefault, 1.0});
  REQUIRE(read_x(truth, Value()));
  CHECK(truth.element<bool>(0));
}

TEST(a_default_of_the_feature_is_missing_and_imputed) {
  Bench bench = one_input({Dtype::kInt64, TensorType::kFloat32, WhenNull::kError, 0.0, Value::of(int64_t{42})});
  REQUIRE(read_x(bench, Value()));
  CHECK_EQ(bench.element<float>(0), 42.0f);
  CHECK(bench.is_missing(0) && bench.is_imputed(0));
  REQUIRE(read_x(bench, Value::of(int64_t{42})));
  CHECK(!bench.is_missing(0) && !bench.is_imputed(0));
}

TEST(every_bad_input_is_reported) {
  PlanSpec spec = sample::empty_spec();
  for (int i = 0; i < 100; ++i)
    spec.request_features.push_back(feature(("f" + std::to_string(i)).c_str(), Dtype::kFloat64, false));
  spec.tensors.push_back({"input", TensorType::kFloat32, 0});
  for (uint16_t i = 0; i < 100; ++i) add_input(spec, feature_node(spec, i));
  Bench bench(std::move(spec));
  Transaction request = transaction(*bench.plan, "1", 0);
  for (int i = 0; i < 70; ++i) request.features[static_cast<size_t>(i)] = Value::of(i % 2 == 0 ? 1.0 : 1e300);
  CHECK(!bench.read(request));
  CHECK_EQ(bench.violations.count(), 65u);  // 35 too large, 30 absent
  CHECK_EQ(bench.violations.list().size(), limits::kViolationsMax);
  for (size_t i = 0; i < 100; ++i) CHECK_EQ(bench.is_missing(i), i >= 70);
}

TEST(event_time_and_is_missing_reach_the_model) {
  PlanSpec spec = sample::empty_spec();
  spec.request_features.push_back(feature("x", Dtype::kInt64, false));
  const uint16_t time = sample::event_time_node(spec);
  const uint16_t is_missing = derived_node(spec, "x_is_missing", DerivedOp::kIsMissing, {feature_node(spec, 0)});
  spec.tensors.push_back({"time", TensorType::kInt64, 0});
  add_input(spec, time);
  spec.tensors.push_back({"flag", TensorType::kBool, 0});
  add_input(spec, is_missing);
  Bench bench(std::move(spec));
  Transaction request = transaction(*bench.plan, "1", -123456789);
  REQUIRE(bench.read(request));
  CHECK_EQ(bench.element<int64_t>(0), -123456789);
  CHECK(bench.element<bool>(1));
  CHECK(!bench.is_missing(1));
  request.features[0] = Value::of(int64_t{1});
  REQUIRE(bench.read(request));
  CHECK(!bench.element<bool>(1));
}

TEST(attributes_of_several_views_stand_side_by_side) {
  PlanSpec spec = sample::empty_spec();
  for (uint16_t v = 0; v < 2; ++v) {
    ViewSpec profile = sample::view(v == 0 ? "profile" : "home", 0, static_cast<uint8_t>(3 + v));
    profile.kind = ViewKind::kAttributes;
    profile.attributes = {{"country", Dtype::kString}, {"score", Dtype::kFloat64}, {"city", Dtype::kString}};
    profile.max_age_us = v == 0 ? 0 : kDayUs;
    spec.views.push_back(profile);
  }
  uint16_t nodes[2][3];
  for (uint16_t v = 0; v < 2; ++v) {
    for (uint16_t i = 0; i < 3; ++i) nodes[v][i] = view_node(spec, v, i, "n" + std::to_string(v) + std::to_string(i));
  }
  const uint16_t same_country = derived_node(spec, "same_country", DerivedOp::kEquals, {nodes[0][0], nodes[1][0]});
  const uint16_t city = derived_node(spec, "city", DerivedOp::kVocabulary, {nodes[0][2]}, {-1}, {"Ghent", "Paris"});
  spec.tensors.push_back({"flags", TensorType::kFloat32, 0});
  add_input(spec, same_country, WhenNull::kNan);
  add_input(spec, city, WhenNull::kNan);
  add_input(spec, nodes[1][1], WhenNull::kNan);
  Bench bench(std::move(spec));
  const auto text = [](const char* s) { return Value::of(std::string_view(s)); };
  const Value first[] = {text("BE"), Value::of(1.5), text("Paris")};
  const Value second[] = {text("BE"), Value::of(-0.0), text("Amsterdam")};
  CHECK(bench.writer->write_attributes(0, "customer", 1000, first) == Code::kOk);
  const Transaction request = transaction(*bench.plan, "1", 2 * kDayUs);
  REQUIRE(bench.read(request));
  CHECK(std::isnan(bench.element<float>(0)) && bench.is_missing(0));
  CHECK_EQ(bench.element<float>(1), 1.0f);
  CHECK(bench.writer->write_attributes(1, "customer", 1000, second) == Code::kOk);
  REQUIRE(bench.read(request));
  CHECK_EQ(bench.element<float>(0), 1.0f);
  CHECK_EQ(bench.element<float>(1), 1.0f);
  CHECK(!std::signbit(bench.element<float>(2)));
  CHECK(bench.views[0].is_found && !bench.views[0].is_stale);
  CHECK(bench.views[1].is_found && bench.views[1].is_stale);
  CHECK_EQ(bench.views[1].age_us, 2 * kDayUs - 1000);
  const Value other[] = {text("FR"), Value(), Value()};
  CHECK(bench.writer->write_attributes(1, "customer", 2000, other) == Code::kOk);
  REQUIRE(bench.read(request));
  CHECK_EQ(bench.element<float>(0), 0.0f);
  CHECK(std::isnan(bench.element<float>(2)));
}

TEST(attributes_are_checked_before_the_store) {
  PlanSpec spec = sample::demo_spec();
  ViewSpec profile = sample::view("profile", 0, 3);
  profile.kind = ViewKind::kAttributes;
  profile.attributes = {{"country", Dtype::kString}, {"score", Dtype::kFloat64}};
  spec.views.push_back(profile);
  Bench bench(std::move(spec));
  const std::string long_text(limits::kStringValueBytesMax + 1, 'x'), long_id(limits::kIdBytesMax + 1, 'x');
  const auto write = [&](size_t view, std::string_view id, int64_t time_us, Value country, Value score) {
    const Value values[] = {country, score};
    return std::string(reason_of(bench.writer->write_attributes(view, id, time_us, values)));
  };
  CHECK_EQ(write(2, "customer", 1000, Value(), Value()), "OK");
  CHECK_EQ(write(0, "customer", 1000, Value(), Value()), "PLAN_INVALID");
  CHECK_EQ(write(9, "customer", 1000, Value(), Value()), "PLAN_INVALID");
  CHECK_EQ(write(2, "", 1000, Value(), Value()), "MISSING_ENTITY");
  CHECK_EQ(write(2, long_id, 1000, Value(), Value()), "TOO_LONG");
  CHECK_EQ(write(2, "customer", limits::kTimeUsMax + 1, Value(), Value()), "BAD_TIMESTAMP");
  CHECK_EQ(write(2, "customer", 2000, Value::of(1.0), Value()), "WRONG_TYPE");
  CHECK_EQ(write(2, "customer", 2000, Value(), Value::of(int64_t{1})), "WRONG_TYPE");
  CHECK_EQ(write(2, "customer", 2000, Value(), Value::of(kInfinity)), "NOT_FINITE");
  CHECK_EQ(write(2, "customer", 2000, Value::of(std::string_view(long_text)), Value()), "TOO_LONG");
  CHECK_EQ(write(2, "customer", 999, Value(), Value()), "EVENT_TOO_LATE");
  CHECK_EQ(write(2, "customer", 1000, Value(), Value()), "EVENT_DUPLICATE");
}

TEST(an_entry_is_what_a_view_stores) {
  PlanSpec spec = sample::demo_spec();
  spec.request_features.push_back(feature("channel", Dtype::kString, false));
  ViewSpec& view = spec.views[1];
  view.columns = {{ColumnSource::kRequestFeature, 1, Dtype::kString},
                  {ColumnSource::kEntity, 0, Dtype::kString},
                  {ColumnSource::kEventTime, 0, Dtype::kInt64},
                  {ColumnSource::kRequestFeature, 0, Dtype::kInt64}};
  Bench bench(std::move(spec));
  Transaction event = transaction(*bench.plan, "tx", 5000);
  event.features[1] = Value::of(std::string_view("web"));
  event.is_fraud = 1;
  const EventEntry entry = entry_of(event, bench.plan->views()[1]);
  CHECK_EQ(entry.event_time_us, 5000);
  CHECK_EQ(entry.fingerprint, xxh64("tx"));
  CHECK_EQ(int{entry.is_fraud}, 1);
  CHECK_EQ(entry.label_time_us, 5000 + 7 * kDayUs);
  CHECK_EQ(static_cast<uint64_t>(entry.columns[0].int64), xxh64("web"));
  CHECK(entry.columns[0].dtype == Dtype::kInt64);
  CHECK_EQ(static_cast<uint64_t>(entry.columns[1].int64), xxh64("customer"));
  CHECK_EQ(entry.columns[2].int64, 5000);
  CHECK(entry.columns[3].is_null());
}

TEST(an_event_that_no_view_wants_changes_nothing) {
  Bench bench(sample::empty_spec());
  CHECK(bench.writer->write(transaction(*bench.plan, "1", 0)) == Code::kEventDuplicate);
  Bench demo(sample::demo_spec());
  Transaction event = transaction(*demo.plan, "1", 1522540831000000);
  event.features[0] = Value::of(int64_t{1});
  event.entities[1] = {};
  CHECK(demo.writer->write(event) == Code::kOk);  // the customer's view alone
  CHECK(demo.writer->write(event) == Code::kEventDuplicate);
  event.entities[1] = "terminal";
  std::shared_ptr<const EventWriter> others;  // the customer's view is left out, and has nothing for it
  WriterOptions options;
  options.left_out[0] = true;
  REQUIRE(EventWriter::create(demo.plan, std::make_shared<EmbeddedStore>(64 << 20), options, &others).ok());
  std::vector<RecordRef> records;
  others->add_records_of(event, &records);
  CHECK(records.size() == 1 && records[0].view_index == 1);
  CHECK(others->write(event) == Code::kOk);
  CHECK(demo.writer->write(event) == Code::kOk);  // now the terminal's: a repeat completes
  CHECK(demo.writer->write(event) == Code::kEventDuplicate);
}

// One event a few hours ahead (a wrong zone) would make all that short windows count expire.
TEST(an_event_ahead_of_the_clock_changes_nothing) {
  const auto plan = sample::demo_plan();
  const auto store = std::make_shared<EmbeddedStore>(1 << 20);
  std::shared_ptr<const EventWriter> writer;
  REQUIRE(EventWriter::create(plan, store, {limits::kAheadUsMax}, &writer).ok());
  const auto write_at = [&](const char* id, int64_t time_us) {
    Transaction event = transaction(*plan, id, time_us);
    event.entities[0] = "customer";
    event.features[0] = Value::of(int64_t{1});
    return writer->write(event);
  };
  CHECK(write_at("now", wall_now_us()) == Code::kOk);
  CHECK(write_at("ahead", wall_now_us() + limits::kAheadUsMax + 60'000'000) == Code::kEventInFuture);
  CHECK(write_at("a little ahead", wall_now_us() + limits::kAheadUsMax - 60'000'000) == Code::kOk);
  CHECK_EQ(store->stats().event_count, 4u);  // two events in two views
}

TEST(a_full_store_says_so) {
  const auto plan = sample::demo_plan();
  const auto store = std::make_shared<EmbeddedStore>(200'000);
  std::shared_ptr<const EventWriter> writer;
  CHECK(EventWriter::create(plan, store, {}, &writer).ok());
  bool is_full = false;
  std::vector<std::string> names;
  for (int i = 0; i < 20'000 && !is_full; ++i) {
    const std::string name = std::to_string(i);
    Transaction event = transaction(*plan, name, 1522540831000000);
    event.entities[0] = event.entities[1] = name;
    event.features[0] = Value::of(int64_t{1});
    is_full = writer->write(event) == Code::kStoreFull;
  }
  CHECK(is_full);
}

ASSAY_TEST_MAIN
