#include "core/serving/calls.h"

#include <algorithm>
#include <array>

#include "core/base/black_box.h"
#include "core/serving/lane.h"

namespace assay {
namespace {

// Those that a crash is told with, in its order: what was explained has been scored, and is not committed yet.
constexpr std::array<Stamp, 7> kBlackBoxStamps = {Stamp::kDecoded, Stamp::kQueued,    Stamp::kBatched, Stamp::kRunStarted,
                                                  Stamp::kScored,  Stamp::kCommitted, Stamp::kDone};
static_assert(kBlackBoxStamps.size() == std::size(black_box::EndedSlot{}.stamps));

uint32_t black_box_stamp(int64_t stamp_ns, int64_t received_ns) noexcept {
  if (stamp_ns == 0) return black_box::kNotReached;
  const int64_t since = std::max<int64_t>(stamp_ns - received_ns, 0) / black_box::kStampNs;
  return static_cast<uint32_t>(std::min<int64_t>(since, black_box::kNotReached - 1));
}

// What a model, not a client, a store or the load, is to blame for.
bool is_models_failure(Code code) noexcept { return code == Code::kModelRunFailed || code == Code::kModelOutputInvalid; }

// A version that asks for what callers do not send refuses them all; one that is slow is late.
bool is_missed(Code code) noexcept { return code == Code::kInvalidRequest || code == Code::kDeadlineExceeded; }

}  // namespace

bool Calls::allocate(uint32_t count, uint32_t* slots) noexcept {
  if (!slab_.allocate(count, slots)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    Slot& slot = slab_[slots[i]];
    slot.head = slots[0];
    slot.next = i + 1 < count ? slots[i + 1] : kNoSlot;
    slot.batch_rows = 0;
    slot.outcome = Code::kOk;
    slot.decision = Decision::kUnspecified;
    slot.include_features = false;
    slot.include_timings = false;
    slot.is_degraded = false;
    slot.id_bytes = 0;
    slot.score = 0.0;
    slot.stamps.fill(0);
  }
  slab_[slots[0]].row_count = count;
  return true;
}

CallId Calls::id(uint32_t head) const noexcept {
  return call_id(head, generation_of(slab_[head].call_word.load(std::memory_order_relaxed)));
}

void Calls::open(uint32_t head, uint32_t rows_left, CompletionList& completions) noexcept {
  Slot& slot = slab_[head];
  slab_.clear_hint(head);
  counters_of(slot).accepted_rows.add(slot.row_count);
  slot.rows_left.store(rows_left, std::memory_order_relaxed);
  const uint32_t generation = generation_of(slot.call_word.load(std::memory_order_relaxed));
  slot.call_word.store(call_word(generation, CallPhase::kOpen), std::memory_order_release);
  if (rows_left == 0) complete(head, completions);
}

void Calls::open_one(uint32_t head, bool is_replied) noexcept {
  CompletionList none;
  if (!is_replied) slab_[head].reply = nullptr;
  open(head, 1, none);
}

void Calls::finish_row(uint32_t index, Code outcome, CompletionList& completions) noexcept {
  Slot& slot = slab_[index];
  move_slot(slot, SlotState::kDone);
  slot.outcome = outcome;
  const uint32_t head = slot.head;  // once rows_left is 0 another thread may free the slot
  if (slab_[head].rows_left.fetch_sub(1, std::memory_order_acq_rel) == 1) complete(head, completions);
}

void Calls::expire_row(uint32_t index, DeadlineCheck check, CompletionList& completions) noexcept {
  slab_[index].failed_check = check;
  finish_row(index, Code::kDeadlineExceeded, completions);
}

void Calls::complete(uint32_t head, CompletionList& completions) noexcept {
  Slot& slot = slab_[head];
  CompletionQueue* const reply = slot.reply;
  const uint64_t token = slot.token;
  uint64_t word = slot.call_word.load(std::memory_order_acquire);
  ASSAY_ASSERT(phase_of(word) == CallPhase::kOpen || is_abandoned(phase_of(word)));
  const uint32_t generation = generation_of(word);
  if (phase_of(word) == CallPhase::kOpen &&
      slot.call_word.compare_exchange_strong(word, call_word(generation, CallPhase::kCompleted), std::memory_order_acq_rel)) {
    if (reply != nullptr) completions.add(reply, {token, call_id(head, generation)});
    return;
  }
  if (phase_of(word) == CallPhase::kCancelled) {
    if (is_clients(slot)) recorder_.abandoned(slab_, head, Code::kCancelled);
    counters_of(slot).cancelled_rows.add(slot.row_count);
  } else {
    recorder_.abandoned(slab_, head, Code::kDeadlineExceeded);
    expire_rows(head);
    count_rows(head);
  }
  note_slots(head);
  free_chain(head);
}

bool Calls::abandon(CallId call, CallPhase phase) noexcept {
  const uint32_t head = slot_of(call);
  if (head >= slab_.size()) return false;
  uint64_t word = call_word(generation_of_call(call), CallPhase::kOpen);
  const uint64_t abandoned = call_word(generation_of_call(call), phase);
  if (!slab_[head].call_word.compare_exchange_strong(word, abandoned, std::memory_order_acq_rel)) return false;
  slab_.hint_abandoned(head);
  return true;
}

bool Calls::claim(CallId call) noexcept {
  const uint32_t head = slot_of(call);
  if (head >= slab_.size()) return false;
  uint64_t word = call_word(generation_of_call(call), CallPhase::kCompleted);
  const uint64_t finishing = call_word(generation_of_call(call), CallPhase::kFinishing);
  return slab_[head].call_word.compare_exchange_strong(word, finishing, std::memory_order_acq_rel);
}

void Calls::release(uint32_t head) noexcept {
  ASSAY_ASSERT(phase_of(slab_[head].call_word.load(std::memory_order_relaxed)) == CallPhase::kFinishing);
  count_rows(head);
  note_slots(head);
  free_chain(head);
}

void Calls::discard(uint32_t head) noexcept {
  if (is_open(head)) counters_of(slab_[head]).accepted_rows.subtract(slab_[head].row_count);  // refused by the queue
  for (uint32_t index = head; index != kNoSlot; index = slab_[index].next) {
    if (slab_[index].state == SlotState::kFree) move_slot(slab_[index], SlotState::kDecoded);
    if (slab_[index].state != SlotState::kDone) move_slot(slab_[index], SlotState::kDone);
  }
  free_chain(head);
}

// The transport has answered for these: whatever became of a row since, it came too late.
void Calls::expire_rows(uint32_t head) noexcept {
  for (uint32_t index = head; index != kNoSlot; index = slab_[index].next) {
    Slot& slot = slab_[index];
    if (slot.outcome == Code::kDeadlineExceeded) continue;
    slot.failed_check = slot.outcome == Code::kCancelled ? DeadlineCheck::kForming : DeadlineCheck::kBeforeEncoding;
    slot.outcome = Code::kDeadlineExceeded;
  }
}

void Calls::count_rows(uint32_t head) noexcept {
  Counters& counters = counters_of(slab_[head]);
  Lane* const lane = slab_[head].lane.get();  // null: refused before one was chosen
  uint64_t answered = 0;
  for (uint32_t index = head; index != kNoSlot; index = slab_[index].next) {
    const Slot& slot = slab_[index];
    if (lane != nullptr && slab_[head].is_routed && is_models_failure(slot.outcome)) lane->metrics().add_failed_row();
    if (lane != nullptr && slab_[head].is_routed && is_missed(slot.outcome)) lane->metrics().add_missed_row();
    switch (slot.outcome) {
      case Code::kOk: ++answered; break;
      case Code::kDeadlineExceeded: counters.expired_rows[static_cast<size_t>(slot.failed_check)].add(1); break;
      case Code::kShed: counters.shed_rows.add(1); break;
      case Code::kCancelled: counters.cancelled_rows.add(1); break;
      default: counters.failed_rows.add(slot.outcome, 1); break;
    }
  }
  counters.answered_rows.add(answered);
}

void Calls::note_slots(uint32_t head) const noexcept {
  if (!black_box::is_open()) return;
  const Slot& first = slab_[head];
  black_box::EndedSlot ended{};
  ended.generation = generation_of(first.call_word.load(std::memory_order_relaxed));
  ended.model = first.lane != nullptr ? first.lane->name()->black_box_model : black_box::kNoModel;
  ended.kind = static_cast<uint8_t>(first.kind);
  ended.priority = static_cast<uint8_t>(first.priority);
  for (uint32_t index = head; index != kNoSlot; index = slab_[index].next) {
    const Slot& slot = slab_[index];
    ended.received_ns = slot.stamps[0];
    for (size_t i = 0; i < kBlackBoxStamps.size(); ++i) {
      ended.stamps[i] = black_box_stamp(slot.stamps[static_cast<size_t>(kBlackBoxStamps[i])], ended.received_ns);
    }
    ended.slot = index;
    ended.batch_rows = static_cast<uint16_t>(std::min<uint32_t>(slot.batch_rows, UINT16_MAX));
    ended.outcome = static_cast<uint8_t>(slot.outcome);
    ended.decision = static_cast<uint8_t>(slot.decision);
    ended.is_degraded = slot.is_degraded;
    black_box::slot_ended(ended);
  }
}

void Calls::free_chain(uint32_t head) noexcept {
  // The pin goes last: with it the lane's row memory may go, and that takes longer than the slab may wait.
  const std::shared_ptr<Lane> lane = std::move(slab_[head].lane);
  if (copies_[head] != nullptr) copies_[head].reset();  // the call was not answered
  const uint32_t generation = generation_of(slab_[head].call_word.load(std::memory_order_relaxed));
  const uint32_t next_generation = generation == UINT32_MAX ? 1 : generation + 1;
  slab_[head].call_word.store(call_word(next_generation, CallPhase::kClosed), std::memory_order_release);
  std::array<uint32_t, 256> freed;
  uint32_t count = 0;
  for (uint32_t index = head; index != kNoSlot;) {
    Slot& slot = slab_[index];
    move_slot(slot, SlotState::kFree);
    slot.failure.reset();
    slot.explanation.reset();
    freed[count++] = index;
    index = slot.next;
    if (count == freed.size() || index == kNoSlot) {
      slab_.free(freed.data(), count);
      count = 0;
    }
  }
}

}  // namespace assay
