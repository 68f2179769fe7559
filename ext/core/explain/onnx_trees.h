// find_trees(): the trees behind one number of an ONNX model's output, and what stands before and behind them (onnx_path.h):
// TreeEnsembleClassifier, TreeEnsembleRegressor or TreeEnsemble.
//
// Of a softmax of two classes the margin is the difference of theirs. A softmax of more classes is refused.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/explain/onnx_path.h"
#include "core/explain/tree_ensemble.h"

namespace assay::explain {

struct TreeModel {
  TreeEnsemble trees;
  std::vector<Scaler> scalers;  // in the order in which a row passes them
  int input = 0;                // of the graph, by place
  Link link = Link::kIdentity;

  // What the trees are asked about, from what the model is given. `row`: trees.feature_count() numbers, changed in place.
  void scale(float* row) const noexcept;
};

// `column`: of a row of the output, counted from 0. `feature_count`: elements of a row of the input. `model` may be hostile.
// kExplainUnsupported: the model is something else, and what.
Status find_trees(std::string_view model, std::string_view output, size_t column, size_t feature_count, TreeModel* out);

}  // namespace assay::explain
