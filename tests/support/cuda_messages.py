"""What the real wheels of ONNX Runtime for CUDA said, word for word but for the machine's paths and name, and what that means.

Seen through the C API of onnxruntime-gpu 1.31.1 (CUDA 13) and 1.26.0 (CUDA 12) on a machine without a card: as it was installed;
with the nvidia wheels; with a driver library whose cuInit() fails by a chosen number; with cudaGetDeviceCount(), cudaMalloc(),
cublasCreate() and cudaMemcpyAsync() played, so that ONNX Runtime's own code failed further on. Nothing of it was seen on a card.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    wheel: str
    step: str  # of the core: update (options), append, session, run; "create": CreateCUDAProviderOptions
    text: str
    says: str  # part of the reason that explain() gives
    advises: str  # part of what it says to do


_GET = "onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : "
_GET_131 = f"/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 {_GET}"
_GET_126 = f"/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:1962 {_GET}"
_CAPI = "/srv/venv/lib/python3.11/site-packages/onnxruntime/capi"
_ABSENT = "cannot open shared object file: No such file or directory\n"
_INFO = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider_info.cc"
_PARSE = (
    "static onnxruntime::CUDAExecutionProviderInfo onnxruntime::CUDAExecutionProviderInfo::FromProviderOptions("
    "const onnxruntime::ProviderOptions&) [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse Failed to parse "
    'provider option "device_id": '
)
_COUNT = f" ; GPU=-1 ; hostname=scorer-7 ; file={_INFO} ; line=70 ; expr=cudaGetDeviceCount(&num_devices); \n"
_CALL = (
    "std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, "
    "SUCCTYPE, const char*, const char*, int) [with ERRTYPE = {kind}; bool THRW = true; SUCCTYPE = {kind}; "
    "std::conditional_t<THRW, void, common::Status> = void] "
)


def _thrown(kind: str, first: int, second: int, failure: str, line: int, expression: str) -> str:
    """A CUDA call that throws: its own place twice, the failure, the caller's place."""
    place = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc"
    call = _CALL.format(kind=kind)
    caller = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc"
    return (
        f"{place}:{first} {call}{place}:{second} {call}{failure} ; GPU=-1 ; hostname=scorer-7 ; file={caller} ; line={line} ; "
        f"expr={expression}; \n\n"
    )


_ARENA = (
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, "
    "onnxruntime::Stream*) Failed to allocate memory for requested buffer of size "
)
_COPY = (
    " ; GPU=0 ; hostname=scorer-7 ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/gpu_data_transfer.cc ; line=91 ; "
    "expr=cudaMemcpyAsync(dst_data, src_data, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream.GetHandle())); "
)


def _options(failure: str) -> str:
    return f"{_INFO}:63 {_PARSE}{failure}{_COUNT}"


CPU_WHEEL = Message(
    "onnxruntime 1.32.0", "create", "CUDA execution provider is not enabled in this build.", "the one for the CPU", ".[gpu]"
)
NO_LIBRARIES_13 = Message(
    "1.31.1",
    "update",
    f"{_GET_131}Failed to load library {_CAPI}/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: {_ABSENT}",
    "libcublasLt.so.13 is missing",
    "pip install '.[gpu]',",
)
NO_LIBRARIES_12 = Message(
    "1.26.0",
    "update",
    f"{_GET_126}Failed to load library {_CAPI}/libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: {_ABSENT}",
    "libcublasLt.so.12 is missing",
    "pip install '.[gpu-cu12]',",
)
NO_CUDNN = Message(
    "1.26.0",
    "update",
    f"{_GET_126}Failed to load library {_CAPI}/libonnxruntime_providers_cuda.so with error: libcudnn.so.9: {_ABSENT}",
    "libcudnn.so.9 is missing",
    "'.[gpu-cu12]' or '.[gpu]'",
)
NO_DRIVER_LIBRARY = Message(
    "1.31.1",
    "update",
    f"{_GET_131}Failed to load library {_CAPI}/libonnxruntime_providers_cuda.so with error: libcuda.so.1: {_ABSENT}",
    "no NVIDIA driver",
    "R580",
)
NO_PROVIDER = Message(
    "1.26.0",
    "update",
    f"{_GET_126}Failed to load library {_CAPI}/libonnxruntime_providers_cuda.so with error: "
    f"{_CAPI}/libonnxruntime_providers_cuda.so: {_ABSENT}",
    "lacks its libonnxruntime_providers_cuda.so",
    "--force-reinstall",
)
NO_SHARED_PROVIDER = Message(
    "1.26.0",
    "update",
    f"{_GET_126}Failed to load library {_CAPI}/libonnxruntime_providers_shared.so with error: "
    f"{_CAPI}/libonnxruntime_providers_shared.so: {_ABSENT}",
    "lacks its libonnxruntime_providers_shared.so",
    "--force-reinstall",
)
FOREIGN_PROVIDER = Message(
    "1.26.0",
    "update",
    f"{_GET_126}Failed to get symbol GetProvider with error: {_CAPI}/libonnxruntime_providers_cuda.so: "
    "undefined symbol: GetProvider\n",
    "different versions are mixed",
    "LD_LIBRARY_PATH",
)
OLD_DRIVER_AT_OPTIONS = Message(
    "1.31.1",
    "update",
    _options("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"),
    "too old for the wheel's CUDA",
    "from R525 on pip install '.[gpu-cu12]'",
)
OLD_DRIVER_AT_SESSION = Message(
    "1.26.0",
    "session",
    _thrown(
        "cudaError",
        122,
        114,
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
        336,
        "cudaSetDevice(info_.device_id)",
    ),
    "too old for the wheel's CUDA",
    "R580",
)
NO_DEVICE = Message(
    "1.31.1",
    "update",
    _options("CUDA failure 100: no CUDA-capable device is detected"),
    "sees no card",
    "CUDA_VISIBLE_DEVICES",
)
WRONG_DEVICE = Message(
    "1.31.1",
    "update",
    f"{_INFO}:63 {_PARSE}cuda_execution_provider_info.cc:71 operator() Invalid device ID: 3, must be between 0 (inclusive) and 1 "
    "(exclusive).\n",
    "no device cuda:3, CUDA sees 1",
    "CUDA_VISIBLE_DEVICES",
)
NOT_INITIALISED = Message(
    "1.31.1",
    "update",
    _options("CUDA failure 802: system not yet initialized"),
    "does not start: system not yet initialized",
    "fabricmanager",
)
MIXED_DRIVER = Message(
    "1.31.1",
    "update",
    _options("CUDA failure 803: system has unsupported display driver / cuda driver combination"),
    "do not fit together",
    "restart the machine",
)
MEMORY_AT_SESSION = Message(
    "1.31.1",
    "session",
    "Exception during initialization: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 "
    + _ARENA
    + "buffer of size 256\n",
    "too little memory",
    "cuda.memory_bytes_max",
)
MEMORY_OF_CUBLAS = Message(
    "1.31.1",
    "session",
    "Exception during initialization: "
    + _thrown(
        "cublasStatus_t", 154, 146, "CUBLAS failure 3: the resource allocation failed", 245, "cublasCreate(&cublas_handle_)"
    ),
    "too little memory",
    "nvidia-smi",
)
CUBLAS_NOT_INITIALISED = Message(
    "1.31.1",
    "session",
    "Exception during initialization: "
    + _thrown(
        "cublasStatus_t", 154, 146, "CUBLAS failure 1: the library was not initialized", 245, "cublasCreate(&cublas_handle_)"
    ),
    "CUBLAS failure 1: the library was not initialized",
    "assay doctor",
)
MEMORY_AT_RUN = Message(
    "1.31.1",
    "run",
    f"{_ARENA}36000000\n",
    "too little memory",
    "lane.batch_rows_max",
)
ILLEGAL_ADDRESS_AT_RUN = Message(
    "1.31.1",
    "run",
    "CUDA failure 700: an illegal memory access was encountered" + _COPY,
    "no later call of this process can use it",
    "Xid",
)

MESSAGES = {name.lower(): value for name, value in list(globals().items()) if isinstance(value, Message)}

# The texts of cudaGetErrorString() of both runtimes (13.5.37 and 12.9.79), as ONNX Runtime writes them.
ERROR_STRINGS = {
    2: "out of memory",
    3: "initialization error",
    46: "CUDA-capable device(s) is/are busy or unavailable",
    101: "invalid device ordinal",
    209: "no kernel image is available for execution on the device",
    214: "uncorrectable ECC error encountered",
    222: "the provided PTX was compiled with an unsupported toolchain.",
    702: "the launch timed out and was terminated",
    710: "device-side assert triggered",
    719: "unspecified launch failure",
    804: "forward compatibility was attempted on non supported HW",
}
