#include "core/runtime/ort_layout.h"

#include <algorithm>

namespace assay::ort {
namespace {

const char* type_name(int onnx_type) {
  static constexpr const char* kNames[] = {"no tensor", "float32", "uint8",  "int8", "uint16",  "int16",
                                           "int32",     "int64",   "string", "bool", "float16", "float64"};
  const bool is_known = onnx_type >= 0 && onnx_type < static_cast<int>(std::size(kNames));
  return is_known ? kNames[onnx_type] : "another type";
}

Status unsupported(const char* what, const std::string& name, const std::string& why) {
  return Status(Code::kModelUnsupported, std::string(what) + " " + printable(name) + ": " + why);
}

Status check_input(const TensorInfo& input, const TensorSpec& tensor, const TensorSegment& segment) {
  const auto refuse = [&](const std::string& why) { return unsupported("model input", input.name, why); };
  if (!is_supported_type(input.onnx_type)) {
    return refuse(std::string("its type is ") + type_name(input.onnx_type) + "; expected float32, float64, int64, int32 or bool");
  }
  if (!input.has_batch_axis) return refuse("its first axis is not free; export the model with a dynamic batch axis");
  uint64_t elements = 1;
  for (const int64_t dim : input.dims) {
    if (dim < 0) return refuse("an axis other than the first is free; every other axis must be fixed");
    elements *= static_cast<uint64_t>(dim);
  }
  if (input.onnx_type != static_cast<int>(tensor.type)) {
    return refuse(std::string("the model takes ") + type_name(input.onnx_type) + ", the row has " +
                  type_name(static_cast<int>(tensor.type)));
  }
  if (elements != tensor.element_count) {
    return refuse("the model takes " + std::to_string(elements) + " elements a row, the row has " +
                  std::to_string(tensor.element_count));
  }
  if (segment.bytes != elements * tensor_type_bytes(tensor.type)) return refuse("the row's segment has another size");
  return Status();
}

}  // namespace

bool is_supported_type(int onnx_type) noexcept { return tensor_type_bytes(static_cast<TensorType>(onnx_type)) != 0; }

Status check_layout(const std::vector<TensorInfo>& inputs, const std::vector<TensorSpec>& tensors,
                    const std::vector<TensorSegment>& segments) {
  if (segments.size() != tensors.size()) return Status(Code::kModelUnsupported, "a row has one segment per tensor");
  const auto has_name = [](const auto& list, const std::string& name) {
    return std::count_if(list.begin(), list.end(), [&](const auto& item) { return item.name == name; });
  };
  for (const TensorInfo& input : inputs) {
    if (has_name(tensors, input.name) != 1) return unsupported("model input", input.name, "the row must have it exactly once");
  }
  for (const TensorSpec& tensor : tensors) {
    if (has_name(inputs, tensor.name) != 1) return unsupported("tensor", tensor.name, "the model has no such input");
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto named = [&](const TensorInfo& info) { return info.name == tensors[i].name; };
    const TensorInfo& input = *std::find_if(inputs.begin(), inputs.end(), named);
    if (Status status = check_input(input, tensors[i], segments[i]); !status.ok()) return status;
  }
  return Status();
}

Status check_output(const TensorInfo& output) {
  if (is_supported_type(output.onnx_type)) return Status();
  return unsupported("model output", output.name,
                     std::string("its type is ") + type_name(output.onnx_type) +
                         "; expected a tensor of float32, float64, int64, int32 or bool (a ZipMap must be left out at export)");
}

std::vector<uint32_t> readable_outputs(const std::vector<TensorInfo>& outputs) {
  std::vector<uint32_t> readable;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].has_batch_axis && check_output(outputs[i]).ok()) readable.push_back(static_cast<uint32_t>(i));
  }
  return readable;
}

}  // namespace assay::ort
