// PermutationSampling: Shapley values of a model that can only be asked, by paired permutations, with their errors.
//
// The values are those of interventional.h: a coalition is worth the mean, over the background rows z, of what the model
// gives for the row that has x's features in the coalition and z's elsewhere; the base is the background's mean.
//
// HOW. A round draws one random order of the players for each background row and walks it twice, forwards and in reverse:
// the players take x's features one after the other, and what the number changes by is given to the one that just came. Both
// walks lead from z to x, so in every round, thus in the mean of any number of them, base and values add up to x's number,
// but for rounding. Rounds are independent and alike: a value is their mean, its standard error comes from their variance,
// its interval from Student's t. (Castro, Gomez and Tejada 2009; in pairs: Mitchell, Cooper, Frank and Holmes 2022.)
//
// EXACT in every single round, but for rounding, is a model whose features act alone or two by two: of two players each
// comes first in one walk of the pair, whatever the order. So two players, or one, are exact after one round, without error.
//
// COST. 2 B (M - 1) evaluations a round, for B background rows and M players; where a walk ends is known. B = 16, M = 15:
//
//   rounds   evaluations   at 5 us a row   at 50 us a row
//        1           448           2 ms            22 ms
//        4         1,792           9 ms            90 ms
//        8         3,584          18 ms           179 ms
//       16         7,168          36 ms           358 ms
//       64        28,672         143 ms         1,434 ms
//
// Half the standard error takes four times the rounds.
//
// It calls no model: it asks, and is told.
//
//   while (!sampling.is_done()) {
//     const std::vector<Coalition>& asked = sampling.next(rows_max);     (RowMixer makes their rows)
//     ... the model's number for each, in this order; at a deadline: stop, what whole rounds gave is there
//     sampling.give(numbers, asked.size());
//   }
//
// The same seed, numbers and options give the same bits, whatever rows_max is. One owner at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"

namespace assay::explain {

struct SamplingOptions {
  size_t rounds_min = 8;   // at least PermutationSampling::kRoundsMin; half_width() says why 8
  size_t rounds_max = 64;  // at most PermutationSampling::kRoundsMax
  double precision = 0.1;  // enough: no standard error is above this share of the largest value. 0: all rounds
  uint64_t seed = 0;
};

// A row to be asked about: x's features for players[0..size), those of one background row for the others.
struct Coalition {
  size_t background;        // which
  const uint16_t* players;  // the sampling's; good until give()
  size_t size;              // at least one player, never all
};

class PermutationSampling {
 public:
  static constexpr size_t kPlayersMax = limits::kModelInputsMax;
  static constexpr size_t kBackgroundMax = limits::kBackgroundRowsMax;
  static constexpr size_t kRoundsMin = 4;
  static constexpr size_t kRoundsMax = 10'000;

  PermutationSampling() = default;  // of nobody; move only
  PermutationSampling(PermutationSampling&&) = default;
  PermutationSampling& operator=(PermutationSampling&&) = default;

  // `number`: what the model gives for x; `background`: for each of `rows` background rows. Memory: 20 B M bytes, at most
  // 1.3 MB, and 24 for each row that is asked for at a time. kExplainUnsupported: a limit or an option that cannot be.
  // kModelOutputInvalid: a number is NaN or infinite.
  static Status create(double number, const double* background, size_t rows, size_t players, const SamplingOptions& options,
                       PermutationSampling* out);

  // rounds_max or the precision is reached. Nothing more is asked.
  bool is_done() const noexcept { return is_done_; }
  // The next rows to ask about, at most `rows_max` (at least 1), all of one round. The same until give(). None when done.
  const std::vector<Coalition>& next(size_t rows_max);
  const std::vector<Coalition>& asked() const noexcept { return asked_; }  // next() said so
  // What the model says of the first `count` of them. kModelOutputInvalid: NaN or infinity; nothing is taken.
  Status give(const double* numbers, size_t count);

  size_t evaluations_per_round() const noexcept { return 2 * background_.size() * (player_count() - 1); }
  size_t player_count() const noexcept { return means_.size(); }
  double base() const noexcept { return base_; }

  // Of the whole rounds so far. Of none the values are 0; of fewer than two the errors are infinite (but not of two players).
  size_t rounds() const noexcept { return rounds_; }
  double value(size_t player) const noexcept { return means_[player]; }
  double standard_error(size_t player) const noexcept;
  // The exact value is nearer than this in 95 of 100 explanations. Measured with 16 background rows (permutation_test.cc):
  // 94 to 95 after 8 rounds, 92 to 95 after 4: where only rare orders differ, few rounds may agree by chance.
  double half_width(size_t player) const noexcept;

 private:
  const uint16_t* walk(size_t index) const noexcept { return walks_.data() + index * player_count(); }
  void draw_round() noexcept;
  void end_round() noexcept;
  bool is_precise() const noexcept;

  SamplingOptions options_;
  double number_ = 0.0, base_ = 0.0;
  std::vector<double> background_;
  uint64_t random_ = 0;
  // Of the round that is asked about: two walks for each background row, and the numbers along them, without their ends.
  std::vector<uint16_t> walks_;
  std::vector<double> numbers_;
  std::vector<Coalition> asked_;
  // Over the rounds that are whole, by player: mean, and sum of squared distances from it (Welford 1962).
  std::vector<double> means_, squares_, round_;
  size_t rounds_ = 0;
  bool is_done_ = false;
};

}  // namespace assay::explain
