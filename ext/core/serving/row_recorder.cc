#include "core/serving/row_recorder.h"

#include "core/serving/failure.h"

namespace assay {
namespace {

constexpr size_t kRecordsBytes = audit::kAppendBytesMax;

}  // namespace

void RowRecorder::end(const RecordedLane& lane, const std::vector<uint32_t>& rows, CompletionList& completions) noexcept {
  if (lane.audit == nullptr) {
    for (const uint32_t row : rows) calls_.finish_row(row, Code::kOk, completions);
    return;
  }
  if (records_ == nullptr) records_end_ = (records_ = std::unique_ptr<char[]>(new char[kRecordsBytes])).get();
  const int64_t wall_us = wall_now_us() - clock_.now_ns() / 1000;
  for (const uint32_t row : rows) record(lane, row, wall_us, completions);
  hand_over(*lane.audit, completions);
}

void RowRecorder::record(const RecordedLane& lane, uint32_t row, int64_t wall_us, CompletionList& completions) noexcept {
  Slot& slot = calls_.slab()[row];
  switch (lane.audit->admit(slot)) {
    case audit::Admit::kRefuse: return fail(row, completions);
    case audit::Admit::kSkip: return calls_.finish_row(row, Code::kOk, completions);
    case audit::Admit::kRecord: break;
  }
  const auto used_bytes = static_cast<size_t>(records_end_ - records_.get());
  if (used_bytes + lane.audit->record_bytes_max() > kRecordsBytes) hand_over(*lane.audit, completions);
  const Slot& head = calls_.slab()[slot.head];
  const std::string_view outputs =
      head.kind == CallKind::kInfer
          ? std::string_view(reinterpret_cast<const char*>(lane.memory.outputs(row)), lane.schema.output_bytes)
          : std::string_view();
  records_end_ = lane.audit->encode(slot, head, lane.memory.out(row), outputs, wall_us, records_end_);
  recorded_.push_back(row);
}

void RowRecorder::hand_over(const ScoreAudit& audit, CompletionList& completions) noexcept {
  if (recorded_.empty()) return;
  const bool is_awaited = audit.is_awaited();
  // Before: the writer may end them, and others take their slots, while this thread is still on its way back.
  if (is_awaited) {
    for (const uint32_t row : recorded_) move_slot(calls_.slab()[row], SlotState::kCommitting);
  }
  const bool is_taken = audit.append({records_.get(), static_cast<size_t>(records_end_ - records_.get())}, recorded_);
  if (!is_taken || !is_awaited) {
    const bool is_answered = is_taken || audit.gives_unrecorded();
    for (const uint32_t row : recorded_) {
      if (is_answered) {
        calls_.finish_row(row, Code::kOk, completions);
      } else {
        fail(row, completions);
      }
    }
  }
  records_end_ = records_.get();
  recorded_.clear();
}

void RowRecorder::fail(uint32_t row, CompletionList& completions) noexcept {
  calls_.slab()[row].failure = make_failure(Status(Code::kAuditUnavailable));
  calls_.finish_row(row, Code::kAuditUnavailable, completions);
}

}  // namespace assay
