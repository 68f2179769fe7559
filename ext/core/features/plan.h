// FeaturePlan: a feature set compiled to tables. The decoder, the fold and the assembler read it; nothing parses YAML here.
//
// A plan is a list of nodes (values) in an order in which every node comes after its arguments: event_time, then request
// features, then the outputs of views, then derived values. Model inputs pick nodes and say what null means.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/base/value.h"
#include "core/features/accepted_ints.h"
#include "core/features/name_table.h"
#include "core/features/view.h"

namespace assay {

struct RequestFeatureSpec {
  std::string name;
  Dtype dtype = Dtype::kNull;
  bool required = true;
  bool accept_int = false;   // kFloat64 only: an int64 up to 2^53 is taken as the float64 that equals it
  Value default_value;       // used when absent and not required; null: the node is null
  std::string default_text;  // owns a string default
  Value minimum, maximum;    // inclusive; null: unbounded. Same dtype as the feature.
};

enum class NodeKind : uint8_t { kEventTime = 1, kRequestFeature = 2, kView = 3, kDerived = 4 };

// The closed list of derived operations. A null argument makes a null result unless said otherwise. Formulas, dtypes and
// sources stand in operations.h and docs/features.md.
enum class DerivedOp : uint8_t {
  kScale = 1,         // x / constants[0] -> float64
  kRatio = 2,         // a / b -> float64; null when b is 0
  kDifference = 3,    // a - b; int64 (checked) if both are, else float64
  kLog1p = 4,         // log(1 + x) -> float64; null when x <= -1
  kHour = 5,          // of a time (int64 us) -> int64 0..23, UTC
  kWeekday = 6,       // -> int64 0 = Monday .. 6
  kIsNight = 7,       // hour in [constants[0], constants[1]] inclusive -> bool
  kIsWeekend = 8,     // weekday >= 5 -> bool
  kDaysSince = 9,     // (a - b) / 86400e6 -> float64; a and b times
  kHaversineKm = 10,  // (lat1, lon1, lat2, lon2) degrees -> float64; null when a coordinate is out of range
  kSpeedKmh = 11,     // (lat1, lon1, time1, lat2, lon2, time2) -> float64; at least constants[0] seconds apart are assumed
  kEquals = 12,       // a == b -> bool; both of one dtype
  kVocabulary = 13,   // string -> int64 index; constants[0] is the index of an unknown word
  kHashBucket = 14,   // string or int64 -> int64 in [0, constants[0]), xxh64 modulo
  kIsMissing = 15,    // -> bool, never null
  kConstant = 16,     // no arguments; constants[0] as float64, or vocabulary[0] as string, for equals
};

struct DerivedSpec {
  DerivedOp op = DerivedOp::kScale;
  std::vector<uint16_t> arguments;  // node indices, each smaller than this node's own
  std::vector<double> constants;
  std::vector<std::string> vocabulary;  // kVocabulary: word i has index i
};

struct NodeSpec {
  NodeKind kind = NodeKind::kEventTime;
  std::string name;
  uint16_t source_index = 0;  // kRequestFeature: feature; kView: view
  uint16_t output_index = 0;  // kView: which aggregate or attribute
  DerivedSpec derived;        // kDerived
};

enum class WhenNull : uint8_t {
  kError = 1,    // the row fails (NULL_INPUT)
  kDefault = 2,  // InputSpec::default_value, and the answer lists the input as imputed
  kNan = 3,      // float tensors only: the model learned from NaN
};

// One ONNX input of the model: its columns are consecutive elements of one typed segment of the row.
struct TensorSpec {
  std::string name;
  TensorType type = TensorType::kFloat32;
  uint32_t element_count = 0;  // product of the fixed axes
};

// One model input: which value goes to which element.
struct InputSpec {
  std::string name;
  uint16_t node = 0;
  uint16_t tensor = 0;
  uint32_t element = 0;
  WhenNull when_null = WhenNull::kError;
  double default_value = 0.0;
};

struct PlanSpec {
  std::string feature_set;  // name
  std::string feature_set_version;
  std::string schema_hash;  // 64 hex digits
  std::vector<std::string> entities;
  std::vector<RequestFeatureSpec> request_features;
  std::vector<ViewSpec> views;
  std::vector<NodeSpec> nodes;
  std::vector<TensorSpec> tensors;
  std::vector<InputSpec> inputs;  // every element of every tensor exactly once, in the feature set's order
};

// Where a tensor's elements lie in a finished row.
struct TensorSegment {
  uint32_t offset_bytes = 0;  // 8-aligned
  uint32_t bytes = 0;
};

struct RowProgram;  // row_program.h

// The compiled plan. Immutable but for what it counts, shared by reference count (lanes, readers, writers hold it), thread-safe.
class FeaturePlan {
 public:
  // Checks names, limits, dtypes, node order and the tensor layout. int64 goes to a float32 element only where its values
  // are known to lie within +-2^24 (counts, indices, a declared range). A view on labels needs a delay.
  // A plan without tensors is one for events only. kPlanInvalid tells the first problem: it names the thing and what to change.
  static Status compile(PlanSpec spec, std::shared_ptr<const FeaturePlan>* out);
  // The plan of a model without a feature set: its rows come as whole tensors (ModelInfer), so it lays them out and says nothing
  // of where values come from. kPlanInvalid: too many tensors, a name twice, a row longer than kTensorRowBytesMax.
  static Status of_tensors(std::vector<TensorSpec> tensors, std::shared_ptr<const FeaturePlan>* out);
  bool is_tensors_only() const noexcept { return spec_.inputs.empty() && !spec_.tensors.empty(); }

  const PlanSpec& spec() const noexcept { return spec_; }
  const std::vector<ViewSchema>& views() const noexcept { return views_; }
  const std::vector<TensorSegment>& segments() const noexcept { return segments_; }
  uint32_t row_bytes() const noexcept { return row_bytes_; }  // one finished row, a multiple of 8
  Dtype node_dtype(size_t node) const noexcept { return node_dtypes_[node]; }
  const RowProgram& program() const noexcept { return *program_; }  // the nodes and inputs as the reader runs them

  // Of the scores and events that were taken with this plan. Whoever takes one adds it: decoders do not, as a stored line is
  // decoded more than once.
  AcceptedInts& accepted_ints() const noexcept { return accepted_ints_; }

  // Index of a declared name, or -1. No allocation; constant time.
  int find_feature(std::string_view name) const noexcept { return feature_names_.find(name); }
  int find_entity(std::string_view name) const noexcept { return entity_names_.find(name); }

 private:
  FeaturePlan() = default;
  friend class PlanCompiler;  // plan.cc

  PlanSpec spec_;
  std::vector<ViewSchema> views_;
  std::vector<TensorSegment> segments_;
  std::vector<Dtype> node_dtypes_;
  uint32_t row_bytes_ = 0;
  NameTable feature_names_;
  NameTable entity_names_;
  std::shared_ptr<const RowProgram> program_;  // shared only because RowProgram is incomplete here
  mutable AcceptedInts accepted_ints_;
};

}  // namespace assay
