// Explanations: why scores are what they are, in nobody's way.
//
//   scored row -- offer() --> queue (rows_max) --> this thread --> a desk (explain_desk.h) --> this thread --> audit log, answer
//
// There are two lines, each with desks of its own, so that neither holds up the other: rows that are computed, by workers
// (explain_worker.h), and rows whose model must be asked (sampling_desk.h).
//
// A row that waits for its explanation (inline) is kExplaining and belongs to this class; it ends when the explanation is there or its
// time is up, or its call was cancelled, whichever comes first, and never later: what a desk is busy with then is forgotten. One
// whose explanation comes later goes on at once, and the explanation goes into the audit log by itself. What finds no room, or would be
// late by what is known, is shed: scores go before explanations. Interactive rows go before bulk ones, which what comes later is, too.
//
// A worker that ends, or that has not come back after kStuckNs, is no use: where rows are late for that, a few of them, nothing is taken
// for a while (breaker.h). A row that is late for its caller's want of patience says nothing of a worker. One that has ended is started
// anew.
//
// THREADS. offer(): runners and submitting threads; one lock, held for a push. The rest is done by one thread of normal priority, which
// shares no lock with the workers' but their own.
#pragma once

#include <poll.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/serving/breaker.h"
#include "core/serving/calls.h"
#include "core/serving/explain_desk.h"
#include "core/serving/explain_options.h"
#include "core/serving/lane_explanations.h"
#include "core/serving/row_queue.h"
#include "core/serving/row_recorder.h"

namespace assay {

class Explanations {
 public:
  static constexpr int64_t kStuckNs = 250'000'000;

  Explanations(const ExplainOptions& options, Calls& calls, const Clock& clock);
  ~Explanations();  // stop()s
  Explanations(const Explanations&) = delete;
  Explanations& operator=(const Explanations&) = delete;

  // Starts the threads, once there is something to explain. Idempotent. kIo.
  Status enable();

  // Whether the score of a row, which is not made yet and has a RowExplanation, may have to wait for it. False: offer() says so too.
  // Asked where a row is run at once: one that nobody waits for is given back at once, too. REQUIRES: the row's slot is the caller's.
  bool may_wait(uint32_t row, const LaneExplanations& lane) noexcept;

  // A row that was scored, and has a RowExplanation. True: it is kExplaining and ends here. False: the caller ends it, and its status is
  // set. REQUIRES: the row's slot is the caller's.
  bool offer(uint32_t row, const std::shared_ptr<LaneExplanations>& lane, const RecordedLane& recorded,
             size_t row_bytes) noexcept;

  // Asks no model any more for what comes later: rows that nobody waits for would hold slots, and with them the end of the server.
  void drain() noexcept;
  // Ends what waits without an explanation, takes nothing more, ends the threads. Idempotent. May block.
  void stop() noexcept;
  // Without threads: one look. Returns how many rows it ended or explained.
  size_t step() noexcept;
  ExplainStats stats() const noexcept;

 private:
  // What is asked for. It keeps its lane, whoever else lets go of that.
  struct Task {
    uint32_t row = kNoSlot;  // that waits; none: it comes later
    Priority rank = Priority::kBulk;
    int64_t deadline_ns = 0;
    std::shared_ptr<Lane> lane;
    std::shared_ptr<LaneExplanations> explanations;
    RecordedLane recorded;
    ExplainJob job;
    std::string record_head;  // of one that comes later: its ExplanationRecord's first fields
  };
  struct Place {
    std::unique_ptr<ExplainDesk> desk;
    std::unique_ptr<Task> task;  // what the desk is busy with; null: nothing, or it was given up
    bool is_busy = false;
    int64_t given_ns = 0;  // when it was
  };
  struct Line {
    std::array<std::atomic<uint32_t>, kPriorityCount> rows{};  // that wait, or are worked on
    std::atomic<int64_t> row_ns{0};                            // what a row takes, a moving average
    std::array<std::deque<std::unique_ptr<Task>>, kPriorityCount> waiting;
    std::vector<Place> places;

    // Of this priority and of those that go before it; of the last: all.
    uint32_t rows_before(size_t priority) const noexcept;
    bool is_stuck(int64_t now_ns) const noexcept;
    bool has_waiting() const noexcept;
    std::unique_ptr<Task> next() noexcept;
    int64_t next_deadline_ns() const noexcept;
  };

  Priority rank_of(const Slot& slot) const noexcept;
  int64_t deadline_of(const Slot& slot, const ExplainRequest& request, int64_t now_ns) const noexcept;
  ExplanationStatus refusal(LaneExplanations& lane, Priority rank, int64_t now_ns, int64_t deadline_ns) noexcept;
  ExplanationStatus refusal_by_load(const LaneExplanations& lane, Priority rank, int64_t now_ns,
                                    int64_t deadline_ns) const noexcept;
  int64_t wall_us_of(int64_t stamp_ns) const noexcept;
  std::unique_ptr<Task> make_task(uint32_t row, const std::shared_ptr<LaneExplanations>& lane, const RecordedLane& recorded,
                                  size_t row_bytes, int64_t deadline_ns) const;
  bool push(std::unique_ptr<Task> task);
  void tell() noexcept;

  void serve() noexcept;
  size_t look() noexcept;
  void take_new() noexcept;
  Line& line_of(const LaneExplanations& explanations) noexcept { return explanations.model->is_asked() ? asked_ : computed_; }
  const Line& line_of(const LaneExplanations& explanations) const noexcept {
    return explanations.model->is_asked() ? asked_ : computed_;
  }
  size_t take_results(Line& line, int64_t now_ns) noexcept;
  bool has_tensors(const Task& task) const noexcept;
  bool is_awaited(const Task& task) const noexcept;
  size_t give_up_late(Line& line, int64_t now_ns) noexcept;
  void tend_workers() noexcept;
  void give_work(Line& line) noexcept;
  size_t compute_waiting() noexcept;
  void settle(std::unique_ptr<Task> task, ExplainResult result) noexcept;
  void end(std::unique_ptr<Task> task, ExplainResult result) noexcept;
  void end_all(Line& line) noexcept;
  void await() noexcept;

  const ExplainOptions options_;
  Calls& calls_;
  const Clock& clock_;
  const int wake_fd_;  // an eventfd
  Breaker breaker_;    // of workers that do not come back
  Line computed_, asked_;
  std::atomic<bool> is_draining_{false}, is_stopping_{false};

  std::mutex mutex_;
  std::array<std::vector<std::unique_ptr<Task>>, kPriorityCount> new_;  // guarded by mutex_

  // --- the thread's, as is of the lines all but their numbers
  std::vector<pollfd> wakes_;  // wake_fd_, and what the desks have
  RowRecorder recorder_;
  CompletionList completions_;
  mutable std::mutex enabling_;  // held while threads are started
  std::thread thread_;
};

}  // namespace assay
