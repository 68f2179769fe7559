// Shapley values of random trees against the definition: every coalition, every background row.
#include "core/explain/interventional.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "check.h"
#include "core/explain/tree_cut.h"

using namespace assay;
using namespace assay::explain;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Made {
  std::mt19937_64 random;
  explicit Made(uint64_t seed) : random(seed) {}
  size_t below(size_t end) { return std::uniform_int_distribution<size_t>(0, end - 1)(random); }
  bool one_in(size_t count) { return below(count) == 0; }
  // Few values, so that thresholds are met exactly.
  float value() { return one_in(8) ? kNaN : static_cast<float>(below(9)) / 4.0f - 1.0f; }
  std::vector<float> rows(size_t count, size_t features) {
    std::vector<float> values(count * features);
    for (float& value : values) value = this->value();
    return values;
  }

  Interventional::Limits limits() {
    Interventional::Limits limits;
    limits.table_bytes = size_t{1} << (10 + below(10));
    return limits;
  }

  int32_t child(TreeParts& parts, size_t depth) {
    if (depth == 0 || one_in(6)) {
      parts.leaves.push_back(one_in(10) ? 0.0 : std::normal_distribution<double>()(random));
      return ~static_cast<int32_t>(parts.leaves.size() - 1);
    }
    const size_t at = parts.nodes.size();
    parts.nodes.emplace_back();
    TreeNode node;
    node.feature = static_cast<uint32_t>(below(parts.feature_count));
    node.threshold = static_cast<float>(below(9)) / 4.0f - 1.0f;
    node.branch = static_cast<Branch>(below(6));
    node.is_missing_true = one_in(2);
    node.if_true = child(parts, depth - 1);
    node.if_false = child(parts, depth - 1);
    parts.nodes[at] = node;
    return static_cast<int32_t>(at);
  }
  TreeParts ensemble(size_t features, size_t trees, size_t depth) {
    TreeParts parts;
    parts.feature_count = features;
    parts.base = 0.5;
    for (size_t i = 0; i < trees; ++i) parts.roots.push_back(child(parts, depth));
    return parts;
  }
  // One path that goes on and on, for depths that no full tree has.
  TreeParts chain(size_t features, size_t depth) {
    TreeParts parts;
    parts.feature_count = features;
    for (size_t i = 0; i < depth; ++i) {
      const auto next = i + 1 == depth ? ~static_cast<int32_t>(depth) : static_cast<int32_t>(i + 1);
      const bool goes_true = one_in(2);
      TreeNode node;
      node.feature = static_cast<uint32_t>(below(features));
      node.threshold = static_cast<float>(below(9)) / 4.0f - 1.0f;
      node.branch = static_cast<Branch>(below(4));
      node.if_true = goes_true ? next : ~static_cast<int32_t>(i);
      node.if_false = goes_true ? ~static_cast<int32_t>(i) : next;
      parts.nodes.push_back(node);
    }
    for (size_t i = 0; i <= depth; ++i) parts.leaves.push_back(std::normal_distribution<double>()(random));
    parts.roots = {0};
    return parts;
  }
};

// By the definition: for every coalition the mean margin, over the background, of the row that is x inside and the background outside.
std::vector<double> shapley(const TreeEnsemble& trees, const float* x, const std::vector<float>& background,
                            const std::vector<uint32_t>& groups, size_t players) {
  const size_t features = trees.feature_count(), rows = background.size() / features;
  std::vector<double> worth(size_t{1} << players);
  std::vector<float> mixed(features);
  for (size_t coalition = 0; coalition < worth.size(); ++coalition) {
    for (size_t row = 0; row < rows; ++row) {
      for (size_t f = 0; f < features; ++f) {
        mixed[f] = (coalition >> groups[f] & 1) != 0 ? x[f] : background[row * features + f];
      }
      worth[coalition] += trees.margin(mixed.data()) / static_cast<double>(rows);
    }
  }
  std::vector<double> values(players), weight(players);
  for (size_t size = 0; size < players; ++size) {
    weight[size] = std::exp(std::lgamma(size + 1.0) + std::lgamma(players - size + 0.0) - std::lgamma(players + 1.0));
  }
  for (size_t player = 0; player < players; ++player) {
    for (size_t coalition = 0; coalition < worth.size(); ++coalition) {
      if ((coalition >> player & 1) != 0) continue;
      const auto size = static_cast<size_t>(__builtin_popcountll(coalition));
      values[player] += weight[size] * (worth[coalition | size_t{1} << player] - worth[coalition]);
    }
  }
  return values;
}

std::vector<uint32_t> own_groups(size_t features) {
  std::vector<uint32_t> groups(features);
  std::iota(groups.begin(), groups.end(), 0u);
  return groups;
}

Interventional::Limits with_tables_of(size_t bytes) {
  Interventional::Limits limits;
  limits.table_bytes = bytes;
  return limits;
}

// With tables and without. Returns the bytes of the tables.
size_t check_against_definition(Made& made, TreeParts parts, size_t rows, const std::vector<uint32_t>& groups, size_t players,
                                const Interventional::Limits& limits = {}) {
  const size_t features = parts.feature_count;
  TreeEnsemble trees;
  CHECK(TreeEnsemble::create(std::move(parts), &trees).ok());
  const std::vector<float> background = made.rows(rows, features);
  Interventional explainer, without_tables;
  CHECK(Interventional::create(trees, background.data(), rows, groups, players, limits, &explainer).ok());
  CHECK(Interventional::create(trees, background.data(), rows, groups, players, with_tables_of(0), &without_tables).ok());
  CHECK(explainer.table_bytes() <= limits.table_bytes);
  CHECK(std::abs(explainer.base() - without_tables.base()) < 1e-12);
  double base = 0.0;
  for (size_t row = 0; row < rows; ++row) base += trees.margin(background.data() + row * features) / static_cast<double>(rows);
  CHECK(std::abs(explainer.base() - base) < 1e-9);
  for (int i = 0; i < 3; ++i) {
    const std::vector<float> x = made.rows(1, features);
    std::vector<double> values(players);
    const double margin = explainer.explain(x.data(), values.data());
    CHECK(std::abs(margin - trees.margin(x.data())) < 1e-9);
    CHECK(std::abs(explainer.base() + std::accumulate(values.begin(), values.end(), 0.0) - margin) < 1e-9);
    const std::vector<double> expected = shapley(trees, x.data(), background, groups, players);
    for (size_t player = 0; player < players; ++player) CHECK(std::abs(values[player] - expected[player]) < 1e-9);
    CHECK(std::abs(without_tables.explain(x.data(), values.data()) - margin) < 1e-9);
    for (size_t player = 0; player < players; ++player) CHECK(std::abs(values[player] - expected[player]) < 1e-9);
  }
  return explainer.table_bytes();
}

// A path through `depth` features, each met once.
TreeParts chain_of_all(Made& made, size_t depth) {
  TreeParts parts = made.chain(depth, depth);
  for (uint32_t i = 0; i < depth; ++i) parts.nodes[i].feature = i;
  return parts;
}

std::string refusal(TreeParts parts) {
  TreeEnsemble trees;
  const Status status = TreeEnsemble::create(std::move(parts), &trees);
  CHECK(status.code == Code::kExplainUnsupported);
  return status.detail;
}

bool says(const std::string& text, const char* words) { return text.find(words) != std::string::npos; }

}  // namespace

TEST(equal_to_the_definition) {
  Made made(check::seed());
  for (int i = 0; i < 200; ++i) {
    const size_t features = 1 + made.below(8);
    TreeParts parts = made.ensemble(features, made.below(5), made.below(7));
    check_against_definition(made, std::move(parts), 1 + made.below(20), own_groups(features), features, made.limits());
  }
}

TEST(features_of_a_group_come_and_go_together) {
  Made made(check::seed());
  for (int i = 0; i < 100; ++i) {
    const size_t features = 2 + made.below(10), players = 1 + made.below(std::min<size_t>(features, 6));
    std::vector<uint32_t> groups(features);
    for (uint32_t& group : groups) group = static_cast<uint32_t>(made.below(players));
    check_against_definition(made, made.ensemble(features, 3, 6), 1 + made.below(12), groups, players, made.limits());
  }
}

TEST(deep_paths) {
  Made made(check::seed());
  for (const size_t depth : {size_t{12}, size_t{40}, TreeEnsemble::kDepthMax}) {
    check_against_definition(made, made.chain(9, depth), 16, own_groups(9), 9);
  }
  // 64 players on one path, which no enumeration reaches: the sum is right.
  TreeEnsemble trees;
  REQUIRE(TreeEnsemble::create(chain_of_all(made, 64), &trees).ok());
  const std::vector<float> background = made.rows(Interventional::kBackgroundMax, 64), x = made.rows(1, 64);
  Interventional explainer;
  REQUIRE(Interventional::create(trees, background.data(), Interventional::kBackgroundMax, {}, 64, &explainer).ok());
  std::vector<double> values(64);
  const double margin = explainer.explain(x.data(), values.data());
  CHECK(std::abs(explainer.base() + std::accumulate(values.begin(), values.end(), 0.0) - margin) < 1e-9);
}

TEST(a_cut_answers_as_its_node_does) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kTiny = std::numeric_limits<float>::denorm_min();
  const std::vector<float> numbers = {-kInfinity, -1.0f, -kTiny, -0.0f, 0.0f, kTiny, 1.0f, std::nextafter(1.0f, 2.0f), kInfinity};
  for (size_t mode = 0; mode < 12; ++mode) {
    for (const float threshold : numbers) {
      const TreeNode node{0, threshold, static_cast<Branch>(mode / 2), mode % 2 == 1, 0, 0};
      const TreeCut cut = cut_of(node);
      for (const float value : numbers) CHECK_EQ(cut.holds(value) != cut.is_opposite, node.is_true(value));
      CHECK_EQ(cut.holds(kNaN) != cut.is_opposite, node.is_true(kNaN));
    }
  }
}

TEST(tables_are_as_wide_as_their_limits) {
  Made made(check::seed());
  const auto rows_of = [](size_t width) { return sizeof(double) * (1 + width) << width; };
  const auto bytes = [&](size_t depth, size_t limit) {
    return check_against_definition(made, chain_of_all(made, depth), 5, own_groups(depth), depth, with_tables_of(limit));
  };
  // A whole tree of ten bits, and one of eleven, of which leaves alone have tables: those with one to ten players above them.
  CHECK_EQ(bytes(Interventional::kWidthMax, SIZE_MAX), rows_of(10));
  size_t leaves = 0;
  for (size_t players = 1; players <= Interventional::kWidthMax; ++players) leaves += rows_of(players);
  CHECK_EQ(bytes(Interventional::kWidthMax + 1, SIZE_MAX), leaves);
  // The budget is reached, and missed by a byte.
  CHECK_EQ(bytes(10, rows_of(10)), rows_of(10));
  CHECK_EQ(bytes(10, rows_of(10) - 1), leaves - rows_of(10));  // nine bits: of leaves alone
  CHECK_EQ(bytes(10, leaves - rows_of(10)), leaves - rows_of(10));
  CHECK_EQ(bytes(10, leaves - rows_of(10) - 1), leaves - rows_of(10) - rows_of(9));
  // Narrower than kWidthMin there are none.
  CHECK_EQ(bytes(6, rows_of(6)), rows_of(6));
  CHECK_EQ(bytes(6, rows_of(6) - 1), 0u);
}

TEST(paths_of_16_players_and_of_17) {
  Made made(check::seed());
  for (const size_t depth : {size_t{16}, size_t{17}}) {
    check_against_definition(made, chain_of_all(made, depth), 2, own_groups(depth), depth, with_tables_of(0));
  }
}

TEST(memory_has_a_limit_and_a_row_a_cost) {
  Made made(check::seed());
  TreeEnsemble trees;
  REQUIRE(TreeEnsemble::create(chain_of_all(made, 10), &trees).ok());
  const std::vector<float> background = made.rows(1, 10);
  Interventional explainer;
  const auto create = [&](const Interventional::Limits& limits) {
    return Interventional::create(trees, background.data(), 1, {}, 10, limits, &explainer);
  };
  Interventional::Limits limits;
  REQUIRE(create(limits).ok());
  CHECK_EQ(explainer.cost(), size_t{10 + 10});  // its nodes, and a row of ten players
  limits.bytes = explainer.bytes();
  CHECK(create(limits).ok());
  --limits.bytes;
  const Status status = create(limits);
  CHECK(status.code == Code::kExplainUnsupported && says(status.detail, "takes more than"));
  REQUIRE(create(with_tables_of(0)).ok());
  CHECK_EQ(explainer.cost(), size_t{10 + 11});  // its nodes, and a pattern at each leaf
}

TEST(no_trees_and_trees_of_one_leaf) {
  Made made(check::seed());
  check_against_definition(made, made.ensemble(2, 0, 0), 3, own_groups(2), 2);
  check_against_definition(made, made.ensemble(2, 4, 0), 3, own_groups(2), 2);
  // Around the 16 rows of tables that are asked for ahead.
  for (const size_t trees : {15, 16, 17, 100}) check_against_definition(made, made.ensemble(3, trees, 2), 3, own_groups(3), 3);
}

TEST(what_is_no_tree_is_refused) {
  Made made(1);
  const auto with = [&](const std::function<void(TreeParts&)>& change) {
    TreeParts parts = made.chain(3, 4);
    change(parts);
    return refusal(std::move(parts));
  };
  CHECK(says(with([](TreeParts& parts) { parts.nodes[3].if_true = parts.nodes[3].if_false = 0; }), "leads back to itself"));
  CHECK(says(with([](TreeParts& parts) { parts.nodes[0].if_true = 4; }), "leads nowhere"));
  CHECK(says(with([](TreeParts& parts) { parts.nodes[0].if_true = ~5; }), "leads nowhere"));
  CHECK(says(with([](TreeParts& parts) { parts.nodes[1].feature = 3; }), "feature 3 of 3"));
  CHECK(says(with([](TreeParts& parts) { parts.nodes[1].threshold = kNaN; }), "threshold"));
  CHECK(says(with([](TreeParts& parts) { parts.roots.push_back(9); }), "no root"));
  CHECK(says(with([](TreeParts& parts) { parts.leaves[0] = HUGE_VAL; }), "a leaf is"));
  CHECK(says(with([](TreeParts& parts) { parts.base = HUGE_VAL; }), "base value"));
  CHECK(says(refusal(made.chain(3, TreeEnsemble::kDepthMax + 1)), "deeper than 64"));
  TreeParts wide;  // each node leads twice to the next: 2^30 paths of 31 nodes
  wide.feature_count = 1;
  wide.leaves = {1.0};
  for (int32_t i = 0; i < 30; ++i)
    wide.nodes.push_back({0, 0.0f, Branch::kLess, false, i == 29 ? ~0 : i + 1, i == 29 ? ~0 : i + 1});
  wide.roots = {0};
  CHECK(says(refusal(std::move(wide)), "more than 4000000 leaves"));
}

TEST(the_background_has_limits) {
  Made made(2);
  TreeEnsemble trees;
  REQUIRE(TreeEnsemble::create(made.ensemble(3, 2, 3), &trees).ok());
  const std::vector<float> background = made.rows(Interventional::kBackgroundMax + 1, 3);
  Interventional explainer;
  const auto code = [&](size_t rows, const std::vector<uint32_t>& groups, size_t players) {
    return Interventional::create(trees, background.data(), rows, groups, players, &explainer).code;
  };
  CHECK(code(Interventional::kBackgroundMax, {}, 3) == Code::kOk);
  CHECK(code(Interventional::kBackgroundMax + 1, {}, 3) == Code::kExplainUnsupported);
  CHECK(code(0, {}, 3) == Code::kExplainUnsupported);
  CHECK(code(1, {}, 2) == Code::kExplainUnsupported);
  CHECK(code(1, {0, 1}, 2) == Code::kExplainUnsupported);
  CHECK(code(1, {0, 1, 2}, 2) == Code::kExplainUnsupported);
  CHECK(code(1, {0, 1, 1}, 2) == Code::kOk);
}

ASSAY_TEST_MAIN
