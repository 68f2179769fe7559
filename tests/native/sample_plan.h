// A feature set like the demo's, for native tests: 15 inputs of one float32 tensor, two window views, two entities.
#pragma once

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "core/features/plan.h"

namespace sample {

using namespace assay;

inline constexpr int64_t kDayUs = 86'400'000'000;

inline ViewSpec view(const char* name, uint16_t entity, uint8_t hash) {
  ViewSpec spec;
  spec.name = name;
  spec.entity_index = entity;
  spec.view_hash.fill(hash);
  return spec;
}

inline RequestFeatureSpec feature(const char* name, Dtype dtype, bool required = true) {
  RequestFeatureSpec spec;
  spec.name = name;
  spec.dtype = dtype;
  spec.required = required;
  return spec;
}

inline uint16_t add_node(PlanSpec& spec, NodeSpec node) {
  spec.nodes.push_back(std::move(node));
  return static_cast<uint16_t>(spec.nodes.size() - 1);
}
inline uint16_t event_time_node(PlanSpec& spec) { return add_node(spec, {NodeKind::kEventTime, "event_time", 0, 0, {}}); }
inline uint16_t feature_node(PlanSpec& spec, uint16_t feature) {
  return add_node(spec, {NodeKind::kRequestFeature, spec.request_features[feature].name, feature, 0, {}});
}
inline uint16_t view_node(PlanSpec& spec, uint16_t view, uint16_t output, std::string name) {
  return add_node(spec, {NodeKind::kView, std::move(name), view, output, {}});
}
inline uint16_t derived_node(PlanSpec& spec, std::string name, DerivedOp op, std::vector<uint16_t> arguments,
                             std::vector<double> constants = {}, std::vector<std::string> words = {}) {
  return add_node(
      spec, {NodeKind::kDerived, std::move(name), 0, 0, {op, std::move(arguments), std::move(constants), std::move(words)}});
}

// Adds an input as the next element of the last tensor, which grows.
inline void add_input(PlanSpec& spec, uint16_t node, WhenNull when_null = WhenNull::kError, double fallback = 0.0) {
  const auto tensor = static_cast<uint16_t>(spec.tensors.size() - 1);
  const uint32_t element = spec.tensors.back().element_count++;
  spec.inputs.push_back({"input_" + std::to_string(spec.inputs.size()), node, tensor, element, when_null, fallback});
}

// A named plan with one entity "customer_id" and nothing else.
inline PlanSpec empty_spec() {
  PlanSpec spec;
  spec.feature_set = "sample";
  spec.feature_set_version = "1.0.0";
  spec.schema_hash = std::string(64, 'a');
  spec.entities = {"customer_id"};
  return spec;
}

// amount_minor int64 required; a customer view with the current transaction, a terminal view on labels a week old.
inline PlanSpec demo_spec() {
  PlanSpec spec = empty_spec();
  spec.entities.push_back("terminal_id");
  spec.request_features.push_back(feature("amount_minor", Dtype::kInt64));
  ViewSpec customer = view("customer", 0, 1);
  customer.columns.push_back({ColumnSource::kRequestFeature, 0, Dtype::kInt64});
  customer.includes_current = true;
  ViewSpec terminal = view("terminal", 1, 2);
  terminal.uses_labels = true;
  terminal.delay_us = 7 * kDayUs;
  for (const int64_t days : {1, 7, 30}) {
    customer.aggregates.push_back({AggregateOp::kCount, kNoColumn, days * kDayUs});
    customer.aggregates.push_back({AggregateOp::kAvg, 0, days * kDayUs});
    terminal.aggregates.push_back({AggregateOp::kCount, kNoColumn, days * kDayUs});
    terminal.aggregates.push_back({AggregateOp::kRateTrue, kLabelColumn, days * kDayUs});
  }
  spec.views = {customer, terminal};
  const uint16_t time = event_time_node(spec);
  const uint16_t amount_minor = feature_node(spec, 0);
  std::vector<uint16_t> outputs[2];
  for (uint16_t v = 0; v < 2; ++v) {
    for (uint16_t i = 0; i < 6; ++i) {
      outputs[v].push_back(view_node(spec, v, i, (v == 0 ? "customer_" : "terminal_") + std::to_string(i)));
    }
  }
  spec.tensors.push_back({"input", TensorType::kFloat32, 0});
  add_input(spec, derived_node(spec, "amount", DerivedOp::kScale, {amount_minor}, {100.0}));
  add_input(spec, derived_node(spec, "is_weekend", DerivedOp::kIsWeekend, {time}));
  add_input(spec, derived_node(spec, "is_night", DerivedOp::kIsNight, {time}, {0, 6}));
  for (uint16_t i = 0; i < 6; ++i) {
    const uint16_t node = outputs[0][i];
    add_input(spec, i % 2 == 0 ? node : derived_node(spec, "avg_" + std::to_string(i), DerivedOp::kScale, {node}, {100.0}),
              WhenNull::kDefault);
  }
  for (const uint16_t node : outputs[1]) add_input(spec, node, WhenNull::kDefault);
  return spec;
}

inline std::shared_ptr<const FeaturePlan> compile(PlanSpec spec) {
  std::shared_ptr<const FeaturePlan> plan;
  const Status status = FeaturePlan::compile(std::move(spec), &plan);
  if (!status.ok()) {
    std::cerr << "sample plan: " << status.detail << "\n";
    std::abort();
  }
  return plan;
}

inline std::shared_ptr<const FeaturePlan> demo_plan() { return compile(demo_spec()); }

}  // namespace sample
