// What find_trees() makes of models, and of bytes that are none.
#include "core/explain/onnx_trees.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <random>

#include "check.h"
#include "core/explain/onnx_graph.h"
#include "found_trees.h"

using namespace assay;
using namespace assay::explain;
using namespace assay::test;
using namespace fixture;

namespace {

// Tree 0: x0 <= 1 ? (x1 < 2 or missing ? 2 : 3) : 4, its leaves by number. Tree 1: a leaf.
std::string shape() {
  return integers("nodes_treeids", {0, 0, 0, 0, 0, 1}) + integers("nodes_nodeids", {0, 1, 2, 3, 4, 0}) +
         integers("nodes_featureids", {0, 1, 0, 0, 0, 0}) + floats("nodes_values", {1, 2, 0, 0, 0, 0}) +
         texts("nodes_modes", {"BRANCH_LEQ", "BRANCH_LT", "LEAF", "LEAF", "LEAF", "LEAF"}) +
         integers("nodes_truenodeids", {1, 2, 0, 0, 0, 0}) + integers("nodes_falsenodeids", {4, 3, 0, 0, 0, 0}) +
         integers("nodes_missing_value_tracks_true", {0, 1, 0, 0, 0, 0});
}
// Weights of `target`: 10, 20, 30 at the leaves of tree 0, 5 at that of tree 1.
std::string listed(const char* prefix, const std::string& more, int64_t target = 0, float scale = 1.0f) {
  const std::string name = prefix;
  return shape() + integers((name + "_treeids").c_str(), {0, 0, 0, 1}) + integers((name + "_nodeids").c_str(), {2, 3, 4, 0}) +
         integers((name + "_ids").c_str(), std::vector<int64_t>(4, target)) +
         floats((name + "_weights").c_str(), {10 * scale, 20 * scale, 30 * scale, 5 * scale}) + more;
}
std::string regressor(const std::string& more = {}) {
  return node("TreeEnsembleRegressor", kMl, {"input"}, {"output"}, listed("target", integer("n_targets", 1) + more));
}
std::string classifier(const std::string& more, float scale) {
  return node("TreeEnsembleClassifier", kMl, {"input"}, {"label", "output"},
              listed("class", integers("classlabels_int64s", {0, 1}) + more, 0, scale));
}
std::string apart(const std::string& more = {}, int64_t target_count = 1) {
  return node("TreeEnsemble", kMl, {"input"}, {"output"},
              integers("nodes_featureids", {0, 1}) + tensor<uint8_t>("nodes_modes", 2, {0, 1}) +
                  tensor<float>("nodes_splits", 1, {1, 2}) + integers("nodes_truenodeids", {1, 0}) +
                  integers("nodes_trueleafs", {0, 1}) + integers("nodes_falsenodeids", {2, 1}) +
                  integers("nodes_falseleafs", {1, 1}) + integers("nodes_missing_value_tracks_true", {0, 1}) +
                  integers("leaf_targetids", {0, 0, 0}) + tensor<float>("leaf_weights", 1, {10, 20, 30}) +
                  integers("tree_roots", {0}) + integer("n_targets", target_count) + more);
}

// Two trees, the second a leaf. The weights go by turns to leaf 2 of tree 0 (x0 <= 1 and x1 < 2) and the leaf of tree 1: first all
// classes of the one, then of the other.
std::string classifier_of(int64_t classes, const std::string& more, const std::vector<int64_t>& ids,
                          const std::vector<float>& weights) {
  std::vector<int64_t> labels, trees, nodes;
  for (int64_t i = 0; i < classes; ++i) labels.push_back(i);
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool is_first = i < ids.size() / 2;
    trees.push_back(is_first ? 0 : 1);
    nodes.push_back(is_first ? 2 : 0);
  }
  return node("TreeEnsembleClassifier", kMl, {"input"}, {"label", "output"},
              shape() + integers("class_treeids", trees) + integers("class_nodeids", nodes) + integers("class_ids", ids) +
                  floats("class_weights", weights) + integers("classlabels_int64s", labels) + more);
}

}  // namespace

TEST(a_regressor_is_the_sum_of_its_trees) {
  const std::string bytes = model(regressor(floats("base_values", {0.5f})));
  CHECK_EQ(score(bytes, {1.0f, 1.0f}), 15.5);
  CHECK_EQ(score(bytes, {1.0f, 2.0f}), 25.5);
  CHECK_EQ(score(bytes, {0.0f, NAN}), 15.5);  // missing goes the true way
  CHECK_EQ(score(bytes, {1.0f + 1e-6f, 0.0f}), 35.5);
  CHECK_EQ(score(bytes, {NAN, 0.0f}), 35.5);  // and here it does not
  CHECK_EQ(score(model(regressor(text("aggregate_function", "AVERAGE"))), {1.0f, 1.0f}), 7.5);
  // One margin is left as it is.
  for (const char* transform : {"NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"}) {
    CHECK_EQ(score(model(regressor(text("post_transform", transform))), {1.0f, 1.0f}), 15.0);
  }
}

TEST(a_classifier_of_two_gives_both_columns_of_one_margin) {
  const std::string with_logistic = text("post_transform", "LOGISTIC");
  const std::string bytes = model(classifier(with_logistic + floats("base_values", {0.25f}), -0.1f));
  CHECK(std::abs(score(bytes, {1.0f, 1.0f}, 1) - logistic(-1.25)) < 1e-6);
  CHECK(std::abs(score(bytes, {1.0f, 1.0f}, 0) - logistic(1.25)) < 1e-6);
  for (const char* transform : {"NONE", "SOFTMAX", "SOFTMAX_ZERO"}) {
    CHECK(std::abs(score(model(classifier(text("post_transform", transform), -0.1f)), {1.0f, 1.0f}, 0) - 1.5) < 1e-6);
    CHECK(std::abs(score(model(classifier(text("post_transform", transform), -0.1f)), {1.0f, 1.0f}, 1) + 1.5) < 1e-6);
  }
  // Weights that are all positive are probabilities, if nothing is to be made of them.
  for (const char* transform : {"NONE", "SOFTMAX", "SOFTMAX_ZERO"}) {
    CHECK(std::abs(score(model(classifier(text("post_transform", transform), 0.01f)), {1.0f, 1.0f}, 1) - 0.15) < 1e-6);
    CHECK(std::abs(score(model(classifier(text("post_transform", transform), 0.01f)), {1.0f, 1.0f}, 0) - 0.85) < 1e-6);
  }
  CHECK(std::abs(score(model(classifier(with_logistic, 0.01f)), {1.0f, 1.0f}, 1) - logistic(0.15)) < 1e-6);
  CHECK(std::abs(score(model(classifier(with_logistic, 0.01f)), {1.0f, 1.0f}, 0) - logistic(-0.15)) < 1e-6);
}

TEST(classes_with_a_margin_each) {
  const std::vector<float> row = {1.0f, 1.0f};  // the leaves 2 of tree 0 and 0 of tree 1
  const auto two = [](const char* transform) {
    return model(classifier_of(2, text("post_transform", transform), {0, 1, 0, 1}, {0.5f, -0.25f, 2.0f, 0.75f}));
  };
  CHECK_EQ(score(two("NONE"), row, 0), 2.5);
  CHECK_EQ(score(two("NONE"), row, 1), 0.5);
  CHECK_EQ(score(two("LOGISTIC"), row, 0), logistic(2.5));
  CHECK_EQ(score(two("LOGISTIC"), row, 1), logistic(0.5));
  CHECK_EQ(score(two("SOFTMAX"), row, 0), logistic(2.0));
  CHECK_EQ(score(two("SOFTMAX"), row, 1), logistic(-2.0));
  CHECK(says(refusal(two("SOFTMAX_ZERO")), "SOFTMAX_ZERO"));
  CHECK(says(refusal(two("PROBIT")), "PROBIT"));
  CHECK(says(refusal(two("CUBIC")), "post_transform is unknown"));
  // Of the second class alone: the first has no margin, which is 0.
  const std::string second = text("post_transform", "SOFTMAX");
  CHECK_EQ(score(model(classifier_of(2, second, {1, 1, 1, 1}, {0.5f, 0.0f, 2.0f, 0.0f})), row, 1), logistic(2.5));
  CHECK_EQ(score(model(classifier_of(2, {}, {1, 1, 1, 1}, {0.5f, 0.0f, 2.0f, 0.0f})), row, 0), 0.0);

  const auto three = [](const std::string& more) {
    return model(classifier_of(3, more, {0, 1, 2, 2}, {0.5f, -0.25f, 2.0f, 0.75f}));
  };
  const std::string bases = floats("base_values", {0.5f, 1.0f, 2.0f});
  CHECK_EQ(score(three(bases), row, 0), 1.0);
  CHECK_EQ(score(three(bases), row, 1), 0.75);
  CHECK_EQ(score(three(bases + text("post_transform", "LOGISTIC")), row, 2), logistic(4.75));
  CHECK(says(refusal(three(text("post_transform", "SOFTMAX"))), "SOFTMAX of more than two classes"));
  CHECK(says(refusal(three(text("post_transform", "SOFTMAX_ZERO"))), "SOFTMAX_ZERO"));
  CHECK(says(refusal(three(floats("base_values", {0.5f}))), "base_values"));
}

// What ONNX Runtime makes of these differs from row to row, or is not what the operator says.
TEST(two_classes_that_are_not_clear_are_refused) {
  const std::string a_row_has_one = classifier_of(2, {}, {1, 0}, {0.5f, 2.0f});
  CHECK(says(refusal(model(a_row_has_one), 1), "depends on the row"));
  const std::string bases = floats("base_values", {0.5f});
  CHECK(says(refusal(model(classifier_of(2, bases, {0, 1, 0, 1}, {1, 1, 1, 1}))), "base_values"));
  CHECK(says(refusal(model(classifier(floats("base_values", {0.5f, 0.5f}), 1.0f))), "two for one margin"));
  CHECK(says(refusal(model(classifier(text("post_transform", "PROBIT"), 1.0f))), "PROBIT"));
  CHECK(says(refusal(model(classifier_of(1, {}, {0}, {1.0f}))), "of one class"));
}

TEST(nodes_and_leaves_apart) {
  CHECK_EQ(score(model(apart()), {1.0f, 1.0f}), 10.0);
  CHECK_EQ(score(model(apart()), {1.0f, NAN}), 10.0);
  CHECK_EQ(score(model(apart()), {1.0f, 2.0f}), 20.0);
  CHECK_EQ(score(model(apart(integer("aggregate_function", 0) + integer("post_transform", 1))), {2.0f, 2.0f}), 30.0);
  // Two targets. The numbers of transformations are ONNX Runtime's: 1 is LOGISTIC.
  const auto two = [](int64_t transform) { return model(apart(integer("post_transform", transform), 2)); };
  CHECK_EQ(score(two(0), {1.0f, 1.0f}, 1), 0.0);
  CHECK_EQ(score(two(1), {1.0f, 1.0f}, 0), logistic(10.0));
  CHECK_EQ(score(two(1), {1.0f, 1.0f}, 1), 0.5);
  CHECK_EQ(score(two(2), {1.0f, 1.0f}, 1), logistic(-10.0));
  CHECK(says(refusal(two(3)), "SOFTMAX_ZERO"));
  CHECK(says(refusal(two(4)), "PROBIT"));
  CHECK(says(refusal(two(5)), "unknown"));
  CHECK(says(refusal(two(-1)), "unknown"));
}

TEST(scalers_casts_and_a_sigmoid) {
  const std::string trees = node("TreeEnsembleRegressor", kMl, {"scaled"}, {"margin"}, listed("target", integer("n_targets", 1)));
  const std::string before = node("Cast", "", {"input"}, {"cast"}, integer("to", 1)) +
                             node("Scaler", kMl, {"cast"}, {"once"}, floats("offset", {100}) + floats("scale", {0.5f})) +
                             node("Scaler", kMl, {"once"}, {"scaled"}, floats("offset", {0, 1}) + floats("scale", {1, 2}));
  const std::string behind = node("Sigmoid", "ai.onnx", {"margin"}, {"p"}) + node("Identity", "", {"p"}, {"output"});
  // (102 - 100) / 2 = 1; ((104 - 100) / 2 - 1) * 2 = 2.
  CHECK_EQ(score(model(before + trees + behind), {102.0f, 104.0f}), logistic(25.0));
}

TEST(what_is_something_else_is_refused_with_its_name) {
  const auto behind = [](const std::string& more) {
    return model(node("TreeEnsembleRegressor", kMl, {"input"}, {"margin"}, listed("target", integer("n_targets", 1))) + more);
  };
  CHECK(says(refusal(behind(node("Relu", "", {"margin"}, {"output"}))), "behind the trees stands Relu"));
  CHECK(says(refusal(behind(node("Sigmoid", "", {"margin"}, {"a"}) + node("Sigmoid", "", {"a"}, {"output"}))), "Sigmoid"));
  CHECK(says(refusal(behind(node("Identity", "", {"output"}, {"output"}))), "more than 32 operators"));
  CHECK(says(refusal(model(node("Relu", "", {"input"}, {"x"}) + node("TreeEnsemble", kMl, {"x"}, {"output"}))),
             "before the trees stands Relu"));
  CHECK(says(refusal(model(node("TreeEnsembleRegressor", kMl, {"weights"}, {"output"}))), "a constant"));
  CHECK(says(refusal(model(node("Gemm", "", {"input"}, {"output"}))), "Gemm"));
  CHECK(says(refusal(model({})), "no trees lead to the output"));
  CHECK(says(refusal(model(node("TreeEnsembleClassifier", kMl, {"input"}, {"output"}))), "a label"));
  CHECK(says(refusal(model(regressor(text("aggregate_function", "MIN")))), "MIN"));
  CHECK(says(refusal(model(regressor(text("post_transform", "PROBIT")))), "PROBIT"));
  CHECK(says(refusal(model(regressor(floats("base_values", {1, 2})))), "base_values"));
  CHECK(says(refusal(model(regressor()), 1), "1 targets, the score is number 1"));
  CHECK(says(refusal(model(apart({}, 0))), "not so many targets"));
  CHECK(says(refusal(model(
                 node("TreeEnsembleRegressor", kMl, {"input"}, {"output"}, tensor<double>("nodes_values_as_tensor", 11, {1})))),
             "in double"));
  CHECK(says(refusal(model(node("TreeEnsembleRegressor", kMl, {"input"}, {"output"}, integers("nodes_treeids", {1})))),
             "differ in length"));
}

TEST(a_graph_has_limits) {
  std::string inputs;
  for (size_t i = 0; i <= OnnxGraph::kPartsMax; ++i) inputs += delimited(1, "");
  CHECK(says(refusal(model(delimited(1, inputs))), "more inputs and attributes than are looked at"));
  CHECK(says(refusal(model(delimited(1, inputs.substr(2)))), "no trees lead to the output"));
  std::string nodes;
  for (size_t i = 0; i <= OnnxGraph::kNodesMax; ++i) nodes += delimited(1, "");
  CHECK(says(refusal(model(nodes)), "more nodes than are looked at"));
  CHECK(says(refusal(model(nodes.substr(2))), "no trees lead to the output"));
}

// Under ASAN and UBSAN: bytes that are no model are refused, or are another model, and nothing more.
TEST(damaged_bytes_are_harmless) {
  std::mt19937_64 random(check::seed());
  for (const std::string& whole : {model(regressor()), model(classifier({}, -1.0f)), model(apart())}) {
    TreeModel found;
    for (size_t bytes = 0; bytes < whole.size(); ++bytes) (void)find_trees(whole.substr(0, bytes), "output", 0, 2, &found);
    for (int i = 0; i < check::scaled(3'000); ++i) {
      std::string damaged = whole;
      for (int flips = 0; flips < 3; ++flips) damaged[random() % damaged.size()] = static_cast<char>(random());
      if (!find_trees(damaged, "output", 0, 2, &found).ok()) continue;
      const float row[2] = {1.0f, 2.0f};
      (void)found.trees.margin(row);
    }
  }
}

ASSAY_TEST_MAIN
