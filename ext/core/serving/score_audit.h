// ScoreAudit: what the audit log keeps of the scores of one lane (assay.v1.ScoreRecord), and who waits for it.
//
// A batch's rows are encoded where they were scored, while they are warm, and handed over together. By the log's level they are done
// at once, or when the log's writer says so: then they are kCommitting, and nobody is answered before.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/hash.h"
#include "core/serving/audit_policy.h"
#include "core/serving/calls.h"
#include "core/serving/lane_memory.h"

namespace assay {

class FlatWriter;
struct LaneSpec;

// Ends the rows that waited for the log's writer, on its thread.
class Commits final : public audit::CommitSink {
 public:
  Commits(Calls& calls, const Clock& clock) : calls_(calls), clock_(clock) {}
  void committed(const uint32_t* rows, size_t count, Code outcome) noexcept override;

 private:
  Calls& calls_;
  const Clock& clock_;
  CompletionList completions_;
};

// Of what runs a lane's rows: its runners, or the standbys of those. Immutable but for the log; any runner's thread.
class ScoreAudit {
 public:
  // REQUIRES: a log. `spec` is the lane's, `runtime` what runs the rows, `commits` outlives it.
  ScoreAudit(const EngineAudit& audit, Commits& commits, const LaneSpec& spec, std::string_view runtime);

  audit::AuditLog& log() const noexcept { return *log_; }
  bool is_awaited() const noexcept { return log_->is_awaited(); }
  bool gives_unrecorded() const noexcept { return gives_unrecorded_; }

  audit::Admit admit(const Slot& slot) const noexcept;
  // Most bytes of one record, framed as blocks have it.
  size_t record_bytes_max() const noexcept;
  // Writes the record of a scored row at `at` and returns its end. `outputs`: what ModelInfer gives of it; empty: it gives a score.
  // `wall_us`: the wall clock at 0 of the stamps' clock.
  char* encode(const Slot& slot, const Slot& head, const RowOut& row, std::string_view outputs, int64_t wall_us,
               char* at) const noexcept;
  // The first fields of the ExplanationRecord of a scored row whose explanation comes later (RowExplanation::received_us): which score
  // it is of.
  std::string explanation_head(const Slot& slot) const;
  // Puts it on record, if there is room.
  void append_explanation(std::string_view head, std::string_view record) const noexcept;
  // As AuditLog::append(): of rows that encode() has made records of.
  bool append(std::string_view records, const std::vector<uint32_t>& rows) const noexcept;

 private:
  bool encode_id(const Slot& slot, FlatWriter& out) const noexcept;
  bool wants_row(std::string_view transaction_id, std::string_view row) const noexcept;
  void encode_inputs(const Slot& slot, const RowOut& row, FlatWriter& out) const noexcept;
  void encode_outputs(std::string_view outputs, FlatWriter& out) const noexcept;
  Digest16 keyed_digest(std::initializer_list<std::string_view> parts) const noexcept;

  const std::shared_ptr<audit::AuditLog> log_;
  const AuditPolicy policy_;
  const bool gives_unrecorded_;
  Commits& commits_;
  const std::shared_ptr<const FeaturePlan> plan_;
  const size_t explanation_bytes_max_;  // of a record
  const std::shared_ptr<const audit::Lineage> lineage_;
};

}  // namespace assay
