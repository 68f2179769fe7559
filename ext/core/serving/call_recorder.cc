#include "core/serving/call_recorder.h"

#include <algorithm>

#include "core/base/black_box.h"
#include "core/base/random.h"
#include "core/serving/lane.h"

namespace assay {
namespace {

constexpr uint8_t bit(RecordReason reason) noexcept { return static_cast<uint8_t>(reason); }

// What the rows of a call say about it.
struct Rows {
  uint32_t failed = 0;
  Code first_failure = Code::kOk;
  uint8_t reasons = 0;
};

Rows look_at_rows(const Slab& slab, uint32_t head) noexcept {
  Rows rows;
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) {
    const Slot& slot = slab[index];
    if (slot.outcome == Code::kOk) {
      if (slot.decision == Decision::kDecline) rows.reasons |= bit(RecordReason::kDeclined);
      continue;
    }
    if (rows.failed++ == 0) rows.first_failure = slot.outcome;
    if (is_server_failure(slot.outcome)) rows.reasons |= bit(RecordReason::kFailed);
  }
  return rows;
}

// Of several rows the last time of each: a stage of a call ends when its last row's does.
void merge_rows(const Slab& slab, uint32_t head, CallRecord& record) noexcept {
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) {
    const Slot& slot = slab[index];
    for (size_t i = 0; i < record.stamps.size(); ++i) record.stamps[i] = std::max(record.stamps[i], slot.stamps[i]);
    record.batch_rows = std::max(record.batch_rows, slot.batch_rows);
    record.is_degraded |= slot.is_degraded;
  }
}

}  // namespace

bool is_server_failure(Code code) noexcept {
  switch (code_info(code).grpc) {
    case GrpcCode::kUnknown:
    case GrpcCode::kDeadlineExceeded:
    case GrpcCode::kUnimplemented:
    case GrpcCode::kInternal:
    case GrpcCode::kUnavailable:
    case GrpcCode::kDataLoss: return true;
    default: return false;
  }
}

CallRecorder::CallRecorder(const TracingOptions& options, uint32_t records_max, const Clock& clock, const RequestLogOptions& log)
    : options_(options),
      records_max_(records_max),
      clock_(clock),
      sampler_(options),
      log_ratio_(log.ratio),
      log_calls_max_(static_cast<int32_t>(std::min<uint32_t>(log.calls_max, INT32_MAX))),
      log_calls_left_(log_calls_max_) {
  records_.reserve(records_max_);
}

bool CallRecorder::takes_line() noexcept {
  if (__builtin_expect(log_ratio_.is_zero(), 1) || log_calls_left_.load(std::memory_order_relaxed) <= 0) return false;
  return log_ratio_.takes(random_u64()) && log_calls_left_.fetch_sub(1, std::memory_order_relaxed) > 0;
}

void CallRecorder::ended(const Slab& slab, uint32_t head, Code answer, int64_t now_ns) noexcept {
  const Slot& slot = slab[head];
  if (slot.kind == CallKind::kStream && answer == Code::kOk) answer = slot.outcome;  // its RPC goes on, the message has failed
  const Rows rows = look_at_rows(slab, head);
  const int64_t received_ns = slot.stamps[static_cast<size_t>(Stamp::kReceived)];
  uint8_t reasons = rows.reasons & (options_.is_on ? UINT8_MAX : bit(RecordReason::kFailed));
  if (slot.is_sampled) reasons |= bit(RecordReason::kSampled);
  if (is_server_failure(answer)) reasons |= bit(RecordReason::kFailed);
  if (options_.is_on && options_.slow_ns > 0 && now_ns - received_ns >= options_.slow_ns) reasons |= bit(RecordReason::kSlow);
  if (takes_line()) reasons |= bit(RecordReason::kLogged);
  if (__builtin_expect(reasons == 0, 1)) return;
  if ((reasons & bit(RecordReason::kFailed)) != 0) {
    const uint16_t model = slot.lane != nullptr ? slot.lane->name()->black_box_model : black_box::kNoModel;
    black_box::failed(reason_of(answer != Code::kOk ? answer : rows.first_failure), now_ns, model, std::max(rows.failed, 1u));
  }
  CallRecord record;
  record.trace = slot.trace();
  if (slot.lane != nullptr) record.lane = slot.lane->name();
  record.ended_ns = now_ns;
  record.row_count = slot.row_count;
  record.failed_rows = rows.failed;
  record.answer = answer;
  record.failure = rows.first_failure;
  record.kind = slot.kind;
  record.priority = slot.priority;
  if (slot.row_count == 1 && slot.outcome == Code::kOk) record.decision = slot.decision;
  record.reasons = reasons;
  merge_rows(slab, head, record);
  push(std::move(record));
}

void CallRecorder::refused(CallRecord&& refusal) noexcept {
  if (refusal.trace.is_sampled) refusal.reasons |= bit(RecordReason::kSampled);
  if (is_server_failure(refusal.answer)) refusal.reasons |= bit(RecordReason::kFailed);
  if (takes_line()) refusal.reasons |= bit(RecordReason::kLogged);
  if (refusal.reasons == 0) return;
  refusal.ended_ns = clock_.now_ns();
  if ((refusal.reasons & bit(RecordReason::kFailed)) != 0) {
    const uint16_t model = refusal.lane != nullptr ? refusal.lane->black_box_model : black_box::kNoModel;
    black_box::failed(reason_of(refusal.answer), refusal.ended_ns, model, refusal.row_count);
  }
  refusal.failed_rows = refusal.row_count;
  refusal.failure = refusal.answer;
  push(std::move(refusal));
}

void CallRecorder::push(CallRecord&& record) noexcept {
  if (options_.is_on && record.reasons != bit(RecordReason::kLogged)) {  // a line alone has no span that an id could name
    record.span_id = random_id();
    if (!record.trace.has_id()) record.trace.trace_id_high = random_id(), record.trace.trace_id_low = random_id();
  }
  const bool is_sampled = record.trace.is_sampled;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (records_.size() < (is_sampled ? records_max_ : records_max_ / 2)) {
      records_.push_back(std::move(record));
      return;
    }
  }
  dropped_records_.add(1);
}

void CallRecorder::drain(std::vector<CallRecord>& out) {
  out.clear();
  out.reserve(records_max_);
  log_calls_left_.store(log_calls_max_, std::memory_order_relaxed);
  const std::lock_guard<std::mutex> lock(mutex_);
  out.swap(records_);
}

}  // namespace assay
