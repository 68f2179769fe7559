// OrtLibrary: the opened shared library, its functions, and what a process needs one of (environment, memory info, allocator).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/runtime/ort_api.h"

namespace assay::ort {

// A handle that frees itself by the slot that belongs to it.
template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

// ONNX Runtime's text made fit for an error: what went wrong, without where in its source and on which host; one line, bounded.
// `hides_digits`: the text may quote elements of a request.
std::string ort_message(const char* text, bool hides_digits);

class OrtLibrary {
 public:
  // dlopen()s the library, takes its table and makes the environment. kRuntimeUnavailable says what is wrong with which file.
  // The library is never closed: its threads and thread-locals may outlive any owner.
  static Status open(const std::string& path, std::unique_ptr<OrtLibrary>* out);

  const OrtApi& api() const noexcept { return api_; }
  const OrtCudaApi& cuda_api() const noexcept { return cuda_api_; }
  const std::string& path() const noexcept { return path_; }
  const std::string& version() const noexcept { return version_; }
  const std::vector<std::string>& providers() const noexcept { return providers_; }
  OrtEnv* env() const noexcept { return env_.get(); }
  OrtMemoryInfo* cpu_memory() const noexcept { return cpu_memory_.get(); }
  OrtAllocator* allocator() const noexcept { return allocator_; }

  // Null is kOk; anything else becomes `code` with "what: ONNX Runtime's message", and is released.
  Status take(OrtStatus* status, Code code, const char* what, bool hides_digits = false) const;

 private:
  OrtLibrary() = default;
  Status load_table();
  Status create_globals();

  std::string path_;
  std::string version_;
  std::vector<std::string> providers_;
  OrtApi api_;
  OrtCudaApi cuda_api_;
  OrtAllocator* allocator_ = nullptr;  // ONNX Runtime's own, not freed
  Owned<OrtEnv> env_{nullptr, nullptr};
  Owned<OrtMemoryInfo> cpu_memory_{nullptr, nullptr};
};

}  // namespace assay::ort
