// RowProgram: a plan's nodes and model inputs as flat tables, in the order in which FeatureReader runs them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/base/value.h"
#include "core/features/operations.h"
#include "core/features/plan.h"

namespace assay {

// One request feature that some node reads.
struct FeatureStep {
  uint16_t feature = 0;
  uint16_t node = 0;
  Value default_value;  // null: none. Text is the plan's.
};

// One output of a view that some node reads.
struct OutputStep {
  uint16_t output = 0;
  uint16_t node = 0;
};

struct ViewStep {
  uint16_t entity = 0;
  bool is_window = true;
  bool keeps_text = false;     // its strings must outlive the fold of another attribute view
  uint32_t outputs_begin = 0;  // into RowProgram::outputs
  uint32_t outputs_end = 0;
};

struct DerivedStep {
  uint16_t node = 0;
  Operation operation;
};

// From a node's dtype to a tensor's type. The pairs that a plan may have.
enum class Conversion : uint8_t {
  kFloat64ToFloat32,
  kInt64ToFloat32,
  kBoolToFloat32,
  kFloat64ToFloat64,
  kInt64ToFloat64,
  kBoolToFloat64,
  kInt64ToInt32,
  kBoolToInt32,
  kInt64ToInt64,
  kBoolToInt64,
  kBoolToBool,
};

// One element of the row.
struct InputStep {
  uint32_t offset_bytes = 0;
  uint16_t node = 0;
  int16_t feature = -1;  // the request feature that the node is, if it is one
  Conversion conversion = Conversion::kFloat64ToFloat32;
  WhenNull when_null = WhenNull::kError;
  uint8_t bytes = 0;       // of the element
  uint64_t null_bits = 0;  // the element for a null: the default or NaN, in the tensor's type
};

struct RowProgram {
  std::vector<uint16_t> event_time_nodes;
  std::vector<FeatureStep> features;
  std::vector<ViewStep> views;  // one per view of the plan
  std::vector<OutputStep> outputs;
  std::vector<DerivedStep> derived;
  std::vector<InputStep> inputs;  // one per model input, in its order
};

// Null: not a type that a tensor may have.
const char* tensor_type_name(TensorType type) noexcept;

// The bits of `value` as an element of `type`, little-endian. False: the type has no such value.
bool element_bits(double value, TensorType type, uint64_t* bits) noexcept;

// NaN as an element. REQUIRES: a float type.
uint64_t nan_bits(TensorType type) noexcept;

// How a node's value becomes an element. False: it does not.
bool find_conversion(Dtype from, TensorType to, Conversion* out) noexcept;

}  // namespace assay
