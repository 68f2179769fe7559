// Lane: one loaded model version with its row memory, its queue and its runners.
//
// LIFE. Made by create(), put into the lane table, which hands out tickets. A ticket is the right to queue one call: a lane that
// is taken out of the table still takes the calls whose tickets are out, so no call that was admitted is lost to a hot swap.
// close() ends the runners when no ticket is out and the queue is empty; abort() ends them after their present batch and answers
// what is queued with CANCELLED. The row memory lives until the last slot lets go of its shared_ptr.
//
// LOCK. One mutex guards the queue and the life flags. Under it: ring operations and the forming of a batch, nothing that blocks,
// no allocation. Runners, reply queues and the slab are called without it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/serving/batch_former.h"
#include "core/serving/batch_run.h"
#include "core/serving/calls.h"
#include "core/serving/drift_counts.h"
#include "core/serving/engine.h"
#include "core/serving/inline_run.h"
#include "core/serving/lane_memory.h"
#include "core/serving/lane_metrics.h"
#include "core/serving/queue_pace.h"
#include "core/serving/row_queue.h"

namespace assay {

// The right to queue one call. Hands itself back when it is destroyed unused.
class LaneTicket {
 public:
  LaneTicket() = default;
  explicit LaneTicket(std::shared_ptr<Lane> lane) : lane_(std::move(lane)) {}
  LaneTicket(LaneTicket&& other) noexcept : lane_(std::move(other.lane_)) {}
  LaneTicket& operator=(LaneTicket&& other) noexcept {
    lane_.swap(other.lane_);
    return *this;
  }
  ~LaneTicket();

  const std::shared_ptr<Lane>& lane() const noexcept { return lane_; }
  // One more of the same lane, whoever has taken it out of the table meanwhile.
  LaneTicket another() const noexcept;
  // For Lane::enqueue, which hands it back itself.
  std::shared_ptr<Lane> use() noexcept { return std::move(lane_); }

 private:
  std::shared_ptr<Lane> lane_;
};

// What a lane has of its engine. All of it outlives the lane.
struct LaneHome {
  const EngineAudit* audit = nullptr;  // where its scores are recorded; null: nowhere
  Commits* commits = nullptr;
  Explanations& explanations;
  Calls& calls;
  const Clock& clock;
};

// What became of a row that was to be run at once.
enum class InlineOutcome : uint8_t {
  kNotRun,    // nothing has happened: enqueue() it
  kComplete,  // the caller finish()es the call
  kReplied,   // it comes through the call's reply queue: its audit record, or its explanation, is waited for
};

class Lane {
 public:
  // Checks the spec, allocates the row memory; starts nothing. kPlanInvalid, kModelUnsupported, kIo.
  static Status create(LaneSpec spec, const LaneHome& home, std::shared_ptr<Lane>* out);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  const std::shared_ptr<const LaneName>& name() const noexcept { return name_; }
  const std::string& model() const noexcept { return name_->model; }
  const std::string& version() const noexcept { return name_->version; }
  const std::string& provenance() const noexcept { return provenance_; }  // bytes of assay.v1.Provenance
  const LaneOptions& options() const noexcept { return options_; }
  const FeatureReader& reader() const noexcept { return *reader_; }
  const std::shared_ptr<const FeatureReader>& shared_reader() const noexcept { return reader_; }
  const LaneMemory& memory() const noexcept { return memory_; }
  const InferSchema& infer_schema() const noexcept { return infer_schema_; }
  LaneMetrics& metrics() noexcept { return metrics_; }
  const DriftCounts* drift() const noexcept { return drift_.get(); }               // null: none are kept
  const LaneExplanations* explained() const noexcept { return explained_.get(); }  // null: its scores cannot be explained
  std::vector<Decision> decisions() const;                                         // of the thresholds, ascending
  uint32_t queue_rows_max() const noexcept { return queue_.rows_max(); }
  // How long the row that has waited longest for a runner waits now; 0: none waits.
  int64_t oldest_queued_ns(int64_t now_ns) noexcept;

  // Starts the runner threads. kIo.
  Status start();

  // Called by the lane table, under its lock, or by who holds a ticket already.
  void issue_ticket() noexcept { tickets_.fetch_add(1, std::memory_order_relaxed); }
  void return_ticket() noexcept;
  // For who has none and did not ask the table. False: the lane is ending.
  bool try_issue_ticket() noexcept;

  // Whether a call that has `time_left_ns` would be queued now: kOk, kQueueTooLong, kDraining (aborted). To be asked before work is
  // done for it; enqueue() asks again.
  Code check_wait(Priority priority, int64_t time_left_ns) noexcept;
  // Queues all rows of one call, or none: kQueueFull, kQueueTooLong, kDraining (aborted). The rows' slots are kQueued and the call is
  // open. Uses up the ticket. After kOk the slots belong to the runners. Rows of lower priority that gave way are answered through
  // `completions`.
  Code enqueue(LaneTicket ticket, QueuedRow* rows, uint32_t count, Priority priority, CompletionList& completions) noexcept;

  // Runs the only row of a call on this thread, if the lane has an inline runner, it is free and no row of this priority or a higher
  // one waits. The caller holds a ticket.
  InlineOutcome run_inline(const QueuedRow& row, Priority priority) noexcept;

  // Both ends are called once, by whoever took the lane out of the table.
  // Runs every queued row, ends the threads, destroys the runners. Blocks.
  void close() noexcept;
  // Tells the threads to end after their present batch and answers queued rows CANCELLED. join() must follow.
  void abort() noexcept;
  // Waits for the threads and an inline run, and destroys the runners. Blocks.
  void join() noexcept;

  // Without threads: forms one batch at the clock's present time and runs it here.
  size_t step() noexcept;

  // A guess at the bytes of one row's answer, so that a payload grows once.
  size_t answer_bytes_guess() const noexcept { return answer_bytes_guess_.load(std::memory_order_relaxed); }
  void learn_answer_bytes(size_t bytes) noexcept {
    if (bytes > answer_bytes_guess()) answer_bytes_guess_.store(bytes, std::memory_order_relaxed);
  }

 private:
  Lane(LaneSpec& spec, const LaneHome& home);

  Status add_card_run(const std::shared_ptr<Card>& card, std::unique_ptr<Runner> runner, std::unique_ptr<Runner> standby,
                      uint32_t rows_max);
  std::unique_ptr<BatchRun> make_run(std::unique_ptr<Runner> runner, std::unique_ptr<CardRun> card, uint32_t rows_max);
  void serve(BatchRun& run) noexcept;
  void tell_ahead() noexcept { ahead_.store(queue_.size() + running_rows_, std::memory_order_relaxed); }
  bool has_time(Priority priority, int64_t time_left_ns) const noexcept;
  void end_batch(const FormedBatch& batch, uint32_t rows_max, int64_t run_ns) noexcept;
  bool wait_and_form(FormedBatch& batch, uint32_t rows_max, int64_t* formed_ns) noexcept;
  void form(FormedBatch& batch, uint32_t rows_max, int64_t now_ns) noexcept;
  bool take_inline_run(Priority priority, int64_t now_ns) noexcept;
  void give_back_inline_run(int64_t started_ns, int64_t ended_ns) noexcept;
  bool should_wake(bool was_empty, int64_t latest_start_before_ns) const noexcept;

  // Null: scores are not recorded. First: they read the spec, which others take apart.
  const std::unique_ptr<const ScoreAudit> audit_;
  const std::unique_ptr<const ScoreAudit> standby_audit_;  // of the standbys of a card
  const std::shared_ptr<const LaneName> name_;
  const std::string provenance_;
  const LaneOptions options_;
  const bool has_threads_;
  const bool is_background_;
  const bool has_inline_run_;
  const std::shared_ptr<const FeatureReader> reader_;
  const Scoring scoring_;
  const InferSchema infer_schema_;
  const LaneMemory memory_;
  LaneMetrics metrics_;                                // has a lock of its own
  const std::unique_ptr<DriftCounts> drift_;           // so have its shards
  const std::shared_ptr<LaneExplanations> explained_;  // null: its scores cannot be explained
  Explanations& explanations_;
  Calls& calls_;
  const Clock& clock_;
  std::atomic<size_t> answer_bytes_guess_{256};

  std::mutex mutex_;
  std::condition_variable work_;
  RowQueue queue_;                    // guarded by mutex_
  BatchFormer former_;                // guarded by mutex_
  QueuePace pace_;                    // guarded by mutex_
  uint32_t running_rows_ = 0;         // guarded by mutex_
  std::atomic<uint32_t> ahead_{0};    // queue_.size() + running_rows_, for who does not hold mutex_
  std::atomic<uint32_t> tickets_{0};  // up under the table's lock, down under mutex_
  uint32_t idle_runners_ = 0;         // guarded by mutex_
  bool is_closing_ = false;           // guarded by mutex_
  bool is_aborted_ = false;           // guarded by mutex_

  uint32_t rows_max_ = 0;                        // the smallest batch limit of the runners: that many rows fill a batch
  std::vector<std::unique_ptr<BatchRun>> runs_;  // one a runner
  std::unique_ptr<InlineRun> inline_run_;        // null: every row goes through the queue. Its state is guarded by mutex_
  std::unique_ptr<FormedBatch> step_batch_;      // step()'s
  std::atomic<bool> is_stepping_{false};
  std::vector<std::thread> threads_;  // last: they use all of the above, and are joined by close() or abort()
};

}  // namespace assay
