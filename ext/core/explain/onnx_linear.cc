#include "core/explain/onnx_linear.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/explain/onnx_graph.h"

namespace assay::explain {
namespace {

constexpr char kWhat[] = "linear weights";

using Numbers = std::vector<double>;

Status refused(std::string why) { return Status(Code::kExplainUnsupported, std::move(why)); }

Status refused_node(const OnnxNode& node, const char* why) { return refused("the " + printable(node.op) + " " + why); }

bool is_linear(const OnnxNode& node) noexcept {
  return node.is("ai.onnx.ml", "LinearClassifier") || node.is("ai.onnx.ml", "LinearRegressor") || node.is("", "Gemm") ||
         node.is("", "MatMul") || node.is("", "Add");
}

// All columns of a linear node.
struct Layer {
  std::string_view input;  // the tensor it takes
  Numbers weights;         // by column, then by feature
  Numbers intercepts;      // by column
  std::string_view post_transform = "NONE";
  bool has_complement = false;  // beside its one column stands another with what is left of it
};

// --- ai.onnx.ml: lists

// The attribute's list, scalar or text; what it was before where there is none. False: damaged.
bool read(const OnnxNode& node, const char* name, Numbers* values) {
  const OnnxAttribute* const attribute = node.find(name);
  bool are_doubles = false;
  return attribute == nullptr || (attribute->numbers(values, &are_doubles) && !are_doubles);
}
bool read(const OnnxNode& node, const char* name, double* value) {
  const OnnxAttribute* const attribute = node.find(name);
  return attribute == nullptr || attribute->number(value);
}
bool read(const OnnxNode& node, const char* name, int64_t* value) {
  const OnnxAttribute* const attribute = node.find(name);
  return attribute == nullptr || attribute->integer(value);
}
bool read(const OnnxNode& node, const char* name, std::string_view* value) {
  const OnnxAttribute* const attribute = node.find(name);
  return attribute == nullptr || attribute->text(value);
}
bool read_label_count(const OnnxNode& node, size_t* count) {
  std::vector<int64_t> integers;
  std::vector<std::string_view> texts;
  const OnnxAttribute* const by_number = node.find("classlabels_ints");
  const OnnxAttribute* const by_text = node.find("classlabels_strings");
  if (by_number != nullptr && !by_number->integers(&integers)) return false;
  if (by_text != nullptr && !by_text->texts(&texts)) return false;
  *count = texts.empty() ? integers.size() : texts.size();
  return true;
}

Status read_listed(const OnnxNode& node, Layer* layer) {
  size_t label_count = 0;
  int64_t targets = 1;
  if (!read(node, "coefficients", &layer->weights) || !read(node, "intercepts", &layer->intercepts) ||
      !read(node, "post_transform", &layer->post_transform) || !read(node, "targets", &targets) ||
      !read_label_count(node, &label_count)) {
    return refused_node(node, "has an attribute that cannot be read");
  }
  layer->input = node.inputs[0];
  if (node.op == "LinearClassifier") {
    layer->has_complement = layer->intercepts.size() == 1 && label_count == 2;
    return Status();
  }
  if (targets < 1 || static_cast<uint64_t>(targets) > layer->weights.size())
    return refused_node(node, "has no weights for its targets");
  if (layer->intercepts.empty()) layer->intercepts.resize(static_cast<size_t>(targets));
  return layer->intercepts.size() == static_cast<size_t>(targets) ? Status()
                                                                  : refused_node(node, "has not an intercept for each target");
}

// --- matrices

// A constant of one number, or of one for each column, which is added to every row.
bool read_intercepts(const OnnxGraph& graph, std::string_view name, double factor, Numbers* intercepts) {
  OnnxConstant constant;
  if (!graph.constant(name, &constant)) return false;
  const size_t count = constant.numbers.size();
  const bool is_one_row =
      constant.shape.size() <= 2 && (constant.shape.empty() || static_cast<size_t>(constant.shape.back()) == count);
  if (!is_one_row || (count != 1 && count != intercepts->size())) return false;
  for (size_t column = 0; column < intercepts->size(); ++column) {
    (*intercepts)[column] = factor * constant.numbers[count == 1 ? 0 : column];
  }
  return true;
}

// A constant matrix of a row for each feature; transposed: of a column. A list is a matrix of one column.
bool read_weights(const OnnxGraph& graph, std::string_view name, bool is_transposed, double factor, Layer* layer) {
  OnnxConstant constant;
  if (!graph.constant(name, &constant) || constant.shape.empty() || constant.shape.size() > 2) return false;
  const auto rows = static_cast<size_t>(constant.shape.front());
  const size_t row_size = constant.numbers.size() / rows;
  const size_t features = is_transposed ? row_size : rows, columns = is_transposed ? rows : row_size;
  layer->weights.resize(constant.numbers.size());
  layer->intercepts.assign(columns, 0.0);
  for (size_t column = 0; column < columns; ++column) {
    for (size_t feature = 0; feature < features; ++feature) {
      const size_t at = is_transposed ? column * features + feature : feature * columns + column;
      layer->weights[column * features + feature] = factor * constant.numbers[at];
    }
  }
  return true;
}

Status read_matmul(const OnnxGraph& graph, const OnnxNode& node, Layer* layer) {
  layer->input = node.inputs[0];
  const bool is_read = node.inputs.size() == 2 && read_weights(graph, node.inputs[1], false, 1.0, layer);
  return is_read ? Status() : refused_node(node, "has no constant matrix in float32 on its right");
}

Status read_gemm(const OnnxGraph& graph, const OnnxNode& node, Layer* layer) {
  double alpha = 1.0, beta = 1.0;
  int64_t is_input_transposed = 0, is_transposed = 0;
  if (!read(node, "alpha", &alpha) || !read(node, "beta", &beta) || !read(node, "transA", &is_input_transposed) ||
      !read(node, "transB", &is_transposed)) {
    return refused_node(node, "has an attribute that cannot be read");
  }
  if (is_input_transposed != 0) return refused_node(node, "transposes its input");
  layer->input = node.inputs[0];
  if (node.inputs.size() < 2 || !read_weights(graph, node.inputs[1], is_transposed != 0, alpha, layer)) {
    return refused_node(node, "has no constant matrix in float32 on its right");
  }
  const bool has_intercepts = node.inputs.size() > 2 && !node.inputs[2].empty();
  if (!has_intercepts || read_intercepts(graph, node.inputs[2], beta, &layer->intercepts)) return Status();
  return refused_node(node, "adds what is no constant for each column");
}

// An Add of a MatMul and a constant, in either order.
Status read_add(const OnnxGraph& graph, const OnnxNode& node, Layer* layer) {
  const auto product_of = [&](size_t place) {
    const OnnxNode* const maker = place < node.inputs.size() ? graph.maker_of(node.inputs[place]) : nullptr;
    return maker != nullptr && maker->is("", "MatMul") && !maker->inputs.empty() ? maker : nullptr;
  };
  const size_t place = product_of(0) != nullptr ? 0 : 1;
  const OnnxNode* const product = product_of(place);
  if (product == nullptr || node.inputs.size() != 2) return refused_node(node, "is not of a MatMul and a constant");
  if (Status status = read_matmul(graph, *product, layer); !status.ok()) return status;
  return read_intercepts(graph, node.inputs[1 - place], 1.0, &layer->intercepts)
             ? Status()
             : refused_node(node, "adds what is no constant for each column");
}

Status read_layer(const OnnxGraph& graph, const OnnxNode& node, Layer* layer) {
  if (node.op == "Gemm") return read_gemm(graph, node, layer);
  if (node.op == "MatMul") return read_matmul(graph, node, layer);
  return node.op == "Add" ? read_add(graph, node, layer) : read_listed(node, layer);
}

// --- one number of a layer

LinearFunction column_of(const Layer& layer, size_t column, size_t features) {
  const auto first = layer.weights.begin() + static_cast<std::ptrdiff_t>(column * features);
  return {Numbers(first, first + static_cast<std::ptrdiff_t>(features)), layer.intercepts[column]};
}

Status take_column(const Layer& layer, size_t column, size_t features, LinearFunction* function, Link* link) {
  const size_t columns = layer.intercepts.size(), given = layer.has_complement ? 2 : columns;
  if (layer.weights.size() != columns * features) {
    return refused("the linear weights are " + std::to_string(layer.weights.size()) + ", expected " + std::to_string(columns) +
                   " for each of " + std::to_string(features) + " features");
  }
  if (column >= given) {
    return refused("the linear weights give " + std::to_string(given) + " numbers, the score is number " +
                   std::to_string(column));
  }
  const bool is_none = layer.post_transform.empty() || layer.post_transform == "NONE";
  const bool is_logistic = layer.post_transform == "LOGISTIC";
  *function = column_of(layer, layer.has_complement ? 0 : column, features);
  *link = Link::kIdentity;
  if (layer.post_transform == "SOFTMAX" && columns == 2) {
    const LinearFunction other = column_of(layer, 1 - column, features);
    for (size_t i = 0; i < features; ++i) function->weights[i] -= other.weights[i];
    function->intercept -= other.intercept;
    *link = Link::kLogistic;
  } else if (!is_none && !is_logistic) {
    return refused("the post_transform of linear weights is neither NONE, LOGISTIC nor a SOFTMAX of two");
  } else if (layer.has_complement) {
    if (column == 0) *link = is_logistic ? Link::kLogisticNegative : Link::kComplement;
    if (column == 1) *link = is_logistic ? Link::kLogistic : Link::kIdentity;
  } else if (is_logistic && columns > 1) {
    *link = Link::kLogistic;
  }
  return Status();
}

}  // namespace

Status find_linear(std::string_view model, std::string_view output, size_t column, size_t feature_count, LinearModel* out) {
  OnnxGraph graph;
  if (Status status = OnnxGraph::read(model, &graph); !status.ok()) return status;
  OnnxSuffix suffix;
  if (Status status = find_suffix(graph, output, kWhat, is_linear, &suffix); !status.ok()) return status;
  Layer layer;
  if (Status status = read_layer(graph, *suffix.node, &layer); !status.ok()) return status;
  OnnxPrefix prefix;
  if (Status status = find_prefix(graph, layer.input, kWhat, feature_count, &prefix); !status.ok()) return status;
  LinearModel found;
  if (Status status = take_column(layer, column, feature_count, &found.function, &found.link); !status.ok()) return status;
  if (Status status = suffix.append_to(&found.link, kWhat); !status.ok()) return status;
  found.input = prefix.input;
  found.scalers = std::move(prefix.scalers);
  *out = std::move(found);
  return Status();
}

}  // namespace assay::explain
