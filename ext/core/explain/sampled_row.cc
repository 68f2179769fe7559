#include "core/explain/sampled_row.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <string_view>
#include <utility>

#include "core/base/blake2b.h"

namespace assay::explain {
namespace {

uint64_t digest_of(const std::vector<uint8_t>& row) noexcept {
  const auto digest = blake2b<sizeof(uint64_t)>({reinterpret_cast<const char*>(row.data()), row.size()});
  uint64_t seed;
  std::memcpy(&seed, digest.data(), sizeof seed);
  return seed;
}

}  // namespace

Status SampledRow::begin(const SampledModel& model, std::vector<uint8_t> row, double score, Players players,
                         const SamplingOptions& options, SampledRow* out) {
  ASSAY_ASSERT(row.size() == model.row_bytes());
  SampledRow made;
  SamplingOptions seeded = options;
  seeded.seed ^= digest_of(row);
  made.model_ = &model;
  made.row_ = std::move(row);
  made.score_ = score;
  made.players_ = players;
  Status status = PermutationSampling::create(model.margin_of(score), model.background_margins().data(), model.background_rows(),
                                              model.player_count(players), seeded, &made.sampling_);
  if (status.ok()) *out = std::move(made);
  return status;
}

size_t SampledRow::next(size_t rows_max) { return sampling_.next(rows_max).size(); }

void SampledRow::fill(size_t i, uint8_t* row) const noexcept {
  const Coalition& coalition = sampling_.asked()[i];
  model_->mixer(players_).mix(row_.data(), model_->background_row(coalition.background), coalition.players, coalition.size, row);
}

Status SampledRow::give(const double* scores, size_t count) {
  margins_.clear();
  for (size_t i = 0; i < count; ++i) margins_.push_back(model_->margin_of(scores[i]));
  return sampling_.give(margins_.data(), count);
}

bool SampledRow::can_tell() const noexcept {
  return sampling_.is_done() || sampling_.rounds() >= PermutationSampling::kRoundsMin;
}

void SampledRow::tell(Attribution* out) const {
  ASSAY_ASSERT(can_tell());
  const size_t players = sampling_.player_count();
  out->is_log_odds = model_->is_log_odds();
  out->margin = model_->margin_of(score_);
  out->base_margin = sampling_.base();
  out->score = model_->score_of(out->margin);  // another than score_ where that is no probability
  out->base_score = model_->score_of(out->base_margin);
  out->values.resize(players);
  out->errors.resize(players);
  for (size_t player = 0; player < players; ++player) {
    out->values[player] = sampling_.value(player);
    out->errors[player] = sampling_.standard_error(player);
  }
  out->residual = std::abs(std::accumulate(out->values.begin(), out->values.end(), out->base_margin) - out->margin);
}

}  // namespace assay::explain
