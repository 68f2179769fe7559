// The proof that the slot table fits the opened library: a tiny model with inputs of all five types through every slot used.
#pragma once

#include <memory>

#include "core/runtime/ort_model.h"

namespace assay::ort {

// kRuntimeUnavailable says which step gave another answer than the known one.
Status self_check(const std::shared_ptr<OrtRuntime>& runtime);

}  // namespace assay::ort
