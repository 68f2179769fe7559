// ONNX models by hand, as bytes that ONNX Runtime takes, too (https://github.com/onnx/onnx, onnx.proto3).
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "wire_fixture.h"

namespace assay::test {

using fixture::delimited;
using fixture::number;

inline constexpr char kMl[] = "ai.onnx.ml";

template <typename Value>
std::string raw(const std::vector<Value>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value));
}

// --- attributes of a node

inline std::string attribute(const char* name, uint64_t type, const std::string& value) {
  return delimited(5, delimited(1, name) + value + number(20, type));
}
inline std::string real(const char* name, float value) {
  return attribute(name, 1, fixture::tag(2, WireType::kFixed32) + raw(std::vector<float>{value}));
}
inline std::string integer(const char* name, int64_t value) {
  return attribute(name, 2, number(3, static_cast<uint64_t>(value)));
}
inline std::string text(const char* name, const char* value) { return attribute(name, 3, delimited(4, value)); }
template <typename Value>
std::string tensor(const char* name, uint64_t type, const std::vector<Value>& values) {
  return attribute(name, 4, delimited(5, number(1, values.size()) + number(2, type) + delimited(9, raw(values))));
}
inline std::string floats(const char* name, const std::vector<float>& values) {
  return attribute(name, 6, delimited(7, raw(values)));  // packed
}
inline std::string integers(const char* name, const std::vector<int64_t>& values) {
  std::string list;
  for (const int64_t value : values) list += number(8, static_cast<uint64_t>(value));
  return attribute(name, 7, list);
}
inline std::string texts(const char* name, const std::vector<std::string>& values) {
  std::string list;
  for (const std::string& value : values) list += delimited(9, value);
  return attribute(name, 8, list);
}

// --- parts of a graph

inline std::string node(const char* op, const char* domain, const std::vector<const char*>& inputs,
                        const std::vector<const char*>& outputs, const std::string& attributes = {}) {
  std::string bytes;
  for (const char* input : inputs) bytes += delimited(1, input);
  for (const char* output : outputs) bytes += delimited(2, output);
  return delimited(1, bytes + delimited(4, op) + attributes + delimited(7, domain));
}
inline std::string initializer(const char* name, const std::vector<uint64_t>& shape, const std::vector<float>& values) {
  std::string bytes;
  for (const uint64_t axis : shape) bytes += number(1, axis);
  return delimited(5, bytes + number(2, 1) + delimited(8, name) + delimited(9, raw(values)));
}

// Opset 17, ai.onnx.ml 3. From "input", any number of rows of `features` floats, to "output".
inline std::string model(const std::string& parts, size_t features = 2) {
  const std::string shape = delimited(1, delimited(2, "rows")) + delimited(1, number(1, features));
  const std::string input = delimited(1, "input") + delimited(2, delimited(1, number(1, 1) + delimited(2, shape)));
  return number(1, 8) +
         delimited(7, parts + delimited(2, "graph") + delimited(11, input) + delimited(12, delimited(1, "output"))) +
         delimited(8, number(2, 17)) + delimited(8, delimited(1, kMl) + number(2, 3));
}

// Says on stderr what it is where it is something else.
inline bool says(const std::string& detail, const char* words) {
  const bool is_said = detail.find(words) != std::string::npos;
  if (!is_said) std::fprintf(stderr, "it says: %s\n", detail.c_str());
  return is_said;
}

}  // namespace assay::test
