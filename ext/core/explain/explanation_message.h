// An explanation as bytes: what the answer carries (assay.v1.Explanation), what the audit log keeps (assay.v1.ExplanationRecord).
#pragma once

#include <string>

#include "core/explain/explained_model.h"

namespace assay::explain {

inline constexpr size_t kReasonsMax = 4;  // of one explanation

// One explained row. All borrowed.
struct ExplainedRow {
  const ExplainedModel& model;
  const Attribution& attribution;
  Players players = Players::kGroups;
  uint32_t top_k = 0;  // contributions in the answer; 0: all
};

void append_explanation(const ExplainedRow& row, std::string& out);
// As infer_explained.h has it: contributions of a row's elements in their order, base, errors, residual. REQUIRES: players are inputs.
void append_explanation_numbers(const ExplainedRow& row, std::string& out);
// Without the transaction. At most explanation_record_bytes_max().
void append_explanation_record(const ExplainedRow& row, std::string& out);
size_t explanation_record_bytes_max(const ExplainedModel& model) noexcept;

}  // namespace assay::explain
