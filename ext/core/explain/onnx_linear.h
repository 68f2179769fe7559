// find_linear(): the linear model behind one number of an ONNX model's output, and what stands before and behind it
// (onnx_path.h): LinearClassifier, LinearRegressor, Gemm, or MatMul with or without Add, of constants in float32.
//
// What it makes of them follows ONNX Runtime (core/providers/cpu/ml/linearclassifier.cc, linearregressor.cc, ml_common.h): a
// classifier of one score with two labels gives what is left of it as the other column; a lone score passes no
// transformation. A softmax of two is the logistic of their difference.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/explain/linear.h"
#include "core/explain/onnx_path.h"

namespace assay::explain {

struct LinearModel {
  LinearFunction function;
  std::vector<Scaler> scalers;  // in the order in which a row passes them
  int input = 0;                // of the graph, by place
  Link link = Link::kIdentity;

  // What the function is asked about, from what the model is given: function.weights.size() numbers, changed in place.
  void scale(float* row) const noexcept { scale_row(scalers, function.weights.size(), row); }
};

// `column`: of a row of the output, counted from 0. `feature_count`: elements of a row of the input. `model` may be hostile.
// kExplainUnsupported: the model is something else, and what.
Status find_linear(std::string_view model, std::string_view output, size_t column, size_t feature_count, LinearModel* out);

}  // namespace assay::explain
