// Does a model fit a row layout? Asked once, when a runner is made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/runtime/ort_model.h"

namespace assay::ort {

// The row's tensors are the model's inputs: same names, element types and counts, each exactly once, first axis free, others
// fixed.
Status check_layout(const std::vector<TensorInfo>& inputs, const std::vector<TensorSpec>& tensors,
                    const std::vector<TensorSegment>& segments);

// A runner can give this output: a tensor of one of the five types. That its first axis is the batch is checked again at every
// run.
Status check_output(const TensorInfo& output);

// Outputs that a runner gives where none are named.
std::vector<uint32_t> readable_outputs(const std::vector<TensorInfo>& outputs);

// float32, float64, int64, int32, bool.
bool is_supported_type(int onnx_type) noexcept;

}  // namespace assay::ort
