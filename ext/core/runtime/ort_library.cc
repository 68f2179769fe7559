#include "core/runtime/ort_library.h"

#include <dlfcn.h>

#include <cctype>
#include <cstdlib>
#include <string_view>

namespace assay::ort {
namespace {

constexpr size_t kMessageBytesMax = 500;

Status unavailable(const std::string& detail) { return Status(Code::kRuntimeUnavailable, detail); }

// ONNX Runtime writes where in its source something failed before what failed: files, lines, template arguments. A failure of
// CUDA is followed by the host's name and an expression. Of a chain of failures the innermost counts.
std::string_view device_failure(std::string_view text) {
  for (const std::string_view start : {"CUDA failure ", "CUBLAS failure ", "CUDNN failure ", "CUFFT failure "}) {
    const size_t at = text.rfind(start);
    if (at != std::string_view::npos) return text.substr(at, text.find(" ; GPU=", at) - at);
  }
  return {};
}

std::string_view without_place(std::string_view text) {
  constexpr std::string_view kException = "[ONNXRuntimeError] : ";
  const size_t at = text.rfind(kException);
  return at == std::string_view::npos ? text : text.substr(at + kException.size());
}

}  // namespace

std::string ort_message(const char* text, bool hides_digits) {
  const std::string_view whole = text == nullptr ? "" : text;
  const std::string_view failure = device_failure(whole);
  if (!failure.empty()) hides_digits = false;  // its number is CUDA's, and it quotes nothing
  std::string message;
  for (const char letter : failure.empty() ? without_place(whole) : failure) {
    if (message.size() == kMessageBytesMax) return message + "...";
    const auto byte = static_cast<unsigned char>(letter);
    if (std::iscntrl(byte) || byte >= 0x80) {
      if (!message.empty() && message.back() != ' ') message += ' ';
    } else {
      message += hides_digits && std::isdigit(byte) ? '#' : letter;
    }
  }
  return message;
}

Status OrtLibrary::take(OrtStatus* status, Code code, const char* what, bool hides_digits) const {
  if (status == nullptr) return Status();
  Status result(code, std::string(what) + ": " + ort_message(api_.GetErrorMessage(status), hides_digits));
  api_.ReleaseStatus(status);
  return result;
}

Status OrtLibrary::open(const std::string& path, std::unique_ptr<OrtLibrary>* out) {
  std::unique_ptr<OrtLibrary> library(new OrtLibrary());
  library->path_ = path;
  if (Status status = library->load_table(); !status.ok()) return status;
  if (Status status = library->create_globals(); !status.ok()) return status;
  *out = std::move(library);
  return Status();
}

Status OrtLibrary::load_table() {
  // Official builds since 1.30 or so send telemetry to Microsoft from Linux too, and keep an identity in ~/.cache. A bank's server
  // phones nobody. The variable is read while the library loads and when the environment is made.
  setenv("ORT_DISABLE_TELEMETRY", "1", /*overwrite=*/1);
  void* handle = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* error = dlerror();
    return unavailable("cannot open ONNX Runtime's library " + path_ + ": " + (error ? error : "unknown error"));
  }
  using GetApiBase = const OrtApiBase* (*)();
  const auto get_api_base = reinterpret_cast<GetApiBase>(dlsym(handle, "OrtGetApiBase"));
  const OrtApiBase* base = get_api_base ? get_api_base() : nullptr;
  if (base == nullptr)
    return unavailable(path_ + " is not ONNX Runtime: it has no OrtGetApiBase; give the path of libonnxruntime.so");
  version_ = ort_message(base->version(), false);
  const void* const* table = base->get_api(kApiVersion);
  if (table == nullptr) {
    return unavailable("ONNX Runtime " + version_ + " is too old: its C API has no version " + std::to_string(kApiVersion) +
                       "; install onnxruntime 1.28 or newer");
  }
  api_ = OrtApi(table);
  cuda_api_ = OrtCudaApi(table);
  return Status();
}

Status OrtLibrary::create_globals() {
  const Code code = Code::kRuntimeUnavailable;
  // Everything that goes wrong comes back as a status; ONNX Runtime's own log on stderr would only repeat it, with values in it.
  OrtEnv* env = nullptr;
  if (Status status = take(api_.CreateEnv(kLogFatal, "assay", &env), code, "CreateEnv"); !status.ok()) return status;
  env_ = Owned<OrtEnv>(env, api_.ReleaseEnv);
  if (Status silenced = take(api_.DisableTelemetryEvents(env), code, "DisableTelemetryEvents"); !silenced.ok()) return silenced;

  OrtMemoryInfo* memory = nullptr;
  Status status = take(api_.CreateCpuMemoryInfo(kAllocatorArena, kMemoryDefault, &memory), code, "CreateCpuMemoryInfo");
  if (!status.ok()) return status;
  cpu_memory_ = Owned<OrtMemoryInfo>(memory, api_.ReleaseMemoryInfo);

  status = take(api_.GetAllocatorWithDefaultOptions(&allocator_), code, "GetAllocatorWithDefaultOptions");
  if (!status.ok()) return status;

  char** names = nullptr;
  int count = 0;
  status = take(api_.GetAvailableProviders(&names, &count), code, "GetAvailableProviders");
  if (!status.ok()) return status;
  for (int i = 0; i < count; ++i) providers_.emplace_back(names[i]);
  return take(api_.ReleaseAvailableProviders(names, count), code, "ReleaseAvailableProviders");
}

}  // namespace assay::ort
