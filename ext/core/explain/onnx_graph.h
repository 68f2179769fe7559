// OnnxGraph: what makes what in an ONNX model, read in place from its bytes, which may be hostile.
//
// Names, operators and attributes alone; tensors are decoded when they are asked for. https://github.com/onnx/onnx, onnx.proto3.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/status.h"

namespace assay::explain {

// One attribute of a node, still encoded.
class OnnxAttribute {
 public:
  static constexpr size_t kValuesMax = 32'000'000;  // of one list

  OnnxAttribute(std::string_view name, std::string_view bytes) noexcept : name_(name), bytes_(bytes) {}
  std::string_view name() const noexcept { return name_; }

  // Each gives what the attribute has of its kind (nothing: empty, or 0), the last where it stands there twice. False: it is damaged, or
  // has more than kValuesMax values.
  bool integer(int64_t* value) const;
  bool number(double* value) const;  // `f`
  bool text(std::string_view* value) const;
  bool integers(std::vector<int64_t>* values) const;  // `ints`
  // `floats`, or a tensor of floats, doubles or bytes. `are_doubles`: it is one of doubles, which float32 may not hold.
  bool numbers(std::vector<double>* values, bool* are_doubles) const;
  bool texts(std::vector<std::string_view>* values) const;  // `strings`
  bool tensor(std::string_view* bytes) const;               // `t`, still encoded

 private:
  std::string_view name_, bytes_;
};

// A tensor of float32 that is the same for every row. Its numbers are as many as its shape says, row by row.
struct OnnxConstant {
  std::vector<int64_t> shape;
  std::vector<double> numbers;
};

struct OnnxNode {
  std::string_view op, domain;  // domain: "" and "ai.onnx" are the same
  std::vector<std::string_view> inputs, outputs;
  std::vector<OnnxAttribute> attributes;

  // Null: it has none of this name.
  const OnnxAttribute* find(std::string_view name) const noexcept;
  bool is(std::string_view domain, std::string_view op) const noexcept;
};

class OnnxGraph {
 public:
  static constexpr size_t kNodesMax = 100'000;    // as many inputs, and as many initializers
  static constexpr size_t kPartsMax = 1'000'000;  // inputs, outputs and attributes of all nodes

  // `model` outlives it. kExplainUnsupported: it cannot be read.
  static Status read(std::string_view model, OnnxGraph* out);

  // The node that makes a tensor. Null: none does, it is an input or a constant.
  const OnnxNode* maker_of(std::string_view tensor) const noexcept;
  // An initializer, or what a Constant makes. False: none has this name, or it is not what an OnnxConstant is.
  bool constant(std::string_view name, OnnxConstant* out) const;
  // The place of a graph's input, those with an initializer left out, as ONNX Runtime counts. -1: it is none.
  int input_index(std::string_view name) const noexcept;

 private:
  std::vector<OnnxNode> nodes_;
  std::vector<std::string_view> inputs_;
  std::unordered_map<std::string_view, size_t> maker_of_;
  std::unordered_map<std::string_view, std::string_view> initializers_;  // a tensor each, still encoded
};

}  // namespace assay::explain
