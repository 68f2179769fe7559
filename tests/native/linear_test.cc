// Shapley values of linear functions against the definition; what find_linear() makes of models, of bytes that are none, and
// that ONNX Runtime makes the same (with ASSAY_ORT_LIBRARY, which `make native` sets).
#include "core/explain/linear.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>
#include <random>

#include "check.h"
#include "core/explain/onnx_graph.h"
#include "core/explain/onnx_linear.h"
#include "core/runtime/ort_model.h"
#include "onnx_fixture.h"

using namespace assay;
using namespace assay::explain;
using namespace assay::test;

namespace {

using Random = std::mt19937_64;

float uniform(Random& random) { return static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-52 - 1.0); }  // -1 to 1

std::vector<float> uniforms(Random& random, size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

// By the definition: what a player adds to each coalition of the others, weighed by how many orders have it there.
std::vector<double> shapley(const LinearFunction& function, const float* x, const std::vector<float>& background,
                            const std::vector<uint32_t>& groups, size_t players) {
  const size_t features = function.weights.size(), rows = background.size() / features;
  std::vector<double> worth(size_t{1} << players), values(players);
  std::vector<float> mixed(features);
  for (size_t coalition = 0; coalition < worth.size(); ++coalition) {
    for (size_t row = 0; row < rows; ++row) {
      for (size_t i = 0; i < features; ++i) mixed[i] = (coalition >> groups[i] & 1) != 0 ? x[i] : background[row * features + i];
      worth[coalition] += function.margin(mixed.data()) / static_cast<double>(rows);
    }
  }
  for (size_t player = 0; player < players; ++player) {
    for (size_t coalition = 0; coalition < worth.size(); ++coalition) {
      if ((coalition >> player & 1) != 0) continue;
      const auto size = static_cast<double>(__builtin_popcountll(coalition)), all = static_cast<double>(players);
      const double weight = std::exp(std::lgamma(size + 1.0) + std::lgamma(all - size) - std::lgamma(all + 1.0));
      values[player] += weight * (worth[coalition | size_t{1} << player] - worth[coalition]);
    }
  }
  return values;
}

double score(const std::string& bytes, std::vector<float> row, size_t column = 0) {
  LinearModel found;
  const Status status = find_linear(bytes, "output", column, row.size(), &found);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  if (!status.ok()) return NAN;
  found.scale(row.data());
  return linked(found.link, found.function.margin(row.data()));
}
std::string refusal(const std::string& bytes, size_t column = 0) {
  LinearModel found;
  const Status status = find_linear(bytes, "output", column, 2, &found);
  CHECK(status.code == Code::kExplainUnsupported);
  return status.detail;
}
bool is_near(double a, double b) { return std::abs(a - b) < 1e-6; }
double logistic(double margin) { return 1.0 / (1.0 + std::exp(-margin)); }

std::string classifier(const std::vector<float>& coefficients, const std::vector<float>& intercepts,
                       const std::string& more = {}) {
  return node("LinearClassifier", kMl, {"input"}, {"label", "output"},
              floats("coefficients", coefficients) + floats("intercepts", intercepts) + more);
}
std::string regressor(const std::vector<float>& coefficients, const std::string& more = {}) {
  return node("LinearRegressor", kMl, {"input"}, {"output"}, floats("coefficients", coefficients) + more);
}
std::string labels(size_t count) {
  std::vector<int64_t> values(count);
  std::iota(values.begin(), values.end(), int64_t{0});
  return integers("classlabels_ints", values);
}
std::string transform(const char* name) { return text("post_transform", name); }

// One of each kind, of random numbers. `columns`: of its output.
struct Made {
  std::string parts;
  size_t columns = 1;
};
std::vector<Made> every_kind(Random& random, size_t features) {
  const auto numbers = [&](size_t count) { return uniforms(random, count); };
  const uint64_t rows = features;
  std::vector<Made> all;
  for (const char* const link : {"NONE", "LOGISTIC"}) {
    all.push_back({classifier(numbers(features), numbers(1), labels(2) + transform(link)), 2});
    all.push_back({classifier(numbers(features), numbers(1), texts("classlabels_strings", {"no", "yes"}) + transform(link)), 2});
    all.push_back({classifier(numbers(features), numbers(1), transform(link)), 1});
    all.push_back({classifier(numbers(2 * features), numbers(2), labels(2) + transform(link)), 2});
    all.push_back({classifier(numbers(3 * features), numbers(3), labels(3) + integer("multi_class", 1) + transform(link)), 3});
    all.push_back({regressor(numbers(features), floats("intercepts", numbers(1)) + transform(link)), 1});
    all.push_back({regressor(numbers(features), transform(link)), 1});
    all.push_back(
        {regressor(numbers(2 * features), integer("targets", 2) + floats("intercepts", numbers(2)) + transform(link)), 2});
  }
  all.push_back({classifier(numbers(2 * features), numbers(2), labels(2) + transform("SOFTMAX")), 2});
  all.push_back({regressor(numbers(2 * features), integer("targets", 2) + transform("SOFTMAX")), 2});

  const std::string w = initializer("w", {rows, 3}, numbers(features * 3)), b = initializer("b", {3}, numbers(3));
  const std::string transposed = initializer("w", {3, rows}, numbers(features * 3));
  all.push_back({node("MatMul", "", {"input", "w"}, {"output"}) + w, 3});
  all.push_back({node("MatMul", "", {"input", "w"}, {"m"}) + node("Add", "", {"m", "b"}, {"output"}) + w + b, 3});
  all.push_back({node("MatMul", "", {"input", "w"}, {"m"}) + node("Add", "", {"b", "m"}, {"s"}) +
                     node("Sigmoid", "", {"s"}, {"output"}) + w + initializer("b", {1, 3}, numbers(3)),
                 3});
  all.push_back({node("Gemm", "", {"input", "w"}, {"output"}, real("alpha", 0.5f)) + w, 3});
  all.push_back({node("Gemm", "", {"input", "w", "b"}, {"output"}, integer("transB", 1)) + transposed + b, 3});
  all.push_back({node("Gemm", "", {"input", "w", "b"}, {"g"}, integer("transB", 1) + real("alpha", -2.0f) + real("beta", 0.25f)) +
                     node("Sigmoid", "", {"g"}, {"output"}) + transposed + initializer("b", {}, numbers(1)),
                 3});
  all.push_back(
      {node("Scaler", kMl, {"input"}, {"scaled"}, floats("offset", numbers(features)) + floats("scale", numbers(features))) +
           node("Constant", "", {}, {"w"}, tensor<float>("value", 1, numbers(features))) +
           node("MatMul", "", {"scaled", "w"}, {"output"}),
       1});
  return all;
}

}  // namespace

TEST(values_are_those_of_the_definition) {
  Random random(check::seed());
  for (int i = 0; i < 200; ++i) {
    const size_t features = 1 + random() % 9, rows = 1 + random() % 12, players = 1 + random() % std::min<size_t>(features, 6);
    std::vector<uint32_t> groups(features);
    for (uint32_t& group : groups) group = static_cast<uint32_t>(random() % players);
    LinearFunction function;
    for (size_t feature = 0; feature < features; ++feature) function.weights.push_back(uniform(random));
    function.intercept = uniform(random);
    const std::vector<float> background = uniforms(random, rows * features), x = uniforms(random, features);
    Linear explainer;
    REQUIRE(Linear::create(function, background.data(), rows, groups, players, &explainer).ok());
    std::vector<double> values(players);
    const double margin = explainer.explain(x.data(), values.data());
    CHECK_EQ(margin, function.margin(x.data()));
    CHECK(std::abs(explainer.base() + std::accumulate(values.begin(), values.end(), 0.0) - margin) < 1e-12);
    const std::vector<double> expected = shapley(function, x.data(), background, groups, players);
    for (size_t player = 0; player < players; ++player) CHECK(std::abs(values[player] - expected[player]) < 1e-12);
  }
}

TEST(the_background_has_its_limits) {
  const std::vector<float> background(3 * (Linear::kBackgroundMax + 1), 2.0f);
  const auto code = [&](size_t rows, const std::vector<uint32_t>& groups, size_t players, double weight = 1.0,
                        float first = 1.0f) {
    std::vector<float> own = background;
    own[0] = first;
    Linear explainer;
    return Linear::create({{weight, 2.0, 3.0}, 0.0}, own.data(), rows, groups, players, &explainer).code;
  };
  CHECK(code(Linear::kBackgroundMax, {}, 3) == Code::kOk);
  CHECK(code(Linear::kBackgroundMax + 1, {}, 3) == Code::kExplainUnsupported);
  CHECK(code(0, {}, 3) == Code::kExplainUnsupported);
  CHECK(code(1, {}, 2) == Code::kExplainUnsupported);
  CHECK(code(1, {0, 1}, 2) == Code::kExplainUnsupported);
  CHECK(code(1, {0, 1, 2}, 2) == Code::kExplainUnsupported);
  CHECK(code(1, {0, 1, 1}, 2) == Code::kOk);
  CHECK(code(1, {}, 3, HUGE_VAL) == Code::kExplainUnsupported);
  CHECK(code(1, {}, 3, 0.0, std::numeric_limits<float>::quiet_NaN()) == Code::kExplainUnsupported);
}

TEST(a_classifier_of_one_score_gives_both_columns) {
  const std::string none = model(classifier({1.0f, 0.5f}, {0.25f}, labels(2)));
  CHECK(is_near(score(none, {0.5f, -2.0f}, 1), -0.25));
  CHECK(is_near(score(none, {0.5f, -2.0f}, 0), 1.25));
  const std::string probability = model(classifier({1.0f, 0.5f}, {0.25f}, labels(2) + transform("LOGISTIC")));
  CHECK(is_near(score(probability, {0.5f, -2.0f}, 1), logistic(-0.25)));
  CHECK(is_near(score(probability, {0.5f, -2.0f}, 0), logistic(0.25)));
  // One score without labels passes no transformation.
  CHECK(is_near(score(model(classifier({1.0f, 0.5f}, {0.25f}, transform("LOGISTIC"))), {0.5f, -2.0f}), -0.25));
}

TEST(a_classifier_of_more_scores_gives_each) {
  const auto made = [](const char* link) {
    return model(classifier({1.0f, 0.5f, 0.2f, 0.1f}, {0.25f, 0.5f}, labels(2) + transform(link)));
  };
  CHECK(is_near(score(made("NONE"), {0.5f, -2.0f}, 0), -0.25));
  CHECK(is_near(score(made("NONE"), {0.5f, -2.0f}, 1), 0.4));
  CHECK(is_near(score(made("LOGISTIC"), {0.5f, -2.0f}, 1), logistic(0.4)));
  CHECK(is_near(score(made("SOFTMAX"), {0.5f, -2.0f}, 0), logistic(-0.65)));
  CHECK(is_near(score(made("SOFTMAX"), {0.5f, -2.0f}, 1), logistic(0.65)));
}

TEST(scalers_casts_and_a_sigmoid) {
  const std::string before = node("Cast", "", {"input"}, {"cast"}, integer("to", 1)) +
                             node("Scaler", kMl, {"cast"}, {"scaled"}, floats("offset", {100, 1}) + floats("scale", {0.5f, 2}));
  const std::string middle =
      node("Gemm", "", {"scaled", "w", "b"}, {"margin"}) + initializer("w", {2, 1}, {3, -1}) + initializer("b", {1}, {0.5f});
  const std::string behind = node("Sigmoid", "", {"margin"}, {"p"}) + node("Identity", "", {"p"}, {"output"});
  // 3 (102 - 100) / 2 - 2 (2.5 - 1) + 0.5
  CHECK(is_near(score(model(before + middle + behind), {102.0f, 2.5f}), logistic(0.5)));
}

TEST(as_onnx_runtime_does) {
  const char* const library = std::getenv("ASSAY_ORT_LIBRARY");
  if (library == nullptr || *library == '\0') return;
  std::shared_ptr<OrtRuntime> runtime;
  REQUIRE(OrtRuntime::open(library, &runtime).ok());
  Random random(check::seed());
  constexpr size_t kFeatures = 5, kRows = 20;
  for (const Made& made : every_kind(random, kFeatures)) {
    const std::string bytes = model(made.parts, kFeatures);
    std::shared_ptr<OrtModel> session;
    const Status status = OrtModel::load(runtime, bytes, {}, &session);
    if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
    if (!status.ok()) continue;
    const std::vector<float> rows = uniforms(random, kRows * kFeatures);
    for (size_t column = 0; column < made.columns; ++column) {
      std::vector<double> scores(kRows);
      CHECK(session->run_matrix(rows.data(), kRows, 0, column, scores.data()).ok());
      for (size_t row = 0; row < kRows; ++row) {
        const auto first = rows.begin() + static_cast<std::ptrdiff_t>(row * kFeatures);
        CHECK(is_near(score(bytes, std::vector<float>(first, first + kFeatures), column), scores[row]));
      }
    }
  }
}

TEST(what_is_something_else_is_refused_with_its_name) {
  const std::string w = initializer("w", {2, 1}, {1, 2}), gemm = node("Gemm", "", {"input", "w"}, {"m"}) + w;
  CHECK(says(refusal(model(gemm + node("Relu", "", {"m"}, {"output"}))), "behind the linear weights stands Relu"));
  CHECK(says(refusal(model(node("Tanh", "", {"input"}, {"x"}) + node("Gemm", "", {"x", "w"}, {"output"}) + w)),
             "before the linear weights stands Tanh"));
  CHECK(says(refusal(model(gemm + node("Gemm", "", {"m", "v"}, {"output"}) + initializer("v", {1, 1}, {1}))),
             "before the linear weights stands Gemm"));
  CHECK(
      says(refusal(model(gemm + node("Sigmoid", "", {"m"}, {"a"}) + node("Sigmoid", "", {"a"}, {"output"}))), "stands Sigmoid"));
  CHECK(says(refusal(model(gemm + node("Add", "", {"m", "m"}, {"output"}))), "the Add is not of a MatMul and a constant"));
  CHECK(says(refusal(model(node("MatMul", "", {"input", "w"}, {"m"}) + node("Add", "", {"m", "input"}, {"output"}) + w)),
             "the Add adds what is no constant"));
  CHECK(says(refusal(model(node("MatMul", "", {"w", "input"}, {"output"}) + w)), "the MatMul has no constant matrix"));
  CHECK(says(refusal(model(node("Gemm", "", {"input", "w"}, {"output"}))), "the Gemm has no constant matrix"));
  CHECK(says(refusal(model(node("Gemm", "", {"input", "w"}, {"output"}, integer("transA", 1)) + w)),
             "the Gemm transposes its input"));
  CHECK(says(refusal(model(node("Gemm", "", {"w", "w"}, {"output"}) + w)), "a constant"));
  CHECK(says(refusal(model(node("TreeEnsembleRegressor", kMl, {"input"}, {"output"}))), "TreeEnsembleRegressor"));
  CHECK(says(refusal(model({})), "no linear weights lead to the output"));
  CHECK(says(refusal(model(node("LinearClassifier", kMl, {"input"}, {"output"}))), "a label"));
  CHECK(says(refusal(model(gemm + node("Identity", "", {"m"}, {"output"})), 1), "give 1 numbers, the score is number 1"));
}

TEST(weights_that_do_not_fit_are_refused) {
  const auto gemm = [](const std::string& w, const std::string& b) {
    return model(node("Gemm", "", {"input", "w", "b"}, {"output"}) + w + b);
  };
  const std::string w = initializer("w", {2, 2}, {1, 2, 3, 4}), b = initializer("b", {2}, {1, 2});
  LinearModel found;
  CHECK(find_linear(gemm(w, b), "output", 1, 2, &found).ok());
  CHECK(says(refusal(gemm(initializer("w", {3, 2}, {1, 2, 3, 4, 5, 6}), b)), "are 6, expected 2 for each of 2 features"));
  CHECK(says(refusal(gemm(initializer("w", {2, 2}, {1, 2, 3}), b)), "no constant matrix"));
  CHECK(says(refusal(gemm(initializer("w", {1, 2, 2}, {1, 2, 3, 4}), b)), "no constant matrix"));
  CHECK(says(refusal(gemm(initializer("w", {0, 2}, {}), b)), "no constant matrix"));
  CHECK(says(refusal(gemm(initializer("w", {1u << 31, 1u << 31}, {}), b)), "no constant matrix"));
  CHECK(says(refusal(gemm(w, initializer("b", {2, 1}, {1, 2}))), "no constant for each column"));
  CHECK(says(refusal(gemm(w, initializer("b", {3}, {1, 2, 3}))), "no constant for each column"));
  CHECK(says(refusal(model(classifier({1, 2, 3}, {1}, labels(2)))), "are 3, expected 1 for each of 2 features"));
  CHECK(says(refusal(model(classifier({1, 2}, {}, labels(2)))), "are 2, expected 0"));
  CHECK(says(refusal(model(regressor({1, 2}, floats("intercepts", {1, 2})))), "not an intercept for each target"));
  CHECK(says(refusal(model(regressor({1, 2}, integer("targets", -1)))), "no weights for its targets"));
  CHECK(says(refusal(model(regressor({1, 2}, transform("PROBIT")))), "post_transform"));
  CHECK(says(refusal(model(classifier({1, 2}, {1}, labels(2) + transform("SOFTMAX")))), "a SOFTMAX of two"));
  CHECK(says(refusal(model(node("LinearRegressor", kMl, {"input"}, {"m"},
                                floats("coefficients", {1, 2, 3, 4}) + integer("targets", 2) + transform("LOGISTIC")) +
                           node("Sigmoid", "", {"m"}, {"output"}))),
             "a transformation of their own"));
}

TEST(a_regressor_has_no_more_targets_than_weights) {
  LinearModel found;
  CHECK(find_linear(model(regressor({1, 2}, integer("targets", 2)), 1), "output", 1, 1, &found).ok());
  CHECK(says(refusal(model(regressor({1, 2}, integer("targets", 3)))), "no weights for its targets"));
}

// Models of before 2019 list their initializers among the inputs.
TEST(an_initializer_is_no_input) {
  const std::string gemm = node("Gemm", "", {"input", "w"}, {"output"}) + initializer("w", {2, 1}, {1, 2});
  LinearModel found;
  REQUIRE(find_linear(model(delimited(11, delimited(1, "w")) + gemm), "output", 0, 2, &found).ok());
  CHECK_EQ(found.input, 0);
  REQUIRE(find_linear(model(delimited(11, delimited(1, "other")) + gemm), "output", 0, 2, &found).ok());
  CHECK_EQ(found.input, 1);
}

TEST(a_graph_has_limits_of_tensors) {
  std::string tensors;
  for (size_t i = 0; i < OnnxGraph::kNodesMax; ++i) tensors += delimited(5, delimited(8, std::to_string(i)));
  CHECK(says(refusal(model(tensors)), "no linear weights lead to the output"));
  CHECK(says(refusal(model(tensors + delimited(5, delimited(8, "one more")))), "more tensors than are looked at"));
}

// Under ASAN and UBSAN: bytes that are no model are refused, or are another model, and nothing more.
TEST(damaged_bytes_are_harmless) {
  Random random(check::seed());
  for (const Made& made : every_kind(random, 3)) {
    const std::string whole = model(made.parts, 3);
    LinearModel found;
    for (size_t bytes = 0; bytes < whole.size(); ++bytes) (void)find_linear(whole.substr(0, bytes), "output", 0, 3, &found);
    for (int i = 0; i < check::scaled(300); ++i) {
      std::string damaged = whole;
      for (int flips = 0; flips < 3; ++flips) damaged[random() % damaged.size()] = static_cast<char>(random());
      if (!find_linear(damaged, "output", 0, 3, &found).ok()) continue;
      const float row[3] = {1.0f, 2.0f, 3.0f};
      (void)found.function.margin(row);
    }
  }
}

ASSAY_TEST_MAIN
