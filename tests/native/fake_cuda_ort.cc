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
//   memory_total   bytes that the card has (0: not played); a session takes memory_session of them, and its arena grows to memory_row
//                  for each row of its largest batch. A run that does not fit fails with memory_error. What is free stands in the
//                  script's path + ".free", where stub_library.cc finds it
//   shift          added to every float32 output: a device that computes differently
//
//   pinned_error   the text of the status that a request for pinned memory returns
//
// What it was asked is appended to the script's path + ".log": `option KEY=VALUE`, `session DEVICE`, `pinned BYTES`, `bound ROWS` (a
// run by I/O binding) or `plain ROWS`, then `run ROWS` for either.
//
// As ONNX Runtime does, it copies an input to the device when it is bound: what is written to the buffer afterwards is not seen.

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/runtime/ort_api.h"

namespace {

using assay::ort::OrtAllocator;
using assay::ort::OrtApi;
using assay::ort::OrtApiBase;
using assay::ort::OrtCudaOptions;
using assay::ort::OrtEnv;
using assay::ort::OrtIoBinding;
using assay::ort::OrtMemoryInfo;
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

// What an I/O binding has of a device.
struct Bound {
  OrtSession* session = nullptr;
  int64_t rows = 0;                                    // of its inputs
  std::map<std::string, std::vector<uint8_t>> copies;  // of its inputs, on the "device"
  std::map<std::string, OrtValue*> over_copies;        // values over them
  std::map<std::string, OrtValue*> outputs;            // not owned
};

struct State {
  OrtApi real;
  OrtStatus* (*create_status)(int code, const char* message) = nullptr;
  std::mutex mutex;                              // guards the maps and the log
  std::map<const void*, std::string> device_of;  // session options and sessions on the device
  std::map<const void*, uint64_t> arena_bytes;   // of each session on the device
  std::map<const void*, Bound> bound;            // by I/O binding, of sessions on the device
  std::set<const void*> pinned;                  // memory infos and allocators
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

uint64_t script_number(const std::string& key) {
  const std::string text = script(key);
  return text.empty() ? 0 : std::stoull(text);
}

// The session's arena is to hold `bytes`; 0: the session has ended. Returns whether the card has them.
bool hold_memory(const void* session, uint64_t bytes) {
  const uint64_t total = script_number("memory_total");
  const std::lock_guard<std::mutex> lock(state().mutex);
  auto& arenas = state().arena_bytes;
  const uint64_t before = arenas[session];
  arenas[session] = bytes == 0 ? 0 : std::max(before, bytes);
  uint64_t used = 0;
  for (const auto& arena : arenas) used += arena.second;
  const bool fits = total == 0 || used <= total;
  if (!fits) used -= arenas[session] - before;
  if (!fits) arenas[session] = before;
  if (bytes == 0) arenas.erase(session);
  if (total > 0)
    std::ofstream(std::string(std::getenv("ASSAY_TEST_CUDA_SCRIPT")) + ".free") << total - used << " " << total << "\n";
  return fits;
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
  if (status == nullptr && !device.empty()) {
    set_device(*out, device);
    hold_memory(*out, script_number("memory_session"));
  }
  return status;
}
void release_session(OrtSession* session) {
  hold_memory(session, 0);
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

// A run of `rows` on the device: what the script says of it, before `run_really`.
template <typename Really>
OrtStatus* play_run(OrtSession* session, int64_t rows, const Really& run_really) {
  log("run " + std::to_string(rows));
  const std::string rows_max = script("run_rows_max");
  if (rows > (rows_max.empty() ? 0 : std::stoll(rows_max))) {
    if (OrtStatus* status = scripted("run_error")) return status;
  }
  const uint64_t bytes = script_number("memory_session") + static_cast<uint64_t>(rows) * script_number("memory_row");
  if (!hold_memory(session, bytes)) {
    if (OrtStatus* status = scripted("memory_error")) return status;
  }
  if (script("hold") == "1") log("held " + std::to_string(rows));
  while (script("hold") == "1") std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return run_really();
}

// Adds the script's shift to what a run gave.
void play_shift(const std::vector<OrtValue*>& outputs) {
  const std::string shift = script("shift");
  if (shift.empty()) return;
  for (OrtValue* output : outputs) {
    int type = 0;
    int64_t rows = 0, elements = 0;
    void* data = nullptr;
    measure(output, &type, &rows, &elements);
    state().real.GetTensorMutableData(output, &data);
    for (int64_t at = 0; type == kFloat && at < elements; ++at) static_cast<float*>(data)[at] += std::stof(shift);
  }
}

OrtStatus* run(OrtSession* session, const OrtRunOptions* options, const char* const* input_names, const OrtValue* const* inputs,
               size_t input_count, const char* const* output_names, size_t output_count, OrtValue** outputs) {
  const auto run_really = [&] {
    return state().real.Run(session, options, input_names, inputs, input_count, output_names, output_count, outputs);
  };
  if (device_of(session).empty()) return run_really();
  int type = 0;
  int64_t rows = 0, elements = 0;
  measure(const_cast<OrtValue*>(inputs[0]), &type, &rows, &elements);
  log("plain " + std::to_string(rows));
  OrtStatus* status = play_run(session, rows, run_really);
  if (status == nullptr) play_shift(std::vector<OrtValue*>(outputs, outputs + output_count));
  return status;
}

// --- I/O binding and pinned memory

Bound* bound_of(const OrtIoBinding* binding) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  const auto found = state().bound.find(binding);
  return found == state().bound.end() ? nullptr : &found->second;
}

OrtStatus* create_io_binding(OrtSession* session, OrtIoBinding** out) {
  OrtStatus* status = state().real.CreateIoBinding(session, out);
  if (status != nullptr || device_of(session).empty()) return status;
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().bound[*out].session = session;
  return nullptr;
}

void drop_copies(Bound& bound) {
  for (auto& [name, value] : bound.over_copies) state().real.ReleaseValue(value);
  bound.over_copies.clear();
  bound.copies.clear();
  bound.rows = 0;
}

void clear_bound_inputs(OrtIoBinding* binding) {
  state().real.ClearBoundInputs(binding);
  if (Bound* bound = bound_of(binding)) drop_copies(*bound);
}

void release_io_binding(OrtIoBinding* binding) {
  if (Bound* bound = bound_of(binding)) {
    drop_copies(*bound);
    const std::lock_guard<std::mutex> lock(state().mutex);
    state().bound.erase(binding);
  }
  state().real.ReleaseIoBinding(binding);
}

// Of the "device": the CPU's memory.
const OrtMemoryInfo* host_memory() {
  static const OrtMemoryInfo* info = [] {
    OrtMemoryInfo* made = nullptr;
    state().real.CreateCpuMemoryInfo(1, 0, &made);
    return made;
  }();
  return info;
}

size_t element_bytes(int type) { return type == 7 || type == 11 ? 8 : type == 9 ? 1 : 4; }

OrtStatus* bind_input(OrtIoBinding* binding, const char* name, const OrtValue* value) {
  const OrtApi& real = state().real;
  Bound* bound = bound_of(binding);
  if (bound == nullptr) return real.BindInput(binding, name, value);
  int type = 0;
  int64_t rows = 0, elements = 0;
  auto* given = const_cast<OrtValue*>(value);
  measure(given, &type, &rows, &elements);
  void* data = nullptr;
  real.GetTensorMutableData(given, &data);
  std::vector<uint8_t>& copy = bound->copies[name];
  const auto* from = static_cast<const uint8_t*>(data);
  copy.assign(from, from + static_cast<size_t>(elements) * element_bytes(type));
  OrtValue* made = nullptr;
  const int64_t shape[] = {rows, elements / rows};
  if (OrtStatus* status = real.CreateTensorWithDataAsOrtValue(host_memory(), copy.data(), copy.size(), shape, 2, type, &made)) {
    return status;
  }
  if (OrtValue* old = bound->over_copies[name]) real.ReleaseValue(old);
  bound->over_copies[name] = made;
  bound->rows = rows;
  return real.BindInput(binding, name, made);
}

OrtStatus* bind_output(OrtIoBinding* binding, const char* name, const OrtValue* value) {
  if (Bound* bound = bound_of(binding)) bound->outputs[name] = const_cast<OrtValue*>(value);
  return state().real.BindOutput(binding, name, value);
}

OrtStatus* run_with_binding(OrtSession* session, const OrtRunOptions* options, const OrtIoBinding* binding) {
  const auto run_really = [&] { return state().real.RunWithBinding(session, options, binding); };
  Bound* bound = bound_of(binding);
  if (bound == nullptr) return run_really();
  log("bound " + std::to_string(bound->rows));
  OrtStatus* status = play_run(session, bound->rows, run_really);
  std::vector<OrtValue*> outputs;
  for (const auto& [name, value] : bound->outputs) outputs.push_back(value);
  if (status == nullptr) play_shift(outputs);
  return status;
}

// Pinned memory is the CPU's here.
OrtStatus* create_memory_info(const char* name, int allocator_type, int id, int memory_type, OrtMemoryInfo** out) {
  if (std::string(name) != "CudaPinned") return state().real.CreateMemoryInfo(name, allocator_type, id, memory_type, out);
  OrtStatus* status = state().real.CreateMemoryInfo("Cpu", 1, 0, 0, out);
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().pinned.insert(*out);
  return status;
}
void release_memory_info(OrtMemoryInfo* info) {
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    state().pinned.erase(info);
  }
  state().real.ReleaseMemoryInfo(info);
}

bool is_pinned(const void* handle) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().pinned.count(handle) > 0;
}

OrtStatus* create_allocator(const OrtSession* session, const OrtMemoryInfo* info, OrtAllocator** out) {
  OrtStatus* status = state().real.CreateAllocator(session, info, out);
  if (status != nullptr || !is_pinned(info)) return status;
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().pinned.insert(*out);
  return nullptr;
}
void release_allocator(OrtAllocator* allocator) {
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    state().pinned.erase(allocator);
  }
  state().real.ReleaseAllocator(allocator);
}

OrtStatus* allocator_alloc(OrtAllocator* allocator, size_t bytes, void** out) {
  if (is_pinned(allocator)) {
    if (OrtStatus* status = scripted("pinned_error")) return status;
    log("pinned " + std::to_string(bytes));
  }
  return state().real.AllocatorAlloc(allocator, bytes, out);
}

// Children that look into a model get none of the caller's variables: for them the path stands in a file beside this library.
std::string real_path() {
  if (const char* path = std::getenv("ASSAY_TEST_ORT_LIBRARY")) return path;
  Dl_info here{};
  dladdr(reinterpret_cast<const void*>(&real_path), &here);
  const std::string own = here.dli_fname == nullptr ? "" : here.dli_fname;
  std::string path;
  std::ifstream file(own.substr(0, own.rfind('/') + 1) + "real_library");
  std::getline(file, path);
  return path;
}

const OrtApiBase* real_base() {
  const std::string path = real_path();
  void* handle = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
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
  play(68, create_memory_info);
  play(75, allocator_alloc);
  play(94, release_memory_info);
  play(95, release_session);
  play(100, release_session_options);
  play(125, get_available_providers);
  play(126, release_available_providers);
  play(131, create_allocator);
  play(132, release_allocator);
  play(133, run_with_binding);
  play(134, create_io_binding);
  play(135, release_io_binding);
  play(136, bind_input);
  play(137, bind_output);
  play(141, clear_bound_inputs);
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
