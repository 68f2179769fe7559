// BatchRun: one runner and the work of one batch on it: gather, check deadlines, run, scatter.
//
// On a card there are two: the card's, and its standby on the CPU, which runs what the card cannot (card_run.h has the ladder). What a
// row is scored by is no other row's business: a batch may be split between the two.
//
// A batch that fails is halved and each half is run again, down to single rows, so that one bad row fails alone. At most 2n - 1
// runs for n rows; before each of them rows that nobody waits for are dropped. Used by one thread at a time; takes no lock but
// the metrics' and its drift shard's.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/clock.h"
#include "core/serving/batch_former.h"
#include "core/serving/calls.h"
#include "core/serving/card_run.h"
#include "core/serving/drift_counts.h"
#include "core/serving/engine.h"
#include "core/serving/explanations.h"
#include "core/serving/lane_memory.h"
#include "core/serving/lane_metrics.h"
#include "core/serving/row_recorder.h"
#include "core/serving/runner.h"
#include "core/serving/score_audit.h"

namespace assay {

// How an output becomes a score and a decision.
struct Scoring {
  bool has_score = true;  // false: the model has no feature set, and no output of it is called a score
  uint32_t output = 0;
  uint32_t column = 0;
  std::vector<Threshold> thresholds;  // ascending

  Decision decide(double score) const noexcept;
};

// Where scores are recorded: those of the CPU, those of a card. Null: nowhere.
struct RunAudit {
  const ScoreAudit* cpu = nullptr;
  const ScoreAudit* card = nullptr;
};

// What a run has of its lane. All of it outlives the run.
struct RunLane {
  const LaneMemory& memory;
  const Scoring& scoring;
  const InferSchema& schema;
  const RunAudit audit;
  LaneMetrics& metrics;
  DriftShard* const drift;  // null: nothing is counted
  const size_t row_bytes;
  const std::shared_ptr<LaneExplanations>& explained;  // null: its scores cannot be explained
  Explanations& explanations;
};

class BatchRun {
 public:
  // `runner`: on the CPU. `card`: null where there is none; else it is asked first.
  BatchRun(std::unique_ptr<Runner> runner, std::unique_ptr<CardRun> card, uint32_t rows_max, const RunLane& lane, Calls& calls,
           const Clock& clock);

  uint32_t rows_max() const noexcept { return rows_max_; }

  // Answers what form() handed back and runs the rest. Every row of the batch ends here, or waits for its audit record alone;
  // finished calls are pushed, one wake a queue.
  void run(FormedBatch& batch, int64_t formed_ns) noexcept;

 private:
  struct Range {
    uint32_t first;
    uint32_t count;
  };

  bool run_on_cpu(QueuedRow* rows, uint32_t count) noexcept;
  void run_on_card(QueuedRow* rows, uint32_t count) noexcept;
  void run_range_on_card(QueuedRow* rows, Range range) noexcept;
  void halve(const QueuedRow* rows, Range range, std::vector<Range>& ranges) noexcept;
  uint32_t prepare(Runner& runner, QueuedRow* rows, uint32_t count) noexcept;
  void gather(Runner& runner, const QueuedRow* rows, uint32_t count) noexcept;
  uint32_t drop_dead(QueuedRow* rows, uint32_t count, int64_t now_ns) noexcept;
  void scatter(const Runner& runner, const QueuedRow* rows, uint32_t count) noexcept;
  void put_back(const QueuedRow* rows, uint32_t count) noexcept;
  CallKind kind_of(uint32_t index) const noexcept;
  bool take_score(const OutputView& view, const QueuedRow& row, uint32_t at, bool is_card) noexcept;
  bool take_outputs(const Runner& runner, const QueuedRow& row, uint32_t at) noexcept;
  void count_drift() noexcept;
  void mark_scored(Slot& slot, int64_t scored_ns, uint32_t batch_rows) noexcept;
  void leave_to_explanations(const RecordedLane& recorded) noexcept;
  void fail_row(uint32_t index, const Status& status) noexcept;

  const std::unique_ptr<Runner> runner_;
  const std::unique_ptr<CardRun> card_;  // null: none
  const uint32_t rows_max_;
  const RunLane lane_;
  Calls& calls_;
  const Clock& clock_;
  RowRecorder recorder_;
  CompletionList completions_;
  std::vector<const uint8_t*> pointers_;
  std::vector<Range> ranges_;        // still to run on the CPU
  std::vector<Range> card_ranges_;   // of the batch, still to be given to the card
  std::vector<QueuedRow> odd_rows_;  // of one run on the card: those with scores, or outputs, that are not finite
  std::vector<uint32_t> scored_;     // of one run, still to be ended
};

}  // namespace assay
