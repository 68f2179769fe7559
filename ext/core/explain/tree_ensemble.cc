#include "core/explain/tree_ensemble.h"

#include <cmath>
#include <string>
#include <utility>

namespace assay::explain {
namespace {

Status refused(std::string why) { return Status(Code::kExplainUnsupported, std::move(why)); }

Status check_nodes(const TreeParts& parts) {
  const auto is_child = [&](int32_t child) {
    return child >= 0 ? static_cast<size_t>(child) < parts.nodes.size() : static_cast<size_t>(~child) < parts.leaves.size();
  };
  for (const TreeNode& node : parts.nodes) {
    if (!is_child(node.if_true) || !is_child(node.if_false)) return refused("a node of a tree leads nowhere");
    if (node.feature >= parts.feature_count) {
      return refused("a node asks for feature " + std::to_string(node.feature) + " of " + std::to_string(parts.feature_count));
    }
    if (node.threshold != node.threshold) return refused("the threshold of a node is NaN");
  }
  for (const int32_t root : parts.roots) {
    if (!is_child(root)) return refused("a tree has no root");
  }
  for (const double leaf : parts.leaves) {
    if (!std::isfinite(leaf)) return refused("a leaf is NaN or infinite");
  }
  return std::isfinite(parts.base) ? Status() : refused("the base value is NaN or infinite");
}

// Walks every path of every tree. Its stack is bounded by the depth, so a cycle is a path that is too long.
Status check_paths(const TreeParts& parts) {
  struct Step {
    int32_t child;
    size_t depth;
  };
  std::vector<Step> steps;
  size_t leaves = 0;
  for (const int32_t root : parts.roots) {
    steps.push_back({root, 0});
    while (!steps.empty()) {
      const Step step = steps.back();
      steps.pop_back();
      if (step.child < 0) {
        if (++leaves > TreeEnsemble::kLeavesMax) {
          return refused("the trees have more than " + std::to_string(TreeEnsemble::kLeavesMax) + " leaves");
        }
        continue;
      }
      if (step.depth == TreeEnsemble::kDepthMax) {
        return refused("a tree is deeper than " + std::to_string(TreeEnsemble::kDepthMax) +
                       " nodes, or a node leads back to itself");
      }
      const TreeNode& node = parts.nodes[static_cast<size_t>(step.child)];
      steps.push_back({node.if_false, step.depth + 1});
      steps.push_back({node.if_true, step.depth + 1});
    }
  }
  return Status();
}

}  // namespace

Status TreeEnsemble::create(TreeParts parts, TreeEnsemble* out) {
  if (Status status = check_nodes(parts); !status.ok()) return status;
  if (Status status = check_paths(parts); !status.ok()) return status;
  out->parts_ = std::move(parts);
  return Status();
}

double TreeEnsemble::margin(const float* row) const noexcept {
  double sum = parts_.base;
  for (int32_t at : parts_.roots) {
    while (at >= 0) {
      const TreeNode& node = parts_.nodes[static_cast<size_t>(at)];
      at = node.is_true(row[node.feature]) ? node.if_true : node.if_false;
    }
    sum += leaf(at);
  }
  return sum;
}

}  // namespace assay::explain
