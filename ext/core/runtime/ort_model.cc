#include "core/runtime/ort_model.h"

#include "core/runtime/ort_cuda.h"
#include "core/runtime/ort_internal.h"

namespace assay {
namespace {

using ort::OrtLibrary;
using ort::Owned;

// Which side of a session: the slots for its inputs or for its outputs.
struct Side {
  ort::OrtStatus* (*count)(const ort::OrtSession*, size_t*);
  ort::OrtStatus* (*type_info)(const ort::OrtSession*, size_t, ort::OrtTypeInfo**);
  ort::OrtStatus* (*name)(const ort::OrtSession*, size_t, ort::OrtAllocator*, char**);
};

#define RETURN_IF_REFUSED(library, call)                                                                                 \
  if (Status refused = (library).take((call), Code::kModelUnsupported, "ONNX Runtime refused the model"); !refused.ok()) \
  return refused

Status set_options(const OrtLibrary& library, const OrtModelOptions& options, ort::OrtSessionOptions* session) {
  const ort::OrtApi& api = library.api();
  RETURN_IF_REFUSED(library, api.SetSessionExecutionMode(session, ort::kExecutionSequential));
  RETURN_IF_REFUSED(library, api.SetSessionGraphOptimizationLevel(session, ort::kOptimizationAll));
  RETURN_IF_REFUSED(library, api.SetIntraOpNumThreads(session, options.intra_op_threads));
  RETURN_IF_REFUSED(library, api.SetInterOpNumThreads(session, 1));
  // A pattern is planned per shape, and the number of rows changes with every batch.
  RETURN_IF_REFUSED(library, api.DisableMemPattern(session));
  if (!options.has_arena) RETURN_IF_REFUSED(library, api.DisableCpuMemArena(session));
  // A spinning thread takes the core that the I/O threads need.
  RETURN_IF_REFUSED(library, api.AddSessionConfigEntry(session, "session.intra_op.allow_spinning", "0"));
  RETURN_IF_REFUSED(library, api.AddSessionConfigEntry(session, "session.inter_op.allow_spinning", "0"));
  return Status();
}

// Fills type and axes; a sequence, map or optional stays onnx_type 0.
Status read_shape(const OrtLibrary& library, const ort::OrtTypeInfo* type, TensorInfo* out) {
  const ort::OrtApi& api = library.api();
  const ort::OrtTensorInfo* tensor = nullptr;
  RETURN_IF_REFUSED(library, api.CastTypeInfoToTensorInfo(type, &tensor));
  if (tensor == nullptr) return Status();
  RETURN_IF_REFUSED(library, api.GetTensorElementType(tensor, &out->onnx_type));
  size_t rank = 0;
  RETURN_IF_REFUSED(library, api.GetDimensionsCount(tensor, &rank));
  std::vector<int64_t> dims(rank);
  if (rank > 0) RETURN_IF_REFUSED(library, api.GetDimensions(tensor, dims.data(), rank));
  out->has_batch_axis = rank > 0 && dims[0] == ort::kFreeAxis;
  if (rank > 0) out->dims.assign(dims.begin() + 1, dims.end());
  return Status();
}

Status read_tensors(const OrtLibrary& library, const ort::OrtSession* session, const Side& side, std::vector<TensorInfo>* out) {
  const ort::OrtApi& api = library.api();
  size_t count = 0;
  RETURN_IF_REFUSED(library, side.count(session, &count));
  for (size_t i = 0; i < count; ++i) {
    TensorInfo info;
    char* name = nullptr;
    RETURN_IF_REFUSED(library, side.name(session, i, library.allocator(), &name));
    info.name = name;
    RETURN_IF_REFUSED(library, api.AllocatorFree(library.allocator(), name));
    ort::OrtTypeInfo* type = nullptr;
    RETURN_IF_REFUSED(library, side.type_info(session, i, &type));
    const Owned<ort::OrtTypeInfo> owned_type(type, api.ReleaseTypeInfo);
    if (Status status = read_shape(library, type, &info); !status.ok()) return status;
    out->push_back(std::move(info));
  }
  return Status();
}

}  // namespace

OrtModel::OrtModel() : impl_(new Impl()) {}
OrtModel::~OrtModel() = default;

Status OrtModel::load(std::shared_ptr<OrtRuntime> runtime, std::string_view model_bytes, const OrtModelOptions& options,
                      std::shared_ptr<OrtModel>* out) {
  const OrtLibrary& library = *runtime->impl_->library;
  const ort::OrtApi& api = library.api();
  std::shared_ptr<OrtModel> model(new OrtModel());
  Impl& impl = *model->impl_;
  impl.runtime = std::move(runtime);

  ort::OrtSessionOptions* session_options = nullptr;
  RETURN_IF_REFUSED(library, api.CreateSessionOptions(&session_options));
  const Owned<ort::OrtSessionOptions> owned_options(session_options, api.ReleaseSessionOptions);
  if (Status status = set_options(library, options, session_options); !status.ok()) return status;
  const bool is_cuda = options.cuda_device != OrtModelOptions::kCpu;
  if (is_cuda) {
    Status status = ort::append_cuda(library, options.cuda_device, options.cuda_memory_bytes_max, session_options);
    if (!status.ok()) return status;
  }

  ort::OrtSession* session = nullptr;
  Status refused =
      library.take(api.CreateSessionFromArray(library.env(), model_bytes.data(), model_bytes.size(), session_options, &session),
                   is_cuda ? Code::kRuntimeUnavailable : Code::kModelUnsupported, "ONNX Runtime refused the model");
  if (!refused.ok()) return refused;
  impl.session = Owned<ort::OrtSession>(session, api.ReleaseSession);

  const Side inputs{api.SessionGetInputCount, api.SessionGetInputTypeInfo, api.SessionGetInputName};
  const Side outputs{api.SessionGetOutputCount, api.SessionGetOutputTypeInfo, api.SessionGetOutputName};
  if (Status status = read_tensors(library, session, inputs, &impl.inputs); !status.ok()) return status;
  if (Status status = read_tensors(library, session, outputs, &impl.outputs); !status.ok()) return status;
  impl.binds = is_cuda || options.binds;
  impl.staging = std::make_unique<ort::Staging>(library);
  if (impl.binds) {
    if (Status status = ort::Staging::open(library, session, options.cuda_device, &impl.staging); !status.ok()) return status;
  }
  *out = std::move(model);
  return Status();
}

const std::vector<TensorInfo>& OrtModel::inputs() const noexcept { return impl_->inputs; }
const std::vector<TensorInfo>& OrtModel::outputs() const noexcept { return impl_->outputs; }

}  // namespace assay
