// What the tests of ModelInfer share: a request of it, and a house with a lane that has no feature set.
#pragma once

#include <string>
#include <vector>

#include "serving_fixture.h"

namespace fixture {

inline std::string packed(const std::vector<int64_t>& values) {
  std::string bytes(values.size() * sizeof(int64_t), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// One INT64 element a row, raw.
inline std::string infer_request(const std::vector<int64_t>& amounts, const std::string& more = {}, const std::string& id = "r") {
  const std::string shape = number(3, amounts.size()) + number(3, 1);
  const std::string input = delimited(1, "amount") + delimited(2, "INT64") + shape;
  return delimited(1, "tensors") + delimited(3, id) + delimited(5, input) + delimited(7, packed(amounts)) + more;
}

// Output "pair": the amount's score and its negative.
struct InferHouse : House {
  explicit InferHouse(EngineOptions options = small()) : House(options) { CHECK(add(tensor_spec()).ok()); }
  LaneSpec tensor_spec(const std::string& version = "1") {
    std::shared_ptr<const FeaturePlan> plan;
    CHECK(FeaturePlan::of_tensors({{"amount", TensorType::kInt64, 1}}, &plan).ok());
    LaneSpec spec;
    spec.model = "tensors";
    spec.version = version;
    spec.model_sha256 = std::string(64, 'b');
    spec.reader = FeatureReader::create_remote(plan);
    spec.runners.push_back(std::make_unique<FakeRunner>(fake, 0));
    spec.has_threads = false;
    spec.infer_outputs = {{"pair", TensorType::kFloat64, {2}, 0}};
    return spec;
  }
  Submission infer(const std::vector<int64_t>& amounts, const std::string& more = {}, const std::string& id = "r") {
    return engine.submit_infer(infer_request(amounts, more, id), context(), &queue, ++token);
  }
  size_t run() { return engine.step("tensors", "1"); }
};

}  // namespace fixture
