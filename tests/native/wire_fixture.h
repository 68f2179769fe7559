// What the wire's test and its fuzzer share: a plan with a feature of every type, and hand-made bytes.
#pragma once

#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "core/features/plan.h"
#include "core/wire/wire_reader.h"

namespace fixture {

using namespace assay;

inline RequestFeatureSpec feature(const char* name, Dtype dtype, bool is_required) {
  RequestFeatureSpec spec;
  spec.name = name;
  spec.dtype = dtype;
  spec.required = is_required;
  return spec;
}

// Entities customer_id and terminal_id; features amount_minor (int64, required, 0 to 10^9), ratio (float64, -1 to 1), is_online
// (bool), merchant (string), altitude (float64, integers accepted, at most 10^16). View "customer" stores amount_minor, view
// "terminal" nothing.
inline PlanSpec plan_spec() {
  PlanSpec spec;
  spec.feature_set = "test";
  spec.feature_set_version = "7";
  spec.schema_hash = std::string(64, 'a');
  spec.entities = {"customer_id", "terminal_id"};
  spec.request_features = {feature("amount_minor", Dtype::kInt64, true), feature("ratio", Dtype::kFloat64, false),
                           feature("is_online", Dtype::kBool, false), feature("merchant", Dtype::kString, false),
                           feature("altitude", Dtype::kFloat64, false)};
  spec.request_features[0].minimum = Value::of(int64_t{0});
  spec.request_features[0].maximum = Value::of(int64_t{1'000'000'000});
  spec.request_features[1].minimum = Value::of(-1.0);
  spec.request_features[1].maximum = Value::of(1.0);
  spec.request_features[4].accept_int = true;
  spec.request_features[4].maximum = Value::of(1e16);
  ViewSpec customer;
  customer.name = "customer";
  customer.view_hash[0] = 1;
  customer.columns = {{ColumnSource::kRequestFeature, 0, Dtype::kInt64}};
  customer.aggregates = {{AggregateOp::kCount, kNoColumn, 86'400'000'000}, {AggregateOp::kAvg, 0, 86'400'000'000}};
  ViewSpec terminal;
  terminal.name = "terminal";
  terminal.entity_index = 1;
  terminal.view_hash[0] = 2;
  terminal.aggregates = {{AggregateOp::kCount, kNoColumn, 86'400'000'000}};
  spec.views = {customer, terminal};
  const auto node = [&](NodeKind kind, const char* name, uint16_t source, uint16_t output) {
    NodeSpec one;
    one.kind = kind;
    one.name = name;
    one.source_index = source;
    one.output_index = output;
    spec.nodes.push_back(one);
  };
  node(NodeKind::kRequestFeature, "amount_minor", 0, 0);
  node(NodeKind::kRequestFeature, "ratio", 1, 0);
  node(NodeKind::kRequestFeature, "is_online", 2, 0);
  node(NodeKind::kView, "customer_count", 0, 0);
  spec.tensors = {{"floats", TensorType::kFloat32, 1},
                  {"doubles", TensorType::kFloat64, 1},
                  {"integers", TensorType::kInt64, 1},
                  {"truths", TensorType::kBool, 1}};
  spec.inputs = {{"count_input", 3, 0, 0, WhenNull::kDefault, 0.0},
                 {"ratio_input", 1, 1, 0, WhenNull::kNan, 0.0},
                 {"amount_input", 0, 2, 0, WhenNull::kError, 0.0},
                 {"online_input", 2, 3, 0, WhenNull::kDefault, 0.0}};
  return spec;
}

// Null and a line on stderr if the plan does not compile: the fixture is wrong then.
inline std::shared_ptr<const FeaturePlan> plan() {
  std::shared_ptr<const FeaturePlan> compiled;
  const Status status = FeaturePlan::compile(plan_spec(), &compiled);
  if (!status.ok()) std::fprintf(stderr, "fixture: %s\n", status.detail.c_str());
  return compiled;
}

// --- bytes by hand ---

inline std::string varint(uint64_t value, size_t bytes_min = 1) {
  std::string out;
  do {
    const bool is_last = value < 0x80 && out.size() + 1 >= bytes_min;
    out.push_back(static_cast<char>((value & 0x7f) | (is_last ? 0 : 0x80)));
    value >>= 7;
    if (is_last) return out;
  } while (true);
}
inline std::string tag(uint32_t field, WireType type) { return varint(wire_tag(field, type)); }
inline std::string number(uint32_t field, uint64_t value) { return tag(field, WireType::kVarint) + varint(value); }
inline std::string delimited(uint32_t field, std::string_view payload) {
  return tag(field, WireType::kDelimited) + varint(payload.size()) + std::string(payload);
}
inline std::string fixed64(uint32_t field, double value) {
  std::string bytes(8, '\0');
  std::memcpy(&bytes[0], &value, 8);
  return tag(field, WireType::kFixed64) + bytes;
}

inline std::string timestamp(int64_t seconds, int32_t nanos) {
  return number(1, static_cast<uint64_t>(seconds)) + number(2, static_cast<uint64_t>(int64_t{nanos}));
}
inline std::string entity(std::string_view name, std::string_view id) {
  return delimited(3, delimited(1, name) + delimited(2, id));
}
// `value`: the payload of a FeatureValue.
inline std::string feature_entry(std::string_view name, std::string_view value) {
  return delimited(4, delimited(1, name) + delimited(2, value));
}
inline std::string integer(int64_t value) { return number(2, static_cast<uint64_t>(value)); }

// A ScoreRequest, and an Event, with all that is required.
inline std::string transaction() {
  return delimited(1, "tx-1") + delimited(2, timestamp(1'522'540'831, 1'500)) + entity("customer_id", "596") +
         entity("terminal_id", "3156") + feature_entry("amount_minor", integer(5716));
}

}  // namespace fixture
