// A libonnxruntime.so with a CUDA device that is not there, for tests without a card.
//
// It opens the real library, named by ASSAY_TEST_ORT_LIBRARY, and hands out a copy of its function table in which the slots that
// CUDA takes are played: a session "on CUDA" is a session of the real library on the CPU. What the device does stands in the file
// that ASSAY_TEST_CUDA_SCRIPT names, a line `key=value` each, read anew at every call, so that a test can change it while a
// server runs:
//
//   update_error append_error session_error run_error   the text of the status that this step returns
//   run_rows_max   run_error is for batches of more rows than this (0: all)
//   hold           a run waits while this is 1, after saying so in the log (`held ROWS`)
//   shift          added to every float32 output: a device that computes differently
//
// What it was asked is appended to the script's path + ".log": `option KEY=VALUE`, `session DEVICE`, `run ROWS`.

#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "core/runtime/ort_api.h"

namespace {

using assay::ort::OrtAllocator;
using assay::ort::OrtApi;
using assay::ort::OrtApiBase;
using assay::ort::OrtCudaOptions;
using assay::ort::OrtEnv;
using assay::ort::OrtRunOptions;
using assay::ort::OrtSession;
using assay::ort::OrtSessionOptions;
using assay::ort::OrtStatus;
using assay::ort::OrtTensorInfo;
using assay::ort::OrtValue;

constexpr size_t kSlots = 209;
constexpr int kFail = 1;  // ORT_FAIL
constexpr int kFloat = 1;

struct FakeCudaOptions {
  std::string device = "0";
};

struct State {
  OrtApi real;
  OrtStatus* (*create_status)(int code, const char* message) = nullptr;
  std::mutex mutex;                              // guards the maps and the log
  std::map<const void*, std::string> device_of;  // session options and sessions on the device
};
State& state() {
  static State* it = new State();
  return *it;
}

std::string script(const std::string& key) {
  const char* path = std::getenv("ASSAY_TEST_CUDA_SCRIPT");
  std::ifstream file(path == nullptr ? "" : path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size() + 1, key + "=") == 0) return line.substr(key.size() + 1);
  }
  return "";
}

void log(const std::string& line) {
  const char* path = std::getenv("ASSAY_TEST_CUDA_SCRIPT");
  if (path == nullptr) return;
  const std::lock_guard<std::mutex> lock(state().mutex);
  std::ofstream(std::string(path) + ".log", std::ios::app) << line << "\n";
}

// Null where the script gives this step no error.
OrtStatus* scripted(const char* step) {
  const std::string message = script(step);
  return message.empty() ? nullptr : state().create_status(kFail, message.c_str());
}

std::string device_of(const void* handle) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  const auto found = state().device_of.find(handle);
  return found == state().device_of.end() ? "" : found->second;
}

void set_device(const void* handle, const std::string& device) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (device.empty()) {
    state().device_of.erase(handle);
  } else {
    state().device_of[handle] = device;
  }
}

// --- the slots that are played

OrtStatus* get_available_providers(char*** out, int* count) {
  static char cuda[] = "CUDAExecutionProvider";
  static char cpu[] = "CPUExecutionProvider";
  static char* names[] = {cuda, cpu};
  *out = names;
  *count = 2;
  return nullptr;
}
OrtStatus* release_available_providers(char**, int) { return nullptr; }

OrtStatus* create_cuda_options(OrtCudaOptions** out) {
  *out = reinterpret_cast<OrtCudaOptions*>(new FakeCudaOptions());
  return nullptr;
}
void release_cuda_options(OrtCudaOptions* options) { delete reinterpret_cast<FakeCudaOptions*>(options); }

OrtStatus* update_cuda_options(OrtCudaOptions* options, const char* const* keys, const char* const* values, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    log(std::string("option ") + keys[i] + "=" + values[i]);
    if (std::string(keys[i]) == "device_id") reinterpret_cast<FakeCudaOptions*>(options)->device = values[i];
  }
  return scripted("update_error");
}

OrtStatus* append_cuda(OrtSessionOptions* session, const OrtCudaOptions* options) {
  if (OrtStatus* status = scripted("append_error")) return status;
  set_device(session, reinterpret_cast<const FakeCudaOptions*>(options)->device);
  return nullptr;
}
void release_session_options(OrtSessionOptions* options) {
  set_device(options, "");
  state().real.ReleaseSessionOptions(options);
}

OrtStatus* create_session(const OrtEnv* env, const void* data, size_t bytes, const OrtSessionOptions* options, OrtSession** out) {
  const std::string device = device_of(options);
  if (!device.empty()) {
    log("session " + device);
    if (OrtStatus* status = scripted("session_error")) return status;
  }
  OrtStatus* status = state().real.CreateSessionFromArray(env, data, bytes, options, out);
  if (status == nullptr && !device.empty()) set_device(*out, device);
  return status;
}
void release_session(OrtSession* session) {
  set_device(session, "");
  state().real.ReleaseSession(session);
}

// The shape's first axis and all elements of a tensor.
void measure(OrtValue* value, int* type, int64_t* rows, int64_t* elements) {
  const OrtApi& real = state().real;
  OrtTensorInfo* info = nullptr;
  real.GetTensorTypeAndShape(value, &info);
  real.GetTensorElementType(info, type);
  size_t rank = 0;
  real.GetDimensionsCount(info, &rank);
  int64_t dims[16] = {};
  real.GetDimensions(info, dims, rank < 16 ? rank : 16);
  real.ReleaseTensorTypeAndShapeInfo(info);
  *rows = dims[0];
  *elements = 1;
  for (size_t i = 0; i < rank && i < 16; ++i) *elements *= dims[i];
}

OrtStatus* run(OrtSession* session, const OrtRunOptions* options, const char* const* input_names, const OrtValue* const* inputs,
               size_t input_count, const char* const* output_names, size_t output_count, OrtValue** outputs) {
  const OrtApi& real = state().real;
  const auto run_really = [&] {
    return real.Run(session, options, input_names, inputs, input_count, output_names, output_count, outputs);
  };
  if (device_of(session).empty()) return run_really();

  int type = 0;
  int64_t rows = 0, elements = 0;
  measure(const_cast<OrtValue*>(inputs[0]), &type, &rows, &elements);
  log("run " + std::to_string(rows));
  const std::string rows_max = script("run_rows_max");
  if (rows > (rows_max.empty() ? 0 : std::stoll(rows_max))) {
    if (OrtStatus* status = scripted("run_error")) return status;
  }
  if (script("hold") == "1") log("held " + std::to_string(rows));
  while (script("hold") == "1") std::this_thread::sleep_for(std::chrono::milliseconds(1));
  OrtStatus* status = run_really();
  const std::string shift = script("shift");
  for (size_t i = 0; status == nullptr && !shift.empty() && i < output_count; ++i) {
    void* data = nullptr;
    measure(outputs[i], &type, &rows, &elements);
    real.GetTensorMutableData(outputs[i], &data);
    for (int64_t at = 0; type == kFloat && at < elements; ++at) static_cast<float*>(data)[at] += std::stof(shift);
  }
  return status;
}

const OrtApiBase* real_base() {
  const char* path = std::getenv("ASSAY_TEST_ORT_LIBRARY");
  void* handle = path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    std::fprintf(stderr, "fake_cuda_ort: ASSAY_TEST_ORT_LIBRARY does not name ONNX Runtime: %s\n", dlerror());
    std::abort();
  }
  return reinterpret_cast<const OrtApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"))();
}

const void* const* get_api(uint32_t version) {
  static const void* table[kSlots];
  const void* const* real = real_base()->get_api(version);
  for (size_t i = 0; i < kSlots; ++i) table[i] = real[i];
  state().real = OrtApi(real);
  state().create_status = reinterpret_cast<OrtStatus* (*)(int, const char*)>(reinterpret_cast<uintptr_t>(real[0]));
  const auto play = [](size_t slot, auto* function) { table[slot] = reinterpret_cast<const void*>(function); };
  play(8, create_session);
  play(9, run);
  play(95, release_session);
  play(100, release_session_options);
  play(125, get_available_providers);
  play(126, release_available_providers);
  play(204, append_cuda);
  play(205, create_cuda_options);
  play(206, update_cuda_options);
  play(208, release_cuda_options);
  return table;
}

const char* version() { return real_base()->version(); }

}  // namespace

extern "C" __attribute__((visibility("default"))) const OrtApiBase* OrtGetApiBase() {
  static const OrtApiBase base = {get_api, version};
  return &base;
}
