// Where ONNX Runtime makes of trees what their operator does not say, and what is refused for it. What it makes of random ones:
// tests/property/test_tree_explanations.py.
#include <cmath>
#include <vector>

#include "check.h"
#include "found_trees.h"

using namespace assay;
using namespace assay::explain;
using namespace assay::test;
using namespace fixture;

namespace {

// One tree, x0 <= 1 ? leaf 1 : leaf 2, with weights given as {leaf, target, value}.
struct LeafWeight {
  int64_t leaf, target;
  float value;
};
std::string stump(const char* op, const std::vector<LeafWeight>& weights, const std::string& more) {
  const bool is_classifier = std::string(op) == "TreeEnsembleClassifier";
  const std::string prefix = is_classifier ? "class" : "target";
  std::vector<int64_t> leaves, targets;
  std::vector<float> values;
  for (const LeafWeight& weight : weights) {
    leaves.push_back(weight.leaf);
    targets.push_back(weight.target);
    values.push_back(weight.value);
  }
  const std::string nodes = integers("nodes_treeids", {0, 0, 0}) + integers("nodes_nodeids", {0, 1, 2}) +
                            integers("nodes_featureids", {0, 0, 0}) + floats("nodes_values", {1, 0, 0}) +
                            texts("nodes_modes", {"BRANCH_LEQ", "LEAF", "LEAF"}) + integers("nodes_truenodeids", {1, 0, 0}) +
                            integers("nodes_falsenodeids", {2, 0, 0}) +
                            integers((prefix + "_treeids").c_str(), std::vector<int64_t>(weights.size(), 0)) +
                            integers((prefix + "_nodeids").c_str(), leaves) + integers((prefix + "_ids").c_str(), targets) +
                            floats((prefix + "_weights").c_str(), values);
  return model(is_classifier ? node(op, kMl, {"input"}, {"label", "output"}, nodes + more)
                             : node(op, kMl, {"input"}, {"output"}, nodes + more));
}

}  // namespace

TEST(a_leaf_with_two_weights_for_the_only_target_is_refused) {
  const std::string twice = stump("TreeEnsembleRegressor", {{1, 0, 1}, {2, 0, 3}, {1, 0, 10}}, integer("n_targets", 1));
  CHECK(says(refusal(twice), "a leaf has two weights for the only target"));
}

TEST(several_targets) {
  const char* const op = "TreeEnsembleRegressor";
  const std::string two = integer("n_targets", 2);
  const std::string bases = floats("base_values", {100, 200});
  const std::vector<LeafWeight> whole = {{1, 0, 1}, {2, 0, 3}, {1, 0, 10}, {2, 1, 5}};
  CHECK_EQ(score(stump(op, whole, two), {0.0f, 0.0f}), 11.0);  // weights of one leaf for one target add up
  CHECK_EQ(score(stump(op, whole, two + text("post_transform", "LOGISTIC")), {2.0f, 0.0f}, 1), logistic(5.0));
  CHECK_EQ(score(stump(op, whole, two + bases), {2.0f, 0.0f}, 0), 103.0);
  // Not every row has a weight for target 1, and those without are not given its base.
  CHECK(says(refusal(stump(op, whole, two + bases), 1), "base value"));
  CHECK_EQ(score(stump(op, whole, two + floats("base_values", {100, 0})), {0.0f, 0.0f}, 1), 0.0);
  CHECK(says(refusal(stump(op, {{1, 2, 1}}, two)), "a target that is not there"));
}

// Weights for the second class too: as ONNX Runtime has it, each class has its own margin, in rows that have one for the second.
TEST(a_classifier_of_two_with_weights_for_the_second) {
  const char* const op = "TreeEnsembleClassifier";
  const std::string labels = integers("classlabels_int64s", {0, 1});
  const std::vector<LeafWeight> both = {{1, 0, -1}, {1, 1, 2}, {2, 1, 4}};
  CHECK_EQ(score(stump(op, both, labels), {0.0f, 0.0f}, 0), -1.0);
  CHECK_EQ(score(stump(op, both, labels), {2.0f, 0.0f}, 0), 0.0);
  CHECK_EQ(score(stump(op, both, labels + text("post_transform", "LOGISTIC")), {0.0f, 0.0f}, 1), logistic(2.0));
  CHECK(says(refusal(stump(op, {{1, 0, -1}, {2, 1, 4}}, labels), 1), "depends on the row"));
  CHECK(says(refusal(stump(op, both, labels + floats("base_values", {1, 2})), 1), "base_values"));
  CHECK(says(refusal(stump(op, {{1, 0, -1}}, labels + floats("base_values", {1})), 1), "base value"));
  CHECK_EQ(score(stump(op, {{1, 0, -1}}, labels), {2.0f, 0.0f}, 1), 0.0);
}

TEST(a_classifier_of_three) {
  const char* const op = "TreeEnsembleClassifier";
  const std::string labels = integers("classlabels_int64s", {0, 1, 2}) + floats("base_values", {10, 20, 30});
  const std::vector<LeafWeight> weights = {{1, 0, 1}, {2, 1, 3}};
  CHECK_EQ(score(stump(op, weights, labels), {0.0f, 0.0f}, 0), 11.0);
  CHECK_EQ(score(stump(op, weights, labels), {0.0f, 0.0f}, 1), 20.0);
  CHECK_EQ(score(stump(op, weights, labels + text("post_transform", "LOGISTIC")), {0.0f, 0.0f}, 2), logistic(30.0));
  CHECK(says(refusal(stump(op, weights, labels + text("post_transform", "SOFTMAX"))), "post_transform"));
}

// x0 == 1 ? 10 : x0 == 2 ? `second` : 30. Where both lead to the same, ONNX Runtime makes one question of them, and asks the first alone
// where what is missing goes; weights behind the first of a leaf it does not look at.
TEST(chains_of_equals) {
  const auto chain = [](int64_t first_missing_true, int64_t second_missing_true, float second, const char* mode = "BRANCH_EQ",
                        int64_t second_target = 0) {
    return model(node("TreeEnsembleRegressor", kMl, {"input"}, {"output"},
                      integers("nodes_treeids", {0, 0, 0, 0, 0}) + integers("nodes_nodeids", {0, 1, 2, 3, 4}) +
                          integers("nodes_featureids", {0, 0, 0, 0, 0}) + floats("nodes_values", {1, 0, 2, 0, 0}) +
                          texts("nodes_modes", {mode, "LEAF", mode, "LEAF", "LEAF"}) +
                          integers("nodes_truenodeids", {1, 0, 3, 0, 0}) + integers("nodes_falsenodeids", {2, 0, 4, 0, 0}) +
                          integers("nodes_missing_value_tracks_true", {first_missing_true, 0, second_missing_true, 0, 0}) +
                          integers("target_treeids", {0, 0, 0}) + integers("target_nodeids", {1, 3, 4}) +
                          integers("target_ids", {0, second_target, 0}) + floats("target_weights", {10, second, 30}) +
                          integer("n_targets", 1 + second_target)));
  };
  CHECK_EQ(score(chain(0, 0, 10), {NAN, 0.0f}), 30.0);
  CHECK_EQ(score(chain(1, 1, 10), {NAN, 0.0f}), 10.0);
  CHECK_EQ(score(chain(1, 0, 10), {NAN, 0.0f}), 10.0);
  CHECK_EQ(score(chain(0, 1, 20), {NAN, 0.0f}), 20.0);
  CHECK_EQ(score(chain(0, 1, 10, "BRANCH_LEQ"), {NAN, 0.0f}), 10.0);
  CHECK(says(refusal(chain(0, 1, 10)), "differ in where what is missing goes"));
  CHECK(says(refusal(chain(0, 0, 10, "BRANCH_EQ", 1)), "leaves for several targets"));
}

// The same below a chain: x0 == 1 ? (x1 <= 5 ? 10 : 20) : x0 == 2 ? (x1 <= 5 ? 10 : 20) : 30.
TEST(what_a_chain_leads_to) {
  const auto chain = [](int64_t second_missing_true) {
    return model(node("TreeEnsemble", kMl, {"input"}, {"output"},
                      integers("nodes_featureids", {0, 0, 1, 1}) + tensor<uint8_t>("nodes_modes", 2, {4, 4, 0, 0}) +
                          tensor<float>("nodes_splits", 1, {1, 2, 5, 5}) + integers("nodes_truenodeids", {2, 3, 0, 3}) +
                          integers("nodes_trueleafs", {0, 0, 1, 1}) + integers("nodes_falsenodeids", {1, 2, 1, 1}) +
                          integers("nodes_falseleafs", {0, 1, 1, 1}) +
                          integers("nodes_missing_value_tracks_true", {0, 0, 1, second_missing_true}) +
                          integers("tree_roots", {0}) + integers("leaf_targetids", {0, 0, 0, 0}) +
                          tensor<float>("leaf_weights", 1, {10, 20, 30, 10})));
  };
  CHECK_EQ(score(chain(1), {2.0f, NAN}), 10.0);
  CHECK_EQ(score(chain(1), {3.0f, NAN}), 30.0);
  CHECK(says(refusal(chain(0)), "differ in where what is missing goes"));
}

TEST(a_mode_that_is_no_number_is_refused) {
  const std::string bytes = model(node("TreeEnsemble", kMl, {"input"}, {"output"},
                                       integers("nodes_featureids", {0}) + tensor<float>("nodes_modes", 1, {NAN}) +
                                           tensor<float>("nodes_splits", 1, {1}) + integers("nodes_truenodeids", {0}) +
                                           integers("nodes_trueleafs", {1}) + integers("nodes_falsenodeids", {1}) +
                                           integers("nodes_falseleafs", {1}) + integers("leaf_targetids", {0, 0}) +
                                           tensor<float>("leaf_weights", 1, {10, 20}) + integers("tree_roots", {0})));
  CHECK(says(refusal(bytes), "a mode that is not explained"));
}

ASSAY_TEST_MAIN
