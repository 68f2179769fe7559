#include "core/wire/infer_schema.h"

#include <algorithm>

#include "core/base/limits.h"

namespace assay {
namespace {

// 0: an axis is free, or there are more elements than any row has room for.
uint64_t element_count(const std::vector<int64_t>& dims) noexcept {
  uint64_t elements = 1;
  for (const int64_t dim : dims) {
    if (dim < 1 || static_cast<uint64_t>(dim) > limits::kTensorRowBytesMax) return 0;
    elements *= static_cast<uint64_t>(dim);
    if (elements > limits::kTensorRowBytesMax) return 0;
  }
  return elements;
}

Status add_input(const FeaturePlan& plan, size_t index, const std::vector<TensorShape>& inputs, InferSchema& schema) {
  const TensorSpec& tensor = plan.spec().tensors[index];
  const auto named = [&](const TensorShape& shape) { return shape.name == tensor.name; };
  const auto found = std::find_if(inputs.begin(), inputs.end(), named);
  InferTensor input;
  input.shape = {tensor.name, tensor.type, {static_cast<int64_t>(tensor.element_count)}, static_cast<uint32_t>(index)};
  if (found != inputs.end()) input.shape.dims = found->dims;
  if (element_count(input.shape.dims) != tensor.element_count || input.shape.dims.size() >= limits::kTensorRankMax) {
    return Status(Code::kModelUnsupported, "input " + printable(tensor.name) + ": its axes do not make " +
                                               std::to_string(tensor.element_count) + " elements a row");
  }
  input.row_bytes = plan.segments()[index].bytes;
  input.offset_bytes = plan.segments()[index].offset_bytes;
  schema.inputs.push_back(std::move(input));
  return Status();
}

void add_output(const TensorShape& shape, InferSchema& schema) {
  const uint64_t elements = element_count(shape.dims);
  const uint64_t bytes = elements * tensor_type_bytes(shape.type);
  const bool fits = schema.output_bytes + bytes <= limits::kTensorRowBytesMax && schema.outputs.size() < InferSchema::kOutputsMax;
  if (bytes == 0 || !fits || shape.dims.size() >= limits::kTensorRankMax) return;
  schema.outputs.push_back({shape, static_cast<uint32_t>(bytes), schema.output_bytes});
  schema.output_bytes += (static_cast<uint32_t>(bytes) + 7) & ~7u;
}

}  // namespace

Status InferSchema::make(const FeaturePlan& plan, const std::vector<TensorShape>& inputs, const std::vector<TensorShape>& outputs,
                         InferSchema* out) {
  InferSchema schema;
  for (size_t i = 0; i < plan.spec().tensors.size(); ++i) {
    if (Status status = add_input(plan, i, inputs, schema); !status.ok()) return status;
  }
  for (const TensorShape& output : outputs) add_output(output, schema);
  *out = std::move(schema);
  return Status();
}

const char* infer_datatype(TensorType type) noexcept {
  switch (type) {
    case TensorType::kFloat32: return "FP32";
    case TensorType::kFloat64: return "FP64";
    case TensorType::kInt32: return "INT32";
    case TensorType::kInt64: return "INT64";
    case TensorType::kBool: return "BOOL";
  }
  return "?";
}

}  // namespace assay
