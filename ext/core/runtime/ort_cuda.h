// A session's options for a CUDA device.
#pragma once

#include <cstdint>

#include "core/runtime/ort_library.h"

namespace assay::ort {

// Puts the CUDA device before the CPU in `session`. `memory_bytes_max` bounds the arena there; 0: no limit.
//
// Opens ONNX Runtime's CUDA provider and the driver, so this is where a missing or mismatched library shows: kRuntimeUnavailable
// with ONNX Runtime's words.
Status append_cuda(const OrtLibrary& library, int device, uint64_t memory_bytes_max, OrtSessionOptions* session);

}  // namespace assay::ort
