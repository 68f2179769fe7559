// Runner: what runs batches. ONNX Runtime in production (runtime/ort_runner.h), a puppet in tests.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/status.h"
#include "core/base/value.h"

namespace assay {

// One output of the last run. Rows are consecutive; element (i, j) is data[i * row_elements + j].
struct OutputView {
  TensorType type = TensorType::kFloat32;
  const void* data = nullptr;
  size_t row_elements = 0;
};

// What a failed run means for what comes after it.
enum class Fault : uint8_t {
  kOther,        // this run failed; the next may not
  kOutOfMemory,  // the batch was too large for what memory is left
  kSticky,       // no later run of this process can succeed on this device
};

// Owned by a lane and used by one thread at a time. Never called with a lock held.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual size_t rows_max() const noexcept = 0;
  // Gathers `count` finished rows (1..rows_max) into the matrix: one copy per tensor segment and row.
  virtual void gather(const uint8_t* const* rows, size_t count) noexcept = 0;
  // Runs the gathered rows. May take long; must return. After a failure gather() and run() may be called again.
  virtual Status run(size_t count) noexcept = 0;
  // Output `index` of the last run that returned kOk; valid until the next gather().
  virtual OutputView output(size_t index) const noexcept = 0;
  // What the status of a failed run() means. Any thread.
  virtual Fault fault_of(const Status& status) const noexcept {
    (void)status;
    return Fault::kOther;
  }
};

}  // namespace assay
