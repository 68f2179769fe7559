#include "core/features/operations.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "core/base/hash.h"
#include "core/base/limits.h"

namespace assay {
namespace {

constexpr double kInteger53 = 9007199254740992.0;  // 2^53: every integer up to here is a double
constexpr double kRadiansPerDegree = 3.14159265358979323846 / 180.0;

// What one argument may be.
enum class Kind : uint8_t { kNumber, kTime, kText, kTextOrInteger, kAny };

struct Shape {
  const char* name;
  uint8_t argument_count;
  uint8_t constant_count;
  Kind kinds[kOperationArgumentsMax];
};

constexpr Kind N = Kind::kNumber;
constexpr Kind T = Kind::kTime;
constexpr Kind A = Kind::kAny;

// By number of the operation.
constexpr Shape kShapes[] = {
    {"", 0, 0, {}},
    {"scale", 1, 1, {N}},
    {"ratio", 2, 0, {N, N}},
    {"difference", 2, 0, {N, N}},
    {"log1p", 1, 0, {N}},
    {"hour", 1, 0, {T}},
    {"weekday", 1, 0, {T}},
    {"is_night", 1, 2, {T}},
    {"is_weekend", 1, 0, {T}},
    {"days_since", 2, 0, {T, T}},
    {"haversine_km", 4, 0, {N, N, N, N}},
    {"speed_kmh", 6, 1, {N, N, T, N, N, T}},
    {"equals", 2, 0, {A, A}},
    {"vocabulary", 1, 1, {Kind::kText}},
    {"hash_bucket", 1, 1, {Kind::kTextOrInteger}},
    {"is_missing", 1, 0, {A}},
    {"constant", 0, 1, {}},
};

bool is_number(Dtype dtype) { return dtype == Dtype::kFloat64 || dtype == Dtype::kInt64; }

bool matches(Kind kind, Dtype dtype) {
  switch (kind) {
    case Kind::kNumber: return is_number(dtype);
    case Kind::kTime: return dtype == Dtype::kInt64;
    case Kind::kText: return dtype == Dtype::kString;
    case Kind::kTextOrInteger: return dtype == Dtype::kString || dtype == Dtype::kInt64;
    case Kind::kAny: return dtype != Dtype::kNull;
  }
  return false;
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kNumber: return "float64 or int64";
    case Kind::kTime: return "a time (int64 microseconds)";
    case Kind::kText: return "string";
    case Kind::kTextOrInteger: return "string or int64";
    case Kind::kAny: return "a value";
  }
  return "?";
}

Status invalid(std::string detail) { return Status(Code::kPlanInvalid, std::move(detail)); }

double number(const Value& value) noexcept {
  return value.dtype == Dtype::kInt64 ? static_cast<double>(value.int64) : value.float64;
}

// A result that is not a number is no result.
Value finite(double result) noexcept { return std::isfinite(result) ? Value::of(result) : Value(); }

bool is_coordinate(double lat, double lon) noexcept { return std::fabs(lat) <= 90.0 && std::fabs(lon) <= 180.0; }

bool is_hour_within(int64_t hour_utc, double first, double last) noexcept {
  const auto hour = static_cast<double>(hour_utc);
  return first <= last ? hour >= first && hour <= last : hour >= first || hour <= last;
}

bool is_equal(const Value& a, const Value& b) noexcept {
  switch (a.dtype) {
    case Dtype::kFloat64: return a.float64 == b.float64;
    case Dtype::kBool: return a.boolean == b.boolean;
    case Dtype::kString: return a.string() == b.string();
    default: return a.int64 == b.int64;
  }
}

uint64_t hash_of(const Value& value) noexcept {
  if (value.dtype == Dtype::kString) return xxh64(value.string());
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(static_cast<uint64_t>(value.int64) >> (8 * i));
  return xxh64({bytes, sizeof bytes});
}

}  // namespace

double haversine_km(double lat1, double lon1, double lat2, double lon2) noexcept {
  const double phi1 = lat1 * kRadiansPerDegree;
  const double phi2 = lat2 * kRadiansPerDegree;
  const double sin_lat = std::sin((phi2 - phi1) / 2.0);
  const double sin_lon = std::sin((lon2 - lon1) * kRadiansPerDegree / 2.0);
  const double h = sin_lat * sin_lat + std::cos(phi1) * std::cos(phi2) * (sin_lon * sin_lon);
  return 2.0 * kEarthRadiusKm * std::asin(std::min(1.0, std::sqrt(h)));  // rounding may carry h past 1 at the antipode
}

Status Operation::compile(const DerivedSpec& spec, const std::vector<NodeType>& nodes, Operation* out) {
  const auto op = static_cast<size_t>(spec.op);
  if (op == 0 || op >= std::size(kShapes)) return invalid("the operation's number " + std::to_string(op) + " is not in the list");
  Operation operation;
  operation.op_ = spec.op;
  Status status = operation.check_arguments(spec, nodes);
  if (status.ok()) status = operation.check_words(spec);
  if (status.ok()) status = operation.check_constants(spec);
  if (!status.ok()) return status;
  operation.set_result(spec, nodes);
  *out = std::move(operation);
  return Status();
}

Status Operation::check_arguments(const DerivedSpec& spec, const std::vector<NodeType>& nodes) {
  const Shape& shape = kShapes[static_cast<size_t>(spec.op)];
  const std::string name = shape.name;
  if (spec.arguments.size() != shape.argument_count) {
    return invalid(name + " takes " + std::to_string(shape.argument_count) + " arguments, found " +
                   std::to_string(spec.arguments.size()));
  }
  for (size_t i = 0; i < spec.arguments.size(); ++i) {
    const size_t at = spec.arguments[i];
    const std::string argument = "argument " + std::to_string(i + 1) + " of " + name;
    if (at >= nodes.size()) return invalid(argument + " is not an earlier value; define it before this one");
    if (!matches(shape.kinds[i], nodes[at].dtype)) {
      return invalid(argument + ": expected " + kind_name(shape.kinds[i]) + ", found " + dtype_name(nodes[at].dtype));
    }
    arguments_[i] = static_cast<uint16_t>(at);
  }
  if (spec.op == DerivedOp::kEquals) {
    const Dtype a = nodes[spec.arguments[0]].dtype, b = nodes[spec.arguments[1]].dtype;
    if (a != b) {
      return invalid(std::string("equals compares two values of one dtype, found ") + dtype_name(a) + " and " + dtype_name(b));
    }
  }
  argument_count_ = shape.argument_count;
  return Status();
}

Status Operation::check_words(const DerivedSpec& spec) {
  const bool is_text_constant = spec.op == DerivedOp::kConstant && spec.constants.empty();
  if (spec.op != DerivedOp::kVocabulary && !is_text_constant) {
    return spec.vocabulary.empty() ? Status() : invalid("only vocabulary and a string constant take words; remove them");
  }
  const size_t words_max = is_text_constant ? 1 : limits::kVocabularyMax;
  if (spec.vocabulary.empty() || spec.vocabulary.size() > words_max) {
    return invalid(is_text_constant ? "constant takes one number or one word"
                                    : "a vocabulary has 1 to " + std::to_string(words_max) + " words");
  }
  std::unordered_set<std::string_view> seen;
  for (const std::string& word : spec.vocabulary) {
    if (word.size() > limits::kStringValueBytesMax) {
      return invalid("a word of the vocabulary is longer than " + std::to_string(limits::kStringValueBytesMax) + " bytes");
    }
    if (!seen.insert(word).second) return invalid("a word stands twice in the vocabulary; remove one");
  }
  if (is_text_constant) {
    words_ = spec.vocabulary;
  } else {
    vocabulary_.build(spec.vocabulary);
  }
  return Status();
}

Status Operation::check_constants(const DerivedSpec& spec) {
  const Shape& shape = kShapes[static_cast<size_t>(spec.op)];
  const size_t count = words_.empty() ? shape.constant_count : 0;
  if (spec.constants.size() != count) {
    return invalid(std::string(shape.name) + " takes " + std::to_string(count) + " constants, found " +
                   std::to_string(spec.constants.size()));
  }
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(spec.constants[i])) return invalid(std::string("a constant of ") + shape.name + " is not finite");
    constants_[i] = spec.constants[i] + 0.0;  // no -0.0
  }
  const auto is_integer = [this](size_t i, double low, double high) {
    return constants_[i] >= low && constants_[i] <= high && constants_[i] == std::floor(constants_[i]);
  };
  switch (spec.op) {
    case DerivedOp::kScale:
      if (constants_[0] == 0.0) return invalid("scale divides by its constant, which must not be 0");
      break;
    case DerivedOp::kSpeedKmh:
      if (constants_[0] <= 0.0) return invalid("the shortest time of speed_kmh must be more than 0 seconds");
      break;
    case DerivedOp::kIsNight:
      if (!is_integer(0, 0, 23) || !is_integer(1, 0, 23)) return invalid("the hours of is_night are integers from 0 to 23");
      break;
    case DerivedOp::kVocabulary:
      if (!is_integer(0, -kInteger53, kInteger53)) return invalid("an unknown word's index must be an integer within +-2^53");
      break;
    case DerivedOp::kHashBucket:
      if (!is_integer(0, 1, kInteger53)) return invalid("hash_bucket takes an integer number of buckets from 1 to 2^53");
      break;
    default: break;
  }
  if (spec.op == DerivedOp::kVocabulary || spec.op == DerivedOp::kHashBucket) integer_ = static_cast<int64_t>(constants_[0]);
  return Status();
}

void Operation::set_result(const DerivedSpec& spec, const std::vector<NodeType>& nodes) {
  const auto integer = [this](int64_t minimum, int64_t maximum) { result_ = {Dtype::kInt64, {true, minimum, maximum}}; };
  switch (op_) {
    case DerivedOp::kHour: return integer(0, 23);
    case DerivedOp::kWeekday: return integer(0, 6);
    case DerivedOp::kVocabulary: {
      const auto last = static_cast<int64_t>(spec.vocabulary.size()) - 1;
      return integer(std::min<int64_t>(0, integer_), std::max(last, integer_));
    }
    case DerivedOp::kHashBucket: return integer(0, integer_ - 1);
    case DerivedOp::kIsNight:
    case DerivedOp::kIsWeekend:
    case DerivedOp::kEquals:
    case DerivedOp::kIsMissing: result_.dtype = Dtype::kBool; return;
    case DerivedOp::kConstant: result_.dtype = words_.empty() ? Dtype::kFloat64 : Dtype::kString; return;
    case DerivedOp::kDifference: {
      const NodeType &a = nodes[arguments_[0]], &b = nodes[arguments_[1]];
      result_.dtype = a.dtype == Dtype::kInt64 && b.dtype == Dtype::kInt64 ? Dtype::kInt64 : Dtype::kFloat64;
      IntegerRange& range = result_.range;
      range.is_known = a.range.is_known && b.range.is_known &&
                       !__builtin_sub_overflow(a.range.minimum, b.range.maximum, &range.minimum) &&
                       !__builtin_sub_overflow(a.range.maximum, b.range.minimum, &range.maximum);
      return;
    }
    default: result_.dtype = Dtype::kFloat64; return;
  }
}

Value Operation::apply(const Value* nodes) const noexcept {
  if (op_ == DerivedOp::kIsMissing) return Value::of(nodes[arguments_[0]].is_null());
  for (size_t i = 0; i < argument_count_; ++i) {
    if (nodes[arguments_[i]].is_null()) return Value();
  }
  const Value& a = nodes[arguments_[0]];  // of a constant: node 0, not looked at
  const Value& b = nodes[arguments_[1]];
  switch (op_) {
    case DerivedOp::kScale: return finite(number(a) / constants_[0]);
    case DerivedOp::kRatio: return number(b) == 0.0 ? Value() : finite(number(a) / number(b));
    case DerivedOp::kDifference: return difference(a, b);
    case DerivedOp::kLog1p: return number(a) <= -1.0 ? Value() : finite(std::log1p(number(a)));
    case DerivedOp::kHour: return Value::of(hour_of(a.int64));
    case DerivedOp::kWeekday: return Value::of(weekday_of(a.int64));
    case DerivedOp::kIsNight: return Value::of(is_hour_within(hour_of(a.int64), constants_[0], constants_[1]));
    case DerivedOp::kIsWeekend: return Value::of(weekday_of(a.int64) >= 5);
    case DerivedOp::kDaysSince: {
      int64_t elapsed_us;
      if (__builtin_sub_overflow(a.int64, b.int64, &elapsed_us)) return Value();
      return Value::of(static_cast<double>(elapsed_us) / static_cast<double>(kMicrosPerDay));
    }
    case DerivedOp::kHaversineKm:
    case DerivedOp::kSpeedKmh: return geography(nodes);
    case DerivedOp::kEquals: return Value::of(is_equal(a, b));
    case DerivedOp::kVocabulary: {
      const int index = vocabulary_.find(a.string());
      return Value::of(index < 0 ? integer_ : static_cast<int64_t>(index));
    }
    case DerivedOp::kHashBucket: return Value::of(static_cast<int64_t>(hash_of(a) % static_cast<uint64_t>(integer_)));
    case DerivedOp::kConstant: return words_.empty() ? Value::of(constants_[0]) : Value::of(std::string_view(words_[0]));
    case DerivedOp::kIsMissing: break;
  }
  return Value();
}

Value Operation::difference(const Value& a, const Value& b) const noexcept {
  if (result_.dtype == Dtype::kFloat64) return finite(number(a) - number(b));
  int64_t result;
  return __builtin_sub_overflow(a.int64, b.int64, &result) ? Value() : Value::of(result);
}

Value Operation::geography(const Value* nodes) const noexcept {
  const bool has_times = op_ == DerivedOp::kSpeedKmh;
  const size_t second = has_times ? 3 : 2;
  const double lat1 = number(nodes[arguments_[0]]), lon1 = number(nodes[arguments_[1]]);
  const double lat2 = number(nodes[arguments_[second]]), lon2 = number(nodes[arguments_[second + 1]]);
  if (!is_coordinate(lat1, lon1) || !is_coordinate(lat2, lon2)) return Value();
  const double km = haversine_km(lat1, lon1, lat2, lon2);
  if (!has_times) return finite(km);
  int64_t elapsed_us;
  if (__builtin_sub_overflow(nodes[arguments_[5]].int64, nodes[arguments_[2]].int64, &elapsed_us)) return Value();
  const double seconds = std::max(std::fabs(static_cast<double>(elapsed_us)) / 1e6, constants_[0]);
  return finite(km * 3600.0 / seconds);
}

}  // namespace assay
