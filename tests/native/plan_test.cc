// What a plan refuses, by the name in the refusal; and what it computes.
#include "core/features/plan.h"

#include <cmath>
#include <functional>
#include <limits>

#include "check.h"
#include "core/features/row_program.h"
#include "sample_plan.h"

using namespace assay;
using sample::add_input;
using sample::derived_node;
using sample::feature;
using sample::feature_node;
using sample::view_node;

namespace {

// The demo's spec, changed, must be refused with all of `words` in the reason.
void check_refused(const std::function<void(PlanSpec&)>& change, const std::vector<std::string>& words, int line) {
  PlanSpec spec = sample::demo_spec();
  change(spec);
  std::shared_ptr<const FeaturePlan> plan;
  const Status status = FeaturePlan::compile(std::move(spec), &plan);
  bool is_expected = status.code == Code::kPlanInvalid && plan == nullptr;
  for (const std::string& word : words) is_expected &= status.detail.find(word) != std::string::npos;
  if (!is_expected) check::fail(__FILE__, line, "unexpected: " + status.detail);
}
#define CHECK_REFUSED(words, ...) check_refused([](PlanSpec& spec) __VA_ARGS__, words, __LINE__)
using Words = std::vector<std::string>;

// One request feature `x` of this dtype into one element of this type; is it taken?
bool is_taken(
    Dtype dtype, TensorType type, WhenNull when_null = WhenNull::kError, double fallback = 0.0,
    const std::function<void(PlanSpec&)>& change = [](PlanSpec&) {}) {
  PlanSpec spec = sample::empty_spec();
  spec.request_features.push_back(feature("x", dtype));
  spec.tensors.push_back({"input", type, 0});
  change(spec);
  add_input(spec, feature_node(spec, 0), when_null, fallback);
  std::shared_ptr<const FeaturePlan> plan;
  return FeaturePlan::compile(std::move(spec), &plan).ok();
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST(the_demo_compiles) {
  const auto plan = sample::demo_plan();
  CHECK_EQ(plan->row_bytes(), 64u);  // 15 float32, padded to 8
  REQUIRE(plan->segments().size() == 1);
  CHECK_EQ(plan->segments()[0].bytes, 60u);
  CHECK_EQ(plan->find_feature("amount_minor"), 0);
  CHECK_EQ(plan->find_feature("amount"), -1);
  CHECK_EQ(plan->find_feature(""), -1);
  CHECK_EQ(plan->find_entity("terminal_id"), 1);
  CHECK_EQ(plan->find_entity("customer_i"), -1);
  CHECK(plan->node_dtype(0) == Dtype::kInt64);
  CHECK(plan->node_dtype(3) == Dtype::kFloat64);   // avg
  CHECK(plan->node_dtype(14) == Dtype::kFloat64);  // amount
  CHECK(plan->node_dtype(15) == Dtype::kBool);     // is_weekend
}

TEST(an_empty_plan_is_for_events) {
  const auto plan = sample::compile(sample::empty_spec());
  CHECK_EQ(plan->row_bytes(), 0u);
  CHECK_EQ(plan->find_feature("x"), -1);
}

TEST(the_heading_is_checked) {
  CHECK_REFUSED((Words{"feature set"}), { spec.feature_set = "Card Fraud"; });
  CHECK_REFUSED((Words{"version"}), { spec.feature_set_version = ""; });
  CHECK_REFUSED((Words{"schema_hash"}), { spec.schema_hash.pop_back(); });
  CHECK_REFUSED((Words{"schema_hash"}), { spec.schema_hash[3] = 'A'; });
}

TEST(names_are_well_formed_and_unique) {
  for (const char* bad : {"", "Amount", "1amount", "_amount", "amount-minor", "amount minor", "b\xc3\xa9"}) {
    const std::string name = bad;
    check_refused([&](PlanSpec& spec) { spec.request_features[0].name = name; }, {"request feature"}, __LINE__);
    check_refused([&](PlanSpec& spec) { spec.entities[0] = name; }, {"entity"}, __LINE__);
    check_refused([&](PlanSpec& spec) { spec.views[0].name = name; }, {"view"}, __LINE__);
    check_refused([&](PlanSpec& spec) { spec.inputs[0].name = name; }, {"model input"}, __LINE__);
    check_refused([&](PlanSpec& spec) { spec.nodes[5].name = name; }, {"value"}, __LINE__);
  }
  const std::string longest(limits::kNameBytesMax, 'a');
  PlanSpec spec = sample::demo_spec();
  spec.entities[0] = longest;
  CHECK(sample::compile(spec)->find_entity(longest) == 0);
  check_refused([&](PlanSpec& one) { one.entities[0] = longest + "a"; }, {"entity"}, __LINE__);
  CHECK_REFUSED((Words{"entity \"terminal_id\" is defined twice"}), { spec.entities[0] = "terminal_id"; });
  CHECK_REFUSED((Words{"request feature \"amount_minor\" is defined twice"}),
                { spec.request_features.push_back(spec.request_features[0]); });
  CHECK_REFUSED((Words{"view \"terminal\" is defined twice"}), { spec.views[0].name = "terminal"; });
  CHECK_REFUSED((Words{"value \"customer_0\" is defined twice"}), { spec.nodes[4].name = "customer_0"; });
  CHECK_REFUSED((Words{"model input \"input_1\" is defined twice"}), { spec.inputs[0].name = "input_1"; });
  CHECK_REFUSED((Words{"tensor \"input\" is defined twice"}), { spec.tensors.push_back(spec.tensors[0]); });
  CHECK_REFUSED((Words{"tensor"}), { spec.tensors[0].name = ""; });
}

TEST(nodes_without_a_name_take_their_source_s) {
  PlanSpec spec = sample::demo_spec();
  spec.nodes[0].name = spec.nodes[1].name = "";
  const auto plan = sample::compile(std::move(spec));
  CHECK_EQ(plan->spec().nodes[0].name, "event_time");
  CHECK_EQ(plan->spec().nodes[1].name, "amount_minor");
}

TEST(everything_has_a_limit) {
  CHECK_REFUSED((Words{"9 entities, at most 8"}), {
    while (spec.entities.size() < limits::kEntitiesMax + 1) spec.entities.push_back("e" + std::to_string(spec.entities.size()));
  });
  for (const Dtype dtype : {Dtype::kInt64, Dtype::kBool, Dtype::kString}) {
    check_refused(
        [&](PlanSpec& spec) {
          spec.request_features.push_back(sample::feature("taken", dtype, false));
          spec.request_features.back().accept_int = true;
        },
        {"request feature \"taken\"", "accept_int is for float64"}, __LINE__);
  }
  CHECK_REFUSED((Words{"257 request features"}), {
    while (spec.request_features.size() < limits::kRequestFeaturesMax + 1) {
      spec.request_features.push_back(feature(("f" + std::to_string(spec.request_features.size())).c_str(), Dtype::kBool));
    }
  });
  CHECK_REFUSED((Words{"17 views"}), {
    while (spec.views.size() < limits::kViewsMax + 1) {
      spec.views.push_back(spec.views[0]);
      spec.views.back().name = "v" + std::to_string(spec.views.size());
    }
  });
  CHECK_REFUSED((Words{"1025 values"}), {
    while (spec.nodes.size() < limits::kNodesMax + 1) {
      derived_node(spec, "n" + std::to_string(spec.nodes.size()), DerivedOp::kConstant, {}, {1.0});
    }
  });
  CHECK_REFUSED((Words{"65 tensors"}), {
    while (spec.tensors.size() < limits::kTensorsMax + 1) {
      spec.tensors.push_back({"t" + std::to_string(spec.tensors.size()), TensorType::kFloat32, 0});
      add_input(spec, 1);
    }
  });
  CHECK_REFUSED((Words{"513 model inputs"}), {
    spec.tensors.push_back({"more", TensorType::kFloat64, 0});
    while (spec.inputs.size() < limits::kModelInputsMax + 1) add_input(spec, 1);
    spec.tensors.back().element_count = 1;
  });
  CHECK_REFUSED((Words{"elements"}), { spec.tensors[0].element_count = limits::kModelInputsMax + 1; });
  CHECK_REFUSED((Words{"elements"}), { spec.tensors[0].element_count = 0; });
  CHECK_REFUSED((Words{"65 string attributes"}), {
    for (int v = 0; v < 2; ++v) {
      ViewSpec profile = sample::view(v == 0 ? "profile" : "segment", 0, static_cast<uint8_t>(9 + v));
      profile.kind = ViewKind::kAttributes;
      for (int i = 0; i < 33 - v; ++i) profile.attributes.push_back({"a" + std::to_string(i), Dtype::kString});
      spec.views.push_back(profile);
      for (uint16_t i = 0; i < 33 - v; ++i) {
        view_node(spec, static_cast<uint16_t>(2 + v), i, "s" + std::to_string(v) + "_" + std::to_string(i));
      }
    }
  });
}

TEST(request_features_are_checked) {
  CHECK_REFUSED((Words{"amount_minor", "dtype"}), { spec.request_features[0].dtype = Dtype::kNull; });
  CHECK_REFUSED((Words{"amount_minor", "required"}), { spec.request_features[0].default_value = Value::of(int64_t{1}); });
  CHECK_REFUSED((Words{"amount_minor", "default", "int64", "float64"}), {
    spec.request_features[0].required = false;
    spec.request_features[0].default_value = Value::of(1.0);
  });
  CHECK_REFUSED((Words{"amount_minor", "outside the range"}), {
    spec.request_features[0].required = false;
    spec.request_features[0].default_value = Value::of(int64_t{-1});
    spec.request_features[0].minimum = Value::of(int64_t{0});
  });
  CHECK_REFUSED((Words{"amount_minor", "below its minimum"}), {
    spec.request_features[0].minimum = Value::of(int64_t{1});
    spec.request_features[0].maximum = Value::of(int64_t{0});
  });
  CHECK_REFUSED((Words{"amount_minor", "range"}), { spec.request_features[0].minimum = Value::of(0.0); });
  CHECK_REFUSED((Words{"rate", "range"}), {
    spec.request_features.push_back(feature("rate", Dtype::kFloat64));
    spec.request_features.back().maximum = Value::of(kNan);
  });
  CHECK_REFUSED((Words{"channel", "range"}), {
    spec.request_features.push_back(feature("channel", Dtype::kString));
    spec.request_features.back().maximum = Value::of(std::string_view("z"));
  });
  CHECK_REFUSED((Words{"rate", "default"}), {
    spec.request_features.push_back(feature("rate", Dtype::kFloat64, false));
    spec.request_features.back().default_value = Value::of(kNan);
  });
  CHECK_REFUSED((Words{"channel", "longer"}), {
    spec.request_features.push_back(feature("channel", Dtype::kString, false));
    spec.request_features.back().default_text = std::string(limits::kStringValueBytesMax + 1, 'x');
    spec.request_features.back().default_value = Value::of(std::string_view());
  });
}

TEST(a_string_default_lives_in_the_plan) {
  PlanSpec spec = sample::demo_spec();
  spec.request_features.push_back(feature("channel", Dtype::kString, false));
  spec.request_features.back().default_text = "web";  // short enough to live inside the string object, which moves
  spec.request_features.back().default_value = Value::of(std::string_view(spec.request_features.back().default_text));
  const auto plan = sample::compile(std::move(spec));
  CHECK(plan->spec().request_features[1].default_value.string() == "web");
  CHECK(plan->spec().request_features[1].default_value.text == plan->spec().request_features[1].default_text.data());
}

TEST(views_are_checked_against_the_plan) {
  CHECK_REFUSED((Words{"view \"customer\"", "entity"}), { spec.views[0].entity_index = 2; });
  CHECK_REFUSED((Words{"view \"terminal\"", "label", "delay"}), { spec.views[1].delay_us = 0; });
  CHECK_REFUSED((Words{"view \"customer\"", "column 0", "request feature"}), { spec.views[0].columns[0].source_index = 1; });
  CHECK_REFUSED((Words{"view \"customer\"", "column 0", "int64", "float64"}),
                { spec.views[0].columns[0].dtype = Dtype::kFloat64; });
  CHECK_REFUSED((Words{"view \"customer\"", "column 1", "entity"}),
                { spec.views[0].columns.push_back({ColumnSource::kEntity, 5, Dtype::kString}); });
  CHECK_REFUSED((Words{"view \"customer\"", "column 1"}),
                { spec.views[0].columns.push_back({ColumnSource::kEventTime, 0, Dtype::kFloat64}); });
  CHECK_REFUSED((Words{"view \"customer\""}), { spec.views[0].aggregates[0].window_us = 0; });  // ViewSchema's own rules
}

TEST(nodes_come_after_their_arguments) {
  CHECK_REFUSED((Words{"value \"amount\"", "earlier"}), { spec.nodes[14].derived.arguments[0] = 14; });
  CHECK_REFUSED((Words{"value \"amount\"", "earlier"}), { spec.nodes[14].derived.arguments[0] = 60000; });
  CHECK_REFUSED((Words{"value \"amount\"", "scale takes 1 arguments, found 2"}),
                { spec.nodes[14].derived.arguments.push_back(0); });
  CHECK_REFUSED((Words{"value \"is_night\"", "a time", "float64"}), { spec.nodes[16].derived.arguments[0] = 14; });
  CHECK_REFUSED((Words{"request feature is not defined"}), { spec.nodes[1].source_index = 7; });
  CHECK_REFUSED((Words{"view is not defined"}), { spec.nodes[3].source_index = 7; });
  CHECK_REFUSED((Words{"no such output"}), { spec.nodes[3].output_index = 6; });
  CHECK_REFUSED((Words{"kind"}), { spec.nodes[3].kind = static_cast<NodeKind>(9); });
}

TEST(is_missing_of_a_default_is_never_true) {
  CHECK_REFUSED((Words{"value \"no_mcc\"", "default", "when_null"}), {
    spec.request_features.push_back(feature("mcc", Dtype::kInt64, false));
    spec.request_features.back().default_value = Value::of(int64_t{0});
    derived_node(spec, "no_mcc", DerivedOp::kIsMissing, {feature_node(spec, 1)});
  });
}

TEST(every_element_has_one_input) {
  CHECK_REFUSED((Words{"tensor \"input\"", "element 15 has no model input"}), { ++spec.tensors[0].element_count; });
  CHECK_REFUSED((Words{"model input \"input_14\"", "element 0", "already"}), { spec.inputs[14].element = 0; });
  CHECK_REFUSED((Words{"no such element"}), { spec.inputs[14].element = 15; });
  CHECK_REFUSED((Words{"tensor is not defined"}), { spec.inputs[14].tensor = 1; });
  CHECK_REFUSED((Words{"value is not defined"}), { spec.inputs[14].node = 1000; });
}

TEST(dtypes_and_tensor_types) {
  const TensorType types[] = {TensorType::kFloat32, TensorType::kFloat64, TensorType::kInt32, TensorType::kInt64,
                              TensorType::kBool};
  const bool expected[4][5] = {
      {true, true, false, false, false},    // float64
      {false, true, true, true, false},     // int64: float32 only with a range
      {true, true, true, true, true},       // bool
      {false, false, false, false, false},  // string
  };
  for (int d = 0; d < 4; ++d) {
    for (int t = 0; t < 5; ++t) CHECK_EQ(is_taken(static_cast<Dtype>(d + 1), types[t]), expected[d][t]);
  }
  CHECK(!is_taken(Dtype::kFloat64, static_cast<TensorType>(2)));
}

TEST(int64_needs_a_range_for_float32) {
  const auto with_range = [](int64_t minimum, int64_t maximum) {
    return is_taken(Dtype::kInt64, TensorType::kFloat32, WhenNull::kError, 0.0, [=](PlanSpec& spec) {
      spec.request_features[0].minimum = Value::of(minimum);
      spec.request_features[0].maximum = Value::of(maximum);
    });
  };
  CHECK(with_range(-(1 << 24), 1 << 24));
  CHECK(!with_range(-(1 << 24) - 1, 0));
  CHECK(!with_range(0, (1 << 24) + 1));
  CHECK(!is_taken(Dtype::kInt64, TensorType::kFloat32, WhenNull::kError, 0.0,
                  [](PlanSpec& spec) { spec.request_features[0].minimum = Value::of(int64_t{0}); }));
  // Counts are known, sums, extremes, last values and attributes are not.
  const auto aggregate = [](AggregateOp op) {
    PlanSpec spec = sample::demo_spec();
    spec.views[0].aggregates.push_back({op, op == AggregateOp::kCount ? kNoColumn : int16_t{0}, sample::kDayUs});
    add_input(spec, view_node(spec, 0, 6, "extra"), WhenNull::kDefault);
    std::shared_ptr<const FeaturePlan> plan;
    return FeaturePlan::compile(std::move(spec), &plan).ok();
  };
  CHECK(aggregate(AggregateOp::kCount));
  CHECK(aggregate(AggregateOp::kDistinct));
  CHECK(aggregate(AggregateOp::kAvg));
  CHECK(!aggregate(AggregateOp::kSum));
  CHECK(!aggregate(AggregateOp::kMin));
  CHECK(!aggregate(AggregateOp::kMax));
  CHECK(!aggregate(AggregateOp::kLast));
  CHECK_REFUSED((Words{"model input \"input_15\"", "2^24", "event_time"}), { add_input(spec, 0); });
  // Derived integers carry their range.
  const auto derived = [](DerivedOp op, std::vector<double> constants) {
    PlanSpec spec = sample::demo_spec();
    const uint16_t argument = op == DerivedOp::kDifference ? 2 : 0;  // a count, or a time
    std::vector<uint16_t> arguments = {argument};
    if (op == DerivedOp::kDifference) arguments.push_back(4);
    add_input(spec, derived_node(spec, "extra", op, arguments, std::move(constants)), WhenNull::kDefault);
    std::shared_ptr<const FeaturePlan> plan;
    return FeaturePlan::compile(std::move(spec), &plan).ok();
  };
  CHECK(derived(DerivedOp::kHour, {}));
  CHECK(derived(DerivedOp::kWeekday, {}));
  CHECK(derived(DerivedOp::kDifference, {}));
  CHECK(derived(DerivedOp::kHashBucket, {16777216}));
  CHECK(!derived(DerivedOp::kHashBucket, {16777218}));
}

TEST(when_null_fits_the_tensor) {
  CHECK(is_taken(Dtype::kFloat64, TensorType::kFloat32, WhenNull::kNan));
  CHECK(is_taken(Dtype::kFloat64, TensorType::kFloat64, WhenNull::kNan));
  CHECK(!is_taken(Dtype::kInt64, TensorType::kInt64, WhenNull::kNan));
  CHECK(!is_taken(Dtype::kBool, TensorType::kBool, WhenNull::kNan));
  CHECK(!is_taken(Dtype::kFloat64, TensorType::kFloat32, static_cast<WhenNull>(0)));
  const auto fits = [](TensorType type, double value) {
    return is_taken(type == TensorType::kFloat32 || type == TensorType::kFloat64 ? Dtype::kFloat64 : Dtype::kBool, type,
                    WhenNull::kDefault, value);
  };
  for (const TensorType type :
       {TensorType::kFloat32, TensorType::kFloat64, TensorType::kInt32, TensorType::kInt64, TensorType::kBool}) {
    CHECK(fits(type, 1.0));
    CHECK(!fits(type, kNan));
    CHECK(!fits(type, std::numeric_limits<double>::infinity()));
  }
  CHECK(fits(TensorType::kFloat32, 0.1));
  CHECK(!fits(TensorType::kFloat32, 1e39));
  CHECK(fits(TensorType::kFloat64, 1e39));
  CHECK(!fits(TensorType::kInt32, 0.5));
  CHECK(fits(TensorType::kInt32, -2147483648.0));
  CHECK(!fits(TensorType::kInt32, 2147483648.0));
  CHECK(fits(TensorType::kInt64, -9223372036854775808.0));
  CHECK(!fits(TensorType::kInt64, 9223372036854775808.0));
  CHECK(!fits(TensorType::kBool, 2.0));
}

TEST(segments_are_aligned) {
  PlanSpec spec = sample::empty_spec();
  spec.request_features.push_back(feature("x", Dtype::kBool));
  const uint16_t x = feature_node(spec, 0);
  const std::pair<TensorType, int> shapes[] = {
      {TensorType::kBool, 3}, {TensorType::kFloat32, 3}, {TensorType::kInt64, 1}, {TensorType::kInt32, 1}};
  for (const auto& [type, count] : shapes) {
    spec.tensors.push_back({"t" + std::to_string(spec.tensors.size()), type, 0});
    for (int i = 0; i < count; ++i) add_input(spec, x);
  }
  const auto plan = sample::compile(std::move(spec));
  REQUIRE(plan->segments().size() == 4);
  CHECK_EQ(plan->segments()[0].offset_bytes, 0u);
  CHECK_EQ(plan->segments()[0].bytes, 3u);
  CHECK_EQ(plan->segments()[1].offset_bytes, 8u);
  CHECK_EQ(plan->segments()[1].bytes, 12u);
  CHECK_EQ(plan->segments()[2].offset_bytes, 24u);
  CHECK_EQ(plan->segments()[3].offset_bytes, 32u);
  CHECK_EQ(plan->row_bytes(), 40u);
}

TEST(many_names_are_all_found) {
  PlanSpec spec = sample::empty_spec();
  for (size_t i = 0; i < limits::kRequestFeaturesMax; ++i) {
    spec.request_features.push_back(feature(("feature_" + std::to_string(i)).c_str(), Dtype::kBool, false));
  }
  const auto plan = sample::compile(std::move(spec));
  for (size_t i = 0; i < limits::kRequestFeaturesMax; ++i) {
    CHECK_EQ(plan->find_feature("feature_" + std::to_string(i)), static_cast<int>(i));
    CHECK_EQ(plan->find_feature("feature_" + std::to_string(i) + "x"), -1);
  }
}

ASSAY_TEST_MAIN
