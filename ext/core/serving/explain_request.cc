#include "core/serving/explain_request.h"

#include <cmath>

namespace assay {
namespace {

// An enum's number, or its default for 0. Anything else is a violation.
template <typename Enum>
Enum read_enum(int32_t number, Enum fallback, Enum last, const char* field, const char* expected, Violations& violations) {
  if (number == 0) return fallback;
  if (number > 0 && number <= static_cast<int32_t>(last)) return static_cast<Enum>(number);
  violations.add(Code::kBadExplain, field, expected);
  return fallback;
}

enum class Mode : uint8_t { kInline = 1, kLater = 2 };  // assay.v1.ExplainMode

void check_min_score(const ExplainFields& fields, const ExplainRequest& request, Violations& violations) {
  const bool is_needed = request.when == ExplainWhen::kScoreAtLeast;
  if (is_needed && (!fields.has_min_score || !std::isfinite(fields.min_score))) {
    violations.add(Code::kBadExplain, "explain.min_score", "expected a finite number with EXPLAIN_WHEN_SCORE_AT_LEAST");
  } else if (!is_needed && fields.has_min_score) {
    violations.add(Code::kBadExplain, "explain.min_score", "must be unset but with EXPLAIN_WHEN_SCORE_AT_LEAST");
  }
}

}  // namespace

bool ExplainRequest::wants(double score, Decision decision) const noexcept {
  switch (when) {
    case ExplainWhen::kNever: return false;
    case ExplainWhen::kAlways: return true;
    case ExplainWhen::kScoreAtLeast: return score >= min_score;
    case ExplainWhen::kNotApproved: return decision != Decision::kApprove;
  }
  return false;
}

ExplainRequest explain_tensors(uint8_t wanted) noexcept {
  ExplainRequest request;
  if (wanted == 0) return request;
  request.when = ExplainWhen::kAlways;
  request.players = explain::Players::kInputs;
  request.tensors = wanted;
  return request;
}

ExplainRequest read_explain_request(const ExplainFields& fields, bool has_log, Violations& violations) {
  ExplainRequest request;
  if (!fields.is_set) return request;
  request.when = read_enum(fields.when, ExplainWhen::kAlways, ExplainWhen::kNotApproved, "explain.when",
                           "expected a value of ExplainWhen, or unset", violations);
  request.players = read_enum(fields.players, explain::Players::kGroups, explain::Players::kInputs, "explain.players",
                              "expected a value of ExplainPlayers, or unset", violations);
  const Mode mode = read_enum(fields.mode, Mode::kInline, Mode::kLater, "explain.mode",
                              "expected a value of ExplainMode, or unset", violations);
  request.is_later = mode == Mode::kLater;
  request.top_k = fields.top_k;
  request.min_score = fields.min_score;
  check_min_score(fields, request, violations);
  if (request.is_later && !has_log) {
    violations.add(Code::kBadExplain, "explain.mode", "EXPLAIN_MODE_LATER needs an audit log, and this server keeps none");
  }
  return request;
}

}  // namespace assay
