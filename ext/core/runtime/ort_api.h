// ONNX Runtime's C function table, without its headers.
//
// The library exports OrtGetApiBase(); its GetApi(17) returns an array of function pointers that only ever grows at its end, so a
// slot's number and signature never change. This table is all that assay knows of the ABI. Facts: onnxruntime_c_api.h of
// API version 17 (ONNX Runtime 1.17) and later. The self-check runs every row of ASSAY_ORT_SLOTS at start; the rows of
// ASSAY_ORT_CUDA_SLOTS need a card, and are proved by a bundle's golden rows there (models/device.py).
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay::ort {

inline constexpr uint32_t kApiVersion = 17;

// Opaque handles.
struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtTypeInfo;
struct OrtTensorInfo;  // OrtTensorTypeAndShapeInfo
struct OrtIoBinding;
struct OrtCudaOptions;  // OrtCUDAProviderOptionsV2

// What OrtGetApiBase() returns.
struct OrtApiBase {
  const void* const* (*get_api)(uint32_t version);  // null: the library is older than `version`
  const char* (*version)();
};

// Numbers of enums.
inline constexpr int kLogFatal = 4;
inline constexpr int kExecutionSequential = 0;
inline constexpr int kOptimizationAll = 99;
inline constexpr int kAllocatorDevice = 0;
inline constexpr int kAllocatorArena = 1;
inline constexpr int kMemoryDefault = 0;
inline constexpr int kMemoryCpuOutput = -1;
inline constexpr int64_t kFreeAxis = -1;

// clang-format off: it takes the arguments for multiplications.
// ASSAY_ORT_SLOT(number, name, result, arguments). A function that returns OrtStatus* returns null for success.
#define ASSAY_ORT_SLOTS(ASSAY_ORT_SLOT)                                                                                         \
  ASSAY_ORT_SLOT(2, GetErrorMessage, const char*, (const OrtStatus*))                                                           \
  ASSAY_ORT_SLOT(3, CreateEnv, OrtStatus*, (int log_level, const char* id, OrtEnv** out))                                       \
  ASSAY_ORT_SLOT(6, DisableTelemetryEvents, OrtStatus*, (const OrtEnv*))                                                        \
  ASSAY_ORT_SLOT(8, CreateSessionFromArray, OrtStatus*,                                                                         \
                 (const OrtEnv*, const void* data, size_t bytes, const OrtSessionOptions*, OrtSession** out))                   \
  ASSAY_ORT_SLOT(9, Run, OrtStatus*,                                                                                            \
                 (OrtSession*, const OrtRunOptions*, const char* const* input_names, const OrtValue* const* inputs,             \
                  size_t input_count, const char* const* output_names, size_t output_count, OrtValue** outputs))                \
  ASSAY_ORT_SLOT(10, CreateSessionOptions, OrtStatus*, (OrtSessionOptions** out))                                               \
  ASSAY_ORT_SLOT(13, SetSessionExecutionMode, OrtStatus*, (OrtSessionOptions*, int mode))                                       \
  ASSAY_ORT_SLOT(17, DisableMemPattern, OrtStatus*, (OrtSessionOptions*))                                                       \
  ASSAY_ORT_SLOT(19, DisableCpuMemArena, OrtStatus*, (OrtSessionOptions*))                                                      \
  ASSAY_ORT_SLOT(23, SetSessionGraphOptimizationLevel, OrtStatus*, (OrtSessionOptions*, int level))                             \
  ASSAY_ORT_SLOT(24, SetIntraOpNumThreads, OrtStatus*, (OrtSessionOptions*, int threads))                                       \
  ASSAY_ORT_SLOT(25, SetInterOpNumThreads, OrtStatus*, (OrtSessionOptions*, int threads))                                       \
  ASSAY_ORT_SLOT(30, SessionGetInputCount, OrtStatus*, (const OrtSession*, size_t* out))                                        \
  ASSAY_ORT_SLOT(31, SessionGetOutputCount, OrtStatus*, (const OrtSession*, size_t* out))                                       \
  ASSAY_ORT_SLOT(33, SessionGetInputTypeInfo, OrtStatus*, (const OrtSession*, size_t index, OrtTypeInfo** out))                 \
  ASSAY_ORT_SLOT(34, SessionGetOutputTypeInfo, OrtStatus*, (const OrtSession*, size_t index, OrtTypeInfo** out))                \
  ASSAY_ORT_SLOT(36, SessionGetInputName, OrtStatus*, (const OrtSession*, size_t index, OrtAllocator*, char** out))             \
  ASSAY_ORT_SLOT(37, SessionGetOutputName, OrtStatus*, (const OrtSession*, size_t index, OrtAllocator*, char** out))            \
  ASSAY_ORT_SLOT(49, CreateTensorWithDataAsOrtValue, OrtStatus*,                                                                \
                 (const OrtMemoryInfo*, void* data, size_t bytes, const int64_t* shape, size_t rank, int type, OrtValue** out)) \
  ASSAY_ORT_SLOT(51, GetTensorMutableData, OrtStatus*, (OrtValue*, void** out))                                                 \
  ASSAY_ORT_SLOT(55, CastTypeInfoToTensorInfo, OrtStatus*, (const OrtTypeInfo*, const OrtTensorInfo** out))                     \
  ASSAY_ORT_SLOT(60, GetTensorElementType, OrtStatus*, (const OrtTensorInfo*, int* out))                                        \
  ASSAY_ORT_SLOT(61, GetDimensionsCount, OrtStatus*, (const OrtTensorInfo*, size_t* out))                                       \
  ASSAY_ORT_SLOT(62, GetDimensions, OrtStatus*, (const OrtTensorInfo*, int64_t* dims, size_t count))                            \
  ASSAY_ORT_SLOT(65, GetTensorTypeAndShape, OrtStatus*, (const OrtValue*, OrtTensorInfo** out))                                 \
  ASSAY_ORT_SLOT(68, CreateMemoryInfo, OrtStatus*,                                                                              \
                 (const char* name, int allocator_type, int id, int memory_type, OrtMemoryInfo** out))                          \
  ASSAY_ORT_SLOT(69, CreateCpuMemoryInfo, OrtStatus*, (int allocator_type, int memory_type, OrtMemoryInfo** out))               \
  ASSAY_ORT_SLOT(75, AllocatorAlloc, OrtStatus*, (OrtAllocator*, size_t bytes, void** out))                                     \
  ASSAY_ORT_SLOT(76, AllocatorFree, OrtStatus*, (OrtAllocator*, void*))                                                         \
  ASSAY_ORT_SLOT(78, GetAllocatorWithDefaultOptions, OrtStatus*, (OrtAllocator** out))                                          \
  ASSAY_ORT_SLOT(92, ReleaseEnv, void, (OrtEnv*))                                                                               \
  ASSAY_ORT_SLOT(93, ReleaseStatus, void, (OrtStatus*))                                                                         \
  ASSAY_ORT_SLOT(94, ReleaseMemoryInfo, void, (OrtMemoryInfo*))                                                                 \
  ASSAY_ORT_SLOT(95, ReleaseSession, void, (OrtSession*))                                                                       \
  ASSAY_ORT_SLOT(96, ReleaseValue, void, (OrtValue*))                                                                           \
  ASSAY_ORT_SLOT(98, ReleaseTypeInfo, void, (OrtTypeInfo*))                                                                     \
  ASSAY_ORT_SLOT(99, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorInfo*))                                                     \
  ASSAY_ORT_SLOT(100, ReleaseSessionOptions, void, (OrtSessionOptions*))                                                        \
  ASSAY_ORT_SLOT(125, GetAvailableProviders, OrtStatus*, (char*** out, int* count))                                             \
  ASSAY_ORT_SLOT(126, ReleaseAvailableProviders, OrtStatus*, (char**, int count))                                               \
  ASSAY_ORT_SLOT(130, AddSessionConfigEntry, OrtStatus*, (OrtSessionOptions*, const char* key, const char* value))              \
  ASSAY_ORT_SLOT(131, CreateAllocator, OrtStatus*, (const OrtSession*, const OrtMemoryInfo*, OrtAllocator** out))               \
  ASSAY_ORT_SLOT(132, ReleaseAllocator, void, (OrtAllocator*))                                                                  \
  ASSAY_ORT_SLOT(133, RunWithBinding, OrtStatus*, (OrtSession*, const OrtRunOptions*, const OrtIoBinding*))                     \
  ASSAY_ORT_SLOT(134, CreateIoBinding, OrtStatus*, (OrtSession*, OrtIoBinding** out))                                           \
  ASSAY_ORT_SLOT(135, ReleaseIoBinding, void, (OrtIoBinding*))                                                                  \
  ASSAY_ORT_SLOT(136, BindInput, OrtStatus*, (OrtIoBinding*, const char* name, const OrtValue*))                                \
  ASSAY_ORT_SLOT(137, BindOutput, OrtStatus*, (OrtIoBinding*, const char* name, const OrtValue*))                               \
  ASSAY_ORT_SLOT(141, ClearBoundInputs, void, (OrtIoBinding*))                                                                  \
  ASSAY_ORT_SLOT(202, SynchronizeBoundInputs, OrtStatus*, (OrtIoBinding*))                                                      \
  ASSAY_ORT_SLOT(203, SynchronizeBoundOutputs, OrtStatus*, (OrtIoBinding*))

// What a session on a CUDA device takes beside them. In the CPU wheel these functions answer that they are not built in.
#define ASSAY_ORT_CUDA_SLOTS(ASSAY_ORT_SLOT)                                                                                    \
  ASSAY_ORT_SLOT(204, AppendExecutionProviderCuda, OrtStatus*, (OrtSessionOptions*, const OrtCudaOptions*))                     \
  ASSAY_ORT_SLOT(205, CreateCudaOptions, OrtStatus*, (OrtCudaOptions** out))                                                    \
  ASSAY_ORT_SLOT(206, UpdateCudaOptions, OrtStatus*,                                                                            \
                 (OrtCudaOptions*, const char* const* keys, const char* const* values, size_t count))                           \
  ASSAY_ORT_SLOT(208, ReleaseCudaOptions, void, (OrtCudaOptions*))
// clang-format on

#define ASSAY_ORT_DECLARE(number, name, result, arguments) result(*name) arguments = nullptr;
#define ASSAY_ORT_TAKE(number, name, result, arguments) \
  name = reinterpret_cast<result(*) arguments>(reinterpret_cast<uintptr_t>(table[number]));

// The slots above as typed function pointers.
struct OrtApi {
  ASSAY_ORT_SLOTS(ASSAY_ORT_DECLARE)
  OrtApi() = default;
  explicit OrtApi(const void* const* table) noexcept { ASSAY_ORT_SLOTS(ASSAY_ORT_TAKE) }
};

struct OrtCudaApi {
  ASSAY_ORT_CUDA_SLOTS(ASSAY_ORT_DECLARE)
  OrtCudaApi() = default;
  explicit OrtCudaApi(const void* const* table) noexcept { ASSAY_ORT_CUDA_SLOTS(ASSAY_ORT_TAKE) }
};

#undef ASSAY_ORT_DECLARE
#undef ASSAY_ORT_TAKE

}  // namespace assay::ort
