#include "core/serving/admission.h"

#include <algorithm>

#include "core/serving/explain_request.h"
#include "core/serving/failure.h"
#include "core/wire/infer_request.h"

namespace assay {
namespace {

constexpr int64_t kTimeoutNsCeiling = 24ll * 3600 * 1'000'000'000;  // keeps received + timeout far from overflow

void check_unset_in_row(const TransactionScan& scan, Violations& violations) {
  const auto refuse = [&violations](const char* field) {
    violations.add(Code::kNotInBatch, field, "must be unset in a row of a batch: set it on the batch");
  };
  if (!scan.model.empty()) refuse("model");
  if (!scan.version.empty()) refuse("version");
  if (scan.priority != 0) refuse("priority");
  if (scan.timeout.is_set) refuse("timeout");
  if (scan.explain.is_set) refuse("explain");
}

// The wire's number to a priority. Anything but 0, 1, 2 is a violation: shadow is not for clients.
Priority read_priority(int32_t number, Priority fallback, Violations& violations) {
  switch (number) {
    case 0: return fallback;
    case 1: return Priority::kInteractive;
    case 2: return Priority::kBulk;
    default:
      violations.add(Code::kBadPriority, "priority", "expected PRIORITY_INTERACTIVE (1), PRIORITY_BULK (2) or unset");
      return fallback;
  }
}

// 0 or no whole number of microseconds (which check_infer() refuses): none.
DurationField infer_timeout(const InferScan& scan) noexcept {
  const bool is_count = scan.timeout.kind == InferValue::Kind::kUint64 ||
                        (scan.timeout.kind == InferValue::Kind::kInt64 && static_cast<int64_t>(scan.timeout.bits) >= 0);
  const uint64_t timeout_us = is_count ? std::min<uint64_t>(scan.timeout.bits, kTimeoutNsCeiling / 1000) : 0;
  DurationField timeout;
  timeout.is_set = timeout_us > 0;
  timeout.seconds = static_cast<int64_t>(timeout_us / 1'000'000);
  timeout.nanos = static_cast<int32_t>(timeout_us % 1'000'000 * 1000);
  return timeout;
}

std::unique_ptr<RowExplanation> make_explanation(const ExplainRequest& request) {
  return request.when == ExplainWhen::kNever ? nullptr : std::make_unique<RowExplanation>(request);
}

// To come again would not help.
Status check_queue_size(const Lane& lane, uint32_t row_count) {
  if (row_count <= lane.queue_rows_max()) return Status();
  return Status(Code::kTooManyRows, "the model's queue is shorter than this batch");
}

}  // namespace

// Working memory of one submitting thread; kept for its life.
struct Admission::Scratch {
  TransactionScan scan;
  BatchScan batch;
  Transaction transaction;
  ReadScratch read;
  Violations violations;
  std::vector<uint32_t> slots;
  std::vector<QueuedRow> rows;    // those to queue...
  std::vector<QueuedRow> parked;  // ...and those that wait for a remote store
  int64_t filled_ns = 0;          // when the last of them was read
  NearRow near;
  CompletionList completions;
  InferScan infer;
  InferCall infer_call;
  std::vector<uint8_t*> infer_rows;
};

struct Admission::Call {
  CallKind kind = CallKind::kUnary;
  CompletionQueue* queue = nullptr;
  uint64_t token = 0;
  uint32_t row_count = 1;
  int64_t now_ns = 0;  // at the start of submit
  int64_t received_ns = 0;
  int64_t rpc_deadline_ns = 0;  // 0: none
  int64_t deadline_ns = 0;      // the one deadline
  DeadlineCheck failed_check = DeadlineCheck::kAdmission;
  bool may_run_inline = true;
  bool is_complete = false;  // it was run inline
  Priority priority = Priority::kInteractive;
  CallTrace trace;
  LaneTicket ticket;
  std::shared_ptr<Lane> lane;             // the ticket's, for the slots to pin
  std::shared_ptr<Shadow> shadow;         // null: it is not compared
  std::string_view bytes;                 // of a call of one transaction
  const ShadowCopy* shadow_of = nullptr;  // it is the shadow of this one
  bool is_routed = false;                 // it names no version
  ExplainRequest explain;                 // of each of its rows
};

// What a call says beside its rows.
struct Admission::CallFields {
  std::string_view model;
  std::string_view version;
  int32_t priority = 0;
  DurationField timeout;
  const TransactionScan* transaction = nullptr;  // of a call of one
};

Admission::Admission(const EngineOptions& options, const Clock& clock, Calls& calls, CallRecorder& recorder, LaneTable& lanes,
                     Lookups& lookups, const NearLookup& near, ServedRows& served_rows)
    : batch_rows_max_(std::min(
          {options.batch_call_rows_max, std::max(1u, options.slots / 4), static_cast<uint32_t>(limits::kBatchRowsWireMax)})),
      answer_bytes_max_(options.answer_bytes_max),
      timeout_ns_max_(std::clamp<int64_t>(options.timeout_ns_max, 1, kTimeoutNsCeiling)),
      clock_(clock),
      calls_(calls),
      recorder_(recorder),
      lanes_(lanes),
      lookups_(lookups),
      near_(near),
      served_rows_(served_rows),
      audit_(options.audit.log) {}

Admission::Scratch& Admission::scratch() noexcept {
  thread_local const std::unique_ptr<Scratch> mine = std::make_unique<Scratch>();
  return *mine;
}

Admission::Call Admission::make_call(CallKind kind, const CallContext& context, CompletionQueue* queue,
                                     uint64_t token) const noexcept {
  Call call;
  call.kind = kind;
  call.queue = queue;
  call.token = token;
  call.now_ns = clock_.now_ns();
  call.received_ns = context.received_ns != 0 ? std::min(context.received_ns, call.now_ns) : call.now_ns;
  call.rpc_deadline_ns = context.deadline_ns;
  call.may_run_inline = context.may_run_inline;
  call.trace = recorder_.sampler().begin(context.traceparent);
  return call;
}

// --- one transaction: Score and ScoreStream

Submission Admission::submit_score(std::string_view bytes, const CallContext& context, CompletionQueue* queue,
                                   uint64_t token) noexcept {
  Call call = make_call(CallKind::kUnary, context, queue, token);
  Scratch& mine = scratch();
  if (is_draining_.load(std::memory_order_relaxed)) return refused(call, Status(Code::kDraining));
  call.bytes = bytes;
  const Status status = scan_score_request(bytes, mine.scan);
  return status.ok() ? admit_one(call, mine) : refused(call, status);
}

Submission Admission::submit_stream(std::string_view bytes, const CallContext& context, CompletionQueue* queue,
                                    uint64_t token) noexcept {
  Call call = make_call(CallKind::kStream, context, queue, token);
  Scratch& mine = scratch();
  call.bytes = bytes;
  const Status status = scan_stream_request(bytes, mine.scan);
  return status.ok() ? admit_one(call, mine) : refused(call, status);
}

Submission Admission::admit_one(Call& call, Scratch& mine) noexcept {
  mine.violations.clear();
  Status status = decode_one(call, mine);
  if (!status.ok() && call.kind == CallKind::kUnary) return refused(call, status, &mine.violations);

  uint32_t index = kNoSlot;
  const Status claimed = claim_slots(call, 1, &index);
  if (index == kNoSlot) return refused(call, claimed);
  if (status.ok()) status = claimed;
  Slot& slot = calls_.slab()[index];
  const CallId id = calls_.id(index);
  slot.set_transaction_id(mine.scan.transaction_id);
  slot.include_features = mine.scan.include_features;
  slot.include_timings = mine.scan.include_timings;
  slot.explanation = make_explanation(call.explain);
  slot.stamp(Stamp::kReceived) = call.received_ns;
  slot.stamp(Stamp::kDecoded) = clock_.now_ns();
  move_slot(slot, SlotState::kDecoded);

  if (status.ok() && call.shadow != nullptr) keep_copy(call, index, mine.scan);
  if (status.ok()) status = queue_one(call, slot, index, mine);
  if (status.ok()) return accepted(call, id);
  if (call.kind == CallKind::kUnary) {
    calls_.discard(index);
    return refused(call, status, &mine.violations);
  }
  slot.failure = make_failure(status, &mine.violations);
  slot.failed_check = call.failed_check;
  if (!calls_.is_open(index)) calls_.open(index, 1, mine.completions);
  calls_.finish_row(index, status.code, mine.completions);
  mine.completions.flush();
  return accepted(call, id);
}

// Chooses the lane, checks every field, sets and checks the deadline.
Status Admission::decode_one(Call& call, Scratch& mine) {
  if (is_draining_.load(std::memory_order_relaxed)) return Status(Code::kDraining);
  call.priority = Priority::kInteractive;
  const TransactionScan& scan = mine.scan;
  Status status = begin_call(call, {scan.model, scan.version, scan.priority, scan.timeout, &scan}, mine.violations);
  if (!status.ok()) return status;
  call.explain = read_explain(call, scan.explain, mine.violations);
  decode_transaction(scan, call.lane->reader().plan(), TransactionUse::kScore, mine.transaction, mine.violations);
  if (!mine.violations.empty()) return Status(Code::kInvalidRequest);
  call.lane->reader().plan().accepted_ints().add(mine.transaction.accepted_ints);
  return Status();
}

Status Admission::queue_one(Call& call, Slot& slot, uint32_t index, Scratch& mine) {
  bool is_finished = false;
  Status status = look_up(call, slot, index, mine, &is_finished);
  if (!status.ok()) return status;
  const int64_t now_ns = clock_.now_ns();
  status = check_deadline(call, now_ns, DeadlineCheck::kAfterLookup);
  if (!status.ok()) return status;
  slot.stamp(Stamp::kQueued) = now_ns;
  const QueuedRow row{index, index, now_ns, call.deadline_ns, 0};
  if (is_finished && run_inline(call, row)) return Status();
  mine.rows.clear();
  mine.parked.clear();
  (is_finished ? mine.rows : mine.parked).push_back(row);
  return queue_rows(call, index, mine);
}

// Before the row is queued: afterwards it is the runners', and may be gone.
void Admission::keep_copy(Call& call, uint32_t index, const TransactionScan& scan) noexcept {
  if (!call.shadow->is_wanted(entity_id(scan, call.shadow->entity()))) return;
  if (auto copy = call.shadow->copy(call.kind, call.bytes)) calls_.keep_copy(index, std::move(copy));
}

Submission Admission::submit_shadow(const ShadowCopy& copy, CompletionQueue* queue, uint64_t token) noexcept {
  Call call = make_call(CallKind::kUnary, {0, 0, {}, false}, queue, token);
  call.shadow_of = &copy;
  Scratch& mine = scratch();
  mine.violations.clear();
  Status status =
      copy.kind == CallKind::kStream ? scan_stream_request(copy.bytes, mine.scan) : scan_score_request(copy.bytes, mine.scan);
  if (status.ok()) status = decode_one(call, mine);
  uint32_t index = kNoSlot;
  if (status.ok()) status = claim_slots(call, 1, &index);
  if (index != kNoSlot) {
    Slot& slot = calls_.slab()[index];
    slot.set_transaction_id(mine.scan.transaction_id);
    slot.stamp(Stamp::kReceived) = slot.stamp(Stamp::kDecoded) = call.received_ns;
    move_slot(slot, SlotState::kDecoded);
    const CallId id = calls_.id(index);
    if (status.ok()) status = queue_one(call, slot, index, mine);
    if (status.ok()) return accepted(call, id);
    calls_.discard(index);
  }
  Submission refused;
  refused.code = status.code;
  return refused;
}

// --- many transactions: ScoreBatch

Submission Admission::submit_batch(std::string_view bytes, const CallContext& context, CompletionQueue* queue,
                                   uint64_t token) noexcept {
  Call call = make_call(CallKind::kBatch, context, queue, token);
  Scratch& mine = scratch();
  mine.violations.clear();
  if (is_draining_.load(std::memory_order_relaxed)) return refused(call, Status(Code::kDraining));
  Status status = scan_batch_request(bytes, batch_rows_max_, mine.batch);
  if (!status.ok()) return refused(call, status);
  const auto row_count = static_cast<uint32_t>(mine.batch.rows.size());
  if (row_count == 0) return refused(call, Status(Code::kEmptyBatch));
  call.priority = Priority::kBulk;
  call.row_count = row_count;
  status =
      begin_call(call, {mine.batch.model, mine.batch.version, mine.batch.priority, mine.batch.timeout, nullptr}, mine.violations);
  if (status.ok()) call.explain = read_explain(call, mine.batch.explain, mine.violations);
  if (status.ok() && !mine.violations.empty()) status = Status(Code::kInvalidRequest);
  if (status.ok()) status = check_queue_size(*call.lane, row_count);
  if (!status.ok()) return refused(call, status, &mine.violations);

  mine.slots.assign(row_count, kNoSlot);
  status = claim_slots(call, row_count, mine.slots.data());
  if (mine.slots[0] == kNoSlot) return refused(call, status);
  const uint32_t head = mine.slots[0];
  const CallId id = calls_.id(head);
  if (status.ok()) {
    fill_batch(call, bytes, mine);
    const bool is_waiting = !mine.rows.empty() || !mine.parked.empty();
    status = check_deadline(call, is_waiting ? mine.filled_ns : call.now_ns, DeadlineCheck::kAfterLookup);
  }
  if (status.ok()) status = queue_rows(call, head, mine);
  if (status.ok()) return accepted(call, id);
  calls_.discard(head);
  return refused(call, status);
}

// Fills every row. Those that fail are done, with their status; the others go to `rows`. (To decode one row while the records of
// the one before are prefetched was tried: not faster with 100,000 cold records, and 60 ns a row slower with warm ones.)
void Admission::fill_batch(Call& call, std::string_view bytes, Scratch& mine) {
  mine.rows.clear();
  mine.parked.clear();
  for (size_t i = 0; i < mine.slots.size(); ++i) {
    const uint32_t index = mine.slots[i];
    Slot& slot = calls_.slab()[index];
    mine.violations.clear();
    bool is_finished = false;
    const Status status = fill_row(call, slot, index, bytes, mine.batch.rows[i], mine, &is_finished);
    if (status.ok()) {
      (is_finished ? mine.rows : mine.parked).push_back({index, mine.slots[0], 0, call.deadline_ns, 0});
    } else {
      slot.outcome = status.code;
      slot.failure = make_failure(status, &mine.violations);
      move_slot(slot, SlotState::kDone);
    }
  }
  mine.filled_ns = clock_.now_ns();
  for (QueuedRow& row : mine.rows) {
    row.queued_ns = mine.filled_ns;
    calls_.slab()[row.slot].stamp(Stamp::kQueued) = mine.filled_ns;
  }
}

Status Admission::fill_row(Call& call, Slot& slot, uint32_t index, std::string_view bytes, std::string_view row, Scratch& mine,
                           bool* is_finished) {
  slot.stamp(Stamp::kReceived) = call.received_ns;
  Status status = scan_score_request(row, mine.scan);
  if (!status.ok()) {
    status.offset += static_cast<uint32_t>(row.data() - bytes.data());  // counted from the start of the whole message
    move_slot(slot, SlotState::kDecoded);
    return status;
  }
  slot.set_transaction_id(mine.scan.transaction_id);
  slot.include_features = mine.batch.include_features || mine.scan.include_features;
  slot.include_timings = mine.batch.include_timings || mine.scan.include_timings;
  slot.explanation = make_explanation(call.explain);
  check_unset_in_row(mine.scan, mine.violations);
  decode_transaction(mine.scan, call.lane->reader().plan(), TransactionUse::kScore, mine.transaction, mine.violations);
  slot.stamp(Stamp::kDecoded) = clock_.now_ns();
  move_slot(slot, SlotState::kDecoded);
  if (!mine.violations.empty()) return Status(Code::kInvalidRequest);
  call.lane->reader().plan().accepted_ints().add(mine.transaction.accepted_ints);
  return look_up(call, slot, index, mine, is_finished);
}

// --- tensors: ModelInfer

Submission Admission::submit_infer(std::string_view bytes, const CallContext& context, CompletionQueue* queue,
                                   uint64_t token) noexcept {
  Call call = make_call(CallKind::kInfer, context, queue, token);
  Scratch& mine = scratch();
  mine.violations.clear();
  Status status = decode_infer(call, bytes, mine);
  if (!status.ok()) return refused(call, status, &mine.violations);
  mine.slots.assign(call.row_count, kNoSlot);
  status = claim_slots(call, call.row_count, mine.slots.data());
  if (mine.slots[0] == kNoSlot) return refused(call, status);
  const uint32_t head = mine.slots[0];
  const CallId id = calls_.id(head);
  if (status.ok()) status = queue_infer(call, mine);
  if (status.ok()) return accepted(call, id);
  calls_.discard(head);
  return refused(call, status);
}

// Chooses the lane, sets and checks the deadline, holds the tensors against the model's.
Status Admission::decode_infer(Call& call, std::string_view bytes, Scratch& mine) {
  if (is_draining_.load(std::memory_order_relaxed)) return Status(Code::kDraining);
  const InferScan& scan = mine.infer;
  Status status = scan_infer_request(bytes, mine.infer);
  if (!status.ok()) return status;
  // As the request says, to be refused early where there is no time for it; whether it says so everywhere is checked below.
  // A row is a byte at least: nobody is counted for rows that were not sent.
  const int64_t rows = scan.inputs.empty() ? 1 : std::min<int64_t>(scan.inputs[0].shape[0], static_cast<int64_t>(bytes.size()));
  call.row_count = static_cast<uint32_t>(std::clamp<int64_t>(rows, 1, batch_rows_max_));
  call.priority = is_bulk(scan, call.row_count) ? Priority::kBulk : Priority::kInteractive;
  status = begin_call(call, {scan.model, scan.version, 0, infer_timeout(scan)}, mine.violations);
  if (!status.ok()) return status;
  const InferSchema& schema = call.lane->infer_schema();
  if (schema.outputs.empty()) return Status(Code::kInferUnsupported);
  status = check_infer(scan, schema, batch_rows_max_, mine.infer_call, mine.violations);
  if (!status.ok()) return status;
  call.row_count = mine.infer_call.row_count;
  call.explain = explain_tensors(mine.infer_call.explained_wanted);
  status = check_queue_size(*call.lane, call.row_count);
  if (!status.ok()) return status;
  // The transport refuses what is too large to send, names and all. What surely is need not be run for that.
  const uint64_t output_bytes = infer_output_bytes(schema, mine.infer_call);
  if (output_bytes <= answer_bytes_max_) return Status();
  return Status(Code::kAnswerTooLarge, std::to_string(call.row_count) + " rows have outputs of " + std::to_string(output_bytes) +
                                           " bytes; limits.send_message_bytes_max is " + std::to_string(answer_bytes_max_) +
                                           ": send fewer rows, or ask for fewer outputs");
}

// Writes the rows into the lane's memory and queues them, or runs the only one.
Status Admission::queue_infer(Call& call, Scratch& mine) {
  const LaneMemory& memory = call.lane->memory();
  const uint32_t head = mine.slots[0];
  memory.outputs_wanted(head) = mine.infer_call.outputs_wanted;
  mine.infer_rows.clear();
  for (const uint32_t index : mine.slots) mine.infer_rows.push_back(memory.open_row(index));
  write_infer_rows(mine.infer, call.lane->infer_schema(), mine.infer_call, mine.infer_rows.data());
  const int64_t now_ns = clock_.now_ns();
  mine.rows.clear();
  mine.parked.clear();
  for (const uint32_t index : mine.slots) {
    Slot& slot = calls_.slab()[index];
    slot.set_transaction_id(mine.infer.id);
    slot.explanation = make_explanation(call.explain);
    slot.event_time_us = 0;
    slot.stamp(Stamp::kReceived) = call.received_ns;
    slot.stamp(Stamp::kDecoded) = slot.stamp(Stamp::kQueued) = now_ns;
    move_slot(slot, SlotState::kDecoded);
    move_slot(slot, SlotState::kLookup);
    mine.rows.push_back({index, head, now_ns, call.deadline_ns, 0});
  }
  const Status status = check_deadline(call, now_ns, DeadlineCheck::kAfterLookup);
  if (!status.ok()) return status;
  if (call.row_count == 1 && run_inline(call, mine.rows[0])) return Status();
  return queue_rows(call, head, mine);
}

// --- what all have in common

// Runs the only row of the call here, if that may be. False: it is to be queued.
bool Admission::run_inline(Call& call, const QueuedRow& row) noexcept {
  const InlineOutcome outcome = call.may_run_inline ? call.lane->run_inline(row, call.priority) : InlineOutcome::kNotRun;
  call.is_complete = outcome == InlineOutcome::kComplete;
  return outcome != InlineOutcome::kNotRun;
}

// Nobody is told why a shadow scores as it does.
ExplainRequest Admission::read_explain(const Call& call, const ExplainFields& fields, Violations& violations) const {
  if (__builtin_expect(!fields.is_set, 1) || call.shadow_of != nullptr) return {};
  if (call.lane->explained() == nullptr) {
    violations.add(Code::kExplainUnsupported, "explain",
                   "this model version has no background rows to explain against: leave explain unset, or pack it with them");
  }
  return read_explain_request(fields, audit_ != nullptr, violations);
}

// Its thread ends before its lane does: the lane still gives tickets.
Status Admission::begin_shadow(Call& call) {
  call.lane = call.shadow_of->shadow->lane();
  call.lane->issue_ticket();
  call.ticket = LaneTicket(call.lane);
  call.priority = Priority::kShadow;
  set_deadline(call, INT64_MAX);
  return Status(call.lane->check_wait(call.priority, call.deadline_ns - call.now_ns));
}

Status Admission::begin_call(Call& call, const CallFields& fields, Violations& violations) {
  if (call.shadow_of != nullptr) return begin_shadow(call);
  if (audit_ != nullptr && audit_->is_refusing()) return Status(Code::kAuditUnavailable);
  call.is_routed = fields.version.empty();
  std::shared_ptr<Shadow>* const shadow = fields.transaction != nullptr ? &call.shadow : nullptr;  // one transaction is compared
  const Code code = lanes_.find(fields.model, fields.version, &call.ticket, fields.transaction, shadow);
  if (code == Code::kUnknownModel) {
    return Status(code,
                  fields.model.empty() ? "no default model is loaded: name one" : "model \"" + printable(fields.model) + "\"");
  }
  if (code == Code::kUnknownVersion) return Status(code, "version \"" + printable(fields.version) + "\"");
  if (code != Code::kOk) return Status(code);
  call.lane = call.ticket.lane();
  if (call.kind != CallKind::kInfer && call.lane->reader().plan().is_tensors_only()) return Status(Code::kNoFeatureSet);
  call.priority = read_priority(fields.priority, call.priority, violations);
  int64_t timeout_ns = INT64_MAX;
  if (fields.timeout.is_set && !positive_duration_ns(fields.timeout, &timeout_ns)) {
    timeout_ns = INT64_MAX;
    violations.add(Code::kBadDuration, "timeout", "expected a positive google.protobuf.Duration");
  }
  if (call.rpc_deadline_ns == 0 && !fields.timeout.is_set) calls_.counters().defaulted_deadlines.add(1);
  set_deadline(call, timeout_ns);
  const Status status = check_deadline(call, call.now_ns, DeadlineCheck::kAdmission);
  if (!status.ok()) return status;
  // Now, before the row is decoded and looked up: under overload a refusal must cost little.
  return Status(call.lane->check_wait(call.priority, call.deadline_ns - call.now_ns));
}

void Admission::set_deadline(Call& call, int64_t timeout_ns) noexcept {
  timeout_ns = std::min({timeout_ns, call.lane->options().timeout_ns_default, timeout_ns_max_});
  call.deadline_ns = call.received_ns + timeout_ns;
  if (call.rpc_deadline_ns != 0) call.deadline_ns = std::min(call.deadline_ns, call.rpc_deadline_ns);
}

Status Admission::check_deadline(Call& call, int64_t now_ns, DeadlineCheck check) noexcept {
  if (now_ns < call.deadline_ns) return Status();
  call.failed_check = check;
  const bool is_counted = call.kind != CallKind::kStream && call.shadow_of == nullptr;
  if (is_counted) calls_.counters().expired_refused_rows[static_cast<size_t>(check)].add(call.row_count);
  return Status(Code::kDeadlineExceeded);
}

// Slots with what belongs to the call. kSlotsExhausted leaves `slots` as they were; kDraining does not: the caller discards them.
Status Admission::claim_slots(Call& call, uint32_t count, uint32_t* slots) noexcept {
  if (!calls_.allocate(count, slots)) return Status(Code::kSlotsExhausted);
  Slot& head = calls_.slab()[slots[0]];
  head.kind = call.kind;
  head.reply = call.queue;
  head.token = call.token;
  head.deadline_ns = call.deadline_ns;
  head.lane = call.lane;
  head.priority = call.priority;
  head.is_routed = call.is_routed;
  head.set_trace(call.trace);
  // Again, now that wait_idle() sees this call: one that began before drain() cannot slip in behind it.
  return is_draining_.load() ? Status(Code::kDraining) : Status();
}

// Reads the row if its records are at hand, here or in the near-cache; else it is to be parked (`is_finished` stays false).
Status Admission::look_up(const Call& call, Slot& slot, uint32_t index, Scratch& mine, bool* is_finished) {
  move_slot(slot, SlotState::kLookup);
  slot.event_time_us = mine.transaction.event_time_us;
  const FeatureReader& reader = call.lane->reader();
  const RowOut out = call.lane->memory().out(index);
  const bool is_remote = reader.is_remote();
  if (is_remote && !near_.find_row(reader, mine.transaction, clock_.now_ns(), mine.near)) {
    lookups_.keep(index, mine.transaction, reader.plan());
    return Status();
  }
  *is_finished = true;
  const bool is_read = is_remote ? reader.read(mine.transaction, mine.near.records.data(), mine.read, out, mine.violations)
                                 : reader.read(mine.transaction, mine.read, out, mine.violations);
  mine.near.held.clear();  // what the near-cache drops is not kept here
  if (!is_read) return Status(Code::kInvalidRequest);
  if (call.shadow_of == nullptr) served_rows_.offer(call.lane->name(), reader.plan(), mine.transaction, out);
  return Status();
}

// Opens the call, queues its finished rows under one lock and parks the others until their records are fetched. After kOk the
// slots are the runners', or the look-ups'.
Status Admission::queue_rows(Call& call, uint32_t head, Scratch& mine) noexcept {
  const auto finished = static_cast<uint32_t>(mine.rows.size()), waiting = static_cast<uint32_t>(mine.parked.size());
  for (const QueuedRow& row : mine.rows) move_slot(calls_.slab()[row.slot], SlotState::kQueued);
  Code code = Code::kOk;
  calls_.open(head, finished + waiting, mine.completions);
  if (finished > 0) {
    LaneTicket ticket = waiting > 0 ? call.ticket.another() : std::move(call.ticket);
    code = call.lane->enqueue(std::move(ticket), mine.rows.data(), finished, call.priority, mine.completions);
  }
  if (waiting > 0 && code == Code::kOk) {
    code = lookups_.park(std::move(call.ticket), mine.parked.data(), waiting, call.priority);
    if (code != Code::kOk && finished > 0) {  // too late to refuse the call: its other rows are the runners'
      for (const QueuedRow& row : mine.parked) calls_.finish_row(row.slot, code, mine.completions);
      code = Code::kOk;
    }
  }
  mine.completions.flush();
  return Status(code);
}

Submission Admission::accepted(const Call& call, CallId id) const noexcept {
  Submission submission;
  submission.is_complete = call.is_complete;
  submission.call = id;
  submission.deadline_ns = call.deadline_ns;
  return submission;
}

Submission Admission::refused(const Call& call, const Status& status, const Violations* violations) noexcept {
  calls_.counters().refused_calls.add(status.code, 1);
  // A version that asks for what callers do not send refuses them all: its guard must see that.
  if (call.lane != nullptr && call.is_routed && status.code == Code::kInvalidRequest) call.lane->metrics().add_missed_row();
  CallRecord record;
  record.trace = call.trace;
  if (call.lane != nullptr) {
    record.lane = call.lane->name();
    record.priority = call.priority;
  }
  record.stamps[static_cast<size_t>(Stamp::kReceived)] = call.received_ns;
  record.row_count = call.row_count;
  record.answer = status.code;
  record.kind = call.kind;
  recorder_.refused(std::move(record));
  Submission submission;
  submission.code = status.code;
  submission.message = rpc_message(status, violations);
  submission.rpc_status = encode_rpc_status(status, violations);
  return submission;
}

}  // namespace assay
