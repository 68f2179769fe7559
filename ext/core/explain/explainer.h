// Explainer: why a model version scores a row as it does, exactly, from its trees or its weights.
//
// It is made of the model's own bytes and the bundle's background rows, and reads rows as the lane lays them out. Immutable: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/base/value.h"

namespace assay::explain {

// How contributions were made: assay.v1.ExplanationMethod.
enum class Method : uint8_t { kTrees = 1, kLinear = 2, kPermutation = 3 };

constexpr const char* method_name(Method method) noexcept {
  switch (method) {
    case Method::kTrees: return "trees";
    case Method::kLinear: return "linear";
    case Method::kPermutation: return "permutation";
  }
  return "";
}

// Who contributes: assay.v1.ExplainPlayers.
enum class Players : uint8_t { kGroups = 1, kInputs = 2 };

// Contributions of one row, in margin space. Kept and used again: explain() allocates when it is used first.
struct Attribution {
  double base_margin = 0.0;
  double margin = 0.0;
  double base_score = 0.0;  // what the model gives at these two
  double score = 0.0;
  double residual = 0.0;       // |base + all values - margin|
  std::vector<double> values;  // one a player
  std::vector<double> errors;  // their standard errors; empty: they are exact
  bool is_log_odds = false;    // the space of margins; else they are scores

  // Whether the residual is small enough for the values to be told: 1e-4 of the margin, or of 1.
  bool adds_up() const noexcept;
};

// Where the elements of an ONNX input stand in a finished row.
struct RowTensor {
  TensorType type = TensorType::kFloat32;
  size_t offset_bytes = 0;
  size_t elements = 0;
};

struct ExplainerSpec {
  std::string_view model;  // the ONNX file
  std::string_view output;
  size_t column = 0;               // of `output`: the score
  std::vector<RowTensor> tensors;  // in the order of the model's inputs
  size_t row_bytes = 0;
  const uint8_t* background = nullptr;  // rows of row_bytes each
  size_t background_rows = 0;
  // Of each element of a row, in the order of its bytes: which input it is, and that one's group. The inputs may have another order.
  std::vector<uint32_t> inputs;
  std::vector<uint32_t> groups;
  size_t group_count = 0;
};

// Whether every one of a row's elements has a group, and an input of its own. kExplainUnsupported.
Status check_players(const ExplainerSpec& spec, size_t elements);

class Explainer {
 public:
  static constexpr size_t kRowElementsMax = limits::kModelInputsMax;
  // Of one explanation, as Interventional::cost() counts: at 2 to 5 ns each it takes at most about 50 ms of a thread.
  static constexpr size_t kCostMax = 10'000'000;

  // Trees, or a linear model. kExplainUnsupported: what the model is instead, or what is wrong with the background or the groups.
  static Status create(const ExplainerSpec& spec, std::unique_ptr<const Explainer>* out);
  virtual ~Explainer() = default;

  virtual Method method() const noexcept = 0;
  virtual bool is_log_odds() const noexcept = 0;  // the space of margins
  // Explains a finished row: all but the errors.
  virtual void explain(const uint8_t* row, Players players, Attribution* out) const = 0;
};

}  // namespace assay::explain
