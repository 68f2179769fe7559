// ONNX Runtime through its C function table, without its headers (docs: the slot table in ort_api.h).
//
// OrtRuntime opens the library once per process and proves itself; OrtModel is one session, shared by its runners; OrtRunner is
// one thread's buffers. All fail with a Status that carries ONNX Runtime's own message.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/base/value.h"
#include "core/features/plan.h"
#include "core/serving/runner.h"

namespace assay {

// One input or output of a session. dims excludes the first (batch) axis; -1 is a free axis.
struct TensorInfo {
  std::string name;
  int onnx_type = 0;            // ONNX element type number; 0: not a tensor
  bool has_batch_axis = false;  // rank >= 1 and the first axis is free
  std::vector<int64_t> dims;
};

class OrtRuntime {
 public:
  // Opens `library_path` (libonnxruntime.so.*), takes API version 17's table and runs the self-check: a tiny built-in model with
  // inputs of all five types through every slot used, compared with known answers. Once per process; later calls with the same
  // path return the same runtime.
  static Status open(const std::string& library_path, std::shared_ptr<OrtRuntime>* out);
  ~OrtRuntime();
  std::string version() const;                 // "1.32.0"
  std::vector<std::string> providers() const;  // "CPUExecutionProvider", ...

 private:
  friend class OrtModel;
  friend class OrtRunner;
  OrtRuntime();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct OrtModelOptions {
  int intra_op_threads = 1;  // more makes tree scores depend on the batch (threads sum in another order)
  bool has_arena = true;
  // The CUDA device that runs what has a CUDA kernel, the CPU runs the rest; kCpu: the CPU runs everything. Before the first
  // session there, whoever loads opens the libraries that CUDA needs and the loader would not find (models/cuda_libraries.py).
  static constexpr int kCpu = -1;
  int cuda_device = kCpu;
  uint64_t cuda_memory_bytes_max = 0;  // of this session's arena on the device; 0: no limit
  // Runs take their inputs and outputs by I/O binding, in buffers of the session's (ort_staging.h). Always so on a CUDA device; a
  // CPU session gains nothing by it, and is bound to show that it is done right.
  bool binds = false;
};

class OrtModel {
 public:
  // Creates a session from bytes (already verified: no external data). The bytes are not kept. A session on a CUDA device that
  // cannot be had fails with kRuntimeUnavailable and ONNX Runtime's own words; it never runs on the CPU instead.
  static Status load(std::shared_ptr<OrtRuntime> runtime, std::string_view model_bytes, const OrtModelOptions& options,
                     std::shared_ptr<OrtModel>* out);
  ~OrtModel();
  const std::vector<TensorInfo>& inputs() const noexcept;
  const std::vector<TensorInfo>& outputs() const noexcept;

  // A runner for rows laid out by `tensors` (order and names as the plan's; all inputs of the model exactly once, types and
  // element counts equal). kModelUnsupported says which differs. `outputs_wanted`: indices of the outputs to compute; empty means
  // all that a runner can give (tensors of the five types with a batch axis). Others have OutputView::data == nullptr.
  static Status make_runner(std::shared_ptr<OrtModel> model, const std::vector<TensorSpec>& tensors,
                            const std::vector<TensorSegment>& segments, size_t rows_max, std::unique_ptr<Runner>* out,
                            const std::vector<uint32_t>& outputs_wanted = {});

  // Runs `count` rows that lie one behind the other in the caller's memory, which ONNX Runtime reads in place, and writes element
  // `column` of every row of output `output`. Any thread, several at once. REQUIRES: the session is on the CPU; one input, float32,
  // all of whose axes but the first are fixed; `output` is an index of outputs(), float32 or float64.
  Status run_matrix(const float* matrix, size_t count, uint32_t output, size_t column, double* scores) const;

 private:
  friend class OrtRunner;
  OrtModel();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace assay
