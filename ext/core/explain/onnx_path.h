// The way through an ONNX model whose exact values are known: what stands before the part that decides, and behind.
//
//   input -> (Identity | Cast to float | Scaler)* -> the part that decides -> (Identity | Cast | Sigmoid)* -> output
//
// Everything else is refused with the operator's name: its explanation would be another model's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/explain/onnx_graph.h"

namespace assay::explain {

// From a margin m to the number that the model gives.
enum class Link : uint8_t { kIdentity, kNegative, kComplement, kLogistic, kLogisticNegative };  // m, -m, 1 - m, s(m), s(-m)

double linked(Link link, double margin) noexcept;

// (value - offset) * scale, in float32, as ONNX's Scaler does. One number each for all features, or one for each.
struct Scaler {
  std::vector<float> offset, scale;
};

// A row passes the scalers, one after the other: `row`, `feature_count` numbers, is changed in place.
void scale_row(const std::vector<Scaler>& scalers, size_t feature_count, float* row) noexcept;

// What leads to the part that decides: the graph's input by place, and the scalers in the order in which a row passes them.
struct OnnxPrefix {
  int input = 0;
  std::vector<Scaler> scalers;
};

// What follows it.
struct OnnxSuffix {
  const OnnxNode* node = nullptr;  // which decides, and has an input; the graph's
  bool has_sigmoid = false;        // one stands behind it

  // Puts the sigmoid behind `link`, which is the node's own. kExplainUnsupported: that has one already.
  Status append_to(Link* link, const char* what) const;
};

// From the output back to the first node of which decides() is true. `what`: what it holds, in refusals: "trees".
Status find_suffix(const OnnxGraph& graph, std::string_view output, const char* what, bool (*decides)(const OnnxNode&),
                   OnnxSuffix* out);

// From `name`, which the node that decides takes, back to the input of the model.
Status find_prefix(const OnnxGraph& graph, std::string_view name, const char* what, size_t feature_count, OnnxPrefix* out);

}  // namespace assay::explain
