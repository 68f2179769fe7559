// OrtModel::run_matrix: one batch over memory of the caller's.

#include "core/runtime/ort_internal.h"

namespace assay {
namespace {

constexpr size_t kRankMax = 16;

// The number of columns of an output (rows, columns...) of `count` rows; 0: it is none.
Status count_columns(const ort::OrtLibrary& library, const ort::OrtValue* value, size_t count, size_t* columns) {
  const ort::OrtApi& api = library.api();
  const auto take = [&](ort::OrtStatus* status) { return library.take(status, Code::kModelOutputInvalid, "output"); };
  ort::OrtTensorInfo* info = nullptr;
  if (Status status = take(api.GetTensorTypeAndShape(value, &info)); !status.ok()) return status;
  const ort::Owned<ort::OrtTensorInfo> owned(info, api.ReleaseTensorTypeAndShapeInfo);
  size_t rank = 0;
  int64_t dims[kRankMax];
  if (Status status = take(api.GetDimensionsCount(info, &rank)); !status.ok()) return status;
  if (rank == 0 || rank > kRankMax) return Status(Code::kModelOutputInvalid, "the score's output has no batch axis");
  if (Status status = take(api.GetDimensions(info, dims, rank)); !status.ok()) return status;
  if (dims[0] != static_cast<int64_t>(count)) return Status(Code::kModelOutputInvalid, "an output's first axis is not the batch");
  *columns = 1;
  for (size_t i = 1; i < rank; ++i) *columns *= static_cast<size_t>(dims[i]);
  return Status();
}

}  // namespace

Status OrtModel::run_matrix(const float* matrix, size_t count, uint32_t output, size_t column, double* scores) const {
  const ort::OrtLibrary& library = *impl_->runtime->impl_->library;
  const ort::OrtApi& api = library.api();
  const TensorInfo& input = inputs()[0];
  const TensorInfo& from = outputs()[output];
  std::vector<int64_t> shape{static_cast<int64_t>(count)};
  shape.insert(shape.end(), input.dims.begin(), input.dims.end());
  size_t bytes = count * sizeof(float);
  for (const int64_t dim : input.dims) bytes *= static_cast<size_t>(dim);

  ort::OrtValue* made = nullptr;
  // ONNX Runtime writes to no input; its function takes no pointer to const.
  Status status = library.take(api.CreateTensorWithDataAsOrtValue(library.cpu_memory(), const_cast<float*>(matrix), bytes,
                                                                  shape.data(), shape.size(), input.onnx_type, &made),
                               Code::kModelRunFailed, "CreateTensorWithDataAsOrtValue");
  if (!status.ok()) return status;
  const ort::Owned<ort::OrtValue> owned_input(made, api.ReleaseValue);
  const ort::OrtValue* const inputs_given[] = {made};
  const char* const input_names[] = {input.name.c_str()};
  const char* const output_names[] = {from.name.c_str()};
  ort::OrtValue* result = nullptr;
  status = library.take(api.Run(impl_->session.get(), nullptr, input_names, inputs_given, 1, output_names, 1, &result),
                        Code::kModelRunFailed, "Run",
                        /*hides_digits=*/true);
  if (!status.ok()) return status;
  const ort::Owned<ort::OrtValue> owned_result(result, api.ReleaseValue);

  size_t columns = 0;
  if (status = count_columns(library, result, count, &columns); !status.ok()) return status;
  if (column >= columns) return Status(Code::kModelOutputInvalid, "the score's column is not in the output");
  void* data = nullptr;
  status = library.take(api.GetTensorMutableData(result, &data), Code::kModelOutputInvalid, "output");
  if (!status.ok()) return status;
  for (size_t i = 0; i < count; ++i) {
    const size_t place = i * columns + column;
    scores[i] = from.onnx_type == static_cast<int>(TensorType::kFloat32) ? static_cast<const float*>(data)[place]
                                                                         : static_cast<const double*>(data)[place];
  }
  return Status();
}

}  // namespace assay
