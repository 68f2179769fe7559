#include "core/explain/equal_chains.h"

#include <algorithm>

namespace assay::explain {
namespace {

bool is_chain(const TreeNode& node, const TreeNode& next) noexcept {
  return node.branch == Branch::kEqual && next.branch == Branch::kEqual && node.feature == next.feature;
}

enum class Alike { kNo, kButForMissing, kYes };

// What ONNX Runtime takes for the same is alike, but for where what is missing goes, at which it does not look. As deep as the trees.
Alike compare(const TreeEnsemble& trees, int32_t one, int32_t other) noexcept {
  if (one == other) return Alike::kYes;
  if (one < 0 || other < 0) { return one < 0 && other < 0 && trees.leaf(one) == trees.leaf(other) ? Alike::kYes : Alike::kNo; }
  const TreeNode& a = trees.nodes()[static_cast<size_t>(one)];
  const TreeNode& b = trees.nodes()[static_cast<size_t>(other)];
  if (a.feature != b.feature || a.threshold != b.threshold || a.branch != b.branch) return Alike::kNo;
  const Alike if_true = compare(trees, a.if_true, b.if_true);
  if (if_true == Alike::kNo) return Alike::kNo;
  const Alike if_false = compare(trees, a.if_false, b.if_false);
  return a.is_missing_true == b.is_missing_true ? std::min(if_true, if_false) : std::min(Alike::kButForMissing, if_false);
}

// Whether a chain below says of what is missing something else than ONNX Runtime makes of it. As deep as the trees.
bool has_broken_chain(const TreeEnsemble& trees, int32_t child) noexcept {
  if (child < 0) return false;
  const TreeNode& node = trees.nodes()[static_cast<size_t>(child)];
  if (node.if_false >= 0) {
    const TreeNode& next = trees.nodes()[static_cast<size_t>(node.if_false)];
    if (is_chain(node, next)) {
      const Alike alike = compare(trees, node.if_true, next.if_true);
      if (alike == Alike::kButForMissing) return true;
      if (alike == Alike::kYes && !node.is_missing_true && next.is_missing_true) return true;
    }
  }
  return has_broken_chain(trees, node.if_true) || has_broken_chain(trees, node.if_false);
}

}  // namespace

bool has_equal_chain(const TreeParts& parts) noexcept {
  return std::any_of(parts.nodes.begin(), parts.nodes.end(), [&](const TreeNode& node) {
    const bool has_next = node.if_false >= 0 && static_cast<size_t>(node.if_false) < parts.nodes.size();
    return has_next && is_chain(node, parts.nodes[static_cast<size_t>(node.if_false)]);
  });
}

Status check_equal_chains(const TreeEnsemble& trees) {
  const bool is_broken =
      std::any_of(trees.roots().begin(), trees.roots().end(), [&](int32_t root) { return has_broken_chain(trees, root); });
  if (!is_broken) return Status();
  return Status(Code::kExplainUnsupported,
                "nodes with BRANCH_EQ that ask for one feature in turn differ in where what is missing goes");
}

}  // namespace assay::explain
