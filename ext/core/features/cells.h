// Cells: values as records keep them, 8 bytes each.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/base/status.h"
#include "core/base/value.h"

namespace assay {

// The cell of a value that a column or attribute of `dtype` keeps; a null value has cell 0. Strings come as their hash (int64).
// -0.0 becomes +0.0. kWrongType: the value is not of that dtype. kNotFinite: NaN or infinity.
inline Code cell_of(Dtype dtype, const Value& value, uint64_t* cell) noexcept {
  *cell = 0;
  if (value.is_null()) return Code::kOk;
  const Dtype stored = dtype == Dtype::kString ? Dtype::kInt64 : dtype;
  if (value.dtype != stored) return Code::kWrongType;
  if (stored == Dtype::kFloat64) {
    if (!std::isfinite(value.float64)) return Code::kNotFinite;
    const double normal = value.float64 + 0.0;
    std::memcpy(cell, &normal, sizeof normal);
  } else if (stored == Dtype::kBool) {
    *cell = value.boolean ? 1 : 0;
  } else {
    *cell = static_cast<uint64_t>(value.int64);
  }
  return Code::kOk;
}

// The value of a cell that is not null. Hashes come back as int64.
inline Value value_of(Dtype dtype, uint64_t cell) noexcept {
  if (dtype == Dtype::kFloat64) {
    double real;
    std::memcpy(&real, &cell, sizeof real);
    return Value::of(real);
  }
  if (dtype == Dtype::kBool) return Value::of(cell != 0);
  return Value::of(static_cast<int64_t>(cell));
}

// Whether a stored cell is one that cell_of could have made.
inline bool is_cell(Dtype dtype, bool is_null, uint64_t cell) noexcept {
  if (is_null) return cell == 0;
  if (dtype == Dtype::kBool) return cell <= 1;
  if (dtype != Dtype::kFloat64) return true;
  double real;
  std::memcpy(&real, &cell, sizeof real);
  return std::isfinite(real) && !(real == 0.0 && cell != 0);
}

}  // namespace assay
