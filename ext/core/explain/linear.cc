#include "core/explain/linear.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

namespace assay::explain {
namespace {

Status refused(std::string why) { return Status(Code::kExplainUnsupported, std::move(why)); }

bool is_finite(double number) noexcept { return std::isfinite(number); }

}  // namespace

double LinearFunction::margin(const float* row) const noexcept {
  double sum = intercept;
  for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] * static_cast<double>(row[i]);
  return sum;
}

Status Linear::create(LinearFunction function, const float* background, size_t rows, std::vector<uint32_t> groups, size_t players,
                      Linear* out) {
  const size_t features = function.weights.size();
  if (rows == 0 || rows > kBackgroundMax) {
    return refused("expected 1 to " + std::to_string(kBackgroundMax) + " background rows, not " + std::to_string(rows));
  }
  if (groups.empty()) {
    groups.resize(features);
    std::iota(groups.begin(), groups.end(), 0u);
    if (players != features) return refused("groups: expected a player for each feature");
  }
  if (groups.size() != features || std::any_of(groups.begin(), groups.end(), [&](uint32_t group) { return group >= players; })) {
    return refused("groups: expected a player for each feature");
  }
  Linear made;
  made.means_.resize(features);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = 0; i < features; ++i) made.means_[i] += static_cast<double>(background[row * features + i]);
  }
  made.base_ = function.intercept;
  for (size_t i = 0; i < features; ++i) {
    made.means_[i] /= static_cast<double>(rows);
    made.base_ += function.weights[i] * made.means_[i];
  }
  if (!std::all_of(function.weights.begin(), function.weights.end(), is_finite) || !std::isfinite(made.base_)) {
    return refused("a weight or a number of the background is NaN or infinite");
  }
  made.function_ = std::move(function);
  made.groups_ = std::move(groups);
  made.player_count_ = players;
  *out = std::move(made);
  return Status();
}

double Linear::explain(const float* row, double* values) const noexcept {
  std::fill(values, values + player_count_, 0.0);
  for (size_t i = 0; i < means_.size(); ++i) {
    values[groups_[i]] += function_.weights[i] * (static_cast<double>(row[i]) - means_[i]);
  }
  return function_.margin(row);
}

}  // namespace assay::explain
