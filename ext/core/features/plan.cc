#include "core/features/plan.h"

#include <cmath>
#include <unordered_set>

#include "core/features/row_program.h"

namespace assay {
namespace {

constexpr int64_t kFloat32IntegerMax = int64_t{1} << 24;

Status invalid(std::string detail) { return Status(Code::kPlanInvalid, std::move(detail)); }

std::string quoted(const char* what, const std::string& name) { return std::string(what) + " \"" + printable(name) + "\""; }

bool is_name(const std::string& name) {
  if (name.empty() || name.size() > limits::kNameBytesMax || name[0] < 'a' || name[0] > 'z') return false;
  for (const char c : name) {
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_') return false;
  }
  return true;
}

// Names of one kind, each well formed and said once.
class Names {
 public:
  explicit Names(const char* what) : what_(what) {}

  Status add(const std::string& name) {
    if (!is_name(name)) {
      return invalid(quoted(what_, name) + ": a name is a letter a-z, then letters a-z, digits and _, at most " +
                     std::to_string(limits::kNameBytesMax) + " bytes; rename it");
    }
    return add_unique(name);
  }
  Status add_unique(const std::string& name) {
    return seen_.insert(name).second ? Status() : invalid(quoted(what_, name) + " is defined twice; rename or remove one");
  }

 private:
  const char* what_;
  std::unordered_set<std::string> seen_;
};

Status at_most(size_t count, size_t count_max, const char* what) {
  if (count <= count_max) return Status();
  return invalid(std::to_string(count) + " " + what + ", at most " + std::to_string(count_max) + " are allowed");
}

bool is_hex(const std::string& text) { return text.find_first_not_of("0123456789abcdef") == std::string::npos; }

bool is_less(const Value& a, const Value& b) { return a.dtype == Dtype::kInt64 ? a.int64 < b.int64 : a.float64 < b.float64; }

bool is_finite(const Value& value) { return value.dtype != Dtype::kFloat64 || std::isfinite(value.float64); }

bool is_float(TensorType type) { return type == TensorType::kFloat32 || type == TensorType::kFloat64; }

NodeType type_of_output(const ViewSpec& view, size_t output) {
  if (view.kind == ViewKind::kAttributes) return {view.attributes[output].dtype, {}};
  const AggregateSpec& aggregate = view.aggregates[output];
  switch (aggregate.op) {
    case AggregateOp::kCount:
    case AggregateOp::kDistinct: return {Dtype::kInt64, {true, 0, kFloat32IntegerMax}};  // a window holds fewer events
    case AggregateOp::kSum: return {Dtype::kInt64, {}};
    case AggregateOp::kAvg:
    case AggregateOp::kRateTrue: return {Dtype::kFloat64, {}};
    case AggregateOp::kMin:
    case AggregateOp::kMax:
    case AggregateOp::kLast: return {view.columns[static_cast<size_t>(aggregate.column)].dtype, {}};
  }
  return {};
}

}  // namespace

// Takes a PlanSpec through the checks, room by room, and fills the plan on the way.
class PlanCompiler {
 public:
  PlanCompiler(PlanSpec spec, FeaturePlan* plan) : plan_(*plan), spec_(plan->spec_) { plan->spec_ = std::move(spec); }

  Status run() {
    for (const auto step : {&PlanCompiler::heading, &PlanCompiler::entities, &PlanCompiler::features, &PlanCompiler::views,
                            &PlanCompiler::nodes, &PlanCompiler::feature_tensors, &PlanCompiler::inputs}) {
      Status status = (this->*step)();
      if (!status.ok()) return status;
    }
    plan_.program_ = std::make_shared<const RowProgram>(std::move(program_));
    return Status();
  }
  Status run_tensors();

 private:
  Status heading();
  Status entities();
  Status features();
  Status feature(RequestFeatureSpec& feature);
  Status views();
  Status columns(ViewSpec& view);
  Status nodes();
  Status node(NodeSpec& node, size_t index, NodeType* type);
  Status feature_node(NodeSpec& node, size_t index, NodeType* type);
  Status view_node(const NodeSpec& node, NodeType* type);
  Status derived_node(const NodeSpec& node, size_t index, NodeType* type);
  void view_steps();
  Status feature_tensors() { return tensors(limits::kModelInputsMax); }
  Status tensors(size_t elements_max);
  Status inputs();
  Status input(const InputSpec& input, InputStep* step);

  FeaturePlan& plan_;
  PlanSpec& spec_;
  std::vector<NodeType> types_;
  RowProgram program_;
};

Status FeaturePlan::compile(PlanSpec spec, std::shared_ptr<const FeaturePlan>* out) {
  std::shared_ptr<FeaturePlan> plan(new FeaturePlan());
  Status status = PlanCompiler(std::move(spec), plan.get()).run();
  if (status.ok()) *out = std::move(plan);
  return status;
}

Status FeaturePlan::of_tensors(std::vector<TensorSpec> tensors, std::shared_ptr<const FeaturePlan>* out) {
  std::shared_ptr<FeaturePlan> plan(new FeaturePlan());
  PlanSpec spec;
  spec.tensors = std::move(tensors);
  Status status = PlanCompiler(std::move(spec), plan.get()).run_tensors();
  if (status.ok()) *out = std::move(plan);
  return status;
}

Status PlanCompiler::run_tensors() {
  if (spec_.tensors.empty()) return invalid("a model without a feature set has at least one tensor");
  Status status = tensors(limits::kTensorRowBytesMax);
  if (status.ok() && plan_.row_bytes_ > limits::kTensorRowBytesMax) {
    status = invalid("a row has " + std::to_string(plan_.row_bytes_) + " bytes, at most " +
                     std::to_string(limits::kTensorRowBytesMax) + " are allowed");
  }
  plan_.program_ = std::make_shared<const RowProgram>();
  return status;
}

Status PlanCompiler::heading() {
  Status status = Names("feature set").add(spec_.feature_set);
  if (!status.ok()) return status;
  if (spec_.feature_set_version.empty() || spec_.feature_set_version.size() > limits::kNameBytesMax) {
    return invalid("the feature set's version must have 1 to " + std::to_string(limits::kNameBytesMax) + " bytes");
  }
  if (spec_.schema_hash.size() != 64 || !is_hex(spec_.schema_hash)) {
    return invalid("schema_hash must be a SHA-256 as 64 lower-case hex digits");
  }
  return Status();
}

Status PlanCompiler::entities() {
  Status status = at_most(spec_.entities.size(), limits::kEntitiesMax, "entities");
  Names names("entity");
  for (size_t i = 0; status.ok() && i < spec_.entities.size(); ++i) status = names.add(spec_.entities[i]);
  if (status.ok()) plan_.entity_names_.build(spec_.entities);
  return status;
}

Status PlanCompiler::features() {
  Status status = at_most(spec_.request_features.size(), limits::kRequestFeaturesMax, "request features");
  Names names("request feature");
  std::vector<std::string> list;
  for (RequestFeatureSpec& one : spec_.request_features) {
    if (status.ok()) status = names.add(one.name);
    if (status.ok()) status = feature(one);
    list.push_back(one.name);
  }
  if (status.ok()) plan_.feature_names_.build(list);
  return status;
}

Status PlanCompiler::feature(RequestFeatureSpec& feature) {
  const std::string who = quoted("request feature", feature.name);
  const bool is_number = feature.dtype == Dtype::kFloat64 || feature.dtype == Dtype::kInt64;
  if (!is_number && feature.dtype != Dtype::kBool && feature.dtype != Dtype::kString) {
    return invalid(who + ": the dtype must be float64, int64, bool or string");
  }
  if (feature.accept_int && feature.dtype != Dtype::kFloat64) {
    return invalid(who + ": accept_int is for float64, as only there an int64 keeps its value; remove it, or declare float64");
  }
  if (feature.default_value.dtype == Dtype::kString) feature.default_value = Value::of(std::string_view(feature.default_text));
  for (const Value* bound : {&feature.minimum, &feature.maximum}) {
    if (bound->is_null()) continue;
    if (!is_number || bound->dtype != feature.dtype || !is_finite(*bound)) {
      return invalid(who + ": a range has finite bounds of the feature's own dtype, float64 or int64");
    }
  }
  if (!feature.minimum.is_null() && !feature.maximum.is_null() && is_less(feature.maximum, feature.minimum)) {
    return invalid(who + ": the range's maximum is below its minimum; swap them");
  }
  Value& fallback = feature.default_value;
  if (fallback.is_null()) return Status();
  if (feature.required) return invalid(who + " is required and has a default, which can never be used; remove one of the two");
  if (fallback.dtype != feature.dtype || !is_finite(fallback)) {
    return invalid(who + ": expected a finite default of dtype " + dtype_name(feature.dtype) + ", found " +
                   dtype_name(fallback.dtype));
  }
  if (fallback.dtype == Dtype::kFloat64) fallback.float64 += 0.0;  // -0.0 becomes +0.0
  if ((!feature.minimum.is_null() && is_less(fallback, feature.minimum)) ||
      (!feature.maximum.is_null() && is_less(feature.maximum, fallback))) {
    return invalid(who + ": the default lies outside the range; change one of them");
  }
  if (fallback.dtype == Dtype::kString && fallback.text_bytes > limits::kStringValueBytesMax) {
    return invalid(who + ": the default is longer than " + std::to_string(limits::kStringValueBytesMax) + " bytes");
  }
  return Status();
}

Status PlanCompiler::views() {
  Status status = at_most(spec_.views.size(), limits::kViewsMax, "views");
  Names names("view");
  for (ViewSpec& view : spec_.views) {
    if (status.ok()) status = names.add(view.name);
    if (status.ok()) status = columns(view);
    ViewSchema schema;
    if (status.ok()) status = ViewSchema::compile(view, &schema);
    if (!status.ok()) return status;
    plan_.views_.push_back(std::move(schema));
  }
  return Status();
}

// What only a plan can check of a view: that its entity and its columns' sources exist and have the columns' dtypes.
Status PlanCompiler::columns(ViewSpec& view) {
  const std::string who = quoted("view", view.name);
  if (view.entity_index >= spec_.entities.size()) return invalid(who + ": its entity is not defined");
  if (view.uses_labels && view.delay_us <= 0) {
    return invalid(who + " uses labels without a delay, which leaks the future into the past; give it the time after which " +
                   "labels are known");
  }
  for (size_t i = 0; i < view.columns.size(); ++i) {
    ColumnSpec& column = view.columns[i];
    const std::string where = who + ", column " + std::to_string(i);
    Dtype expected = Dtype::kInt64;
    if (column.source == ColumnSource::kRequestFeature) {
      if (column.source_index >= spec_.request_features.size()) return invalid(where + ": its request feature is not defined");
      expected = spec_.request_features[column.source_index].dtype;
    } else if (column.source == ColumnSource::kEntity) {
      if (column.source_index >= spec_.entities.size()) return invalid(where + ": its entity is not defined");
      expected = Dtype::kString;
    } else if (column.source != ColumnSource::kEventTime) {
      return invalid(where + ": its source is a request feature, an entity or the event time");
    }
    if (column.dtype == Dtype::kNull) column.dtype = expected;
    if (column.dtype != expected) {
      return invalid(where + ": expected " + dtype_name(expected) + " as its source has it, found " + dtype_name(column.dtype));
    }
  }
  return Status();
}

Status PlanCompiler::nodes() {
  Status status = at_most(spec_.nodes.size(), limits::kNodesMax, "values");
  Names names("value");
  for (size_t i = 0; status.ok() && i < spec_.nodes.size(); ++i) {
    NodeType type;
    status = node(spec_.nodes[i], i, &type);
    if (status.ok()) status = names.add(spec_.nodes[i].name);
    types_.push_back(type);
    plan_.node_dtypes_.push_back(type.dtype);
  }
  if (!status.ok()) return status;
  view_steps();
  size_t text_count = 0;
  for (const OutputStep& output : program_.outputs) text_count += types_[output.node].dtype == Dtype::kString ? 1 : 0;
  return at_most(text_count, limits::kAttributesMax, "string attributes in use");  // ReadScratch holds so many
}

Status PlanCompiler::node(NodeSpec& node, size_t index, NodeType* type) {
  switch (node.kind) {
    case NodeKind::kEventTime:
      if (node.name.empty()) node.name = "event_time";
      program_.event_time_nodes.push_back(static_cast<uint16_t>(index));
      *type = {Dtype::kInt64, {}};
      return Status();
    case NodeKind::kRequestFeature: return feature_node(node, index, type);
    case NodeKind::kView: return view_node(node, type);
    case NodeKind::kDerived: return derived_node(node, index, type);
  }
  return invalid(quoted("value", node.name) + ": its kind is event time, request feature, view or derived");
}

Status PlanCompiler::feature_node(NodeSpec& node, size_t index, NodeType* type) {
  if (node.source_index >= spec_.request_features.size()) {
    return invalid(quoted("value", node.name) + ": its request feature is not defined");
  }
  const RequestFeatureSpec& feature = spec_.request_features[node.source_index];
  if (node.name.empty()) node.name = feature.name;
  type->dtype = feature.dtype;
  if (feature.dtype == Dtype::kInt64 && !feature.minimum.is_null() && !feature.maximum.is_null()) {
    type->range = {true, feature.minimum.int64, feature.maximum.int64};
  }
  program_.features.push_back({node.source_index, static_cast<uint16_t>(index), feature.default_value});
  return Status();
}

Status PlanCompiler::view_node(const NodeSpec& node, NodeType* type) {
  const std::string who = quoted("value", node.name);
  if (node.source_index >= plan_.views_.size()) return invalid(who + ": its view is not defined");
  const ViewSchema& view = plan_.views_[node.source_index];
  if (node.output_index >= view.output_count()) {
    return invalid(who + ": " + quoted("view", view.spec().name) + " has no such output");
  }
  *type = type_of_output(view.spec(), node.output_index);
  if (view.spec().kind == ViewKind::kWindow && type->dtype == Dtype::kString) {
    return invalid(who + ": a view keeps only the hash of a string, which serves distinct counts; aggregate a number");
  }
  return Status();
}

Status PlanCompiler::derived_node(const NodeSpec& node, size_t index, NodeType* type) {
  DerivedStep step;
  step.node = static_cast<uint16_t>(index);
  Status status = Operation::compile(node.derived, types_, &step.operation);
  if (!status.ok()) return invalid(quoted("value", node.name) + ": " + status.detail);
  if (node.derived.op == DerivedOp::kIsMissing) {
    const NodeSpec& argument = spec_.nodes[node.derived.arguments[0]];
    if (argument.kind == NodeKind::kRequestFeature && !spec_.request_features[argument.source_index].default_value.is_null()) {
      return invalid(quoted("value", node.name) + " is never true: " + quoted("request feature", argument.name) +
                     " has a default; give the default to the model input (when_null) instead");
    }
  }
  *type = step.operation.result();
  program_.derived.push_back(std::move(step));
  return Status();
}

void PlanCompiler::view_steps() {
  size_t text_views = 0;
  for (size_t v = 0; v < spec_.views.size(); ++v) {
    ViewStep step;
    step.entity = spec_.views[v].entity_index;
    step.is_window = spec_.views[v].kind == ViewKind::kWindow;
    step.outputs_begin = static_cast<uint32_t>(program_.outputs.size());
    for (size_t i = 0; i < spec_.nodes.size(); ++i) {
      const NodeSpec& node = spec_.nodes[i];
      if (node.kind != NodeKind::kView || node.source_index != v) continue;
      program_.outputs.push_back({node.output_index, static_cast<uint16_t>(i)});
      step.keeps_text |= types_[i].dtype == Dtype::kString;
    }
    step.outputs_end = static_cast<uint32_t>(program_.outputs.size());
    text_views += step.keeps_text ? 1 : 0;
    program_.views.push_back(step);
  }
  if (text_views > 1) return;
  for (ViewStep& step : program_.views) step.keeps_text = false;  // one such view's strings may stay in its arena
}

Status PlanCompiler::tensors(size_t elements_max) {
  Status status = at_most(spec_.tensors.size(), limits::kTensorsMax, "tensors");
  Names names("tensor");
  uint32_t offset_bytes = 0;
  for (const TensorSpec& tensor : spec_.tensors) {
    const std::string who = quoted("tensor", tensor.name);
    if (status.ok() && (tensor.name.empty() || tensor.name.size() > limits::kStringValueBytesMax)) {
      status = invalid(who + ": the name of an ONNX input has 1 to " + std::to_string(limits::kStringValueBytesMax) + " bytes");
    }
    if (status.ok()) status = names.add_unique(tensor.name);
    if (status.ok() && tensor_type_name(tensor.type) == nullptr) {
      status = invalid(who + ": the type must be float32, float64, int32, int64 or bool");
    }
    if (status.ok() && (tensor.element_count == 0 || tensor.element_count > elements_max)) {
      status = invalid(who + ": has 1 to " + std::to_string(elements_max) + " elements a row");
    }
    if (!status.ok()) return status;
    const uint32_t bytes = tensor.element_count * tensor_type_bytes(tensor.type);
    plan_.segments_.push_back({offset_bytes, bytes});
    offset_bytes += (bytes + 7) & ~7u;
  }
  plan_.row_bytes_ = offset_bytes;
  return status;
}

Status PlanCompiler::inputs() {
  Status status = at_most(spec_.inputs.size(), limits::kModelInputsMax, "model inputs");
  Names names("model input");
  std::vector<std::vector<bool>> is_set;
  for (const TensorSpec& tensor : spec_.tensors) is_set.emplace_back(tensor.element_count, false);
  for (const InputSpec& one : spec_.inputs) {
    InputStep step;
    if (status.ok()) status = names.add(one.name);
    if (status.ok()) status = input(one, &step);
    if (!status.ok()) return status;
    if (is_set[one.tensor][one.element]) {
      return invalid(quoted("model input", one.name) + ": element " + std::to_string(one.element) + " of " +
                     quoted("tensor", spec_.tensors[one.tensor].name) + " has an input already");
    }
    is_set[one.tensor][one.element] = true;
    program_.inputs.push_back(step);
  }
  for (size_t t = 0; t < is_set.size(); ++t) {
    for (size_t e = 0; e < is_set[t].size(); ++e) {
      if (is_set[t][e]) continue;
      return invalid(quoted("tensor", spec_.tensors[t].name) + ": element " + std::to_string(e) + " has no model input");
    }
  }
  return status;
}

Status PlanCompiler::input(const InputSpec& input, InputStep* step) {
  const std::string who = quoted("model input", input.name);
  if (input.node >= types_.size()) return invalid(who + ": its value is not defined");
  if (input.tensor >= spec_.tensors.size()) return invalid(who + ": its tensor is not defined");
  const TensorSpec& tensor = spec_.tensors[input.tensor];
  if (input.element >= tensor.element_count) return invalid(who + ": " + quoted("tensor", tensor.name) + " has no such element");
  const NodeType& type = types_[input.node];
  const NodeSpec& node = spec_.nodes[input.node];
  if (type.dtype == Dtype::kString) {
    return invalid(who + ": a model takes no string; make " + quoted("value", node.name) +
                   " a number with vocabulary, hash_bucket or equals");
  }
  if (!find_conversion(type.dtype, tensor.type, &step->conversion)) {
    return invalid(who + ": " + dtype_name(type.dtype) + " does not go into " + quoted("tensor", tensor.name) + " of type " +
                   tensor_type_name(tensor.type));
  }
  const IntegerRange& range = type.range;
  const bool is_exact = range.is_known && range.minimum >= -kFloat32IntegerMax && range.maximum <= kFloat32IntegerMax;
  if (step->conversion == Conversion::kInt64ToFloat32 && !is_exact) {
    return invalid(who + ": int64 goes into a float32 tensor only where its values are known to lie within +-2^24; declare the " +
                   "range of " + quoted("value", node.name) + ", or scale it");
  }
  switch (input.when_null) {
    case WhenNull::kError: break;
    case WhenNull::kDefault:
      if (!element_bits(input.default_value, tensor.type, &step->null_bits)) {
        return invalid(who + ": its default is not a value of " + tensor_type_name(tensor.type));
      }
      break;
    case WhenNull::kNan:
      if (!is_float(tensor.type)) {
        return invalid(who + ": when_null nan needs a float tensor, found " + tensor_type_name(tensor.type) +
                       "; use error or a default");
      }
      step->null_bits = nan_bits(tensor.type);
      break;
    default: return invalid(who + ": when_null must be error, default or nan");
  }
  step->node = input.node;
  step->when_null = input.when_null;
  step->bytes = static_cast<uint8_t>(tensor_type_bytes(tensor.type));
  step->offset_bytes = plan_.segments_[input.tensor].offset_bytes + input.element * step->bytes;
  if (node.kind == NodeKind::kRequestFeature) step->feature = static_cast<int16_t>(node.source_index);
  return Status();
}

}  // namespace assay
