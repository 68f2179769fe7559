#include "core/explain/onnx_trees.h"

#include <utility>

#include "core/explain/equal_chains.h"
#include "core/explain/onnx_graph.h"
#include "core/explain/onnx_tree_node.h"

namespace assay::explain {
namespace {

constexpr char kWhat[] = "trees";

bool is_trees(const OnnxNode& node) noexcept {
  return node.is("ai.onnx.ml", "TreeEnsembleClassifier") || node.is("ai.onnx.ml", "TreeEnsembleRegressor") ||
         node.is("ai.onnx.ml", "TreeEnsemble");
}

}  // namespace

void TreeModel::scale(float* row) const noexcept { scale_row(scalers, trees.feature_count(), row); }

Status find_trees(std::string_view model, std::string_view output, size_t column, size_t feature_count, TreeModel* out) {
  OnnxGraph graph;
  if (Status status = OnnxGraph::read(model, &graph); !status.ok()) return status;
  OnnxSuffix suffix;
  if (Status status = find_suffix(graph, output, kWhat, is_trees, &suffix); !status.ok()) return status;
  OnnxPrefix prefix;
  if (Status status = find_prefix(graph, suffix.node->inputs[0], kWhat, feature_count, &prefix); !status.ok()) return status;
  TreeModel found;
  found.input = prefix.input;
  found.scalers = std::move(prefix.scalers);
  TreeParts parts;
  parts.feature_count = feature_count;
  if (Status status = read_tree_node(*suffix.node, column, &parts, &found.link); !status.ok()) return status;
  if (Status status = suffix.append_to(&found.link, kWhat); !status.ok()) return status;
  if (Status status = TreeEnsemble::create(std::move(parts), &found.trees); !status.ok()) return status;
  if (Status status = check_equal_chains(found.trees); !status.ok()) return status;
  *out = std::move(found);
  return Status();
}

}  // namespace assay::explain
