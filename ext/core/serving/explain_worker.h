// ExplainWorker: the desk of rows whose explanation is computed: a thread of the lowest priority.
//
// It works on copies alone: whoever gave the work may forget it at any time, and nothing that a score needs is held up by a worker that
// hangs or ends. It shares no lock with threads that score: one that holds a lock and gets no processor would hold them up.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/base/clock.h"
#include "core/serving/explain_desk.h"

namespace assay {

// For tests: what befalls a worker when it begins to explain. Called on the worker's thread; it may hang.
class ExplainFaults {
 public:
  enum class Fault : uint8_t { kNone, kEnds, kWrong };

  virtual ~ExplainFaults() = default;
  virtual Fault next() noexcept = 0;
};

class ExplainWorker final : public ExplainDesk {
 public:
  // `done_fd`: an eventfd, written when a job is done and when the thread ends. It, `clock` and `faults` (null: none) outlive the worker.
  ExplainWorker(int done_fd, const Clock& clock, ExplainFaults* faults) : done_fd_(done_fd), clock_(clock), faults_(faults) {}
  // REQUIRES: stop(), if it was started.
  ~ExplainWorker() override;
  ExplainWorker(const ExplainWorker&) = delete;
  ExplainWorker& operator=(const ExplainWorker&) = delete;

  // Starts the thread, or another in place of one that has ended. kIo.
  Status start() override;
  // Waits for the job at hand.
  void stop() noexcept override;

  bool is_alive() const noexcept override { return is_alive_.load(std::memory_order_acquire); }
  bool is_idle() const noexcept override;
  void give(ExplainJob job) override;
  bool take(int64_t now_ns, ExplainResult* result) override;

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

// Explains the job's row on this thread. REQUIRES: its model is not asked.
ExplainResult explain_row(const ExplainJob& job);

}  // namespace assay
