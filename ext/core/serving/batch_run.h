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
#include "core/serving/lane_memory.h"
#include "core/serving/lane_metrics.h"
#include "core/serving/runner.h"
#include "core/serving/score_audit.h"

namespace assay {

// How an output becomes a score and a decision.
struct Scoring {
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

class BatchRun {
 public:
  // `runner`: on the CPU. `card`: null where there is none; else it is asked first.
  // `drift`: null where nothing is counted.
  BatchRun(std::unique_ptr<Runner> runner, std::unique_ptr<CardRun> card, uint32_t rows_max, const LaneMemory& memory,
           const Scoring& scoring, const RunAudit& audit, LaneMetrics& metrics, DriftShard* drift, Calls& calls,
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
  void count_drift() noexcept;
  bool score_row(uint32_t index, double score, int64_t scored_ns, uint32_t batch_rows) noexcept;
  void record_rows(const ScoreAudit& audit) noexcept;
  void record_row(const ScoreAudit& audit, uint32_t index, int64_t wall_us) noexcept;
  void hand_over(const ScoreAudit& audit) noexcept;
  void fail_row(uint32_t index, const Status& status) noexcept;

  const std::unique_ptr<Runner> runner_;
  const std::unique_ptr<CardRun> card_;  // null: none
  const uint32_t rows_max_;
  const LaneMemory& memory_;
  const Scoring& scoring_;
  const RunAudit audit_;
  LaneMetrics& metrics_;
  DriftShard* const drift_;
  Calls& calls_;
  const Clock& clock_;
  CompletionList completions_;
  std::vector<const uint8_t*> pointers_;
  std::vector<Range> ranges_;        // still to run on the CPU
  std::vector<Range> card_ranges_;   // of the batch, still to be given to the card
  std::vector<QueuedRow> odd_rows_;  // of one run on the card: those whose scores are not finite
  std::vector<uint32_t> scored_;     // of one run
  std::vector<uint32_t> recorded_;   // of those, encoded in records_
  std::unique_ptr<char[]> records_;  // of kRecordsBytes; null without an audit log
  char* records_end_ = nullptr;      // where the next record goes
};

}  // namespace assay
