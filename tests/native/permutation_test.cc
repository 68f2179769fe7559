// Sampled Shapley values against exact ones: how they add up, when they are exact, how often their intervals hold.
#include "core/explain/permutation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "check.h"

using namespace assay;
using namespace assay::explain;

namespace {

using Random = std::mt19937_64;

double uniform(Random& random) { return static_cast<double>(random() >> 11) * 0x1p-52 - 1.0; }  // -1 to 1

// What a model gives for every coalition of few players, with each background row: numbers[row << players | coalition].
struct Game {
  size_t players = 0, rows = 0;
  std::vector<double> numbers;

  size_t everybody() const { return (size_t{1} << players) - 1; }
  double number(size_t row, size_t coalition) const { return numbers[row << players | coalition]; }
  double of_x() const { return numbers[everybody()]; }
  std::vector<double> of_background() const {
    std::vector<double> alone;
    for (size_t row = 0; row < rows; ++row) alone.push_back(number(row, 0));
    return alone;
  }
  double asked(const Coalition& coalition) const {
    size_t bits = 0;
    for (size_t i = 0; i < coalition.size; ++i) bits |= size_t{1} << coalition.players[i];
    return number(coalition.background, bits);
  }
  double scale() const {
    double largest = 0.0;
    for (const double number : numbers) largest = std::max(largest, std::abs(number));
    return largest;
  }

  // By the definition.
  std::vector<double> values() const {
    std::vector<double> values(players);
    for (size_t player = 0; player < players; ++player) {
      for (size_t coalition = 0; coalition <= everybody(); ++coalition) {
        if ((coalition >> player & 1) != 0) continue;
        const auto size = static_cast<double>(__builtin_popcountll(coalition)), all = static_cast<double>(players);
        const double weight = std::exp(std::lgamma(size + 1.0) + std::lgamma(all - size) - std::lgamma(all + 1.0));
        for (size_t row = 0; row < rows; ++row) {
          const double gain = number(row, coalition | size_t{1} << player) - number(row, coalition);
          values[player] += weight * gain / static_cast<double>(rows);
        }
      }
    }
    return values;
  }
};

using Model = std::function<double(const std::vector<double>&)>;

Game game_of(const Model& model, size_t players, size_t rows, Random& random) {
  Game game{players, rows, std::vector<double>(rows << players)};
  std::vector<double> x(players), z(players), mixed(players);
  for (double& value : x) value = uniform(random);
  for (size_t row = 0; row < rows; ++row) {
    for (double& value : z) value = uniform(random);
    for (size_t coalition = 0; coalition <= game.everybody(); ++coalition) {
      for (size_t i = 0; i < players; ++i) mixed[i] = (coalition >> i & 1) != 0 ? x[i] : z[i];
      game.numbers[row << players | coalition] = model(mixed);
    }
  }
  return game;
}

// Numbers without any order in them: every interaction there is.
Game wild_game(size_t players, size_t rows, Random& random) {
  Game game{players, rows, std::vector<double>(rows << players)};
  for (double& number : game.numbers) number = 10.0 * uniform(random);
  for (size_t row = 0; row < rows; ++row) game.numbers[row << players | game.everybody()] = game.of_x();
  return game;
}

double product(const std::vector<double>& x) {
  double all = 1.0;
  for (size_t i = 0; i < x.size(); ++i) all *= 1.0 + 0.8 * x[i] + 0.1 * static_cast<double>(i);
  return all;
}

// Stumps, pairs and triples of conditions, as trees have them.
double steps(const std::vector<double>& x) {
  double sum = x[0] > 0.2 ? 1.0 : 0.0;
  for (size_t i = 0; i + 2 < x.size(); ++i) {
    if (x[i] > -0.3 && x[i + 1] <= 0.4) sum += x[i + 2] > 0.1 ? 2.0 : -0.5 * static_cast<double>(i);
  }
  return sum;
}

double network(const std::vector<double>& x) {
  constexpr size_t kHidden = 8;
  double sum = -0.2;
  for (size_t unit = 0; unit < kHidden; ++unit) {
    double in = 0.3 * static_cast<double>(unit) - 1.0;
    for (size_t i = 0; i < x.size(); ++i) in += 2.0 * std::sin(static_cast<double>(1 + 7 * unit + 3 * i)) * x[i];
    sum += std::cos(static_cast<double>(5 * unit)) * std::max(in, 0.0);
  }
  return 1.0 / (1.0 + std::exp(-2.0 * sum));
}

SamplingOptions options_of(size_t rounds_min, size_t rounds_max, double precision, uint64_t seed) {
  SamplingOptions options;
  options.rounds_min = rounds_min;
  options.rounds_max = rounds_max;
  options.precision = precision;
  options.seed = seed;
  return options;
}

PermutationSampling sampling_of(const Game& game, const SamplingOptions& options) {
  PermutationSampling sampling;
  const std::vector<double> background = game.of_background();
  const Status status = PermutationSampling::create(game.of_x(), background.data(), game.rows, game.players, options, &sampling);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return sampling;
}

template <typename Number>
void answer(PermutationSampling& sampling, size_t rows_max, Number&& number) {
  const std::vector<Coalition>& asked = sampling.next(rows_max);
  std::vector<double> numbers;
  for (const Coalition& coalition : asked) numbers.push_back(number(coalition));
  CHECK(sampling.give(numbers.data(), numbers.size()).ok());
}

void one_round(PermutationSampling& sampling, const Game& game) {
  answer(sampling, sampling.evaluations_per_round(), [&](const Coalition& coalition) { return game.asked(coalition); });
}

PermutationSampling sampled(const Game& game, const SamplingOptions& options) {
  PermutationSampling sampling = sampling_of(game, options);
  while (!sampling.is_done()) one_round(sampling, game);
  return sampling;
}

double sum_of(const PermutationSampling& sampling) {
  double sum = 0.0;
  for (size_t player = 0; player < sampling.player_count(); ++player) sum += sampling.value(player);
  return sum;
}

Code code_of(double number, const std::vector<double>& background, size_t players, const SamplingOptions& options) {
  PermutationSampling sampling;
  return PermutationSampling::create(number, background.data(), background.size(), players, options, &sampling).code;
}

struct Coverage {
  double rate = 0.0, rounds = 0.0;
};

// How often the interval of one player, chosen beforehand, has the exact value. Five explanations of each of `games` rows.
Coverage coverage(const Model& model, const SamplingOptions& options, int games) {
  constexpr size_t kPlayers = 7, kRows = 16;
  constexpr int kTimes = 5;
  Random random(options.seed);
  Coverage sum;
  for (int i = 0; i < games; ++i) {
    const Game game = game_of(model, kPlayers, kRows, random);
    const std::vector<double> exact = game.values();
    for (int time = 0; time < kTimes; ++time) {
      SamplingOptions own = options;
      own.seed = random();
      const PermutationSampling sampling = sampled(game, own);
      const size_t player = random() % kPlayers;
      const double off = std::abs(sampling.value(player) - exact[player]);
      sum.rate += off <= sampling.half_width(player) + 1e-12 * game.scale() ? 1.0 : 0.0;
      sum.rounds += static_cast<double>(sampling.rounds());
    }
  }
  return {sum.rate / (games * kTimes), sum.rounds / (games * kTimes)};
}

}  // namespace

TEST(the_mean_of_many_rounds_is_the_definition) {
  Random random(1);
  const std::vector<Model> models = {product, steps, network};
  for (const Model& model : models) {
    for (const size_t players : {size_t{3}, size_t{5}, size_t{8}}) {
      const Game game = game_of(model, players, 4, random);
      const PermutationSampling sampling = sampled(game, options_of(4, 5'000, 0.0, random()));
      const std::vector<double> exact = game.values();
      for (size_t player = 0; player < players; ++player) {
        CHECK(sampling.standard_error(player) <= 0.01 * game.scale());
        CHECK(std::abs(sampling.value(player) - exact[player]) <= 4.0 * sampling.standard_error(player) + 1e-12 * game.scale());
      }
    }
  }
}

TEST(in_every_round_the_values_add_up) {
  Random random(check::seed());
  for (int i = 0; i < 50; ++i) {
    const Game game = wild_game(2 + random() % 8, 1 + random() % 9, random);
    PermutationSampling sampling = sampling_of(game, options_of(4, 20, 0.0, random()));
    while (!sampling.is_done()) {
      one_round(sampling, game);  // as each mean adds up, each round does
      CHECK(std::abs(sampling.base() + sum_of(sampling) - game.of_x()) <= 1e-12 * game.scale());
    }
  }
}

TEST(what_acts_alone_or_in_pairs_is_exact_in_every_round) {
  Random random(check::seed());
  for (int i = 0; i < 50; ++i) {
    std::vector<double> alone(6), together(36);
    for (double& weight : alone) weight = uniform(random);
    for (double& weight : together) weight = i % 2 == 0 ? 0.0 : uniform(random);
    const Model model = [&](const std::vector<double>& x) {
      double sum = 0.0;
      for (size_t a = 0; a < x.size(); ++a) {
        sum += alone[a] * std::exp(x[a]);
        for (size_t b = 0; b < a; ++b) sum += together[a * 6 + b] * std::cos(3.0 * x[a] * x[b]);
      }
      return sum;
    };
    const Game game = game_of(model, 6, 3, random);
    const std::vector<double> exact = game.values();
    PermutationSampling sampling = sampling_of(game, options_of(4, 50, 1e-9, random()));
    while (!sampling.is_done()) {
      one_round(sampling, game);
      for (size_t player = 0; player < 6; ++player)
        CHECK(std::abs(sampling.value(player) - exact[player]) <= 1e-12 * game.scale());
    }
    CHECK_EQ(sampling.rounds(), size_t{4});
    for (size_t player = 0; player < 6; ++player) CHECK(sampling.standard_error(player) <= 1e-12 * game.scale());
  }
}

TEST(one_player_and_two_need_no_chance) {
  Random random(check::seed());
  PermutationSampling one;
  const double background[] = {1.0, 2.0, 6.0};
  REQUIRE(PermutationSampling::create(5.0, background, 3, 1, {}, &one).ok());
  CHECK(one.is_done());
  CHECK(one.next(100).empty());
  CHECK_EQ(one.base(), 3.0);
  CHECK_EQ(one.value(0), 2.0);
  CHECK_EQ(one.half_width(0), 0.0);

  const Game game = wild_game(2, 6, random);
  const PermutationSampling two = sampled(game, options_of(4, 50, 0.0, random()));
  CHECK_EQ(two.rounds(), size_t{1});
  for (size_t player = 0; player < 2; ++player) {
    CHECK(std::abs(two.value(player) - game.values()[player]) <= 1e-12 * game.scale());
    CHECK_EQ(two.half_width(player), 0.0);
  }
}

TEST(however_many_rows_are_asked_for_the_bits_are_the_same) {
  Random random(check::seed());
  const Game game = wild_game(5, 4, random);
  const SamplingOptions options = options_of(4, 12, 0.05, random());
  const PermutationSampling whole = sampled(game, options);
  const auto check_same = [&](const PermutationSampling& other) {
    CHECK_EQ(other.rounds(), whole.rounds());
    for (size_t player = 0; player < 5; ++player) {
      CHECK_EQ(other.value(player), whole.value(player));
      CHECK_EQ(other.standard_error(player), whole.standard_error(player));
    }
  };
  for (size_t rows_max = 1; rows_max <= whole.evaluations_per_round() + 1; ++rows_max) {
    PermutationSampling sampling = sampling_of(game, options);
    while (!sampling.is_done()) {
      CHECK(sampling.next(rows_max).size() <= rows_max);
      answer(sampling, rows_max, [&](const Coalition& coalition) { return game.asked(coalition); });
    }
    check_same(sampling);
  }
  PermutationSampling uneven = sampling_of(game, options);  // part of what was asked for is given
  while (!uneven.is_done()) {
    std::vector<double> numbers;
    for (const Coalition& coalition : uneven.next(1 + random() % 40)) numbers.push_back(game.asked(coalition));
    CHECK(uneven.give(numbers.data(), 1 + random() % numbers.size()).ok());
  }
  check_same(uneven);

  SamplingOptions other_seed = options;
  ++other_seed.seed;
  CHECK(sampled(game, other_seed).value(0) != whole.value(0));
}

TEST(a_round_that_was_cut_off_does_not_count) {
  Random random(check::seed());
  const Game game = wild_game(6, 3, random);
  PermutationSampling sampling = sampling_of(game, options_of(4, 50, 0.0, random()));
  CHECK_EQ(sampling.value(0), 0.0);
  CHECK_EQ(sampling.half_width(0), std::numeric_limits<double>::infinity());
  one_round(sampling, game);
  CHECK_EQ(sampling.standard_error(0), std::numeric_limits<double>::infinity());
  for (int i = 0; i < 2; ++i) one_round(sampling, game);
  const double value = sampling.value(2), error = sampling.standard_error(2);
  answer(sampling, sampling.evaluations_per_round() - 1, [&](const Coalition& coalition) { return game.asked(coalition); });
  CHECK_EQ(sampling.rounds(), size_t{3});
  CHECK_EQ(sampling.value(2), value);
  CHECK_EQ(sampling.standard_error(2), error);
  CHECK(std::abs(sampling.base() + sum_of(sampling) - game.of_x()) <= 1e-12 * game.scale());
  CHECK_EQ(sampling.next(9).size(), size_t{1});  // what was left of it
  one_round(sampling, game);
  CHECK_EQ(sampling.rounds(), size_t{4});
}

TEST(it_ends_in_the_first_round_that_is_precise) {
  Random random(check::seed());
  size_t ends_early = 0;
  for (int i = 0; i < 60; ++i) {
    const Game game = game_of(i % 2 == 0 ? Model(product) : Model(steps), 6, 3, random);
    PermutationSampling sampling = sampling_of(game, options_of(5, 30, 0.1, random()));
    while (!sampling.is_done()) {
      one_round(sampling, game);
      double value = 0.0, error = 0.0;
      for (size_t player = 0; player < 6; ++player) {
        value = std::max(value, std::abs(sampling.value(player)));
        error = std::max(error, sampling.standard_error(player));
      }
      const bool is_enough = sampling.rounds() >= 5 && error <= 0.1 * value;
      CHECK_EQ(sampling.is_done(), is_enough || sampling.rounds() == 30);
    }
    ends_early += sampling.rounds() < 30 ? 1 : 0;
  }
  CHECK(ends_early > 0);
}

TEST(the_half_width_is_student_s) {
  Random random(check::seed());
  const Game game = wild_game(5, 3, random);
  PermutationSampling sampling = sampling_of(game, options_of(4, 64, 0.0, random()));
  const std::vector<std::pair<size_t, double>> table = {{2, 12.7062}, {3, 4.3027},  {4, 3.1824},  {5, 2.7764},
                                                        {10, 2.2622}, {16, 2.1314}, {32, 2.0395}, {64, 1.9983}};
  for (const auto& [rounds, t] : table) {
    while (sampling.rounds() < rounds) one_round(sampling, game);
    CHECK(std::abs(sampling.half_width(3) / sampling.standard_error(3) - t) < 0.0013 * t);
  }
}

TEST(every_order_of_players_is_as_likely) {
  constexpr int kRounds = 3'000;
  const std::vector<double> background(8, 0.0);
  PermutationSampling sampling;
  REQUIRE(PermutationSampling::create(0.0, background.data(), 8, 4, options_of(kRounds, kRounds, 0.0, 5), &sampling).ok());
  std::vector<int> seen(256);
  const std::vector<double> zeros(sampling.evaluations_per_round());
  while (!sampling.is_done()) {
    for (const Coalition& asked : sampling.next(zeros.size())) {
      if (asked.size != 3) continue;
      int order = 0;
      for (size_t i = 0; i < 4; ++i) order = order * 4 + asked.players[i];
      ++seen[static_cast<size_t>(order)];
    }
    CHECK(sampling.give(zeros.data(), zeros.size()).ok());
  }
  CHECK_EQ(std::count_if(seen.begin(), seen.end(), [](int count) { return count > 0; }), std::ptrdiff_t{24});
  constexpr double kExpected = 2.0 * 8 * kRounds / 24;  // each draw gives two orders
  for (const int count : seen) CHECK(count == 0 || std::abs(count - kExpected) < 5.0 * std::sqrt(2.0 * kExpected));
}

// 2,000 explanations of each model, seeded. Four standard deviations of a share of 2,000 that is 95 % are two points; four
// rounds are known to say too little (permutation.h).
TEST(intervals_hold_at_their_rate) {
  struct Case {
    size_t rounds_min, rounds_max;
    double precision, off_max;
  };
  const std::vector<std::pair<const char*, Model>> models = {{"product", product}, {"steps", steps}, {"network", network}};
  for (const auto& [name, model] : models) {
    for (const Case& one : {Case{8, 8, 0.0, 0.02}, Case{8, 64, 0.1, 0.02}, Case{4, 4, 0.0, 0.045}}) {
      const SamplingOptions options = options_of(one.rounds_min, one.rounds_max, one.precision, 42);
      const Coverage measured = coverage(model, options, check::scaled(400));
      std::printf("%s, %zu to %zu rounds, precision %g: %.2f %% of the intervals of 95 %% hold, %.1f rounds\n", name,
                  one.rounds_min, one.rounds_max, one.precision, 100.0 * measured.rate, measured.rounds);
      CHECK(std::abs(measured.rate - 0.95) <= one.off_max);
    }
  }
}

TEST(what_the_model_cannot_say_is_not_taken) {
  Random random(check::seed());
  const double kNaN = std::nan("");
  CHECK(code_of(kNaN, {1.0}, 3, {}) == Code::kModelOutputInvalid);
  CHECK(code_of(1.0, {1.0, HUGE_VAL}, 3, {}) == Code::kModelOutputInvalid);
  const Game game = wild_game(4, 3, random);
  const SamplingOptions options = options_of(4, 4, 0.0, random());
  PermutationSampling sampling = sampling_of(game, options);
  while (!sampling.is_done()) {
    std::vector<double> numbers;
    for (const Coalition& coalition : sampling.next(7)) numbers.push_back(game.asked(coalition));
    std::vector<double> damaged = numbers;
    damaged[random() % damaged.size()] = random() % 2 == 0 ? kNaN : -HUGE_VAL;
    CHECK(sampling.give(damaged.data(), damaged.size()).code == Code::kModelOutputInvalid);
    CHECK(sampling.give(numbers.data(), numbers.size()).ok());
  }
  CHECK_EQ(sampling.value(1), sampled(game, options).value(1));
}

TEST(at_its_limits) {
  using Sampling = PermutationSampling;
  Random random(check::seed());
  std::vector<double> background(Sampling::kBackgroundMax), weights(Sampling::kPlayersMax);
  for (double& number : background) number = uniform(random);
  for (double& weight : weights) weight = uniform(random);
  Sampling sampling;
  REQUIRE(Sampling::create(3.0, background.data(), background.size(), weights.size(), options_of(4, 4, 0.0, 1), &sampling).ok());
  CHECK_EQ(sampling.evaluations_per_round(), size_t{2 * 128 * 511});
  const auto number = [&](const Coalition& coalition) {
    double sum = background[coalition.background];
    for (size_t i = 0; i < coalition.size; ++i) sum += weights[coalition.players[i]];
    return sum;
  };
  while (sampling.rounds() < 1) answer(sampling, 10'000, number);
  CHECK(std::abs(sampling.base() + sum_of(sampling) - 3.0) < 1e-10);

  const Game game = wild_game(3, 1, random);
  CHECK_EQ(sampled(game, options_of(4, Sampling::kRoundsMax, 0.0, 1)).rounds(), Sampling::kRoundsMax);

  const auto is_refused = [&](size_t rows, size_t players, const SamplingOptions& options) {
    return code_of(1.0, std::vector<double>(rows), players, options) == Code::kExplainUnsupported;
  };
  CHECK(!is_refused(Sampling::kBackgroundMax, Sampling::kPlayersMax, {}));
  CHECK(is_refused(Sampling::kBackgroundMax + 1, 3, {}));
  CHECK(is_refused(0, 3, {}));
  CHECK(is_refused(1, Sampling::kPlayersMax + 1, {}));
  CHECK(is_refused(1, 0, {}));
  CHECK(is_refused(1, 3, options_of(3, 9, 0.1, 1)));
  CHECK(is_refused(1, 3, options_of(9, 8, 0.1, 1)));
  CHECK(is_refused(1, 3, options_of(4, Sampling::kRoundsMax + 1, 0.1, 1)));
  CHECK(is_refused(1, 3, options_of(4, 9, -0.1, 1)));
  CHECK(is_refused(1, 3, options_of(4, 9, std::nan(""), 1)));
}

ASSAY_TEST_MAIN
