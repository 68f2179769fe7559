#include "core/serving/sampling_desk.h"

#include <algorithm>
#include <new>
#include <utility>

#include "core/serving/lane.h"

namespace assay {
namespace {

// The model gave no score for a row that was mixed: whoever asks again hears the same.
bool is_models_failure(Code code) noexcept { return code == Code::kModelRunFailed || code == Code::kModelOutputInvalid; }

}  // namespace

SamplingDesk::SamplingDesk(Calls& calls, const Clock& clock) : calls_(calls), clock_(clock), replies_(kReplies) {
  scores_.reserve(kRowsMax);
  completions_.reserve(kReplies);
}

void SamplingDesk::give(ExplainJob job) {
  ASSAY_ASSERT(state_ == State::kIdle);
  job_ = std::move(job);
  state_ = State::kAsking;
  began_ns_ = clock_.now_ns();
  row_ = explain::SampledRow();
  try_to([this] {
    const Status begun = explain::SampledRow::begin(*job_.model->sampled, job_.row, job_.score, job_.players, {}, &row_);
    begun.ok() ? ask() : end({});
  });
}

bool SamplingDesk::take(int64_t now_ns, ExplainResult* result) {
  hear();
  if (state_ == State::kAsking && now_ns >= job_.deadline_ns) {
    give_up();
    try_to([this] { tell_or(ExplanationStatus::kLate); });
  }
  if (state_ != State::kDone) return false;
  *result = std::move(result_);
  job_ = ExplainJob();  // the lane and the model may go
  state_ = State::kIdle;
  return true;
}

void SamplingDesk::stop() noexcept {
  give_up();
  hear();
  job_ = ExplainJob();
  state_ = State::kIdle;
}

// --- asking

void SamplingDesk::ask() {
  const uint32_t rows_max = std::clamp(job_.lane->queue_rows_max() / 2, 1u, kRowsMax);  // half of a short queue is left to others
  const auto count = static_cast<uint32_t>(row_.next(rows_max));
  if (count == 0) return tell_or(ExplanationStatus::kWithheld);
  if (clock_.now_ns() >= job_.deadline_ns) return tell_or(ExplanationStatus::kLate);
  CompletionList evicted;
  const Code code = queue(count, evicted);
  evicted.flush();
  if (code != Code::kOk) tell_or(ExplanationStatus::kShed);
}

Code SamplingDesk::queue(uint32_t count, CompletionList& evicted) noexcept {
  if (calls_.slab().use().used > calls_.slab().size() / 2) return Code::kSlotsExhausted;
  if (!job_.lane->try_issue_ticket()) return Code::kDraining;
  LaneTicket ticket(job_.lane);
  uint32_t slots[kRowsMax];
  if (!calls_.allocate(count, slots)) return Code::kSlotsExhausted;
  QueuedRow rows[kRowsMax];
  fill_slots(slots, count, rows);
  call_ = calls_.id(slots[0]);
  calls_.open(slots[0], count, evicted);
  const Code code = job_.lane->enqueue(std::move(ticket), rows, count, Priority::kBulk, evicted);
  if (code != Code::kOk) {
    calls_.discard(slots[0]);
    call_ = 0;
  }
  return code;
}

void SamplingDesk::fill_slots(const uint32_t* slots, uint32_t count, QueuedRow* rows) noexcept {
  Slot& head = calls_.slab()[slots[0]];
  head.kind = CallKind::kProbe;
  head.reply = &replies_;
  head.token = 0;
  head.deadline_ns = job_.deadline_ns;
  head.lane = job_.lane;
  head.priority = Priority::kBulk;
  head.is_routed = false;
  head.set_trace({});
  const int64_t now_ns = clock_.now_ns();
  for (uint32_t i = 0; i < count; ++i) {
    Slot& slot = calls_.slab()[slots[i]];
    row_.fill(i, job_.lane->memory().open_row(slots[i]));
    slot.event_time_us = 0;
    slot.stamp(Stamp::kReceived) = slot.stamp(Stamp::kDecoded) = slot.stamp(Stamp::kQueued) = now_ns;
    for (const SlotState state : {SlotState::kDecoded, SlotState::kLookup, SlotState::kQueued}) move_slot(slot, state);
    rows[i] = {slots[i], slots[0], now_ns, job_.deadline_ns, 0};
  }
}

// --- what was said

void SamplingDesk::hear() {
  replies_.drain(completions_);
  for (const Completion& completion : completions_) {
    if (!calls_.claim(completion.call)) continue;
    const uint32_t head = slot_of(completion.call);
    const bool is_awaited = completion.call == call_;
    const Code code = is_awaited ? read_scores(head) : Code::kOk;
    calls_.release(head);
    if (!is_awaited) continue;  // it had ended when it was given up
    call_ = 0;
    try_to([&] { go_on(code); });
  }
}

// kOk, or why a row has none.
Code SamplingDesk::read_scores(uint32_t head) {
  scores_.clear();
  for (uint32_t index = head; index != kNoSlot; index = calls_.slab()[index].next) {
    const Slot& slot = calls_.slab()[index];
    if (slot.outcome != Code::kOk) return slot.outcome;
    scores_.push_back(slot.score);
  }
  return Code::kOk;
}

void SamplingDesk::go_on(Code code) {
  if (state_ != State::kAsking) return;
  if (is_models_failure(code)) return end({});
  if (code == Code::kDeadlineExceeded) return tell_or(ExplanationStatus::kLate);
  if (code != Code::kOk) return tell_or(ExplanationStatus::kShed);
  row_.give(scores_.data(), scores_.size()).ok() ? ask() : end({});
}

// Without memory there is no explanation, and a score all the same.
template <typename Work>
void SamplingDesk::try_to(Work&& work) noexcept {
  try {
    work();
  } catch (const std::bad_alloc&) {
    give_up();
    row_ = explain::SampledRow();
    tell_or(ExplanationStatus::kShed);
  }
}

// Nobody waits for the call any more: its lane frees it, or it has ended and is on its way here.
void SamplingDesk::give_up() noexcept {
  if (call_ != 0) (void)calls_.cancel(call_);
  call_ = 0;
}

// What whole rounds gave is told, if they are enough; `otherwise` becomes of it where they are not.
void SamplingDesk::tell_or(ExplanationStatus otherwise) {
  ExplainResult result;
  result.status = otherwise;
  if (row_.can_tell()) {
    row_.tell(&found_);
    result = tell_explanation(job_, found_);
  }
  end(std::move(result));
}

void SamplingDesk::end(ExplainResult result) {
  result.took_ns = clock_.now_ns() - began_ns_;
  result_ = std::move(result);
  state_ = State::kDone;
}

}  // namespace assay
