// Interventional::create(): walks every path once to see how wide tables may be, and once to make what explain() walks.
#include <algorithm>
#include <array>
#include <bitset>
#include <string>
#include <utility>

#include "core/explain/interventional.h"

namespace assay::explain {

// Its recursions are as deep as the trees, at most kDepthMax.
class Interventional::Builder {
 public:
  Builder(const TreeEnsemble& trees, const float* background, size_t rows, const std::vector<uint32_t>& groups,
          const Limits& limits, Interventional& out)
      : trees_(trees), rows_(rows), groups_(groups), limits_(limits), out_(out), true_of_node_(trees.nodes().size()) {
    for (size_t i = 0; i < trees.nodes().size(); ++i) {
      const TreeNode& node = trees.nodes()[i];
      for (size_t row = 0; row < rows; ++row) {
        true_of_node_[i][row] = node.is_true(background[row * trees.feature_count() + node.feature]);
      }
    }
    for (size_t row = 0; row < rows; ++row) everybody_.set(row);
  }

  // False: larger than the limits.
  bool build() {
    choose_width();
    for (const int32_t root : trees_.roots()) out_.roots_.push_back(add(root));
    const auto shrink = [](auto&... lists) { (lists.shrink_to_fit(), ...); };
    shrink(out_.steps_, out_.roots_, out_.ends_, out_.players_, out_.narrow_, out_.wide_, out_.cuts_, out_.table_);
    return out_.bytes() <= limits_.bytes;
  }

 private:
  using Rows = std::bitset<kBackgroundMax>;
  using Patterns = std::vector<Pattern<uint64_t>>;

  // --- the path that is walked: its players, and the background rows that pass by each

  struct Passage {
    size_t slot;
    Rows before;
    uint32_t slots_before;
  };

  Passage enter(const TreeNode& node) noexcept {
    const uint32_t slots_before = slot_count_;
    const uint32_t player = player_of(node);
    const uint32_t* const first = player_of_slot_.data();
    const auto slot = static_cast<size_t>(std::find(first, first + slot_count_, player) - first);
    if (slot == slot_count_) {
      player_of_slot_[slot] = player;
      passed_[slot] = everybody_;
      ++slot_count_;
    }
    return {slot, passed_[slot], slots_before};
  }
  void leave(const Passage& passage) noexcept {
    passed_[passage.slot] = passage.before;
    slot_count_ = passage.slots_before;
  }
  uint32_t player_of(const TreeNode& node) const noexcept { return groups_.empty() ? node.feature : groups_[node.feature]; }

  // Of a node's cut: where those go that it holds, and who of the background they are.
  struct Ways {
    int32_t if_true, if_false;
    Rows holds;
  };
  Ways ways_of(int32_t child, const TreeCut& cut) const noexcept {
    const TreeNode& node = trees_.nodes()[static_cast<size_t>(child)];
    const Rows& is_true = true_of_node_[static_cast<size_t>(child)];
    if (cut.is_opposite) return {node.if_false, node.if_true, ~is_true};
    return {node.if_true, node.if_false, is_true};
  }

  // Background rows by which slots they do not pass.
  Patterns patterns() const {
    std::vector<uint64_t> not_passed(rows_);
    for (size_t slot = 0; slot < slot_count_; ++slot) {
      for (size_t row = 0; row < rows_; ++row) not_passed[row] |= uint64_t{!passed_[slot][row]} << slot;
    }
    std::sort(not_passed.begin(), not_passed.end());
    Patterns found;
    for (auto at = not_passed.begin(); at != not_passed.end();) {
      const auto next = std::upper_bound(at, not_passed.end(), *at);
      found.push_back({*at, static_cast<uint8_t>(next - at), static_cast<uint8_t>(__builtin_popcountll(*at))});
      at = next;
    }
    return found;
  }
  // Step::alive_*.
  uint64_t alive() const noexcept {
    constexpr uint64_t kHasSlot[] = {0xaaaaaaaaaaaaaaaa, 0xcccccccccccccccc, 0xf0f0f0f0f0f0f0f0,
                                     0xff00ff00ff00ff00, 0xffff0000ffff0000, 0xffffffff00000000};
    const size_t slots = std::min<size_t>(slot_count_, std::size(kHasSlot));
    uint64_t sets = 1;  // x itself, where it has missed nothing
    for (size_t row = 0; row < rows_; ++row) {
      size_t passes = 0;
      for (size_t slot = 0; slot < slots; ++slot) passes |= size_t{passed_[slot][row]} << slot;
      sets |= uint64_t{1} << passes;
    }
    for (size_t slot = 0; slot < slots; ++slot) sets |= (sets & kHasSlot[slot]) >> (size_t{1} << slot);  // and every smaller set
    return sets;
  }

  // --- how wide tables may be

  // Nodes below a child, as often as paths lead to them; all that no table can have are one too many.
  size_t nodes_below(int32_t child) {
    if (child < 0) return 0;
    uint8_t& count = nodes_below_[static_cast<size_t>(child)];
    if (count == 0) {
      const TreeNode& node = trees_.nodes()[static_cast<size_t>(child)];
      count = static_cast<uint8_t>(std::min(1 + nodes_below(node.if_true) + nodes_below(node.if_false), kWidthMax + 1));
    }
    return count;
  }
  size_t width_at(int32_t child) { return slot_count_ + nodes_below(child); }
  // It has no more players than bits.
  static size_t table_bytes_max(size_t width) noexcept { return (sizeof(double) * (1 + width)) << width; }

  // The width shrinks on the way down: of tables up to `widest` the uppermost is made that is no wider.
  void measure(int32_t child, size_t width_above) {
    const size_t width = width_at(child);
    for (size_t widest = std::max(width, kWidthMin); widest < width_above && widest <= kWidthMax; ++widest) {
      bytes_of_widest_[widest] += table_bytes_max(width);
    }
    if (child < 0 || width <= kWidthMin) return;
    const TreeNode& node = trees_.nodes()[static_cast<size_t>(child)];
    const Passage passage = enter(node);
    measure(node.if_true, width);
    measure(node.if_false, width);
    leave(passage);
  }

  void choose_width() {
    nodes_below_.assign(trees_.nodes().size(), 0);
    for (const int32_t root : trees_.roots()) measure(root, kWidthMax + 1);
    for (size_t widest = kWidthMin; widest <= kWidthMax; ++widest) {
      if (bytes_of_widest_[widest] <= limits_.table_bytes) widest_ = widest;
    }
  }

  // --- what explain() walks

  int32_t add(int32_t child) {
    if (is_full_) return 0;
    if (width_at(child) <= widest_) return add_end(make_table(child));
    if (child < 0) return add_end(make_leaf(trees_.leaf(child)));
    const TreeNode& node = trees_.nodes()[static_cast<size_t>(child)];
    const TreeCut cut = cut_of(node);
    const Ways ways = ways_of(child, cut);
    const Passage passage = enter(node);
    const size_t at = out_.steps_.size();
    out_.steps_.push_back({cut, static_cast<uint8_t>(passage.slot), 0, 0, 0, 0});
    passed_[passage.slot] = passage.before & ways.holds;
    out_.steps_[at].alive_true = alive();
    const int32_t if_true = add(ways.if_true);
    passed_[passage.slot] = passage.before & ~ways.holds;
    out_.steps_[at].alive_false = alive();
    const int32_t if_false = add(ways.if_false);
    out_.steps_[at].if_true = if_true;
    out_.steps_[at].if_false = if_false;
    leave(passage);
    return static_cast<int32_t>(at);
  }

  int32_t add_end(const End& end) {
    out_.ends_.push_back(end);
    is_full_ = out_.bytes() > limits_.bytes;
    return ~static_cast<int32_t>(out_.ends_.size() - 1);
  }

  End make_leaf(double value) {
    End end{};
    end.value = value;
    end.first_player = static_cast<uint32_t>(out_.players_.size());
    end.players = end.slots = static_cast<uint8_t>(slot_count_);
    out_.players_.insert(out_.players_.end(), player_of_slot_.begin(), player_of_slot_.begin() + slot_count_);
    const Patterns found = patterns();
    end.patterns = static_cast<uint8_t>(found.size());
    if (slot_count_ <= kNarrowMax) {
      end.first = static_cast<uint32_t>(out_.narrow_.size());
      for (const auto& one : found) out_.narrow_.push_back({static_cast<uint16_t>(one.not_passed), one.rows, one.absent});
    } else {
      end.first = static_cast<uint32_t>(out_.wide_.size());
      out_.wide_.insert(out_.wide_.end(), found.begin(), found.end());
    }
    add_base(value, found);
    return end;
  }
  void add_base(double value, const Patterns& found) noexcept {
    if (found.front().not_passed == 0) out_.base_ += value * found.front().rows * out_.row_weight_;
  }

  End make_table(int32_t child) {
    End end{};
    end.is_table = true;
    end.first_player = static_cast<uint32_t>(out_.players_.size());
    end.first_cut = static_cast<uint32_t>(out_.cuts_.size());
    end.first = static_cast<uint32_t>(out_.table_.size());
    end.slots = static_cast<uint8_t>(slot_count_);
    end.cuts = static_cast<uint8_t>(nodes_below(child));
    out_.players_.insert(out_.players_.end(), player_of_slot_.begin(), player_of_slot_.begin() + slot_count_);
    list_cuts(child, end.first_player);
    end.players = static_cast<uint8_t>(out_.players_.size() - end.first_player);
    out_.table_players_ += end.players;
    out_.table_.resize(out_.table_.size() + ((size_t{1} + end.players) << width_at(child)));
    size_t next_bit = end.slots;
    fill(child, end, &next_bit);
    return end;
  }

  void list_cuts(int32_t child, size_t first_player) {
    if (child < 0) return;
    const TreeNode& node = trees_.nodes()[static_cast<size_t>(child)];
    const auto first = out_.players_.begin() + static_cast<std::ptrdiff_t>(first_player);
    if (std::find(first, out_.players_.end(), player_of(node)) == out_.players_.end()) out_.players_.push_back(player_of(node));
    const TreeCut cut = cut_of(node);
    const Ways ways = ways_of(child, cut);
    out_.cuts_.push_back(cut);
    list_cuts(ways.if_true, first_player);
    list_cuts(ways.if_false, first_player);
  }

  // In the order of list_cuts().
  void fill(int32_t child, const End& end, size_t* next_bit) {
    if (child < 0) return fill_leaf(trees_.leaf(child), end);
    const TreeNode& node = trees_.nodes()[static_cast<size_t>(child)];
    const Ways ways = ways_of(child, cut_of(node));
    const Passage passage = enter(node);
    answers_[answer_count_++] = {passage.slot, (*next_bit)++, true};
    passed_[passage.slot] = passage.before & ways.holds;
    fill(ways.if_true, end, next_bit);
    answers_[answer_count_ - 1].expected = false;
    passed_[passage.slot] = passage.before & ~ways.holds;
    fill(ways.if_false, end, next_bit);
    --answer_count_;
    leave(passage);
  }

  void fill_leaf(double value, const End& end) {
    const Patterns found = patterns();
    add_base(value, found);
    const auto first = out_.players_.begin() + end.first_player;
    std::array<uint32_t, kWidthMax> column{};
    for (size_t slot = 0; slot < slot_count_; ++slot) {
      column[slot] = static_cast<uint32_t>(std::find(first, out_.players_.end(), player_of_slot_[slot]) - first);
    }
    for (size_t place = 0; place < size_t{1} << (end.slots + end.cuts); ++place) {
      uint64_t missed = place & ((size_t{1} << end.slots) - 1);
      for (size_t i = 0; i < answer_count_; ++i) {
        const Answer& answer = answers_[i];
        if (((place >> answer.bit & 1) != 0) != answer.expected) missed |= uint64_t{1} << answer.slot;
      }
      double* const numbers = out_.table_.data() + end.first + place * (size_t{1} + end.players);
      if (missed == 0) numbers[0] += value;
      share_out(found.data(), found.size(), value * out_.row_weight_, missed, column.data(), numbers + 1);
    }
  }

  const TreeEnsemble& trees_;
  const size_t rows_;
  const std::vector<uint32_t>& groups_;
  const Limits limits_;
  Interventional& out_;
  std::vector<Rows> true_of_node_;
  Rows everybody_;
  std::array<uint32_t, TreeEnsemble::kDepthMax> player_of_slot_{};
  std::array<Rows, TreeEnsemble::kDepthMax> passed_;
  uint32_t slot_count_ = 0;
  std::vector<uint8_t> nodes_below_;
  std::array<size_t, kWidthMax + 1> bytes_of_widest_{};
  size_t widest_ = 0;  // 0: no tables but of trees that are a leaf
  // Of the way through a table's part: which bit of the place says how x answers.
  struct Answer {
    size_t slot, bit;
    bool expected;
  };
  std::array<Answer, kWidthMax> answers_{};
  size_t answer_count_ = 0;
  bool is_full_ = false;  // what is walked now is not kept
};

Status Interventional::create(const TreeEnsemble& trees, const float* background, size_t rows,
                              const std::vector<uint32_t>& groups, size_t players, Interventional* out) {
  return create(trees, background, rows, groups, players, Limits(), out);
}

Status Interventional::create(const TreeEnsemble& trees, const float* background, size_t rows,
                              const std::vector<uint32_t>& groups, size_t players, const Limits& limits, Interventional* out) {
  if (rows == 0 || rows > kBackgroundMax) {
    return Status(Code::kExplainUnsupported,
                  "expected 1 to " + std::to_string(kBackgroundMax) + " background rows, not " + std::to_string(rows));
  }
  const bool are_groups_whole = groups.empty() ? players == trees.feature_count() : groups.size() == trees.feature_count();
  if (!are_groups_whole || std::any_of(groups.begin(), groups.end(), [&](uint32_t group) { return group >= players; })) {
    return Status(Code::kExplainUnsupported, "groups: expected a player for each feature");
  }
  Interventional made;
  made.player_count_ = players;
  made.row_weight_ = 1.0 / static_cast<double>(rows);
  made.trees_base_ = made.base_ = trees.base();
  if (!Builder(trees, background, rows, groups, limits, made).build()) {
    return Status(Code::kExplainUnsupported, "explaining the trees takes more than " + std::to_string(limits.bytes) + " bytes");
  }
  *out = std::move(made);
  return Status();
}

}  // namespace assay::explain
