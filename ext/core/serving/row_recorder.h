// RowRecorder: ends scored rows. Where their lane has an audit log each is put on record first; by the log's level it is done then, or
// when the log's writer says so.
//
// Used by one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/serving/calls.h"
#include "core/serving/completion_list.h"
#include "core/serving/lane_memory.h"
#include "core/serving/score_audit.h"
#include "core/wire/infer_schema.h"

namespace assay {

// Where rows are, and where they are put on record.
struct RecordedLane {
  const LaneMemory& memory;
  const InferSchema& schema;
  const ScoreAudit* audit = nullptr;  // null: nowhere
};

class RowRecorder {
 public:
  RowRecorder(Calls& calls, const Clock& clock) : calls_(calls), clock_(clock) {}

  // Every one is done when this returns, or waits for its record alone. REQUIRES: their slots are the caller's, and scored or explained.
  void end(const RecordedLane& lane, const std::vector<uint32_t>& rows, CompletionList& completions) noexcept;

 private:
  void record(const RecordedLane& lane, uint32_t row, int64_t wall_us, CompletionList& completions) noexcept;
  void hand_over(const ScoreAudit& audit, CompletionList& completions) noexcept;
  void fail(uint32_t row, CompletionList& completions) noexcept;

  Calls& calls_;
  const Clock& clock_;
  std::vector<uint32_t> recorded_;   // encoded in records_
  std::unique_ptr<char[]> records_;  // of kRecordsBytes; null until a row is recorded
  char* records_end_ = nullptr;      // where the next record goes
};

}  // namespace assay
