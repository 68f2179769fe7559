// read_tree_node(): one node of trees, in any of the three shapes that ai.onnx.ml has for it (1, 3 and 5), for one target.
//
// What it makes of them is what ONNX Runtime makes of them (core/providers/cpu/ml/tree_ensemble_common.h, tree_ensemble_aggregator.h),
// not always what ONNX says; tests/property/test_tree_explanations.py holds the two together. The first node of a tree is its root;
// weights of one leaf for one target add up; a classifier of two classes with weights for the first alone has one margin, which gives
// both columns. A base is added only in rows that have a weight for its target, and chains of BRANCH_EQ are merged (equal_chains.h): where
// that makes a difference the trees are refused.
//
//   one target                        its margin; no transformation is applied
//   NONE, LOGISTIC                    each target's own margin
//   SOFTMAX of two                    the difference of the two margins, whose sigmoid the column is
//   SOFTMAX of more, SOFTMAX_ZERO, PROBIT   refused: no function of one sum, or none that is known
#pragma once

#include <cstddef>

#include "core/base/status.h"
#include "core/explain/onnx_graph.h"
#include "core/explain/onnx_trees.h"
#include "core/explain/tree_ensemble.h"

namespace assay::explain {

// `parts`: feature_count is set, the rest is filled in. kExplainUnsupported: what it is that is not explained.
Status read_tree_node(const OnnxNode& node, size_t column, TreeParts* parts, Link* link);

}  // namespace assay::explain
