#include "core/features/row_program.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace assay {
namespace {

constexpr double kInt64End = 9223372036854775808.0;  // 2^63

template <typename T>
uint64_t bits_of(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

}  // namespace

bool element_bits(double value, TensorType type, uint64_t* bits) noexcept {
  if (!std::isfinite(value)) return false;
  value += 0.0;  // -0.0 becomes +0.0
  const bool is_integer = value == std::floor(value);
  switch (type) {
    case TensorType::kFloat32: *bits = bits_of(static_cast<float>(value)); return std::isfinite(static_cast<float>(value));
    case TensorType::kFloat64: *bits = bits_of(value); return true;
    case TensorType::kInt32:
      if (!is_integer || value < -2147483648.0 || value > 2147483647.0) return false;
      *bits = bits_of(static_cast<int32_t>(value));
      return true;
    case TensorType::kInt64:
      if (!is_integer || value < -kInt64End || value >= kInt64End) return false;
      *bits = bits_of(static_cast<int64_t>(value));
      return true;
    case TensorType::kBool:
      if (value != 0.0 && value != 1.0) return false;
      *bits = value == 1.0 ? 1 : 0;
      return true;
  }
  return false;
}

uint64_t nan_bits(TensorType type) noexcept {
  return type == TensorType::kFloat32 ? bits_of(std::numeric_limits<float>::quiet_NaN())
                                      : bits_of(std::numeric_limits<double>::quiet_NaN());
}

bool find_conversion(Dtype from, TensorType to, Conversion* out) noexcept {
  const auto pick = [out](bool is_allowed, Conversion conversion) {
    *out = conversion;
    return is_allowed;
  };
  const bool is_bool = from == Dtype::kBool, is_int = from == Dtype::kInt64, is_double = from == Dtype::kFloat64;
  switch (to) {
    case TensorType::kFloat32:
      if (is_double) return pick(true, Conversion::kFloat64ToFloat32);
      return is_int ? pick(true, Conversion::kInt64ToFloat32) : pick(is_bool, Conversion::kBoolToFloat32);
    case TensorType::kFloat64:
      if (is_double) return pick(true, Conversion::kFloat64ToFloat64);
      return is_int ? pick(true, Conversion::kInt64ToFloat64) : pick(is_bool, Conversion::kBoolToFloat64);
    case TensorType::kInt32: return is_int ? pick(true, Conversion::kInt64ToInt32) : pick(is_bool, Conversion::kBoolToInt32);
    case TensorType::kInt64: return is_int ? pick(true, Conversion::kInt64ToInt64) : pick(is_bool, Conversion::kBoolToInt64);
    case TensorType::kBool: return pick(is_bool, Conversion::kBoolToBool);
  }
  return false;
}

const char* tensor_type_name(TensorType type) noexcept {
  switch (type) {
    case TensorType::kFloat32: return "float32";
    case TensorType::kInt32: return "int32";
    case TensorType::kInt64: return "int64";
    case TensorType::kBool: return "bool";
    case TensorType::kFloat64: return "float64";
  }
  return nullptr;
}

}  // namespace assay
