#include "core/explain/interventional.h"

#include <algorithm>
#include <array>

namespace assay::explain {
namespace {

constexpr size_t kSlotsMax = TreeEnsemble::kDepthMax;
static_assert(kSlotsMax <= 64, "a set of slots is 64 bits");

// Shares of a leaf's value: of(a, n) = (a-1)! n! / (a+n)! = 1 / (a C(a+n, a)), and 0 of nobody. a + n <= kSlotsMax.
class Shares {
 public:
  constexpr Shares() noexcept {
    for (size_t a = 1; a <= kSlotsMax; ++a) {
      double chosen = 1.0;  // C(a+n, a)
      for (size_t n = 0; a + n <= kSlotsMax; ++n) {
        if (n > 0) chosen = chosen * static_cast<double>(a + n) / static_cast<double>(n);
        shares_[a][n] = 1.0 / (static_cast<double>(a) * chosen);
      }
    }
  }
  constexpr double of(size_t a, size_t n) const noexcept { return shares_[a][n]; }

 private:
  std::array<std::array<double, kSlotsMax + 1>, kSlotsMax + 1> shares_{};
};
constexpr Shares kShares;

// Calls each(slot) for every bit, lowest first.
template <typename Each>
void for_each_slot(uint64_t bits, Each&& each) noexcept {
  for (; bits != 0; bits &= bits - 1) each(static_cast<size_t>(__builtin_ctzll(bits)));
}

}  // namespace

// Rows of tables that are on their way from memory: each is added kAhead rows after it was asked for.
class Interventional::TableRows {
 public:
  explicit TableRows(double* values) noexcept : values_(values) {}

  void ask_for(const double* numbers, const uint32_t* players, size_t count) noexcept {
    if (asked_ - added_ == kAhead) add_next();
    const auto* const last = reinterpret_cast<const char*>(numbers + count);
    for (const auto* line = reinterpret_cast<const char*>(numbers); line < last; line += 64) __builtin_prefetch(line);
    __builtin_prefetch(last);
    rows_[asked_++ % kAhead] = {numbers, players, count};
  }
  // Adds the rest. Returns what all of them give to x's margin.
  double finish() noexcept {
    while (added_ < asked_) add_next();
    return margin_;
  }

 private:
  static constexpr size_t kAhead = 16;
  struct Row {
    const double* numbers;
    const uint32_t* players;
    size_t count;
  };

  void add_next() noexcept {
    const Row& row = rows_[added_++ % kAhead];
    margin_ += row.numbers[0];
    for (size_t i = 0; i < row.count; ++i) values_[row.players[i]] += row.numbers[1 + i];
  }

  double* const values_;
  double margin_ = 0.0;
  size_t asked_ = 0, added_ = 0;
  std::array<Row, kAhead> rows_;
};

size_t Interventional::bytes() const noexcept {
  return steps_.size() * sizeof(Step) + roots_.size() * sizeof(int32_t) + ends_.size() * sizeof(End) +
         players_.size() * sizeof(uint32_t) + narrow_.size() * sizeof(Pattern<uint16_t>) +
         wide_.size() * sizeof(Pattern<uint64_t>) + cuts_.size() * sizeof(TreeCut) + table_bytes();
}

double Interventional::explain(const float* row, double* values) const noexcept {
  struct Pending {
    int32_t at;
    uint64_t missed;  // slots by which x does not pass
  };
  std::array<Pending, kSlotsMax> pending;
  std::fill(values, values + player_count_, 0.0);
  double margin = trees_base_;
  TableRows rows(values);
  for (int32_t at : roots_) {
    size_t pending_count = 0;
    uint64_t missed = 0;
    for (;;) {
      if (at < 0) {
        const End& end = ends_[static_cast<size_t>(~at)];
        if (end.is_table) {
          look_up(end, missed, row, rows);
        } else {
          margin += add_leaf(end, missed, values);
        }
        if (pending_count == 0) break;
        at = pending[--pending_count].at;
        missed = pending[pending_count].missed;
        continue;
      }
      const Step& step = steps_[static_cast<size_t>(at)];
      const bool holds = step.cut.holds(row[step.cut.feature]);
      const uint64_t without = missed | uint64_t{1} << step.slot;
      const uint64_t missed_if_true = holds ? missed : without, missed_if_false = holds ? without : missed;
      // The way that x takes is alive, or one that background rows take.
      const bool is_true_alive = (step.alive_true >> (missed_if_true & 63) & 1) != 0;
      const bool is_false_alive = (step.alive_false >> (missed_if_false & 63) & 1) != 0;
      if (is_true_alive && is_false_alive) pending[pending_count++] = {step.if_false, missed_if_false};
      at = is_true_alive ? step.if_true : step.if_false;
      missed = is_true_alive ? missed_if_true : missed_if_false;
    }
  }
  return margin + rows.finish();
}

// Returns what a leaf gives to x's margin.
double Interventional::add_leaf(const End& leaf, uint64_t missed, double* values) const noexcept {
  const uint32_t* const players = players_.data() + leaf.first_player;
  const double value = leaf.value * row_weight_;
  if (leaf.players <= kNarrowMax) {
    share_out(narrow_.data() + leaf.first, leaf.patterns, value, missed, players, values);
  } else {
    share_out(wide_.data() + leaf.first, leaf.patterns, value, missed, players, values);
  }
  return missed == 0 ? leaf.value : 0.0;
}

void Interventional::look_up(const End& end, uint64_t missed, const float* row, TableRows& rows) const noexcept {
  auto place = static_cast<size_t>(missed);
  for (size_t i = 0; i < end.cuts; ++i) {
    const TreeCut& cut = cuts_[end.first_cut + i];
    place |= size_t{cut.holds(row[cut.feature])} << (end.slots + i);
  }
  rows.ask_for(table_.data() + end.first + place * (size_t{1} + end.players), players_.data() + end.first_player, end.players);
}

// `value`: of one background row. `players`: of each slot the place in `values`.
template <typename Slots>
void Interventional::share_out(const Pattern<Slots>* patterns, size_t count, double value, uint64_t missed,
                               const uint32_t* players, double* values) noexcept {
  const auto n = static_cast<size_t>(__builtin_popcountll(missed));
  double against = 0.0;
  for (size_t i = 0; i < count; ++i) {
    const Pattern<Slots> pattern = patterns[i];
    if ((pattern.not_passed & missed) != 0) continue;  // by neither
    const double weighed = value * pattern.rows;
    against += weighed * kShares.of(n, pattern.absent);
    const double share = weighed * kShares.of(pattern.absent, n);
    for_each_slot(pattern.not_passed, [&](size_t slot) { values[players[slot]] += share; });
  }
  if (against == 0.0) return;
  for_each_slot(missed, [&](size_t slot) { values[players[slot]] -= against; });
}

template void Interventional::share_out(const Pattern<uint16_t>*, size_t, double, uint64_t, const uint32_t*, double*) noexcept;
template void Interventional::share_out(const Pattern<uint64_t>*, size_t, double, uint64_t, const uint32_t*, double*) noexcept;

}  // namespace assay::explain
