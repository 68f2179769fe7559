// TreeEnsemble: the sum of trees that a model's score is made of, for one target. It takes the branches that ONNX Runtime takes: the
// same float32 thresholds, the same modes, the same way for what is missing.
//
// A value. Made by create(), which checks everything; after that any row of `feature_count` numbers has a margin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/status.h"

namespace assay::explain {

enum class Branch : uint8_t { kLess, kLessOrEqual, kGreater, kGreaterOrEqual, kEqual, kNotEqual };

// A node that decides. A child is the index of a node, or ~index of a leaf.
struct TreeNode {
  uint32_t feature = 0;
  float threshold = 0.0f;
  Branch branch = Branch::kLessOrEqual;
  bool is_missing_true = false;  // NaN goes the true way, whatever the branch says
  int32_t if_true = 0;
  int32_t if_false = 0;

  bool is_true(float value) const noexcept {
    if (is_missing_true && value != value) return true;
    switch (branch) {
      case Branch::kLess: return value < threshold;
      case Branch::kLessOrEqual: return value <= threshold;
      case Branch::kGreater: return value > threshold;
      case Branch::kGreaterOrEqual: return value >= threshold;
      case Branch::kEqual: return value == threshold;
      case Branch::kNotEqual: return value != threshold;
    }
    return false;
  }
};

struct TreeParts {
  std::vector<TreeNode> nodes;  // of all trees
  std::vector<int32_t> roots;   // of each tree, as a child
  std::vector<double> leaves;   // what a leaf adds to the target
  double base = 0.0;            // what is added once
  size_t feature_count = 0;
};

class TreeEnsemble {
 public:
  static constexpr size_t kDepthMax = 64;          // nodes of one path
  static constexpr size_t kLeavesMax = 4'000'000;  // ends of paths: a node that several lead to counts for each

  // kExplainUnsupported: not trees (a cycle, a child that is not there), a feature that is not there, larger than the limits.
  static Status create(TreeParts parts, TreeEnsemble* out);

  const std::vector<TreeNode>& nodes() const noexcept { return parts_.nodes; }
  const std::vector<int32_t>& roots() const noexcept { return parts_.roots; }
  double leaf(int32_t child) const noexcept { return parts_.leaves[static_cast<size_t>(~child)]; }
  double base() const noexcept { return parts_.base; }
  size_t feature_count() const noexcept { return parts_.feature_count; }

  // The sum for a row of feature_count() numbers, added up in double.
  double margin(const float* row) const noexcept;

 private:
  TreeParts parts_;
};

}  // namespace assay::explain
