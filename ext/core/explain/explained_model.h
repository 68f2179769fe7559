// ExplainedModel: all that it takes to say why a model version scores as it does: who explains, what the players are called, and what
// may be told of them. Immutable; shared by the lane and by explanations that are on their way.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/explain/explainer.h"
#include "core/explain/sampled_model.h"

namespace assay::explain {

// What is told where a player pushes the risk up. An empty code: nothing.
struct Reason {
  std::string code;
  std::string analyst_text;
  std::string customer_text;  // empty: nothing that a customer may be told
};

struct ExplainedModel {
  // One of the two: who explains exactly, or how the model is asked.
  std::unique_ptr<const Explainer> explainer;
  std::unique_ptr<const SampledModel> sampled;
  std::string background_sha256;
  std::vector<std::string> group_names;  // by player
  std::vector<std::string> input_names;
  std::vector<uint32_t> element_inputs;  // of each element of a row, in the order of its bytes: which input it is
  std::vector<Reason> reasons;           // by group; empty: the bundle has no table
  std::string reasons_version;

  bool is_asked() const noexcept { return explainer == nullptr; }
  Method method() const noexcept { return is_asked() ? Method::kPermutation : explainer->method(); }
  bool is_log_odds() const noexcept { return is_asked() ? sampled->is_log_odds() : explainer->is_log_odds(); }
  const std::vector<std::string>& names(Players players) const noexcept {
    return players == Players::kGroups ? group_names : input_names;
  }
};

}  // namespace assay::explain
