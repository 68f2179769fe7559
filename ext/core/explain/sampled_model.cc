#include "core/explain/sampled_model.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace assay::explain {
namespace {

Status unsupported(std::string detail) { return Status(Code::kExplainUnsupported, std::move(detail)); }

// The elements of a row, in order, each of the player that `players` has for it.
std::vector<RowElement> elements_of(const std::vector<RowTensor>& tensors, const std::vector<uint32_t>& players) {
  std::vector<RowElement> elements;
  for (const RowTensor& tensor : tensors) {
    const size_t bytes = tensor_type_bytes(tensor.type);
    for (size_t i = 0; i < tensor.elements; ++i) {
      const uint32_t player = elements.size() < players.size() ? players[elements.size()] : UINT32_MAX;
      elements.push_back({static_cast<uint32_t>(tensor.offset_bytes + i * bytes), static_cast<uint32_t>(bytes), player});
    }
  }
  return elements;
}

Status check(const ExplainerSpec& spec, const BackgroundScores& background) {
  if (spec.background_rows == 0 || spec.background_rows > PermutationSampling::kBackgroundMax) {
    return unsupported("expected 1 to " + std::to_string(PermutationSampling::kBackgroundMax) + " background rows, not " +
                       std::to_string(spec.background_rows));
  }
  if (background.scores.size() != spec.background_rows) return unsupported("expected one score for each background row");
  for (const double score : background.scores) {
    if (!std::isfinite(score)) return unsupported("a background row's score is NaN or infinite");
    if (background.are_probabilities && !(score >= 0.0 && score <= 1.0)) {
      return unsupported("a background row's score is no probability");
    }
  }
  if (spec.group_count == 0 || spec.group_count > SampledModel::kGroupsMax) {
    return unsupported("a model that must be asked takes 1 to " + std::to_string(SampledModel::kGroupsMax) + " groups, not " +
                       std::to_string(spec.group_count) + ": put inputs together into groups");
  }
  return Status();
}

}  // namespace

Status SampledModel::create(const ExplainerSpec& spec, BackgroundScores background, std::unique_ptr<const SampledModel>* out) {
  if (Status status = check(spec, background); !status.ok()) return status;
  auto made = std::make_unique<SampledModel>();
  const std::vector<RowElement> by_group = elements_of(spec.tensors, spec.groups);
  Status status = check_players(spec, by_group.size());
  made->counts_[0] = spec.group_count;
  made->counts_[1] = spec.inputs.size();
  if (status.ok()) status = RowMixer::create(by_group, spec.row_bytes, made->counts_[0], &made->mixers_[0]);
  if (status.ok()) {
    status = RowMixer::create(elements_of(spec.tensors, spec.inputs), spec.row_bytes, made->counts_[1], &made->mixers_[1]);
  }
  if (!status.ok()) return status;
  made->row_bytes_ = spec.row_bytes;
  made->is_log_odds_ = background.are_probabilities;
  made->rows_.assign(spec.background, spec.background + spec.background_rows * spec.row_bytes);
  for (const double score : background.scores) made->margins_.push_back(made->margin_of(score));
  *out = std::move(made);
  return Status();
}

double SampledModel::margin_of(double score) const noexcept {
  if (!is_log_odds_) return score;
  const double probability = std::isnan(score) ? score : std::clamp(score, kEdge, 1.0 - kEdge);
  return std::log(probability) - std::log1p(-probability);
}

double SampledModel::score_of(double margin) const noexcept { return is_log_odds_ ? 1.0 / (1.0 + std::exp(-margin)) : margin; }

}  // namespace assay::explain
