// ExplainRequest: which scores of a call are to be explained, and how; checked.
#pragma once

#include <cstdint>

#include "core/base/status.h"
#include "core/explain/explainer.h"
#include "core/wire/explain_fields.h"
#include "core/wire/response.h"

namespace assay {

// assay.v1.ExplainWhen.
enum class ExplainWhen : uint8_t { kNever = 1, kAlways = 2, kScoreAtLeast = 3, kNotApproved = 4 };

struct ExplainRequest {
  ExplainWhen when = ExplainWhen::kNever;
  explain::Players players = explain::Players::kGroups;
  bool is_later = false;  // the score does not wait: the explanation goes into the audit log
  uint32_t top_k = 0;     // contributions in the answer; 0: all
  uint8_t tensors = 0;    // of ModelInfer: the answer is these outputs (InferExplained), not a message
  double min_score = 0.0;

  bool wants(double score, Decision decision) const noexcept;
};

// ModelInfer's, which wants these outputs; 0: none is explained.
ExplainRequest explain_tensors(uint8_t wanted) noexcept;

// Adds what is wrong to `violations`. `has_log`: there is an audit log for later explanations to go to.
ExplainRequest read_explain_request(const ExplainFields& fields, bool has_log, Violations& violations);

}  // namespace assay
