// FaultyModel: a model that goes wrong as a card does, by script, for tests of what happens then. Wraps another model's runners.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/serving/runner.h"

namespace assay {

enum class FaultKind : uint8_t {
  kError,  // the run fails with a text
  kHang,   // the run waits for release(), then goes on
  kNan,    // the run succeeds, and a row's outputs are NaN
};

// Which runs go wrong, and how.
struct FaultRule {
  FaultKind kind = FaultKind::kError;
  std::string text;       // of kError: as ONNX Runtime would say it
  uint64_t rows_min = 1;  // of runs of so many rows
  uint64_t rows_max = UINT64_MAX;
  uint64_t first_run = 0;          // counted from 0, over all runners, since the model was made
  uint64_t runs_max = UINT64_MAX;  // so many of them
  int64_t nan_row = -1;            // of kNan: which row of the batch; -1: all
};

// Shared by its runners. Thread-safe.
class FaultyModel {
 public:
  // The runner keeps the model alive. Its errors mean what ONNX Runtime's mean (run_faults.h).
  static std::unique_ptr<Runner> wrap(std::shared_ptr<FaultyModel> model, std::unique_ptr<Runner> inner);

  void add(const FaultRule& rule);
  void clear() noexcept;                  // nothing goes wrong from now on; runs that hang go on
  void release() noexcept;                // runs that hang go on, and no more hang by rules of now
  std::vector<uint64_t> batches() const;  // rows of each run so far, failed ones included
  uint64_t hanging() const noexcept;      // runs that hang right now

 private:
  friend class FaultyRunner;
  // Counts the run; waits where it hangs. The rule that it falls under; kHang: none any more.
  bool begin_run(uint64_t rows, FaultRule* out) noexcept;

  mutable std::mutex mutex_;
  std::condition_variable released_;  // with mutex_
  std::vector<FaultRule> rules_;      // guarded by mutex_, as are the rest
  std::vector<uint64_t> batches_;
  uint64_t hanging_ = 0;
  uint64_t releases_ = 0;
};

}  // namespace assay
