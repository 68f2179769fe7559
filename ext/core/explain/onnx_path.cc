#include "core/explain/onnx_path.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace assay::explain {
namespace {

constexpr size_t kStepsMax = 32;  // nodes before the one that decides, and behind it

Status refused(std::string why) { return Status(Code::kExplainUnsupported, std::move(why)); }

Status refused_operator(const OnnxNode& node, const char* where, const std::string& what) {
  return refused(std::string(where) + " the " + what + " stands " + printable(node.op) + "; exact values are known for " + what +
                 " with casts, scalers and a sigmoid");
}

Status refused_length(const char* where, const std::string& what) {
  return refused("more than " + std::to_string(kStepsMax) + " operators stand " + where + " the " + what);
}

bool has_one_way(const OnnxNode& node) noexcept { return !node.inputs.empty() && !node.outputs.empty(); }

bool is_classifier(const OnnxNode& node) noexcept {
  return node.is("ai.onnx.ml", "TreeEnsembleClassifier") || node.is("ai.onnx.ml", "LinearClassifier");
}

Status read_scaler(const OnnxNode& node, size_t feature_count, Scaler* scaler) {
  const auto read = [&](const char* name, std::vector<float>* values) {
    const OnnxAttribute* const attribute = node.find(name);
    std::vector<double> numbers;
    bool are_doubles = false;
    if (attribute == nullptr || !attribute->numbers(&numbers, &are_doubles)) return false;
    values->assign(numbers.begin(), numbers.end());
    return values->size() == 1 || values->size() == feature_count;
  };
  return read("offset", &scaler->offset) && read("scale", &scaler->scale) ? Status()
                                                                          : refused("a Scaler has not a number for each feature");
}

}  // namespace

double linked(Link link, double margin) noexcept {
  switch (link) {
    case Link::kIdentity: return margin;
    case Link::kNegative: return -margin;
    case Link::kComplement: return 1.0 - margin;
    case Link::kLogistic: return 1.0 / (1.0 + std::exp(-margin));
    case Link::kLogisticNegative: return 1.0 / (1.0 + std::exp(margin));
  }
  return margin;
}

void scale_row(const std::vector<Scaler>& scalers, size_t feature_count, float* row) noexcept {
  for (const Scaler& scaler : scalers) {
    for (size_t i = 0; i < feature_count; ++i) {
      const float offset = scaler.offset.size() == 1 ? scaler.offset[0] : scaler.offset[i];
      const float scale = scaler.scale.size() == 1 ? scaler.scale[0] : scaler.scale[i];
      row[i] = (row[i] - offset) * scale;
    }
  }
}

Status OnnxSuffix::append_to(Link* link, const char* what) const {
  if (!has_sigmoid) return Status();
  if (*link != Link::kIdentity)
    return refused(std::string("a sigmoid stands behind ") + what + " that have a transformation of their own");
  *link = Link::kLogistic;
  return Status();
}

Status find_suffix(const OnnxGraph& graph, std::string_view output, const char* what, bool (*decides)(const OnnxNode&),
                   OnnxSuffix* out) {
  *out = {};
  std::string_view name = output;
  for (size_t i = 0; i < kStepsMax; ++i) {
    const OnnxNode* const node = graph.maker_of(name);
    if (node == nullptr) return refused(std::string("no ") + what + " lead to the output");
    if (decides(*node)) {
      const size_t place = is_classifier(*node) ? 1 : 0;
      if (node->outputs.size() <= place || node->outputs[place] != name) return refused("the output is a label, not a score");
      if (node->inputs.empty()) return refused(std::string("the ") + what + " have no input");
      out->node = node;
      return Status();
    }
    if (!has_one_way(*node)) return refused_operator(*node, "behind", what);
    if (node->is("", "Sigmoid") && !out->has_sigmoid) {
      out->has_sigmoid = true;
    } else if (!node->is("", "Identity") && !node->is("", "Cast")) {
      return refused_operator(*node, "behind", what);
    }
    name = node->inputs[0];
  }
  return refused_length("behind", what);
}

Status find_prefix(const OnnxGraph& graph, std::string_view name, const char* what, size_t feature_count, OnnxPrefix* out) {
  constexpr int64_t kToFloat = 1;
  *out = {};
  for (size_t i = 0; i < kStepsMax; ++i) {
    out->input = graph.input_index(name);
    if (out->input >= 0) {
      std::reverse(out->scalers.begin(), out->scalers.end());
      return Status();
    }
    const OnnxNode* const node = graph.maker_of(name);
    if (node == nullptr) return refused(std::string("the ") + what + " are asked about a constant");
    if (!has_one_way(*node)) return refused_operator(*node, "before", what);
    if (node->is("ai.onnx.ml", "Scaler")) {
      if (Status status = read_scaler(*node, feature_count, &out->scalers.emplace_back()); !status.ok()) return status;
    } else if (node->is("", "Cast")) {
      const OnnxAttribute* const to = node->find("to");
      int64_t type = 0;
      if (to == nullptr || !to->integer(&type) || type != kToFloat)
        return refused(std::string("before the ") + what + " stands a Cast to something else than float");
    } else if (!node->is("", "Identity")) {
      return refused_operator(*node, "before", what);
    }
    name = node->inputs[0];
  }
  return refused_length("before", what);
}

}  // namespace assay::explain
