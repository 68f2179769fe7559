#include <mutex>

#include "core/runtime/ort_internal.h"
#include "core/runtime/self_check.h"

namespace assay {
namespace {

std::mutex open_mutex;  // guards open_runtime()

// The process's one runtime, never freed: sessions on detached threads may outlive every owner at exit.
std::shared_ptr<OrtRuntime>& open_runtime() {
  static auto* runtime = new std::shared_ptr<OrtRuntime>();
  return *runtime;
}

}  // namespace

OrtRuntime::OrtRuntime() : impl_(new Impl()) {}
OrtRuntime::~OrtRuntime() = default;

Status OrtRuntime::open(const std::string& library_path, std::shared_ptr<OrtRuntime>* out) {
  const std::lock_guard<std::mutex> lock(open_mutex);
  std::shared_ptr<OrtRuntime>& opened = open_runtime();
  if (opened == nullptr) {
    std::shared_ptr<OrtRuntime> runtime(new OrtRuntime());
    if (Status status = ort::OrtLibrary::open(library_path, &runtime->impl_->library); !status.ok()) return status;
    if (Status status = ort::self_check(runtime); !status.ok()) return status;
    opened = std::move(runtime);
  }
  if (opened->impl_->library->path() != library_path) {
    return Status(Code::kRuntimeUnavailable, "this process has opened " + opened->impl_->library->path() + "; it cannot open " +
                                                 library_path + " beside it");
  }
  *out = opened;
  return Status();
}

std::string OrtRuntime::version() const { return impl_->library->version(); }
std::vector<std::string> OrtRuntime::providers() const { return impl_->library->providers(); }

}  // namespace assay
