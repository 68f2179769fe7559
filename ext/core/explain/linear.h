// Linear: exact Shapley values of a linear model against background rows. The values are those of interventional.h: a
// feature's is its weight times what x has more of it than the background has on average, a group's their sum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"

namespace assay::explain {

struct LinearFunction {
  std::vector<double> weights;  // by feature
  double intercept = 0.0;

  // Of a row of weights.size() numbers, added up in double.
  double margin(const float* row) const noexcept;
};

class Linear {
 public:
  static constexpr size_t kBackgroundMax = limits::kBackgroundRowsMax;

  // `background`: `rows` rows of weights.size() numbers, 1 to kBackgroundMax. `groups`: of each feature its player, below
  // `players`; empty: each feature is its own. kExplainUnsupported: too few or many rows, NaN, infinity.
  static Status create(LinearFunction function, const float* background, size_t rows, std::vector<uint32_t> groups,
                       size_t players, Linear* out);

  double base() const noexcept { return base_; }
  size_t player_count() const noexcept { return player_count_; }

  // values[0..player_count()) of a row of weights.size() numbers; returns its margin. NaN where the row has NaN. Any thread.
  double explain(const float* row, double* values) const noexcept;

 private:
  LinearFunction function_;
  std::vector<uint32_t> groups_;  // of each feature
  std::vector<double> means_;     // of the background, by feature
  double base_ = 0.0;
  size_t player_count_ = 0;
};

}  // namespace assay::explain
