// A house whose model can be explained: one tree that asks about the amount.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "core/serving/explain_worker.h"
#include "onnx_fixture.h"
#include "serving_fixture.h"

namespace fixture {

constexpr double kLow = 0.125, kHigh = 0.875;
constexpr int64_t kHighAmount = 500;  // from here on the score is kHigh

// amount < kHighAmount ? kLow : kHigh, of an input that is no float: a Cast stands before the tree.
inline std::string amount_model(const std::vector<std::string>& inputs, size_t input) {
  using namespace assay::test;
  const std::string tree =
      integers("nodes_treeids", {0, 0, 0}) + integers("nodes_nodeids", {0, 1, 2}) + integers("nodes_featureids", {0, 0, 0}) +
      floats("nodes_values", {kHighAmount, 0, 0}) + texts("nodes_modes", {"BRANCH_LT", "LEAF", "LEAF"}) +
      integers("nodes_truenodeids", {1, 0, 0}) + integers("nodes_falsenodeids", {2, 0, 0}) + integers("target_treeids", {0, 0}) +
      integers("target_nodeids", {1, 2}) + integers("target_ids", {0, 0}) +
      floats("target_weights", {static_cast<float>(kLow), static_cast<float>(kHigh)}) + test::integer("n_targets", 1);
  std::string graph = node("Cast", "", {inputs[input].c_str()}, {"cast"}, test::integer("to", 1)) +
                      node("TreeEnsembleRegressor", kMl, {"cast"}, {"score"}, tree);
  for (const std::string& name : inputs) graph += delimited(11, delimited(1, name));
  return delimited(7, graph);
}

// What stands on a model of amount_model(): its groups are "amount" and "rest"; the background's amount is 0, so its margin is kLow.
struct ExplainedParts {
  explicit ExplainedParts(const FeaturePlan& plan) : background(plan.row_bytes()) {
    std::vector<std::string> names;
    size_t amount = 0;
    for (size_t i = 0; i < plan.spec().tensors.size(); ++i) {
      const auto& tensor = plan.spec().tensors[i];
      spec.tensors.push_back({tensor.type, plan.segments()[i].offset_bytes, tensor.element_count});
      names.push_back(tensor.name);
      if (i < 2) amount += tensor.element_count;
    }
    model = amount_model(names, 2);
    spec.model = model;
    spec.output = "score";
    spec.row_bytes = plan.row_bytes();
    spec.background = background.data();
    spec.background_rows = 1;
    spec.groups.assign(plan.spec().inputs.size(), 1);
    spec.inputs.resize(spec.groups.size());
    std::iota(spec.inputs.begin(), spec.inputs.end(), 0u);  // the plan of this house has them in the order of its tensors
    spec.groups[amount] = 0;
    spec.group_count = 2;
  }
  ExplainedParts(const ExplainedParts&) = delete;
  ExplainedParts& operator=(const ExplainedParts&) = delete;

  std::string model;
  std::vector<uint8_t> background;
  explain::ExplainerSpec spec;
};

// A reason stands for "amount".
inline std::shared_ptr<explain::ExplainedModel> named_model(const FeaturePlan& plan) {
  auto made = std::make_shared<explain::ExplainedModel>();
  made->background_sha256 = std::string(64, 'c');
  made->group_names = {"amount", "rest"};
  for (const InputSpec& input : plan.spec().inputs) made->input_names.push_back(input.name);
  made->reasons = {{"AMOUNT_HIGH", "the amount is high", "the amount is unusual"}, {}};
  for (uint32_t i = 0; i < plan.spec().inputs.size(); ++i) made->element_inputs.push_back(i);
  made->reasons_version = "7";
  return made;
}

inline std::shared_ptr<const explain::ExplainedModel> explained_model(const FeaturePlan& plan) {
  const ExplainedParts parts(plan);
  auto made = named_model(plan);
  const Status status = explain::Explainer::create(parts.spec, &made->explainer);
  if (!status.ok()) std::fprintf(stderr, "fixture: %s\n", status.detail.c_str());
  CHECK(status.ok());
  return made;
}

// The same, but the model is asked: the scores are probabilities.
inline std::shared_ptr<const explain::ExplainedModel> asked_model(const FeaturePlan& plan) {
  const ExplainedParts parts(plan);
  auto made = named_model(plan);
  const Status status = explain::SampledModel::create(parts.spec, {{kLow}, true}, &made->sampled);
  if (!status.ok()) std::fprintf(stderr, "fixture: %s\n", status.detail.c_str());
  CHECK(status.ok());
  return made;
}

// Tells workers what befalls them; one that is to hang does so until it is released.
class ToldFaults final : public ExplainFaults {
 public:
  Fault next() noexcept override {
    std::unique_lock<std::mutex> lock(mutex_);
    ++begun_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !is_held_; });
    return fault_;
  }
  void set(Fault fault) {
    const std::lock_guard<std::mutex> lock(mutex_);
    fault_ = fault;
  }
  void hold(bool is_held) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_held_ = is_held;
    }
    changed_.notify_all();
  }
  // Until so many explanations were begun. False: not within 20 s.
  bool wait_begun(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return begun_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Fault fault_ = Fault::kNone;
  bool is_held_ = false;
  size_t begun_ = 0;
};

struct ExplainedHouse : House {
  explicit ExplainedHouse(EngineOptions options = stepped()) : House(options) {
    fake->score = [](int64_t amount) { return amount < kHighAmount ? kLow : kHigh; };
    CHECK(add(explained_spec()).ok());
  }
  static EngineOptions stepped() {
    EngineOptions options = small();
    options.explain.has_threads = false;
    return options;
  }
  LaneSpec explained_spec(const std::string& version = "1") const {
    LaneSpec spec = lane_spec("fraud", version);
    spec.explained = explained_model(reader->plan());
    return spec;
  }
  // The row runs; its call ends unless it waits for its explanation.
  uint64_t ask(int64_t amount, const std::string& options = {}) {
    const Submission submission = score(amount, delimited(12, options));
    CHECK_EQ(submission.code, Code::kOk);
    CHECK_EQ(step(), 1u);
    return token;
  }
  bool is_answered(uint64_t of_token) {
    drain();
    return answers.count(of_token) != 0;
  }
};

struct Contribution {
  std::string player;
  double value = 0.0;
};
struct Explained {
  uint64_t status = 0, method = 0, margin_space = 0;
  bool is_there = false;
  double base = 0.0, margin = 0.0, rest = 0.0;
  std::vector<Contribution> contributions;
  std::vector<std::string> reasons;
  std::string reasons_version, background;
};
inline double as_double(uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, 8);
  return value;
}
// Of a ScoreResponse.
inline Explained parse_explained(std::string_view response) {
  Explained found;
  const std::vector<Field> fields = fields_of(response);
  if (const auto status = find_field(fields, 12)) found.status = status->value;
  const auto message = find_field(fields, 11);
  if (!message) return found;
  found.is_there = true;
  for (const Field& field : fields_of(message->bytes)) {
    if (field.number == 1) found.method = field.value;
    if (field.number == 11) found.margin_space = field.value;
    if (field.number == 2) found.background = field.bytes;
    if (field.number == 3) found.base = as_double(field.value);
    if (field.number == 4) found.margin = as_double(field.value);
    if (field.number == 8) found.rest = as_double(field.value);
    if (field.number == 10) found.reasons_version = field.bytes;
    const std::vector<Field> inner = field.bytes.empty() ? std::vector<Field>() : fields_of(field.bytes);
    if (field.number == 7)
      found.contributions.push_back({std::string(find_field(inner, 1)->bytes), as_double(find_field(inner, 2)->value)});
    if (field.number == 9) found.reasons.emplace_back(find_field(inner, 1)->bytes);
  }
  return found;
}

}  // namespace fixture
