// CardThread: runs a card's runner on a thread of its own, so that whoever waits for a run can stop waiting.
//
// A call into CUDA cannot be ended from outside. The lane's thread gathers, hands the run over and waits, but never longer than it
// likes; a run that it gave up goes on, and until it is back the runner is not to be touched. A thread that never comes back is left
// behind with its runner: both live in memory that the thread itself owns a share of.
//
// STATES  idle -> running (run) -> done (the thread) -> idle (run, or take_late);  by the lane's thread alone, but for done.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "core/base/clock.h"
#include "core/serving/runner.h"

namespace assay {

class CardThread {
 public:
  // Starts the thread. Throws std::system_error where there is none to be had.
  CardThread(std::unique_ptr<Runner> runner, const Clock& clock);
  // Waits for a thread that is idle; leaves one that runs behind.
  ~CardThread();
  CardThread(const CardThread&) = delete;
  CardThread& operator=(const CardThread&) = delete;

  // Not while is_running().
  Runner& runner() noexcept { return *shared_->runner; }

  // Runs the gathered rows and waits until `give_up_ns`. Nothing: it is not back; is_running() from now on. REQUIRES: !is_running().
  std::optional<Status> run(size_t count, int64_t give_up_ns) noexcept;

  // A run was given up and has not been taken.
  bool is_running() const noexcept { return is_given_up_; }
  // What the given-up run came back with; nothing while it has not. Its scores are lost.
  std::optional<Status> take_late() noexcept;

 private:
  enum class State : uint8_t { kIdle, kRunning, kDone, kEnding };
  struct Shared {
    std::unique_ptr<Runner> runner;
    std::mutex mutex;
    std::condition_variable changed;
    State state = State::kIdle;  // guarded by mutex, as are the rest
    size_t count = 0;
    Status status;
  };
  static void serve(Shared& shared) noexcept;

  const std::shared_ptr<Shared> shared_;
  const Clock& clock_;
  bool is_given_up_ = false;
  std::thread thread_;
};

}  // namespace assay
