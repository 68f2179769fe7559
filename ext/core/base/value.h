// Value: one typed, nullable value of a feature plan. 16 bytes, trivially copyable.
#pragma once

#include <cstdint>
#include <string_view>

namespace assay {

enum class Dtype : uint8_t { kNull = 0, kFloat64 = 1, kInt64 = 2, kBool = 3, kString = 4 };

// ONNX element types that an input may have. Numbers are ONNX's own.
enum class TensorType : uint8_t { kFloat32 = 1, kInt32 = 6, kInt64 = 7, kBool = 9, kFloat64 = 11 };

constexpr uint32_t tensor_type_bytes(TensorType type) noexcept {
  switch (type) {
    case TensorType::kFloat32:
    case TensorType::kInt32: return 4;
    case TensorType::kInt64:
    case TensorType::kFloat64: return 8;
    case TensorType::kBool: return 1;
  }
  return 0;
}

constexpr const char* dtype_name(Dtype dtype) noexcept {
  switch (dtype) {
    case Dtype::kNull: return "null";
    case Dtype::kFloat64: return "float64";
    case Dtype::kInt64: return "int64";
    case Dtype::kBool: return "bool";
    case Dtype::kString: return "string";
  }
  return "?";
}

// A string Value points into bytes that someone else owns: the request, the record (under its lock) or the plan.
struct Value {
  union {
    double float64;
    int64_t int64;
    bool boolean;
    const char* text;
  };
  uint32_t text_bytes = 0;
  Dtype dtype = Dtype::kNull;

  constexpr Value() noexcept : int64(0) {}
  static Value of(double v) noexcept {
    Value r;
    r.float64 = v;
    r.dtype = Dtype::kFloat64;
    return r;
  }
  static Value of(int64_t v) noexcept {
    Value r;
    r.int64 = v;
    r.dtype = Dtype::kInt64;
    return r;
  }
  static Value of(bool v) noexcept {
    Value r;
    r.int64 = 0;
    r.boolean = v;
    r.dtype = Dtype::kBool;
    return r;
  }
  static Value of(std::string_view v) noexcept {
    Value r;
    r.text = v.data();
    r.text_bytes = static_cast<uint32_t>(v.size());
    r.dtype = Dtype::kString;
    return r;
  }
  // Pointers and ints must say what they are.
  static Value of(int) = delete;
  static Value of(const char*) = delete;

  bool is_null() const noexcept { return dtype == Dtype::kNull; }
  std::string_view string() const noexcept { return {text, text_bytes}; }
};
static_assert(sizeof(Value) == 16);

}  // namespace assay
