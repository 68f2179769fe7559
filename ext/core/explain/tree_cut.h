// TreeCut: a node's question as one interval, so that no branch of the processor hangs on its mode: low <= value <= high, or missing.
//
// A node that asks for the opposite (<, >, !=) has its two ways exchanged.
#pragma once

#include <cstdint>
#include <limits>

#include "core/explain/tree_ensemble.h"

namespace assay::explain {

struct TreeCut {
  float low, high;
  uint32_t feature;
  bool has_missing;  // NaN is in it
  bool is_opposite;  // of the node's question

  bool holds(float value) const noexcept {
    return ((value >= low) & (value <= high)) | (static_cast<int>(has_missing) & (value != value));
  }
};

inline TreeCut cut_of(const TreeNode& node) noexcept {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float at = node.threshold;
  const bool missing = node.is_missing_true;
  switch (node.branch) {
    case Branch::kLess: return {at, kInfinity, node.feature, !missing, true};
    case Branch::kLessOrEqual: return {-kInfinity, at, node.feature, missing, false};
    case Branch::kGreater: return {-kInfinity, at, node.feature, !missing, true};
    case Branch::kGreaterOrEqual: return {at, kInfinity, node.feature, missing, false};
    case Branch::kEqual: return {at, at, node.feature, missing, false};
    case Branch::kNotEqual: return {at, at, node.feature, false, true};  // NaN is not equal, whatever the node says of it
  }
  return {at, at, node.feature, false, false};
}

}  // namespace assay::explain
