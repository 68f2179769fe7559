// PuppetModel: a model without ONNX Runtime, for tests of everything around it. Its score is a fixed function of the row's bytes,
// so that a row that got another row's score shows; it fails and waits when told.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/serving/runner.h"

namespace assay {

// Shared by its runners. Thread-safe.
class PuppetModel {
 public:
  explicit PuppetModel(size_t rows_max) : rows_max_(rows_max) {}

  // In [0, 1), from all bytes of the row.
  static double score_of(std::string_view row) noexcept;

  // The runner has one output: float64, one element a row. It keeps the model alive.
  static std::unique_ptr<Runner> make_runner(std::shared_ptr<PuppetModel> model, size_t row_bytes);

  size_t rows_max() const noexcept { return rows_max_; }
  void fail_next(uint64_t runs) noexcept;  // the next `runs` runs fail
  void poison(std::string_view row);       // any batch that holds this row fails
  void hold() noexcept;                    // runs wait until release()
  void release() noexcept;
  std::vector<uint64_t> batches() const;  // rows of each run so far, from the moment it started

 private:
  friend class PuppetRunner;
  // Counts the run, waits while held, says how it ends.
  Status begin_run(const std::vector<std::string_view>& rows) noexcept;

  const size_t rows_max_;
  mutable std::mutex mutex_;
  std::condition_variable released_;  // with mutex_
  bool is_held_ = false;              // the rest is guarded by mutex_
  uint64_t runs_to_fail_ = 0;
  std::vector<std::string> poisoned_;
  std::vector<uint64_t> batches_;
};

}  // namespace assay
