// What OrtRuntime and OrtModel hold. For this room only.
#pragma once

#include <memory>
#include <vector>

#include "core/runtime/ort_library.h"
#include "core/runtime/ort_model.h"
#include "core/runtime/ort_staging.h"

namespace assay {

struct OrtRuntime::Impl {
  std::unique_ptr<ort::OrtLibrary> library;
};

struct OrtModel::Impl {
  std::shared_ptr<OrtRuntime> runtime;
  std::vector<TensorInfo> inputs;
  std::vector<TensorInfo> outputs;
  ort::Owned<ort::OrtSession> session{nullptr, nullptr};  // after `runtime`: freed first
  std::unique_ptr<ort::Staging> staging;                  // after `session`
  bool binds = false;
};

}  // namespace assay
