#include "core/serving/batch_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/serving/failure.h"

namespace assay {
namespace {

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

// Whether all elements of a row of an output are.
bool is_finite(const OutputView& view, size_t row) noexcept {
  if (view.type != TensorType::kFloat32 && view.type != TensorType::kFloat64) return true;
  for (size_t column = 0; column < view.row_elements; ++column) {
    if (!std::isfinite(element(view, row, column))) return false;
  }
  return true;
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

BatchRun::BatchRun(std::unique_ptr<Runner> runner, std::unique_ptr<CardRun> card, uint32_t rows_max, const RunLane& lane,
                   Calls& calls, const Clock& clock)
    : runner_(std::move(runner)),
      card_(std::move(card)),
      rows_max_(rows_max),
      lane_(lane),
      calls_(calls),
      clock_(clock),
      recorder_(calls, clock) {
  pointers_.reserve(rows_max);
  scored_.reserve(rows_max);
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
    lane_.metrics.add_batch(static_cast<uint32_t>(batch.rows.size()));
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
  for (uint32_t i = 0; i < count; ++i) pointers_.push_back(lane_.memory.row(rows[i].slot));
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
  const OutputView view = runner.output(lane_.scoring.output);
  scored_.clear();
  for (uint32_t i = 0; i < count; ++i) {
    const bool is_taken = __builtin_expect(kind_of(rows[i].slot) == CallKind::kInfer, 0) ? take_outputs(runner, rows[i], i)
                                                                                         : take_score(view, rows[i], i, is_card);
    if (!is_taken) continue;
    mark_scored(calls_.slab()[rows[i].slot], scored_ns, count);
    if (__builtin_expect(kind_of(rows[i].slot) == CallKind::kProbe, 0)) {
      calls_.finish_row(rows[i].slot, Code::kOk, completions_);
    } else {
      scored_.push_back(rows[i].slot);
    }
  }
  if (lane_.drift != nullptr) count_drift();
  const RecordedLane recorded{lane_.memory, lane_.schema, is_card ? lane_.audit.card : lane_.audit.cpu};
  if (lane_.explained != nullptr) leave_to_explanations(recorded);
  recorder_.end(recorded, scored_, completions_);
}

CallKind BatchRun::kind_of(uint32_t index) const noexcept { return calls_.slab()[calls_.slab()[index].head].kind; }

// Before the rows are finished: another thread may free their slots then.
void BatchRun::count_drift() noexcept {
  const std::lock_guard<DriftShard> lock(*lane_.drift);
  for (const uint32_t index : scored_) {
    if (kind_of(index) != CallKind::kInfer) lane_.drift->add(lane_.memory.out(index), calls_.slab()[index].score);
  }
}

// The row's score, of row `at` of the output. False: there is none; the row has failed, or is one of odd_rows_.
bool BatchRun::take_score(const OutputView& view, const QueuedRow& row, uint32_t at, bool is_card) noexcept {
  if (view.data == nullptr || lane_.scoring.column >= view.row_elements) {
    fail_row(row.slot,
             Status(Code::kModelOutputInvalid, "the model's score output does not have the column that its manifest names"));
    return false;
  }
  const double score = element(view, at, lane_.scoring.column);
  if (!std::isfinite(score)) {
    if (is_card) {
      odd_rows_.push_back(row);
    } else {
      fail_row(row.slot, Status(Code::kModelOutputInvalid, "the model's score is not a finite number"));
    }
    return false;
  }
  Slot& slot = calls_.slab()[row.slot];
  slot.score = score;
  slot.decision = lane_.scoring.decide(score);
  return true;
}

// All outputs of the row as they are, NaN of the CPU too, and a score for the audit log. False: as take_score().
bool BatchRun::take_outputs(const Runner& runner, const QueuedRow& row, uint32_t at) noexcept {
  const bool is_card = &runner != runner_.get();
  uint8_t* const to = lane_.memory.outputs(row.slot);
  for (const InferTensor& tensor : lane_.schema.outputs) {
    const OutputView given = runner.output(tensor.shape.index);
    const bool fits = given.data != nullptr && given.type == tensor.shape.type &&
                      given.row_elements * tensor_type_bytes(given.type) == tensor.row_bytes;
    if (!fits) {
      fail_row(row.slot, Status(Code::kModelOutputInvalid, "output " + printable(tensor.shape.name) +
                                                               " is not of the type and size that the model declares"));
      return false;
    }
    if (is_card && !is_finite(given, at)) {
      odd_rows_.push_back(row);
      return false;
    }
    std::memcpy(to + tensor.offset_bytes, static_cast<const uint8_t*>(given.data) + size_t{at} * tensor.row_bytes,
                tensor.row_bytes);
  }
  const OutputView view = lane_.scoring.has_score ? runner.output(lane_.scoring.output) : OutputView();
  const bool has_score = view.data != nullptr && lane_.scoring.column < view.row_elements;
  calls_.slab()[row.slot].score = has_score ? element(view, at, lane_.scoring.column) : NAN;
  return true;
}

void BatchRun::mark_scored(Slot& slot, int64_t scored_ns, uint32_t batch_rows) noexcept {
  slot.batch_rows = batch_rows;
  slot.stamp(Stamp::kScored) = slot.stamp(Stamp::kExplained) = slot.stamp(Stamp::kCommitted) = scored_ns;
  move_slot(slot, SlotState::kScored);
}

// Those that are to be explained first end there; the others stay in scored_.
void BatchRun::leave_to_explanations(const RecordedLane& recorded) noexcept {
  const auto is_left = [&](uint32_t index) {
    return __builtin_expect(calls_.slab()[index].explanation != nullptr, 0) &&
           lane_.explanations.offer(index, lane_.explained, recorded, lane_.row_bytes);
  };
  scored_.erase(std::remove_if(scored_.begin(), scored_.end(), is_left), scored_.end());
}

void BatchRun::fail_row(uint32_t index, const Status& status) noexcept {
  Slot& slot = calls_.slab()[index];
  slot.failure = make_failure(status);
  calls_.finish_row(index, status.code, completions_);
}

}  // namespace assay
