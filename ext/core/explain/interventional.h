// Interventional: exact Shapley values of a tree ensemble against background rows.
//
// A player is a feature, or a group of features that come and go together. The value of a coalition S is the mean, over the background
// rows z, of the margin of the row that has x's features in S and z's elsewhere. The base is the value of no player: the background's
// mean margin; base and values add up to x's margin.
//
// HOW. On the path to a leaf some players decide. One row z and x reach the leaf together if each of them passes by x (bit of X) or by
// z (bit of Z). Those that pass by x alone (a of them) must be in S, those by z alone (n of them) must not, and the leaf's value v is
// shared out: v (a-1)! n! / (a+n)! to each of the former, -v a! (n-1)! / (a+n)! to each of the latter (Laberge et al. 2022; Lundberg et
// al. 2020, "independent" perturbation). Z does not depend on x, so at the start the background is counted by Z at each leaf: a row
// of a few patterns is all that stays of up to 128 background rows, and x costs one walk through the trees.
//
// TABLES. The lower parts of the trees are small: what they give depends on which of the players above x has missed, and on x's
// answers to their few nodes. All of that in one number of at most kWidthMax bits is the place of a row in a table, and the row is
// added to the values. The widest tables that fit into Limits::table_bytes are made; narrower than kWidthMin they cost more of the
// cache than they save.
//
// Exact up to rounding: all sums are in double, always in the same order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/limits.h"
#include "core/explain/tree_cut.h"
#include "core/explain/tree_ensemble.h"

namespace assay::explain {

class Interventional {
 public:
  static constexpr size_t kBackgroundMax = limits::kBackgroundRowsMax;
  static constexpr size_t kWidthMin = 6, kWidthMax = 10;  // bits of a table's row: 2^10 rows
  struct Limits {
    // Of 200 trees of 31 leaves 26 MiB cost 100 us a row, 7 MiB 170, none 250: an idle server and a start pay for them, too.
    size_t table_bytes = size_t{8} << 20;
    size_t bytes = size_t{512} << 20;  // of all; more is refused. While it is made, twice as much may be held
  };

  // `background`: `rows` rows of trees.feature_count() numbers, 1 to kBackgroundMax. `groups`: of each feature its player, below
  // `players`; empty: each feature is its own. kExplainUnsupported: no background, too many rows, or larger than the limits.
  static Status create(const TreeEnsemble& trees, const float* background, size_t rows, const std::vector<uint32_t>& groups,
                       size_t players, Interventional* out);
  static Status create(const TreeEnsemble& trees, const float* background, size_t rows, const std::vector<uint32_t>& groups,
                       size_t players, const Limits& limits, Interventional* out);

  double base() const noexcept { return base_; }
  size_t player_count() const noexcept { return player_count_; }
  // No row costs more visits: of a node, a pattern, or a number of a table. One takes 2 to 5 ns.
  size_t cost() const noexcept { return steps_.size() + narrow_.size() + wide_.size() + cuts_.size() + table_players_; }
  // Bytes of memory, at most Limits::bytes.
  size_t bytes() const noexcept;
  size_t table_bytes() const noexcept { return table_.size() * sizeof(double); }

  // values[0..player_count()) of a row of feature_count() numbers; returns its margin. Any thread.
  double explain(const float* row, double* values) const noexcept;

 private:
  // A node that is walked. A child is a step, or ~an end.
  struct Step {
    TreeCut cut;
    uint8_t slot;  // of the player on this path
    int32_t if_true, if_false;
    // Bit m: background rows come along here that pass by the slots of m, a set of the path's first six. What x misses and none of them
    // passes by comes to nothing.
    uint64_t alive_true, alive_false;
  };
  // Where a walk ends: a leaf with its patterns, or a lower part of a tree with its table.
  struct End {
    double value;           // of a leaf
    uint32_t first_player;  // of its players: by slot, those of the path above first
    uint32_t first;         // pattern, or number of the table
    uint32_t first_cut;
    uint8_t players, slots;  // at the end; above it
    uint8_t patterns, cuts;
    bool is_table;
  };
  template <typename Slots>
  struct Pattern {
    Slots not_passed;      // slots by which these background rows do not pass
    uint8_t rows, absent;  // how many rows; how many slots
  };
  static constexpr size_t kNarrowMax = 16;  // players of a leaf whose patterns are 16 bits
  class Builder;
  class TableRows;

  template <typename Slots>
  static void share_out(const Pattern<Slots>* patterns, size_t count, double value, uint64_t missed, const uint32_t* players,
                        double* values) noexcept;
  double add_leaf(const End& leaf, uint64_t missed, double* values) const noexcept;
  void look_up(const End& end, uint64_t missed, const float* row, TableRows& rows) const noexcept;

  std::vector<Step> steps_;
  std::vector<int32_t> roots_;
  std::vector<End> ends_;
  std::vector<uint32_t> players_;
  std::vector<Pattern<uint16_t>> narrow_;  // of leaves with at most kNarrowMax players
  std::vector<Pattern<uint64_t>> wide_;
  std::vector<TreeCut> cuts_;  // of the parts with a table
  std::vector<double> table_;  // a row: the margin if x comes here, then a value for each player
  size_t table_players_ = 0;   // of one row of each table
  double row_weight_ = 0.0;    // of one background row
  double trees_base_ = 0.0;
  double base_ = 0.0;
  size_t player_count_ = 0;
};

}  // namespace assay::explain
