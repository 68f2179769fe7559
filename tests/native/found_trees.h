// Models of trees as find_trees() reads them, for its tests.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "core/explain/onnx_trees.h"
#include "onnx_fixture.h"

namespace assay::test {

// What the model gives for a row, by what was found.
inline double score(const std::string& bytes, std::vector<float> row, size_t column = 0) {
  explain::TreeModel found;
  const Status status = explain::find_trees(bytes, "output", column, 2, &found);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  if (!status.ok()) return NAN;
  found.scale(row.data());
  return explain::linked(found.link, found.trees.margin(row.data()));
}
inline std::string refusal(const std::string& bytes, size_t column = 0) {
  explain::TreeModel found;
  const Status status = explain::find_trees(bytes, "output", column, 2, &found);
  CHECK(status.code == Code::kExplainUnsupported);
  return status.detail;
}
inline double logistic(double margin) { return 1.0 / (1.0 + std::exp(-margin)); }

}  // namespace assay::test
