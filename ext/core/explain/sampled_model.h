// SampledModel: what it takes to explain a model that can only be asked: background rows, what the model gives for them, and how a row
// is mixed with them.
//
// Contributions are in the space of log-odds where the model gives probabilities, as those of trees and of linear models are; of another
// model they are in the score's own. Immutable: any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "core/explain/explainer.h"
#include "core/explain/mixed_row.h"
#include "core/explain/permutation.h"

namespace assay::explain {

struct BackgroundScores {
  std::vector<double> scores;  // the model's, one for each background row
  bool are_probabilities = false;
};

class SampledModel {
 public:
  // More players than this cost more rows than anybody waits for: 8 rounds of 16 background rows are 65,280 with as many.
  static constexpr size_t kGroupsMax = 256;
  // A probability is kept this far from 0 and 1 before its log-odds are taken: float32 knows none that are much nearer to 1.
  static constexpr double kEdge = 1e-7;

  // `spec`: all but the model and its output. kExplainUnsupported: a background, groups or scores that cannot be.
  static Status create(const ExplainerSpec& spec, BackgroundScores background, std::unique_ptr<const SampledModel>* out);

  size_t row_bytes() const noexcept { return row_bytes_; }
  bool is_log_odds() const noexcept { return is_log_odds_; }
  double margin_of(double score) const noexcept;
  double score_of(double margin) const noexcept;

  size_t background_rows() const noexcept { return margins_.size(); }
  const uint8_t* background_row(size_t i) const noexcept { return rows_.data() + i * row_bytes_; }
  const std::vector<double>& background_margins() const noexcept { return margins_; }
  size_t player_count(Players players) const noexcept { return counts_[index_of(players)]; }
  const RowMixer& mixer(Players players) const noexcept { return mixers_[index_of(players)]; }

 private:
  static size_t index_of(Players players) noexcept { return players == Players::kGroups ? 0 : 1; }

  size_t row_bytes_ = 0;
  bool is_log_odds_ = false;
  std::vector<uint8_t> rows_;    // background_rows() of them
  std::vector<double> margins_;  // theirs
  RowMixer mixers_[2];           // of groups, of inputs
  size_t counts_[2] = {0, 0};
};

}  // namespace assay::explain
