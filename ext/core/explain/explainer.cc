#include "core/explain/explainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/explain/interventional.h"
#include "core/explain/linear.h"
#include "core/explain/onnx_linear.h"
#include "core/explain/onnx_trees.h"

namespace assay::explain {
namespace {

constexpr double kResidualMax = 1e-4;

Status unsupported(std::string detail) { return Status(Code::kExplainUnsupported, std::move(detail)); }

// As ONNX's Cast to float has it.
template <typename T>
void convert(const uint8_t* from, size_t count, float* to) noexcept {
  for (size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, from + i * sizeof(T), sizeof(T));
    to[i] = static_cast<float>(value);
  }
}

void to_floats(const RowTensor& tensor, const uint8_t* row, float* to) noexcept {
  const uint8_t* const from = row + tensor.offset_bytes;
  switch (tensor.type) {
    case TensorType::kFloat32: return convert<float>(from, tensor.elements, to);
    case TensorType::kFloat64: return convert<double>(from, tensor.elements, to);
    case TensorType::kInt32: return convert<int32_t>(from, tensor.elements, to);
    case TensorType::kInt64: return convert<int64_t>(from, tensor.elements, to);
    case TensorType::kBool: return convert<uint8_t>(from, tensor.elements, to);
  }
}

// Turns a margin that falls where the score rises: what raises the score then has a positive value.
void face_score(Link link, Attribution* out) noexcept {
  if (link == Link::kIdentity || link == Link::kLogistic) return;
  const double shift = link == Link::kComplement ? 1.0 : 0.0;
  out->margin = shift - out->margin;
  out->base_margin = shift - out->base_margin;
  for (double& value : out->values) value = -value;
}

// What is the same of trees and of linear models.
size_t feature_count(const TreeModel& model) noexcept { return model.trees.feature_count(); }
size_t feature_count(const LinearModel& model) noexcept { return model.function.weights.size(); }
Status find(const ExplainerSpec& spec, size_t features, TreeModel* out) {
  return find_trees(spec.model, spec.output, spec.column, features, out);
}
Status find(const ExplainerSpec& spec, size_t features, LinearModel* out) {
  return find_linear(spec.model, spec.output, spec.column, features, out);
}

struct Background {
  std::vector<float> numbers;
  size_t rows = 0;
};
Status make(const TreeModel& model, const Background& background, const std::vector<uint32_t>& players, size_t count,
            Interventional* out) {
  const Status made = Interventional::create(model.trees, background.numbers.data(), background.rows, players, count, out);
  if (!made.ok() || out->cost() <= Explainer::kCostMax) return made;
  return unsupported("an explanation may cost " + std::to_string(out->cost()) + " steps; the limit is " +
                     std::to_string(Explainer::kCostMax) + ": grow fewer or smaller trees");
}
Status make(const LinearModel& model, const Background& background, const std::vector<uint32_t>& players, size_t count,
            Linear* out) {
  return Linear::create(model.function, background.numbers.data(), background.rows, players, count, out);
}

size_t count_elements(const std::vector<RowTensor>& tensors) noexcept {
  return std::accumulate(tensors.begin(), tensors.end(), size_t{0},
                         [](size_t sum, const RowTensor& tensor) { return sum + tensor.elements; });
}

// Model: TreeModel or LinearModel. Values: what explains it.
template <typename Model, typename Values, Method kMethod>
class ModelExplainer final : public Explainer {
 public:
  static Status create(const ExplainerSpec& spec, std::unique_ptr<const Explainer>* out) {
    auto made = std::make_unique<ModelExplainer>();
    Status status = made->find_model(spec);
    if (status.ok()) status = made->make_values(spec);
    if (status.ok()) *out = std::move(made);
    return status;
  }

  Method method() const noexcept override { return kMethod; }
  bool is_log_odds() const noexcept override { return model_.link == Link::kLogistic || model_.link == Link::kLogisticNegative; }

  void explain(const uint8_t* row, Players players, Attribution* out) const override {
    thread_local std::vector<float> features;
    read_row(row, &features);
    const Values& values = players == Players::kGroups || !has_groups_ ? by_group_ : by_input_;
    out->values.resize(values.player_count());
    out->errors.clear();
    out->is_log_odds = is_log_odds();
    out->margin = values.explain(features.data(), out->values.data());
    out->base_margin = values.base();
    out->score = linked(model_.link, out->margin);
    out->base_score = linked(model_.link, out->base_margin);
    face_score(model_.link, out);
    out->residual = std::abs(std::accumulate(out->values.begin(), out->values.end(), out->base_margin) - out->margin);
  }

 private:
  // The input that the model asks about is known only when the graph has been read: every tensor's width is tried.
  Status find_model(const ExplainerSpec& spec) {
    Status status;
    for (const RowTensor& tensor : spec.tensors) {
      status = find(spec, tensor.elements, &model_);
      if (status.ok()) break;
    }
    if (!status.ok()) return status;
    const auto input = static_cast<size_t>(model_.input);
    if (input >= spec.tensors.size() || spec.tensors[input].elements != feature_count(model_)) {
      return unsupported("the model asks about an input that rows do not have");
    }
    tensor_ = spec.tensors[input];
    for (size_t i = 0; i < input; ++i) first_element_ += spec.tensors[i].elements;
    return Status();
  }

  Status make_values(const ExplainerSpec& spec) {
    Background background;
    background.rows = spec.background_rows;
    std::vector<float> row;
    for (size_t i = 0; i < spec.background_rows; ++i) {
      read_row(spec.background + i * spec.row_bytes, &row);
      background.numbers.insert(background.numbers.end(), row.begin(), row.end());
    }
    const std::vector<uint32_t> groups = mine(spec.groups), inputs = mine(spec.inputs);
    Status status = make(model_, background, groups, spec.group_count, &by_group_);
    if (!status.ok()) return status;
    has_groups_ = inputs != groups || spec.group_count != count_elements(spec.tensors);
    return has_groups_ ? make(model_, background, inputs, count_elements(spec.tensors), &by_input_) : Status();
  }

  // Of a row's elements those that the model asks about.
  std::vector<uint32_t> mine(const std::vector<uint32_t>& of_row) const {
    const auto first = of_row.begin() + static_cast<std::ptrdiff_t>(first_element_);
    return {first, first + static_cast<std::ptrdiff_t>(feature_count(model_))};
  }

  // What the model's heart is asked about.
  void read_row(const uint8_t* row, std::vector<float>* features) const {
    features->resize(tensor_.elements);
    to_floats(tensor_, row, features->data());
    model_.scale(features->data());
  }

  Model model_;
  RowTensor tensor_;
  size_t first_element_ = 0;  // of the tensor, among the elements of a row
  bool has_groups_ = false;
  Values by_group_;
  Values by_input_;  // where that differs
};

}  // namespace

bool Attribution::adds_up() const noexcept {
  return std::isfinite(residual) && residual <= kResidualMax * std::max(1.0, std::abs(margin));
}

Status check_players(const ExplainerSpec& spec, size_t elements) {
  if (spec.groups.size() != elements) return unsupported("groups: expected one for each element of a row");
  std::vector<bool> is_there(elements);
  for (const uint32_t input : spec.inputs) {
    if (input >= elements || is_there[input]) return unsupported("inputs: expected each once");
    is_there[input] = true;
  }
  return spec.inputs.size() == elements ? Status() : unsupported("inputs: expected one for each element of a row");
}

Status Explainer::create(const ExplainerSpec& spec, std::unique_ptr<const Explainer>* out) {
  const size_t elements = count_elements(spec.tensors);
  if (elements == 0 || elements > kRowElementsMax) {
    return unsupported("expected rows of 1 to " + std::to_string(kRowElementsMax) + " elements, not " + std::to_string(elements));
  }
  if (Status players = check_players(spec, elements); !players.ok()) return players;
  const Status trees = ModelExplainer<TreeModel, Interventional, Method::kTrees>::create(spec, out);
  if (trees.ok()) return trees;
  const Status linear = ModelExplainer<LinearModel, Linear, Method::kLinear>::create(spec, out);
  return linear.ok() ? linear : trees;
}

}  // namespace assay::explain
