// LaneExplanations: who explains a lane's scores, how that went, and whether it rests. Shared by the lane and by what is on its way.
#pragma once

#include <array>
#include <memory>

#include "core/explain/explained_model.h"
#include "core/serving/breaker.h"
#include "core/serving/counters.h"
#include "core/serving/row_explanation.h"

namespace assay {

struct LaneExplanations {
  explicit LaneExplanations(std::shared_ptr<const explain::ExplainedModel> its_model) : model(std::move(its_model)) {}

  void count(ExplanationStatus status) noexcept { counts[static_cast<size_t>(status)].add(1); }

  const std::shared_ptr<const explain::ExplainedModel> model;
  Breaker breaker;  // of explanations that do not add up, but for those of ModelInfer
  std::array<Counter, kExplanationStatuses> counts{};
};

}  // namespace assay
