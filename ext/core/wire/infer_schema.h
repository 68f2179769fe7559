// InferSchema: a model's tensors as inference.ModelInferRequest names them, and where a row's part of each lies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/base/value.h"
#include "core/features/plan.h"

namespace assay {

// An input or output as the model declares it. dims: of a row, without the batch axis.
struct TensorShape {
  std::string name;
  TensorType type = TensorType::kFloat32;
  std::vector<int64_t> dims;
  uint32_t index = 0;  // among the model's own
};

struct InferTensor {
  TensorShape shape;  // every axis is fixed
  uint32_t row_bytes = 0;
  uint32_t offset_bytes = 0;  // inputs: in a finished row; outputs: in the row's outputs
};

struct InferSchema {
  static constexpr size_t kOutputsMax = 64;  // a bit each

  std::vector<InferTensor> inputs;   // the plan's tensors, in its order
  std::vector<InferTensor> outputs;  // empty: the model does not answer ModelInfer
  uint32_t output_bytes = 0;         // of one row's outputs
  size_t explained_elements = 0;     // of an input row: each has a contribution (infer_explained.h). 0: nothing is explained

  // `inputs`: the axes of the plan's tensors; one that is not among them is taken for a single axis. Outputs with a free axis, those
  // past kOutputsMax and those for which a row has no room (kTensorRowBytesMax) are left out: how much of them comes is not known.
  // kModelUnsupported: an input's axes do not make the plan's number of elements.
  static Status make(const FeaturePlan& plan, const std::vector<TensorShape>& inputs, const std::vector<TensorShape>& outputs,
                     InferSchema* out);
};

// "FP32", "INT64": the protocol's name.
const char* infer_datatype(TensorType type) noexcept;

}  // namespace assay
