#include "core/explain/permutation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "core/base/seeded_random.h"

namespace assay::explain {
namespace {

constexpr size_t kPlayersExact = 2;  // up to here one round says all

// Student's t, 0.975 quantile: the first two as they are, then the Cornish-Fisher expansion (0.12 % below it at 3).
double student_t(size_t degrees) noexcept {
  if (degrees == 1) return 12.706205;
  if (degrees == 2) return 4.302653;
  const double by = 1.0 / static_cast<double>(degrees);
  return 1.959964 + by * (2.372271 + by * (2.822499 + by * (2.555850 + by * 1.589534)));
}

Status check(size_t rows, size_t players, const SamplingOptions& options) {
  const auto refused = [](const std::string& why) { return Status(Code::kExplainUnsupported, why); };
  const auto in_range = [](const char* what, size_t min, size_t max, size_t value) {
    return "expected " + std::to_string(min) + " to " + std::to_string(max) + " " + what + ", not " + std::to_string(value);
  };
  using Limits = PermutationSampling;
  if (rows == 0 || rows > Limits::kBackgroundMax) return refused(in_range("background rows", 1, Limits::kBackgroundMax, rows));
  if (players == 0 || players > Limits::kPlayersMax) return refused(in_range("players", 1, Limits::kPlayersMax, players));
  if (options.rounds_min < Limits::kRoundsMin || options.rounds_min > options.rounds_max) {
    return refused(in_range("rounds at least", Limits::kRoundsMin, options.rounds_max, options.rounds_min));
  }
  if (options.rounds_max > Limits::kRoundsMax) {
    return refused(in_range("rounds at most", options.rounds_min, Limits::kRoundsMax, options.rounds_max));
  }
  return options.precision >= 0.0 ? Status() : refused("expected a precision of 0 or more");
}

bool are_finite(const double* numbers, size_t count) noexcept {
  return std::all_of(numbers, numbers + count, [](double number) { return std::isfinite(number); });
}

}  // namespace

Status PermutationSampling::create(double number, const double* background, size_t rows, size_t players,
                                   const SamplingOptions& options, PermutationSampling* out) {
  if (Status status = check(rows, players, options); !status.ok()) return status;
  if (!std::isfinite(number) || !are_finite(background, rows)) {
    return Status(Code::kModelOutputInvalid, "what is to be explained is NaN or infinite, or a background row's score is");
  }
  PermutationSampling made;
  made.options_ = options;
  made.random_ = options.seed;
  made.number_ = number;
  made.background_.assign(background, background + rows);
  made.base_ = std::accumulate(background, background + rows, 0.0) / static_cast<double>(rows);
  made.means_.resize(players);
  made.squares_.resize(players);
  made.round_.resize(players);
  made.walks_.resize(2 * rows * players);
  made.numbers_.reserve(made.evaluations_per_round());
  made.draw_round();
  if (made.evaluations_per_round() == 0) made.end_round();  // one player: nothing has to be asked
  *out = std::move(made);
  return Status();
}

void PermutationSampling::draw_round() noexcept {
  numbers_.clear();
  const auto players = static_cast<std::ptrdiff_t>(player_count());
  for (auto at = walks_.begin(); at != walks_.end(); at += 2 * players) {
    std::iota(at, at + players, uint16_t{0});
    for (std::ptrdiff_t left = players; left > 1; --left) {  // Fisher and Yates; std::shuffle is each library's own
      std::swap(at[left - 1], at[static_cast<std::ptrdiff_t>(random_below(random_, static_cast<uint64_t>(left)))]);
    }
    std::reverse_copy(at, at + players, at + players);
  }
}

const std::vector<Coalition>& PermutationSampling::next(size_t rows_max) {
  asked_.clear();
  if (is_done_) return asked_;
  const size_t inner = player_count() - 1;  // steps of a walk whose numbers have to be asked for
  const size_t end = numbers_.size() + std::min(rows_max, evaluations_per_round() - numbers_.size());
  for (size_t i = numbers_.size(); i < end; ++i) {
    const size_t index = i / inner;
    asked_.push_back({index / 2, walk(index), i % inner + 1});
  }
  return asked_;
}

Status PermutationSampling::give(const double* numbers, size_t count) {
  ASSAY_ASSERT(count <= asked_.size());
  if (!are_finite(numbers, count)) return Status(Code::kModelOutputInvalid, "the score of a mixed row is NaN or infinite");
  asked_.clear();
  numbers_.insert(numbers_.end(), numbers, numbers + count);
  if (!is_done_ && numbers_.size() == evaluations_per_round()) end_round();
  return Status();
}

void PermutationSampling::end_round() noexcept {
  const size_t players = player_count(), walk_count = 2 * background_.size();
  std::fill(round_.begin(), round_.end(), 0.0);
  const double* next = numbers_.data();
  for (size_t index = 0; index < walk_count; ++index) {
    const uint16_t* const order = walk(index);
    double reached = background_[index / 2];
    for (size_t step = 0; step < players; ++step) {
      const double number = step + 1 < players ? *next++ : number_;
      round_[order[step]] += number - reached;
      reached = number;
    }
  }
  ++rounds_;
  for (size_t player = 0; player < players; ++player) {
    const double value = round_[player] / static_cast<double>(walk_count);
    const double off = value - means_[player];
    means_[player] += off / static_cast<double>(rounds_);
    squares_[player] += off * (value - means_[player]);
  }
  is_done_ = players <= kPlayersExact || rounds_ == options_.rounds_max ||
             (rounds_ >= options_.rounds_min && options_.precision > 0.0 && is_precise());
  if (!is_done_) draw_round();
}

bool PermutationSampling::is_precise() const noexcept {
  double largest_value = 0.0, largest_error = 0.0;
  for (size_t player = 0; player < player_count(); ++player) {
    largest_value = std::max(largest_value, std::abs(value(player)));
    largest_error = std::max(largest_error, standard_error(player));
  }
  return largest_error <= options_.precision * largest_value;
}

double PermutationSampling::standard_error(size_t player) const noexcept {
  const auto rounds = static_cast<double>(rounds_);
  if (rounds_ >= 1 && player_count() <= kPlayersExact) return 0.0;
  return rounds_ < 2 ? std::numeric_limits<double>::infinity() : std::sqrt(squares_[player] / (rounds * (rounds - 1.0)));
}

double PermutationSampling::half_width(size_t player) const noexcept {
  const double error = standard_error(player);
  return rounds_ < 2 ? error : student_t(rounds_ - 1) * error;
}

}  // namespace assay::explain
