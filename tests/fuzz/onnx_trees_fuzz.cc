// libFuzzer on what finds trees in an ONNX model, and on the explanation of what it found: `make fuzz`. The first byte says how many
// features a row has, the second which column of the output is explained; the rest is the model.
//
// Beside what the sanitizers see, it holds: base and values add up to the margin, which is the trees' own; with tables and without.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/explain/interventional.h"
#include "core/explain/onnx_trees.h"

using namespace assay;
using namespace assay::explain;

namespace {

constexpr size_t kRows = 5;

// Rows beside the thresholds of the trees, and of what is missing.
std::vector<float> rows_for(const TreeEnsemble& trees) {
  std::vector<float> rows((kRows + 1) * trees.feature_count(), std::numeric_limits<float>::quiet_NaN());
  for (size_t i = 0; i < trees.nodes().size(); ++i) {
    const TreeNode& node = trees.nodes()[i];
    float& value = rows[i % (kRows + 1) * trees.feature_count() + node.feature];
    value = i % 3 == 0 ? node.threshold : std::nextafter(node.threshold, i % 3 == 1 ? INFINITY : -INFINITY);
  }
  return rows;
}

// No sum of leaves is larger.
double scale_of(const TreeEnsemble& trees) {
  double sum = std::abs(trees.base()), leaf = 0.0;
  for (size_t i = 0; i < trees.nodes().size(); ++i) {
    for (const int32_t child : {trees.nodes()[i].if_true, trees.nodes()[i].if_false}) {
      if (child < 0) leaf = std::max(leaf, std::abs(trees.leaf(child)));
    }
  }
  for (const int32_t root : trees.roots()) sum += root < 0 ? std::abs(trees.leaf(root)) : leaf;
  return sum;
}

void check_explanation(const TreeEnsemble& trees, const Interventional& explainer, const float* row, double scale) {
  std::vector<double> values(explainer.player_count());
  const double margin = explainer.explain(row, values.data());
  double sum = explainer.base();
  for (const double value : values) sum += value;
  ASSAY_ASSERT(std::abs(sum - margin) <= 1e-9 * scale);
  ASSAY_ASSERT(std::abs(margin - trees.margin(row)) <= 1e-9 * scale);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view model(reinterpret_cast<const char*>(data) + 2, size - 2);
  TreeModel found;
  if (!find_trees(model, "output", data[1] % 4, 1 + data[0] % 16, &found).ok()) return 0;
  const TreeEnsemble& trees = found.trees;
  const double scale = scale_of(trees);
  std::vector<float> rows = rows_for(trees);
  float* const row = rows.data() + kRows * trees.feature_count();
  for (const size_t table_bytes : {size_t{0}, size_t{1} << 20}) {
    Interventional::Limits limits;
    limits.table_bytes = table_bytes;
    limits.bytes = size_t{8} << 20;
    Interventional explainer;
    const Status made = Interventional::create(trees, rows.data(), kRows, {}, trees.feature_count(), limits, &explainer);
    if (!made.ok() || scale > 1e200) continue;  // sums of what is larger are infinite
    ASSAY_ASSERT(explainer.bytes() <= limits.bytes);
    check_explanation(trees, explainer, row, scale);
  }
  found.scale(row);
  (void)linked(found.link, trees.margin(row));
  return 0;
}
