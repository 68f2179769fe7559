#include "core/serving/batch_run.h"

#include <algorithm>
#include <cmath>

#include "core/serving/failure.h"

namespace assay {
namespace {

constexpr size_t kRecordsBytes = audit::kAppendBytesMax;

// Element (row, column) of an output as a double. int64 beyond 2^53 is rounded, as a cast does.
double element(const OutputView& view, size_t row, size_t column) noexcept {
  const size_t index = row * view.row_elements + column;
  switch (view.type) {
    case TensorType::kFloat32: return static_cast<const float*>(view.data)[index];
    case TensorType::kFloat64: return static_cast<const double*>(view.data)[index];
    case TensorType::kInt32: return static_cast<const int32_t*>(view.data)[index];
    case TensorType::kInt64: return static_cast<double>(static_cast<const int64_t*>(view.data)[index]);
    case TensorType::kBool: return static_cast<const uint8_t*>(view.data)[index] != 0 ? 1.0 : 0.0;
  }
  return NAN;
}

}  // namespace

Decision Scoring::decide(double score) const noexcept {
  Decision decision = Decision::kApprove;
  for (const Threshold& threshold : thresholds) {
    if (score < threshold.minimum) break;
    decision = threshold.decision;
  }
  return decision;
}

BatchRun::BatchRun(std::unique_ptr<Runner> runner, std::unique_ptr<CardRun> card, uint32_t rows_max, const LaneMemory& memory,
                   const Scoring& scoring, const RunAudit& audit, LaneMetrics& metrics, DriftShard* drift, Calls& calls,
                   const Clock& clock)
    : runner_(std::move(runner)),
      card_(std::move(card)),
      rows_max_(rows_max),
      memory_(memory),
      scoring_(scoring),
      audit_(audit),
      metrics_(metrics),
      drift_(drift),
      calls_(calls),
      clock_(clock) {
  pointers_.reserve(rows_max);
  scored_.reserve(rows_max);
  if (audit_.cpu != nullptr) {
    records_.reset(new char[kRecordsBytes]);
    records_end_ = records_.get();
  }
  ranges_.reserve(40);  // halving n rows leaves at most log2(n) + 1 ranges waiting
  if (card_ != nullptr) {
    card_ranges_.reserve(40);
    odd_rows_.reserve(rows_max);
  }
}

void BatchRun::run(FormedBatch& batch, int64_t formed_ns) noexcept {
  for (const QueuedRow& row : batch.cancelled) calls_.finish_row(row.slot, Code::kCancelled, completions_);
  for (const QueuedRow& row : batch.expired) calls_.expire_row(row.slot, DeadlineCheck::kForming, completions_);
  if (!batch.rows.empty()) {
    completions_.flush();  // the expired need not wait for the run
    for (const QueuedRow& row : batch.rows) {
      Slot& slot = calls_.slab()[row.slot];
      move_slot(slot, SlotState::kBatched);
      slot.stamp(Stamp::kBatched) = formed_ns;
    }
    calls_.counters().batch_count.add(1);
    calls_.counters().batched_rows.add(batch.rows.size());
    metrics_.add_batch(static_cast<uint32_t>(batch.rows.size()));
    const auto count = static_cast<uint32_t>(batch.rows.size());
    if (card_ != nullptr) {
      run_on_card(batch.rows.data(), count);
    } else {
      run_on_cpu(batch.rows.data(), count);
    }
  }
  completions_.flush();
}

// Returns whether the first run, of all rows, gave scores.
bool BatchRun::run_on_cpu(QueuedRow* rows, uint32_t count) noexcept {
  bool is_first = true, is_good = false;
  ranges_.push_back({0, count});
  while (!ranges_.empty()) {
    const Range range = ranges_.back();
    ranges_.pop_back();
    QueuedRow* const first = rows + range.first;
    const uint32_t live = prepare(*runner_, first, range.count);
    if (live == 0) continue;
    const Status status = runner_->run(live);
    if (is_first) is_good = status.ok();
    is_first = false;
    if (status.ok()) {
      scatter(*runner_, first, live);
    } else if (live == 1) {
      fail_row(first->slot, Status(Code::kModelRunFailed, status.detail));
    } else {
      halve(rows, {range.first, live}, ranges_);
    }
  }
  return is_good;
}

void BatchRun::halve(const QueuedRow* rows, Range range, std::vector<Range>& ranges) noexcept {
  calls_.counters().retried_batches.add(1);
  put_back(rows + range.first, range.count);
  ranges.push_back({range.first + range.count / 2, range.count - range.count / 2});
  ranges.push_back({range.first, range.count / 2});
  completions_.flush();  // what has ended need not wait for the retries
}

// They ran and have no scores: they are to run again.
void BatchRun::put_back(const QueuedRow* rows, uint32_t count) noexcept {
  for (uint32_t i = 0; i < count; ++i) move_slot(calls_.slab()[rows[i].slot], SlotState::kBatched);
}

void BatchRun::run_on_card(QueuedRow* rows, uint32_t count) noexcept {
  card_ranges_.push_back({0, count});
  while (!card_ranges_.empty()) {
    const Range range = card_ranges_.back();
    card_ranges_.pop_back();
    CpuCause cause = CpuCause::kDead;
    const uint32_t rows_max = card_->rows(clock_.now_ns(), &cause);
    if (rows_max == 0) {
      card_->count_cpu_rows(cause, range.count);
      run_on_cpu(rows + range.first, range.count);
    } else if (range.count > rows_max) {
      card_ranges_.push_back({range.first + rows_max, range.count - rows_max});
      card_ranges_.push_back({range.first, rows_max});
    } else {
      run_range_on_card(rows, range);
    }
  }
}

// REQUIRES: the card takes as many rows now.
void BatchRun::run_range_on_card(QueuedRow* rows, Range range) noexcept {
  QueuedRow* const first = rows + range.first;
  const uint32_t live = prepare(card_->runner(), first, range.count);
  if (live == 0) return;
  int64_t deadline_ns = first->deadline_ns;
  for (uint32_t i = 1; i < live; ++i) deadline_ns = std::min(deadline_ns, first[i].deadline_ns);
  CpuCause cause = CpuCause::kFailed;
  const CardOutcome outcome = card_->run(live, deadline_ns, &cause);
  if (outcome == CardOutcome::kRan) {
    odd_rows_.clear();
    scatter(card_->runner(), first, live);
    if (odd_rows_.empty()) return;
    completions_.flush();  // the others need not wait for them
    put_back(odd_rows_.data(), static_cast<uint32_t>(odd_rows_.size()));
    card_->count_not_finite(odd_rows_.size());
    run_on_cpu(odd_rows_.data(), static_cast<uint32_t>(odd_rows_.size()));
  } else if (outcome == CardOutcome::kOutOfMemory && live > 1) {
    halve(rows, {range.first, live}, card_ranges_);
  } else {
    put_back(first, live);
    completions_.flush();
    card_->count_cpu_rows(outcome == CardOutcome::kOutOfMemory ? CpuCause::kOutOfMemory : cause, live);
    const bool is_good = run_on_cpu(first, live);
    if (outcome == CardOutcome::kFailed && is_good) card_->blame();
  }
}

// Gathers the rows that somebody still waits for and returns how many; they stand first now.
uint32_t BatchRun::prepare(Runner& runner, QueuedRow* rows, uint32_t count) noexcept {
  gather(runner, rows, count);
  const int64_t now_ns = clock_.now_ns();
  const uint32_t live = drop_dead(rows, count, now_ns);
  if (live > 0 && live < count) gather(runner, rows, live);
  for (uint32_t i = 0; i < live; ++i) {
    Slot& slot = calls_.slab()[rows[i].slot];
    slot.stamp(Stamp::kRunStarted) = now_ns;
    move_slot(slot, SlotState::kRunning);
  }
  return live;
}

void BatchRun::gather(Runner& runner, const QueuedRow* rows, uint32_t count) noexcept {
  pointers_.clear();
  for (uint32_t i = 0; i < count; ++i) pointers_.push_back(memory_.row(rows[i].slot));
  runner.gather(pointers_.data(), count);
}

uint32_t BatchRun::drop_dead(QueuedRow* rows, uint32_t count, int64_t now_ns) noexcept {
  uint32_t live = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const QueuedRow row = rows[i];
    if (calls_.slab().is_abandoned(row.head)) {
      calls_.finish_row(row.slot, Code::kCancelled, completions_);
    } else if (row.deadline_ns <= now_ns) {
      calls_.expire_row(row.slot, DeadlineCheck::kBeforeRun, completions_);
    } else {
      rows[live++] = row;
    }
  }
  return live;
}

// Ends the rows of a run; but scores of a card that are not finite go to odd_rows_.
void BatchRun::scatter(const Runner& runner, const QueuedRow* rows, uint32_t count) noexcept {
  const bool is_card = &runner != runner_.get();
  const int64_t scored_ns = clock_.now_ns();
  const OutputView view = runner.output(scoring_.output);
  if (view.data == nullptr || scoring_.column >= view.row_elements) {
    const Status status(Code::kModelOutputInvalid, "the model's score output does not have the column that its manifest names");
    for (uint32_t i = 0; i < count; ++i) fail_row(rows[i].slot, status);
    return;
  }
  scored_.clear();
  for (uint32_t i = 0; i < count; ++i) {
    const double score = element(view, i, scoring_.column);
    if (is_card && !std::isfinite(score)) {
      odd_rows_.push_back(rows[i]);
    } else if (score_row(rows[i].slot, score, scored_ns, count)) {
      scored_.push_back(rows[i].slot);
    }
  }
  if (drift_ != nullptr) count_drift();
  const ScoreAudit* const audit = is_card ? audit_.card : audit_.cpu;
  if (audit != nullptr) return record_rows(*audit);
  for (const uint32_t index : scored_) calls_.finish_row(index, Code::kOk, completions_);
}

// Before the rows are finished: another thread may free their slots then.
void BatchRun::count_drift() noexcept {
  const std::lock_guard<DriftShard> lock(*drift_);
  for (const uint32_t index : scored_) drift_->add(memory_.out(index), calls_.slab()[index].score);
}

bool BatchRun::score_row(uint32_t index, double score, int64_t scored_ns, uint32_t batch_rows) noexcept {
  Slot& slot = calls_.slab()[index];
  if (!std::isfinite(score)) {
    fail_row(index, Status(Code::kModelOutputInvalid, "the model's score is not a finite number"));
    return false;
  }
  slot.score = score;
  slot.decision = scoring_.decide(score);
  slot.batch_rows = batch_rows;
  slot.stamp(Stamp::kScored) = slot.stamp(Stamp::kCommitted) = scored_ns;
  move_slot(slot, SlotState::kScored);
  return true;
}

// Ends the scored rows, or leaves them to the audit log's writer.
void BatchRun::record_rows(const ScoreAudit& audit) noexcept {
  const int64_t wall_us = wall_now_us() - clock_.now_ns() / 1000;
  for (const uint32_t index : scored_) record_row(audit, index, wall_us);
  hand_over(audit);
}

void BatchRun::record_row(const ScoreAudit& audit, uint32_t index, int64_t wall_us) noexcept {
  Slot& slot = calls_.slab()[index];
  switch (audit.admit(slot)) {
    case audit::Admit::kRefuse: return fail_row(index, Status(Code::kAuditUnavailable));
    case audit::Admit::kSkip: return calls_.finish_row(index, Code::kOk, completions_);
    case audit::Admit::kRecord: break;
  }
  const auto used_bytes = static_cast<size_t>(records_end_ - records_.get());
  if (used_bytes + audit.record_bytes_max() > kRecordsBytes) hand_over(audit);
  records_end_ = audit.encode(slot, calls_.slab()[slot.head], memory_.out(index), wall_us, records_end_);
  recorded_.push_back(index);
}

void BatchRun::hand_over(const ScoreAudit& audit) noexcept {
  if (recorded_.empty()) return;
  const bool is_awaited = audit.is_awaited();
  // Before: the writer may end them, and others take their slots, while this thread is still on its way back.
  if (is_awaited) {
    for (const uint32_t index : recorded_) move_slot(calls_.slab()[index], SlotState::kCommitting);
  }
  const bool is_taken = audit.append({records_.get(), static_cast<size_t>(records_end_ - records_.get())}, recorded_);
  if (!is_taken || !is_awaited) {
    const bool is_answered = is_taken || audit.gives_unrecorded();
    for (const uint32_t index : recorded_) {
      if (is_answered) {
        calls_.finish_row(index, Code::kOk, completions_);
      } else {
        fail_row(index, Status(Code::kAuditUnavailable));
      }
    }
  }
  records_end_ = records_.get();
  recorded_.clear();
}

void BatchRun::fail_row(uint32_t index, const Status& status) noexcept {
  Slot& slot = calls_.slab()[index];
  slot.failure = make_failure(status);
  calls_.finish_row(index, status.code, completions_);
}

}  // namespace assay
