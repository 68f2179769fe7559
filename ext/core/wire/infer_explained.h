// InferExplained: what ModelInfer gives beside a model's own outputs where it is asked for by name: why the score is what it is.
//
// As XGBoost's pred_contribs and Triton's treeshap_output have it: the elements of the inputs, in their order, and behind them the base.
// A row that was not explained (in time, or at all) has NaN in every place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace assay {

enum class InferExplained : uint8_t { kContributions = 0, kErrors = 1, kResidual = 2 };
inline constexpr size_t kInferExplainedCount = 3;
inline constexpr std::array<const char*, kInferExplainedCount> kInferExplainedNames = {
    "explanation_contributions", "explanation_errors", "explanation_residual"};

// A row of such an output, FP64. `elements`: of the model's input row. The residual has no axis but the rows'.
constexpr size_t infer_explained_columns(InferExplained output, size_t elements) noexcept {
  return output == InferExplained::kContributions ? elements + 1 : output == InferExplained::kErrors ? elements : 1;
}
// All outputs of one row stand one behind the other, in this order.
constexpr size_t infer_explained_bytes(size_t elements) noexcept { return (2 * elements + 2) * sizeof(double); }

// What is said of all rows alike: parameters of the outputs.
struct InferExplainedNotes {
  std::string_view method;
  std::string_view margin_space;
  std::string_view background_sha256;
};

struct InferExplainedRows {
  uint8_t wanted = 0;                  // bit i: output i
  size_t elements = 0;                 // of the model's input row
  std::vector<std::string_view> rows;  // infer_explained_bytes(elements) of each row; empty: it was not explained
  InferExplainedNotes notes;
};

// The descriptions (field 5 of inference.ModelInferResponse), then the elements (field 6), of what is wanted.
void append_explained_outputs(const InferExplainedRows& explained, std::string& out);
void append_explained_contents(const InferExplainedRows& explained, std::string& out);
// Bytes that these take for each row.
uint64_t infer_explained_row_bytes(uint8_t wanted, size_t elements) noexcept;

}  // namespace assay
