// Derived operations: the closed list of things a feature set can compute from other values. Pure functions of their arguments.
//
// A null argument makes a null result, and so does a result that would be NaN, infinite or past int64, unless the table says
// otherwise. "number" is float64 or int64 (made a double, rounded to nearest past 2^53); "time" is int64 microseconds since
// 1970-01-01 UTC. Arithmetic is IEEE 754 binary64, in the order written here, without fused multiply-add (-ffp-contract=off).
//
// | operation    | arguments                            | constants       | result  | formula
// |--------------|--------------------------------------|-----------------|---------|-----------------------------------
// | scale        | number x                             | c != 0          | float64 | x / c
// | ratio        | number a, number b                   |                 | float64 | a / b; null when b is 0
// | difference   | number a, number b                   |                 | float64 | a - b; int64 if both are
// | log1p        | number x                             |                 | float64 | ln(1 + x); null when x <= -1
// | hour         | time                                 |                 | int64   | floor(time / 1 h) mod 24, UTC
// | weekday      | time                                 |                 | int64   | (floor(time / 1 day) + 3) mod 7
// | is_night     | time                                 | first, last     | bool    | first <= hour <= last
// | is_weekend   | time                                 |                 | bool    | weekday >= 5
// | days_since   | time a, time b                       |                 | float64 | (a - b) / 86,400,000,000
// | haversine_km | lat1, lon1, lat2, lon2               |                 | float64 | great circle on a sphere
// | speed_kmh    | lat1, lon1, time1, lat2, lon2, time2 | seconds_min > 0 | float64 | haversine_km * 3600 / seconds
// | equals       | two of one dtype                     |                 | bool    | a == b, strings byte by byte
// | vocabulary   | string                               | unknown's index | int64   | position of the word in the list
// | hash_bucket  | string or int64                      | n in 1..2^53    | int64   | xxh64 mod n
// | is_missing   | any                                  |                 | bool    | is it null; never null itself
// | constant     |                                      | c, or one word  | float64 | c; a word is a string. For equals
//
// - scale divides: cents / 100 is the double nearest to the amount, cents times 0.01 is not.
// - weekday 0 is Monday (1970-01-01 was a Thursday). is_night goes over midnight when first > last: hour >= first
//   or hour <= last.
// - haversine_km takes degrees and is null when |lat| > 90 or |lon| > 180; the radius is 6371.0088 km.
// - speed_kmh divides by max(|time2 - time1| in seconds, seconds_min), so that two cards swiped at once are not infinitely fast.
// - hash_bucket hashes an int64 as its 8 little-endian bytes.
// - is_missing asks whether a value is null. A request feature with a default never is, so the plan refuses to ask.
//
// Sources: haversine after R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984) 159; the radius is the mean
// Earth radius R1 = (2a + b) / 3 of the GRS 80 ellipsoid (Moritz, "Geodetic Reference System 1980", for the IUGG). floor, not
// truncation, keeps hours and weekdays right before 1970.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/base/status.h"
#include "core/base/value.h"
#include "core/features/name_table.h"
#include "core/features/plan.h"

namespace assay {

inline constexpr int64_t kMicrosPerSecond = 1'000'000;
inline constexpr int64_t kMicrosPerHour = 3600 * kMicrosPerSecond;
inline constexpr int64_t kMicrosPerDay = 24 * kMicrosPerHour;
inline constexpr double kEarthRadiusKm = 6371.0088;
inline constexpr size_t kOperationArgumentsMax = 6;

// Rounds towards minus infinity. REQUIRES: divisor > 0.
constexpr int64_t floor_divide(int64_t value, int64_t divisor) noexcept {
  return value / divisor - (value % divisor < 0 ? 1 : 0);
}
constexpr int64_t floor_modulo(int64_t value, int64_t divisor) noexcept {
  const int64_t rest = value % divisor;
  return rest < 0 ? rest + divisor : rest;
}

constexpr int64_t hour_of(int64_t time_us) noexcept { return floor_modulo(time_us, kMicrosPerDay) / kMicrosPerHour; }
constexpr int64_t weekday_of(int64_t time_us) noexcept { return floor_modulo(floor_divide(time_us, kMicrosPerDay) + 3, 7); }

// Distance in kilometres; coordinates in degrees. REQUIRES: |lat| <= 90, |lon| <= 180.
double haversine_km(double lat1, double lon1, double lat2, double lon2) noexcept;

// The values that an int64 node can have, as far as a plan can know: decides whether a float32 holds them exactly.
struct IntegerRange {
  bool is_known = false;
  int64_t minimum = 0;
  int64_t maximum = 0;
};

// What compile() must know of a node that may be an argument.
struct NodeType {
  Dtype dtype = Dtype::kNull;
  IntegerRange range;  // of an int64 node
};

// One derived operation, checked and ready to run. Immutable, thread-safe.
class Operation {
 public:
  // `nodes` are the types of the nodes before this one. On failure the status says what is wrong with the operation; the
  // caller puts the node's name in front.
  static Status compile(const DerivedSpec& spec, const std::vector<NodeType>& nodes, Operation* out);

  const NodeType& result() const noexcept { return result_; }

  // `nodes` are the values of a plan's nodes. A string result points into this object.
  Value apply(const Value* nodes) const noexcept;

 private:
  Status check_arguments(const DerivedSpec& spec, const std::vector<NodeType>& nodes);
  Status check_constants(const DerivedSpec& spec);
  Status check_words(const DerivedSpec& spec);
  void set_result(const DerivedSpec& spec, const std::vector<NodeType>& nodes);
  Value difference(const Value& a, const Value& b) const noexcept;
  Value geography(const Value* nodes) const noexcept;

  DerivedOp op_ = DerivedOp::kConstant;
  uint8_t argument_count_ = 0;
  std::array<uint16_t, kOperationArgumentsMax> arguments_{};
  std::array<double, 2> constants_{};
  int64_t integer_ = 0;             // the unknown word's index, or the number of buckets
  std::vector<std::string> words_;  // kConstant: owns the text of a string constant
  NameTable vocabulary_;
  NodeType result_;
};

}  // namespace assay
