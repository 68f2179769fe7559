// ExplainWorker: a thread that explains one row at a time, at the lowest priority.
//
//   kIdle -- give() --> kBusy -- the thread --> kDone -- take() --> kIdle
//
// It works on copies alone: whoever gave the work may forget it at any time, and nothing that a score needs is held up by a worker that
// hangs or ends. It shares no lock with threads that score: one that holds a lock and gets no processor would hold them up.
//
// THREADS. All but the work itself belongs to one thread, the worker's owner.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/explain/explained_model.h"
#include "core/serving/explain_request.h"

namespace assay {

struct ExplainJob {
  std::shared_ptr<const explain::ExplainedModel> model;
  std::vector<uint8_t> row;  // finished
  explain::Players players = explain::Players::kGroups;
  uint32_t top_k = 0;
  double score = 0.0;  // that was given
};

struct ExplainResult {
  bool adds_up = false;  // to the score that was given; else there is nothing
  std::string answer;    // an assay.v1.Explanation
  std::string record;    // an assay.v1.ExplanationRecord
  int64_t took_ns = 0;
};

// For tests: what befalls a worker when it begins to explain. Called on the worker's thread; it may hang.
class ExplainFaults {
 public:
  enum class Fault : uint8_t { kNone, kEnds, kWrong };

  virtual ~ExplainFaults() = default;
  virtual Fault next() noexcept = 0;
};

class ExplainWorker {
 public:
  // `done_fd`: an eventfd, written when a job is done and when the thread ends. It, `clock` and `faults` (null: none) outlive the worker.
  ExplainWorker(int done_fd, const Clock& clock, ExplainFaults* faults) : done_fd_(done_fd), clock_(clock), faults_(faults) {}
  // REQUIRES: stop(), if it was started.
  ~ExplainWorker();
  ExplainWorker(const ExplainWorker&) = delete;
  ExplainWorker& operator=(const ExplainWorker&) = delete;

  // Starts the thread, or another in place of one that has ended. kIo.
  Status start();
  // Waits for the job at hand. Idempotent. May block.
  void stop() noexcept;

  bool is_alive() const noexcept { return is_alive_.load(std::memory_order_acquire); }
  bool is_idle() const noexcept;
  // REQUIRES: is_idle().
  void give(ExplainJob job);
  // The result of the job at hand, and makes the worker idle. False: it is not done.
  bool take(ExplainResult* result);

 private:
  enum class State : uint8_t { kIdle, kBusy, kDone };

  void serve() noexcept;
  bool wait_for_job(ExplainJob* job);
  void tell() noexcept;

  const int done_fd_;
  const Clock& clock_;
  ExplainFaults* const faults_;
  std::atomic<bool> is_alive_{false};
  mutable std::mutex mutex_;
  std::condition_variable work_;
  State state_ = State::kIdle;  // guarded by mutex_, with the next three
  bool is_stopping_ = false;
  ExplainJob job_;
  ExplainResult result_;
  std::thread thread_;
};

// Explains the job's row on this thread.
ExplainResult explain_row(const ExplainJob& job);

}  // namespace assay
