#include "core/runtime/run_faults.h"

#include <algorithm>

namespace assay {
namespace {

struct Known {
  std::string_view part;  // of the text
  Fault fault;
};

// Sticky: CUDA's context of this process is lost, every later call fails. The numbers are cudaError_t's, which never change:
//   214 ECC, 220 NVLink, 226 contained ECC, 700 illegal address, 702 launch timeout, 710 assert, 714 hardware stack,
//   715 illegal instruction, 716 misaligned address, 717 address space, 718 program counter, 719 launch failure,
//   721 cluster launch, 999 unknown: the driver has lost the card.
constexpr Known kTable[] = {
    {"CUDA failure 214:", Fault::kSticky},
    {"CUDA failure 220:", Fault::kSticky},
    {"CUDA failure 226:", Fault::kSticky},
    {"CUDA failure 700:", Fault::kSticky},
    {"CUDA failure 702:", Fault::kSticky},
    {"CUDA failure 710:", Fault::kSticky},
    {"CUDA failure 714:", Fault::kSticky},
    {"CUDA failure 715:", Fault::kSticky},
    {"CUDA failure 716:", Fault::kSticky},
    {"CUDA failure 717:", Fault::kSticky},
    {"CUDA failure 718:", Fault::kSticky},
    {"CUDA failure 719:", Fault::kSticky},
    {"CUDA failure 721:", Fault::kSticky},
    {"CUDA failure 999:", Fault::kSticky},
    {"an illegal memory access was encountered", Fault::kSticky},
    {"unspecified launch failure", Fault::kSticky},
    // Out of memory: of the arena, of CUDA, of cuBLAS, of cuDNN.
    {"Failed to allocate memory for requested buffer", Fault::kOutOfMemory},
    {"Available memory of", Fault::kOutOfMemory},  // "... is smaller than requested bytes of": the arena's limit
    {"CUDA failure 2:", Fault::kOutOfMemory},
    {"CUDA error 2:", Fault::kOutOfMemory},
    {"CUBLAS failure 3:", Fault::kOutOfMemory},
    {"CUBLAS_STATUS_ALLOC_FAILED", Fault::kOutOfMemory},
    {"CUDNN_STATUS_ALLOC_FAILED", Fault::kOutOfMemory},
    {"CUDNN failure 2:", Fault::kOutOfMemory},  // cuDNN 8
    {"CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", Fault::kOutOfMemory},
    {"CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", Fault::kOutOfMemory},
    {"CUFFT failure 2:", Fault::kOutOfMemory},
};

}  // namespace

Fault run_fault(std::string_view text) noexcept {
  const auto found = std::find_if(std::begin(kTable), std::end(kTable),
                                  [&](const Known& known) { return text.find(known.part) != std::string_view::npos; });
  return found == std::end(kTable) ? Fault::kOther : found->fault;
}

}  // namespace assay
