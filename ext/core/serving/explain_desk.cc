#include "core/serving/explain_desk.h"

#include <algorithm>
#include <cmath>

#include "core/explain/explanation_message.h"

namespace assay {
namespace {

// Between the score that was given, from sums of float32, and the one that the explanation is of.
constexpr double kScoreToleranceMax = 1e-4;

bool is_of_score(const explain::Attribution& found, double score) noexcept {
  return std::abs(found.score - score) <= kScoreToleranceMax * std::max(1.0, std::abs(score));
}

}  // namespace

ExplainResult tell_explanation(const ExplainJob& job, const explain::Attribution& found) {
  ExplainResult result;
  if (!found.adds_up() || !is_of_score(found, job.score)) return result;
  result.status = ExplanationStatus::kGiven;
  const explain::ExplainedRow row{*job.model, found, job.players, job.top_k};
  job.has_tensors ? append_explanation_numbers(row, result.answer) : append_explanation(row, result.answer);
  append_explanation_record(row, result.record);
  return result;
}

}  // namespace assay
