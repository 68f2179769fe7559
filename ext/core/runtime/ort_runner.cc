#include "core/runtime/ort_runner.h"

#include <algorithm>
#include <cstring>

#include "core/runtime/ort_internal.h"
#include "core/runtime/ort_layout.h"

namespace assay {
namespace {

// Bindings kept by number of rows; larger batches share one that is made again when their size changes.
constexpr size_t kBindingsMax = 256;
constexpr size_t kRankMax = 16;

}  // namespace

Status OrtModel::make_runner(std::shared_ptr<OrtModel> model, const std::vector<TensorSpec>& tensors,
                             const std::vector<TensorSegment>& segments, size_t rows_max, std::unique_ptr<Runner>* out,
                             const std::vector<uint32_t>& outputs_wanted) {
  ASSAY_ASSERT(rows_max > 0);
  if (Status status = ort::check_layout(model->inputs(), tensors, segments); !status.ok()) return status;
  const std::vector<uint32_t> outputs = outputs_wanted.empty() ? ort::readable_outputs(model->outputs()) : outputs_wanted;
  if (outputs.empty()) return Status(Code::kModelUnsupported, "no output of the model is a tensor with a batch axis");
  for (const uint32_t index : outputs) {
    if (index >= model->outputs().size()) {
      return Status(Code::kModelUnsupported, "output " + std::to_string(index) + " was asked of a model with " +
                                                 std::to_string(model->outputs().size()) + " outputs");
    }
    if (Status status = ort::check_output(model->outputs()[index]); !status.ok()) return status;
  }
  std::unique_ptr<OrtRunner> runner(new OrtRunner(std::move(model), tensors, segments, rows_max, outputs));
  if (Status status = runner->open(); !status.ok()) return status;
  *out = std::move(runner);
  return Status();
}

OrtRunner::OrtRunner(std::shared_ptr<OrtModel> model, const std::vector<TensorSpec>& tensors,
                     const std::vector<TensorSegment>& segments, size_t rows_max, const std::vector<uint32_t>& outputs_wanted)
    : model_(std::move(model)),
      library_(model_->impl_->runtime->impl_->library.get()),
      session_(model_->impl_->session.get()),
      staging_(model_->impl_->staging.get()),
      rows_max_(rows_max),
      port_of_output_(model_->outputs().size(), -1),
      bindings_(std::min(rows_max, kBindingsMax) + 1) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto named = [&](const TensorInfo& info) { return info.name == tensors[i].name; };
    const TensorInfo& info = *std::find_if(model_->inputs().begin(), model_->inputs().end(), named);
    inputs_.push_back(make_port(info, 0));
    inputs_.back().row_offset = segments[i].offset_bytes;
    input_names_.push_back(info.name.c_str());
  }
  for (const uint32_t index : outputs_wanted) {
    if (port_of_output_[index] >= 0) continue;
    port_of_output_[index] = static_cast<int>(outputs_.size());
    outputs_.push_back(make_port(model_->outputs()[index], index));
    output_names_.push_back(model_->outputs()[index].name.c_str());
  }
  results_.resize(outputs_.size());
}

Status OrtRunner::open() {
  for (std::vector<Port>* ports : {&inputs_, &outputs_}) {
    for (Port& port : *ports) {
      if (!port.has_buffer) continue;
      if (Status status = staging_->allocate(rows_max_ * port.row_bytes, &port.buffer); !status.ok()) return status;
    }
  }
  const bool all_declared = std::all_of(outputs_.begin(), outputs_.end(), [](const Port& port) { return port.has_buffer; });
  if (!model_->impl_->binds || !all_declared) return Status();
  ort::OrtIoBinding* made = nullptr;
  Status status = library_->take(library_->api().CreateIoBinding(session_, &made), Code::kRuntimeUnavailable, "CreateIoBinding");
  if (status.ok()) io_ = ort::Owned<ort::OrtIoBinding>(made, library_->api().ReleaseIoBinding);
  return status;
}

OrtRunner::Port OrtRunner::make_port(const TensorInfo& info, uint32_t index) {
  Port port;
  port.index = index;
  port.type = info.onnx_type;
  port.shape.push_back(0);
  port.shape.insert(port.shape.end(), info.dims.begin(), info.dims.end());
  port.has_buffer = info.has_batch_axis && std::all_of(info.dims.begin(), info.dims.end(), [](int64_t dim) { return dim >= 0; });
  if (!port.has_buffer) return port;
  port.row_elements = 1;
  for (const int64_t dim : info.dims) port.row_elements *= static_cast<size_t>(dim);
  port.row_bytes = port.row_elements * tensor_type_bytes(static_cast<TensorType>(info.onnx_type));
  return port;
}

void OrtRunner::gather(const uint8_t* const* rows, size_t count) noexcept {
  ASSAY_ASSERT(count >= 1 && count <= rows_max_);
  for (Port& port : outputs_) port.held.reset();
  for (Port& port : inputs_) {
    uint8_t* to = port.buffer.get();
    for (size_t i = 0; i < count; ++i, to += port.row_bytes) std::memcpy(to, rows[i] + port.row_offset, port.row_bytes);
  }
}

Status OrtRunner::run(size_t count) noexcept {
  ASSAY_ASSERT(count >= 1 && count <= rows_max_);
  for (Port& port : outputs_) port.data = nullptr;
  const Binding* binding = nullptr;
  if (Status status = bind(count, &binding); !status.ok()) return status;
  std::copy(binding->outputs.begin(), binding->outputs.end(), results_.begin());
  Status status =
      io_ != nullptr ? run_bound(*binding)
                     : library_->take(library_->api().Run(session_, nullptr, input_names_.data(), binding->inputs.data(),
                                                          inputs_.size(), output_names_.data(), outputs_.size(), results_.data()),
                                      Code::kModelRunFailed, "Run", /*hides_digits=*/true);
  for (size_t i = 0; i < outputs_.size(); ++i) {
    Port& port = outputs_[i];
    if (!port.has_buffer) {
      Status taken = take_output(port, count, results_[i]);
      if (status.ok()) status = std::move(taken);
    } else if (status.ok()) {
      port.data = port.buffer.get();
    }
  }
  return status;
}

Status OrtRunner::run_bound(const Binding& binding) noexcept {
  const ort::OrtApi& api = library_->api();
  const auto take = [&](ort::OrtStatus* status, const char* what) {
    return library_->take(status, Code::kModelRunFailed, what, /*hides_digits=*/true);
  };
  Status status;
  for (size_t i = 0; status.ok() && i < inputs_.size(); ++i) {
    status = take(api.BindInput(io_.get(), input_names_[i], binding.inputs[i]), "BindInput");
  }
  for (size_t i = 0; status.ok() && i < outputs_.size(); ++i) {
    status = take(api.BindOutput(io_.get(), output_names_[i], binding.outputs[i]), "BindOutput");
  }
  if (status.ok()) status = take(api.SynchronizeBoundInputs(io_.get()), "SynchronizeBoundInputs");
  if (status.ok()) status = take(api.RunWithBinding(session_, nullptr, io_.get()), "Run");
  if (status.ok()) status = take(api.SynchronizeBoundOutputs(io_.get()), "SynchronizeBoundOutputs");
  api.ClearBoundInputs(io_.get());  // their copies on the card are free for the next run
  return status;
}

OutputView OrtRunner::output(size_t index) const noexcept {
  OutputView view;
  if (index >= port_of_output_.size() || port_of_output_[index] < 0) return view;
  const Port& port = outputs_[static_cast<size_t>(port_of_output_[index])];
  view.type = static_cast<TensorType>(port.type);
  view.data = port.data;
  view.row_elements = port.row_elements;
  return view;
}

Status OrtRunner::bind(size_t count, const Binding** out) noexcept {
  std::unique_ptr<Binding>& binding = bindings_[count < bindings_.size() ? count : 0];
  if (binding != nullptr && binding->rows == count) {
    *out = binding.get();
    return Status();
  }
  auto made = std::make_unique<Binding>();
  made->rows = count;
  for (Port& port : inputs_) {
    ort::OrtValue* value = nullptr;
    if (Status status = bind_port(port, count, *made, &value); !status.ok()) return status;
    made->inputs.push_back(value);
  }
  for (Port& port : outputs_) {
    ort::OrtValue* value = nullptr;
    if (port.has_buffer) {
      if (Status status = bind_port(port, count, *made, &value); !status.ok()) return status;
    }
    made->outputs.push_back(value);
  }
  binding = std::move(made);
  *out = binding.get();
  return Status();
}

Status OrtRunner::bind_port(Port& port, size_t count, Binding& binding, ort::OrtValue** out) noexcept {
  port.shape[0] = static_cast<int64_t>(count);
  Status status =
      library_->take(library_->api().CreateTensorWithDataAsOrtValue(staging_->info(), port.buffer.get(), count * port.row_bytes,
                                                                    port.shape.data(), port.shape.size(), port.type, out),
                     Code::kModelRunFailed, "CreateTensorWithDataAsOrtValue");
  if (status.ok()) binding.owned.emplace_back(*out, library_->api().ReleaseValue);
  return status;
}

// Holds a value that ONNX Runtime allocated and reads its shape: the model did not declare it.
Status OrtRunner::take_output(Port& port, size_t count, ort::OrtValue* value) noexcept {
  const ort::OrtApi& api = library_->api();
  if (value == nullptr) return Status(Code::kModelOutputInvalid, "an output is missing");
  port.held = Value(value, api.ReleaseValue);
  const auto take = [&](ort::OrtStatus* status) { return library_->take(status, Code::kModelOutputInvalid, "output"); };

  ort::OrtTensorInfo* info = nullptr;
  if (Status status = take(api.GetTensorTypeAndShape(value, &info)); !status.ok()) return status;
  const ort::Owned<ort::OrtTensorInfo> owned_info(info, api.ReleaseTensorTypeAndShapeInfo);
  int type = 0;
  size_t rank = 0;
  int64_t dims[kRankMax];
  if (Status status = take(api.GetTensorElementType(info, &type)); !status.ok()) return status;
  if (Status status = take(api.GetDimensionsCount(info, &rank)); !status.ok()) return status;
  if (type != port.type || rank == 0 || rank > kRankMax)
    return Status(Code::kModelOutputInvalid, "an output has another type or rank");
  if (Status status = take(api.GetDimensions(info, dims, rank)); !status.ok()) return status;
  if (dims[0] != static_cast<int64_t>(count)) return Status(Code::kModelOutputInvalid, "an output's first axis is not the batch");

  void* data = nullptr;
  if (Status status = take(api.GetTensorMutableData(value, &data)); !status.ok()) return status;
  port.row_elements = 1;
  for (size_t i = 1; i < rank; ++i) port.row_elements *= static_cast<size_t>(dims[i]);
  port.data = data;
  return Status();
}

}  // namespace assay
