// Slot: one row in flight. Headers live in the slab, allocated once; row bytes belong to the lane (lane_memory.h).
//
// A call is a chain of slots: head -> next -> ... in the order of its rows; a unary call is a chain of one. The head also holds
// what belongs to the call. One thread owns a slot at a time and hands it on: the submitting thread until it is queued, a runner
// until it is done, the thread in finish() at the end. Only `call_word` and `rows_left` are touched by several threads at once.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/serving/call_record.h"
#include "core/serving/completion_queue.h"
#include "core/serving/row_explanation.h"
#include "core/wire/response.h"
#include "core/wire/score_request.h"

namespace assay {

class Lane;

enum class SlotState : uint8_t {
  kFree = 0,
  kDecoded = 1,  // its bytes were read, well or not
  kLookup = 2,   // features are being read into its row
  kQueued = 3,   // waits for a runner; the row is finished
  kBatched = 4,  // a runner has taken it
  kRunning = 5,
  kScored = 6,
  kExplaining = 7,  // waits for its explanation, not longer than it was told to (explanations.h)
  kCommitting = 8,  // its audit record is being written
  kDone = 9,        // has its outcome; waits for the other rows of its call and for finish()
};

// Where a call stands. Packed with the head's generation into Slot::call_word, so that one compare-and-swap settles who frees it.
enum class CallPhase : uint32_t {
  kClosed = 0,     // free, or being filled by submit
  kOpen = 1,       // accepted; rows are on their way
  kCancelled = 2,  // nobody waits: the engine frees it when its last row is done
  kCompleted = 3,  // in its completion queue, or with the thread that ran it: finish() frees it
  kFinishing = 4,  // finish() has it
  kExpired = 5,    // as kCancelled: its transport has answered DEADLINE_EXCEEDED
};

// Which of the five deadline checks a row failed. Index into EngineStats::expired_rows.
enum class DeadlineCheck : uint8_t { kAdmission = 0, kAfterLookup = 1, kForming = 2, kBeforeRun = 3, kBeforeEncoding = 4 };

// What a refused row says, encoded. Made on the failure path only.
struct Failure {
  std::string message;
  std::string rpc_status;
};

inline constexpr uint32_t kNoSlot = UINT32_MAX;

struct alignas(64) Slot {
  // --- of the head, touched by several threads
  std::atomic<uint64_t> call_word{0};  // generation << 32 | CallPhase
  std::atomic<uint32_t> rows_left{0};  // rows not done yet
  // --- of the row
  uint32_t head = kNoSlot;
  uint32_t next = kNoSlot;
  uint32_t batch_rows = 0;  // of the run that scored it
  SlotState state = SlotState::kFree;
  Code outcome = Code::kOk;
  DeadlineCheck failed_check = DeadlineCheck::kAdmission;  // with outcome kDeadlineExceeded
  Decision decision = Decision::kUnspecified;
  bool include_features = false;
  bool include_timings = false;
  uint8_t id_bytes = 0;
  CallKind kind = CallKind::kUnary;  // head
  double score = 0.0;
  Stamps stamps{};
  std::unique_ptr<Failure> failure;             // null: the outcome's text by the table
  std::unique_ptr<RowExplanation> explanation;  // null: none was asked for
  // --- of the head
  std::shared_ptr<Lane> lane;        // pins the lane from admission on; null: refused before one was chosen
  CompletionQueue* reply = nullptr;  // null: run inline, its submitter finishes it
  uint64_t token = 0;
  int64_t deadline_ns = 0;
  int64_t event_time_us = 0;  // of the row
  uint32_t row_count = 0;
  Priority priority = Priority::kUnspecified;
  bool is_sampled = false;   // with the next three the call's CallTrace, in the room that there is
  bool is_routed = false;    // of the call: it names no version
  bool is_degraded = false;  // of the row, known when its answer is encoded
  uint64_t trace_id_high = 0, trace_id_low = 0, parent_span_id = 0;
  std::array<char, limits::kIdBytesMax> id;

  CallTrace trace() const noexcept { return {trace_id_high, trace_id_low, parent_span_id, is_sampled}; }
  void set_trace(const CallTrace& trace) noexcept {
    trace_id_high = trace.trace_id_high, trace_id_low = trace.trace_id_low, parent_span_id = trace.parent_span_id;
    is_sampled = trace.is_sampled;
  }
  std::string_view transaction_id() const noexcept { return {id.data(), id_bytes}; }
  void set_transaction_id(std::string_view text) noexcept;  // an id that is too long is not echoed
  int64_t& stamp(Stamp which) noexcept { return stamps[static_cast<size_t>(which)]; }
};

static_assert(sizeof(Slot) == 384, "ext/README.md gives the memory of the slab");

constexpr uint64_t call_word(uint32_t generation, CallPhase phase) noexcept {
  return static_cast<uint64_t>(generation) << 32 | static_cast<uint32_t>(phase);
}
constexpr uint32_t generation_of(uint64_t word) noexcept { return static_cast<uint32_t>(word >> 32); }
constexpr bool is_abandoned(CallPhase phase) noexcept { return phase == CallPhase::kCancelled || phase == CallPhase::kExpired; }
constexpr CallPhase phase_of(uint64_t word) noexcept { return static_cast<CallPhase>(static_cast<uint32_t>(word)); }

constexpr CallId call_id(uint32_t slot, uint32_t generation) noexcept { return static_cast<uint64_t>(generation) << 32 | slot; }
constexpr uint32_t slot_of(CallId call) noexcept { return static_cast<uint32_t>(call); }
constexpr uint32_t generation_of_call(CallId call) noexcept { return static_cast<uint32_t>(call >> 32); }

// Whether a slot may go from one state to the other.
bool may_move(SlotState from, SlotState to) noexcept;

// The only function that changes a slot's state. Asserts that the step is legal.
void move_slot(Slot& slot, SlotState to) noexcept;

}  // namespace assay
