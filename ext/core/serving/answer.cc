#include "core/serving/answer.h"

#include <bitset>

#include "core/serving/lane.h"
#include "core/wire/infer_response.h"

namespace assay {
namespace {

// The row as wire/response.h wants it; without scores and features if no lane was chosen (a stream message that was refused).
RowAnswer row_answer(const Slot& slot, uint32_t index, const Lane* lane) noexcept {
  RowAnswer answer;
  answer.transaction_id = slot.transaction_id();
  if (lane == nullptr || slot.outcome != Code::kOk) return answer;
  const RowOut row = lane->memory().out(index);
  answer.has_score = true;
  answer.score = slot.score;
  answer.decision = slot.decision;
  answer.plan = &lane->reader().plan();
  answer.row = row.row;
  answer.missing = row.missing;
  answer.imputed = row.imputed;
  answer.views = row.views;
  answer.include_features = slot.include_features;
  answer.include_timings = slot.include_timings;
  answer.stamps = &slot.stamps;
  answer.batch_rows = slot.batch_rows;
  if (__builtin_expect(slot.explanation != nullptr, 0)) {
    answer.explanation = slot.explanation->answer;
    answer.explanation_status = static_cast<uint8_t>(slot.explanation->status);
  }
  return answer;
}

bool is_degraded(const RowAnswer& answer) noexcept {
  for (size_t i = 0; i < answer.plan->views().size(); ++i) {
    const FoldResult& view = answer.views[i];
    if (view.is_stale || view.is_saturated || view.is_approximate || view.is_cache_stale || view.rejected != Code::kOk)
      return true;
  }
  return false;
}

// A row once for each of its causes, however many views have it.
void count_causes(const RowAnswer& answer, Counters& counters) noexcept {
  std::array<bool, kDegradationNames.size()> has{};
  std::bitset<static_cast<size_t>(Code::kCount_)> left_out;
  for (size_t i = 0; i < answer.plan->views().size(); ++i) {
    const FoldResult& view = answer.views[i];
    has[static_cast<size_t>(Degradation::kViewStale)] |= view.is_stale;
    has[static_cast<size_t>(Degradation::kDistinctSaturated)] |= view.is_saturated;
    has[static_cast<size_t>(Degradation::kWindowApproximate)] |= view.is_approximate;
    has[static_cast<size_t>(Degradation::kCacheStale)] |= view.is_cache_stale;
    left_out.set(static_cast<size_t>(view.rejected));
  }
  for (size_t i = 0; i < has.size(); ++i) {
    if (has[i]) counters.degradations[i].add(1);
  }
  for (size_t i = 1; i < left_out.size(); ++i) {
    if (left_out[i]) counters.left_out_records.add(static_cast<Code>(i), 1);
  }
}

// Whether the row has a degradation, which is counted.
bool note_degradation(const RowAnswer& answer, Counters& counters) noexcept {
  if (!answer.has_score || __builtin_expect(!is_degraded(answer), 1)) return false;
  counters.degraded_rows.add(1);
  count_causes(answer, counters);
  return true;
}

// The row's google.rpc.Status; empty if it has an answer.
std::string rpc_status_of(const Slot& slot) {
  if (slot.outcome == Code::kOk) return {};
  return slot.failure != nullptr ? slot.failure->rpc_status : encode_rpc_status(Status(slot.outcome));
}

Answer refusal(const Slot& slot) {
  Answer answer;
  answer.code = slot.outcome;
  answer.message = slot.failure != nullptr ? slot.failure->message : rpc_message(Status(slot.outcome));
  answer.rpc_status = rpc_status_of(slot);
  return answer;
}

void expire_scored_rows(Slab& slab, uint32_t head) noexcept {
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) {
    Slot& slot = slab[index];
    if (slot.outcome != Code::kOk) continue;
    slot.outcome = Code::kDeadlineExceeded;
    slot.failed_check = DeadlineCheck::kBeforeEncoding;
  }
}

std::string encode_batch(Calls& calls, uint32_t head, Lane& lane) {
  std::string payload;
  Slab& slab = calls.slab();
  const size_t row_count = slab[head].row_count;
  size_t explanation_bytes = 0;
  payload.reserve(lane.provenance().size() + row_count * lane.answer_bytes_guess());
  append_batch_provenance(lane.provenance(), payload);
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) {
    const RowAnswer row = row_answer(slab[index], index, &lane);
    slab[index].is_degraded = note_degradation(row, calls.counters());
    append_batch_result(row, rpc_status_of(slab[index]), payload);
    explanation_bytes += row.explanation.size();
  }
  lane.learn_answer_bytes((payload.size() - explanation_bytes) / row_count);
  return payload;
}

std::string encode_one(Calls& calls, uint32_t head, Lane* lane) {
  Slot& slot = calls.slab()[head];
  const RowAnswer row = row_answer(slot, head, lane);
  slot.is_degraded = note_degradation(row, calls.counters());
  const std::string_view provenance = lane != nullptr ? std::string_view(lane->provenance()) : std::string_view();
  std::string payload;
  if (slot.kind == CallKind::kStream) {
    append_stream_response(row, rpc_status_of(slot), provenance, payload);
  } else {
    payload.reserve(provenance.size() + lane->answer_bytes_guess());
    append_score_response(row, provenance, payload);
    lane->learn_answer_bytes(payload.size() - provenance.size() - row.explanation.size());
  }
  return payload;
}

// All rows of a ModelInfer are answered or none: a row that failed fails the others. kNoSlot: none did.
uint32_t fail_together(Slab& slab, uint32_t head) noexcept {
  uint32_t failed = head;
  while (failed != kNoSlot && slab[failed].outcome == Code::kOk) failed = slab[failed].next;
  if (failed == kNoSlot) return kNoSlot;
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) {
    if (slab[index].outcome != Code::kOk) continue;
    slab[index].outcome = slab[failed].outcome;
    slab[index].failed_check = slab[failed].failed_check;
  }
  return failed;
}

void fill_explained(const Slab& slab, uint32_t head, const Lane& lane, InferExplainedRows& explained) {
  const explain::ExplainedModel& model = *lane.explained()->model;
  explained.wanted = slab[head].explanation->request.tensors;
  explained.elements = model.element_inputs.size();
  explained.notes = {explain::method_name(model.method()), model.is_log_odds() ? "log_odds" : "score", model.background_sha256};
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) {
    explained.rows.push_back(slab[index].explanation->answer);
  }
}

std::string encode_infer(const Slab& slab, uint32_t head, const Lane& lane) {
  thread_local std::vector<const uint8_t*> rows;
  rows.clear();
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) rows.push_back(lane.memory().outputs(index));
  InferAnswer answer;
  answer.model = lane.model();
  answer.version = lane.version();
  answer.id = slab[head].transaction_id();
  answer.outputs_wanted = lane.memory().outputs_wanted(head);
  answer.rows = rows.data();
  answer.row_count = rows.size();
  if (slab[head].explanation != nullptr) fill_explained(slab, head, lane, answer.explained);
  std::string payload;
  append_infer_response(answer, lane.infer_schema(), payload);
  return payload;
}

// The answer's payload. REQUIRES: nothing of the call is refused as a whole.
std::string encode_payload(Calls& calls, uint32_t head, Lane* lane) {
  switch (calls.slab()[head].kind) {
    case CallKind::kBatch: return encode_batch(calls, head, *lane);
    case CallKind::kInfer: return encode_infer(calls.slab(), head, *lane);
    default: return encode_one(calls, head, lane);
  }
}

}  // namespace

Answer encode_answer(Calls& calls, uint32_t head, int64_t now_ns) {
  Slot& slot = calls.slab()[head];
  Lane* const lane = slot.lane.get();
  if (lane != nullptr && now_ns >= slot.deadline_ns) {
    expire_scored_rows(calls.slab(), head);
    if (slot.kind == CallKind::kBatch || slot.kind == CallKind::kInfer) {  // one deadline: it is the call that is late
      Answer late;
      late.code = Code::kDeadlineExceeded;
      late.message = rpc_message(Status(late.code));
      late.rpc_status = encode_rpc_status(Status(late.code));
      return late;
    }
  }
  if (slot.kind == CallKind::kUnary && slot.outcome != Code::kOk) return refusal(slot);
  const uint32_t failed = slot.kind == CallKind::kInfer ? fail_together(calls.slab(), head) : kNoSlot;
  if (failed != kNoSlot) return refusal(calls.slab()[failed]);
  for (uint32_t index = head; index != kNoSlot; index = calls.slab()[index].next)
    calls.slab()[index].stamp(Stamp::kDone) = now_ns;
  Answer answer;
  answer.payload = encode_payload(calls, head, lane);
  return answer;
}

}  // namespace assay
