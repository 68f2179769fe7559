#include "core/runtime/ort_cuda.h"

#include <string>
#include <vector>

namespace assay::ort {
namespace {

Status take(const OrtLibrary& library, OrtStatus* status) { return library.take(status, Code::kRuntimeUnavailable, "CUDA"); }

}  // namespace

Status append_cuda(const OrtLibrary& library, int device, uint64_t memory_bytes_max, OrtSessionOptions* session) {
  const OrtCudaApi& api = library.cuda_api();
  OrtCudaOptions* made = nullptr;
  if (Status status = take(library, api.CreateCudaOptions(&made)); !status.ok()) return status;
  const Owned<OrtCudaOptions> options(made, api.ReleaseCudaOptions);

  const std::string device_text = std::to_string(device);
  const std::string memory_text = std::to_string(memory_bytes_max);
  std::vector<const char*> keys = {"device_id", "use_tf32", "cudnn_conv_algo_search", "arena_extend_strategy"};
  // TF32 rounds the factors of a product to 10 bits: golden rows would differ by 1e-3. Convolution algorithms are those that cuDNN's
  // heuristic names, not the quickest of a timing at start: that choice would change scores from one start to the next. The arena
  // grows by what is asked for, not by doubling.
  std::vector<const char*> values = {device_text.c_str(), "0", "HEURISTIC", "kSameAsRequested"};
  if (memory_bytes_max > 0) {
    keys.push_back("gpu_mem_limit");
    values.push_back(memory_text.c_str());
  }
  Status status = take(library, api.UpdateCudaOptions(options.get(), keys.data(), values.data(), keys.size()));
  if (!status.ok()) return status;
  return take(library, api.AppendExecutionProviderCuda(session, options.get()));
}

}  // namespace assay::ort
