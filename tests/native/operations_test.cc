// Every operation against a straightforward reference, its dtype rules and its nulls.
#include "core/features/operations.h"

#include <cmath>
#include <ctime>
#include <limits>
#include <optional>

#include "check.h"

using namespace assay;

namespace {

NodeType type(Dtype dtype) { return {dtype, {}}; }

// Compiles `spec` over `types`; the arguments are all of them in order.
Status try_compile(DerivedOp op, const std::vector<NodeType>& types, std::vector<double> constants,
                   std::vector<std::string> words, Operation* out) {
  DerivedSpec spec{op, {}, std::move(constants), std::move(words)};
  for (size_t i = 0; i < types.size(); ++i) spec.arguments.push_back(static_cast<uint16_t>(i));
  return Operation::compile(spec, types, out);
}

Operation compiled(DerivedOp op, const std::vector<NodeType>& types, std::vector<double> constants = {},
                   std::vector<std::string> words = {}) {
  Operation operation;
  const Status status = try_compile(op, types, std::move(constants), std::move(words), &operation);
  CHECK_EQ(status.detail, "");
  return operation;
}

bool is_refused(DerivedOp op, const std::vector<NodeType>& types, std::vector<double> constants = {},
                std::vector<std::string> words = {}) {
  Operation operation;
  const Status status = try_compile(op, types, std::move(constants), std::move(words), &operation);
  return status.code == Code::kPlanInvalid && !status.detail.empty();
}

const NodeType F = type(Dtype::kFloat64);
const NodeType I = type(Dtype::kInt64);
const NodeType B = type(Dtype::kBool);
const NodeType S = type(Dtype::kString);

Value apply(const Operation& operation, std::vector<Value> values) {
  values.resize(std::max<size_t>(values.size(), 1));
  return operation.apply(values.data());
}

std::optional<double> number(const Value& value) {
  return value.dtype == Dtype::kFloat64 ? std::optional<double>(value.float64) : std::nullopt;
}
std::optional<int64_t> integer(const Value& value) {
  return value.dtype == Dtype::kInt64 ? std::optional<int64_t>(value.int64) : std::nullopt;
}
std::optional<bool> truth(const Value& value) {
  return value.dtype == Dtype::kBool ? std::optional<bool>(value.boolean) : std::nullopt;
}

// A time between the years 1 and 9999.
int64_t random_time_us(std::mt19937_64& random) {
  return std::uniform_int_distribution<int64_t>(limits::kTimeUsMin, limits::kTimeUsMax)(random);
}

std::tm utc(int64_t time_us) {
  const time_t seconds = static_cast<time_t>(time_us / 1'000'000 - (time_us % 1'000'000 < 0 ? 1 : 0));
  std::tm result{};
  gmtime_r(&seconds, &result);
  return result;
}

// Great circle by the dot product of unit vectors: another formula than the core's, good where the arc is not tiny.
double reference_km(double lat1, double lon1, double lat2, double lon2) {
  const long double d = std::acos(-1.0L) / 180.0L;
  const long double a[] = {std::cos(lat1 * d) * std::cos(lon1 * d), std::cos(lat1 * d) * std::sin(lon1 * d), std::sin(lat1 * d)};
  const long double b[] = {std::cos(lat2 * d) * std::cos(lon2 * d), std::cos(lat2 * d) * std::sin(lon2 * d), std::sin(lat2 * d)};
  const long double c[] = {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
  const long double cross = std::sqrt(c[0] * c[0] + c[1] * c[1] + c[2] * c[2]);
  return static_cast<double>(6371.0088L * std::atan2(cross, a[0] * b[0] + a[1] * b[1] + a[2] * b[2]));
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST(scale_divides) {
  const Operation scale = compiled(DerivedOp::kScale, {I}, {100.0});
  CHECK(scale.result().dtype == Dtype::kFloat64);
  std::mt19937_64 random = check::random_engine();
  for (int i = 0; i < check::scaled(10'000); ++i) {
    const int64_t cents = std::uniform_int_distribution<int64_t>(-1'000'000'000'000, 1'000'000'000'000)(random);
    CHECK_EQ(*number(apply(scale, {Value::of(cents)})), static_cast<double>(cents) / 100.0);
  }
  CHECK_EQ(*number(apply(scale, {Value::of(int64_t{5716})})), 57.16);
  CHECK(apply(compiled(DerivedOp::kScale, {F}, {0.1}), {Value::of(1e308)}).is_null());  // overflows
  CHECK(apply(scale, {Value()}).is_null());
}

TEST(ratio_of_zero_is_null) {
  const Operation ratio = compiled(DerivedOp::kRatio, {F, I});
  CHECK_EQ(*number(apply(ratio, {Value::of(1.0), Value::of(int64_t{4})})), 0.25);
  CHECK(apply(ratio, {Value::of(1.0), Value::of(int64_t{0})}).is_null());
  CHECK(apply(compiled(DerivedOp::kRatio, {F, F}), {Value::of(0.0), Value::of(0.0)}).is_null());
  CHECK(apply(compiled(DerivedOp::kRatio, {F, F}), {Value::of(1e300), Value::of(1e-300)}).is_null());
  CHECK(apply(ratio, {Value(), Value::of(int64_t{4})}).is_null());
  CHECK(apply(ratio, {Value::of(1.0), Value()}).is_null());
}

TEST(difference_of_integers_is_checked) {
  const Operation difference = compiled(DerivedOp::kDifference, {I, I});
  CHECK(difference.result().dtype == Dtype::kInt64);
  CHECK_EQ(*integer(apply(difference, {Value::of(int64_t{3}), Value::of(int64_t{5})})), -2);
  CHECK(apply(difference, {Value::of(INT64_MIN), Value::of(int64_t{1})}).is_null());
  CHECK(apply(difference, {Value::of(INT64_MAX), Value::of(int64_t{-1})}).is_null());
  const Operation mixed = compiled(DerivedOp::kDifference, {F, I});
  CHECK(mixed.result().dtype == Dtype::kFloat64);
  CHECK_EQ(*number(apply(mixed, {Value::of(3.5), Value::of(int64_t{5})})), -1.5);
  CHECK(apply(compiled(DerivedOp::kDifference, {F, F}), {Value::of(1.7e308), Value::of(-1.7e308)}).is_null());
}

TEST(log1p_needs_more_than_minus_one) {
  const Operation log1p = compiled(DerivedOp::kLog1p, {F});
  CHECK_EQ(*number(apply(log1p, {Value::of(0.0)})), 0.0);
  CHECK(std::fabs(*number(apply(log1p, {Value::of(std::exp(1.0) - 1.0)})) - 1.0) < 1e-15);
  CHECK_EQ(*number(apply(log1p, {Value::of(1e-17)})), 1e-17);  // log(1 + x) would be 0
  CHECK(apply(log1p, {Value::of(-1.0)}).is_null());
  CHECK(apply(log1p, {Value::of(-2.0)}).is_null());
  CHECK(number(apply(log1p, {Value::of(std::nextafter(-1.0, 0.0))})).has_value());
}

TEST(calendar_agrees_with_gmtime) {
  const Operation hour = compiled(DerivedOp::kHour, {I});
  const Operation weekday = compiled(DerivedOp::kWeekday, {I});
  const Operation is_weekend = compiled(DerivedOp::kIsWeekend, {I});
  std::mt19937_64 random = check::random_engine();
  for (int i = 0; i < check::scaled(20'000); ++i) {
    const int64_t time_us = i == 0 ? -1 : i == 1 ? 0 : random_time_us(random);
    const std::tm expected = utc(time_us);
    const int monday_based = (expected.tm_wday + 6) % 7;
    CHECK_EQ(*integer(apply(hour, {Value::of(time_us)})), expected.tm_hour);
    CHECK_EQ(*integer(apply(weekday, {Value::of(time_us)})), monday_based);
    CHECK_EQ(*truth(apply(is_weekend, {Value::of(time_us)})), monday_based >= 5);
  }
}

TEST(night_includes_both_hours) {
  const int64_t day_us = 20'000 * kMicrosPerDay;
  const Operation night = compiled(DerivedOp::kIsNight, {I}, {0, 6});
  const Operation over_midnight = compiled(DerivedOp::kIsNight, {I}, {22, 5});
  for (int64_t hour = 0; hour < 24; ++hour) {
    for (const int64_t in_hour : {int64_t{0}, kMicrosPerHour - 1}) {
      const Value time = Value::of(day_us + hour * kMicrosPerHour + in_hour);
      CHECK_EQ(*truth(apply(night, {time})), hour <= 6);
      CHECK_EQ(*truth(apply(over_midnight, {time})), hour >= 22 || hour <= 5);
    }
  }
  CHECK(is_refused(DerivedOp::kIsNight, {I}, {0, 24}));
  CHECK(is_refused(DerivedOp::kIsNight, {I}, {0.5, 6}));
  CHECK(is_refused(DerivedOp::kIsNight, {I}, {6}));
}

TEST(days_since_is_signed) {
  const Operation days = compiled(DerivedOp::kDaysSince, {I, I});
  CHECK_EQ(*number(apply(days, {Value::of(3 * kMicrosPerDay / 2), Value::of(int64_t{0})})), 1.5);
  CHECK_EQ(*number(apply(days, {Value::of(int64_t{0}), Value::of(kMicrosPerDay)})), -1.0);
  CHECK(apply(days, {Value::of(INT64_MAX), Value::of(int64_t{-1})}).is_null());
  CHECK(apply(days, {Value::of(int64_t{0}), Value()}).is_null());
}

TEST(haversine_agrees_with_vectors) {
  const Operation distance = compiled(DerivedOp::kHaversineKm, {F, F, F, F});
  std::mt19937_64 random = check::random_engine();
  std::uniform_real_distribution<double> lat(-90, 90), lon(-180, 180);
  for (int i = 0; i < check::scaled(10'000); ++i) {
    const double a = lat(random), b = lon(random), c = lat(random), d = lon(random);
    const double km = *number(apply(distance, {Value::of(a), Value::of(b), Value::of(c), Value::of(d)}));
    const double expected = reference_km(a, b, c, d);
    // asin is steep at the antipode: half the digits, 1e-8 of a radian
    CHECK(std::fabs(km - expected) <= (expected > 20'000 ? 1e-3 : 1e-7));
  }
  const auto of = [&](double a, double b, double c, double d) {
    return apply(distance, {Value::of(a), Value::of(b), Value::of(c), Value::of(d)});
  };
  CHECK_EQ(*number(of(50.8, 4.35, 50.8, 4.35)), 0.0);
  CHECK(std::fabs(*number(of(0, 0, 0, 180)) - std::acos(-1.0) * 6371.0088) < 1e-9);
  CHECK(std::fabs(*number(of(50.8503, 4.3517, 48.8566, 2.3522)) - 263.9) < 0.5);  // Brussels to Paris
  CHECK(std::fabs(*number(of(0, 179.5, 0, -179.5)) - 111.195) < 0.01);            // the short way over the date line
  CHECK(of(90.5, 0, 0, 0).is_null());
  CHECK(of(0, 180.5, 0, 0).is_null());
  CHECK(of(0, 0, -90.5, 0).is_null());
  CHECK(of(0, 0, 0, -181).is_null());
  CHECK_EQ(*number(apply(compiled(DerivedOp::kHaversineKm, {I, I, I, I}),
                         {Value::of(int64_t{0}), Value::of(int64_t{0}), Value::of(int64_t{0}), Value::of(int64_t{1})})),
           *number(of(0, 0, 0, 1)));
}

TEST(speed_has_a_shortest_time) {
  const Operation speed = compiled(DerivedOp::kSpeedKmh, {F, F, I, F, F, I}, {60.0});
  const auto of = [&](int64_t from_us, int64_t to_us) {
    return number(
        apply(speed, {Value::of(0.0), Value::of(0.0), Value::of(from_us), Value::of(0.0), Value::of(1.0), Value::of(to_us)}));
  };
  const double km = haversine_km(0, 0, 0, 1);
  CHECK_EQ(*of(0, kMicrosPerHour), km * 3600.0 / 3600.0);
  CHECK_EQ(*of(kMicrosPerHour, 0), *of(0, kMicrosPerHour));
  CHECK_EQ(*of(0, 0), km * 3600.0 / 60.0);
  CHECK_EQ(*of(0, 59 * kMicrosPerSecond), *of(0, 0));
  CHECK(*of(0, 61 * kMicrosPerSecond) < *of(0, 0));
  CHECK(!of(INT64_MIN, 1).has_value());
  CHECK(is_refused(DerivedOp::kSpeedKmh, {F, F, I, F, F, I}, {0.0}));
  CHECK(is_refused(DerivedOp::kSpeedKmh, {F, F, F, F, F, I}, {1.0}));
}

TEST(equals_wants_one_dtype) {
  CHECK_EQ(
      *truth(apply(compiled(DerivedOp::kEquals, {S, S}), {Value::of(std::string_view("eu")), Value::of(std::string_view("eu"))})),
      true);
  CHECK_EQ(*truth(apply(compiled(DerivedOp::kEquals, {S, S}),
                        {Value::of(std::string_view("eu")), Value::of(std::string_view("eur"))})),
           false);
  CHECK_EQ(*truth(apply(compiled(DerivedOp::kEquals, {I, I}), {Value::of(int64_t{7}), Value::of(int64_t{7})})), true);
  CHECK_EQ(*truth(apply(compiled(DerivedOp::kEquals, {F, F}), {Value::of(-0.0), Value::of(0.0)})), true);
  CHECK_EQ(*truth(apply(compiled(DerivedOp::kEquals, {B, B}), {Value::of(true), Value::of(false)})), false);
  CHECK(apply(compiled(DerivedOp::kEquals, {B, B}), {Value::of(true), Value()}).is_null());
  CHECK(is_refused(DerivedOp::kEquals, {I, F}));
  CHECK(is_refused(DerivedOp::kEquals, {S, B}));
}

TEST(vocabulary_and_constant) {
  const Operation channel = compiled(DerivedOp::kVocabulary, {S}, {-1}, {"web", "pos", ""});
  CHECK_EQ(*integer(apply(channel, {Value::of(std::string_view("web"))})), 0);
  CHECK_EQ(*integer(apply(channel, {Value::of(std::string_view("pos"))})), 1);
  CHECK_EQ(*integer(apply(channel, {Value::of(std::string_view(""))})), 2);
  CHECK_EQ(*integer(apply(channel, {Value::of(std::string_view("WEB"))})), -1);
  CHECK(apply(channel, {Value()}).is_null());
  CHECK_EQ(channel.result().range.minimum, -1);
  CHECK_EQ(channel.result().range.maximum, 2);
  CHECK(is_refused(DerivedOp::kVocabulary, {S}, {0}, {}));
  CHECK(is_refused(DerivedOp::kVocabulary, {S}, {0}, {"a", "a"}));
  CHECK(is_refused(DerivedOp::kVocabulary, {S}, {0.5}, {"a"}));
  CHECK(is_refused(DerivedOp::kVocabulary, {I}, {0}, {"a"}));
  CHECK(is_refused(DerivedOp::kVocabulary, {S}, {0}, {std::string(257, 'a')}));
  CHECK(is_refused(DerivedOp::kHour, {I}, {}, {"a"}));
  CHECK_EQ(*number(apply(compiled(DerivedOp::kConstant, {}, {2.5}), {})), 2.5);
  CHECK(apply(compiled(DerivedOp::kConstant, {}, {}, {"eu"}), {}).string() == "eu");
  CHECK(apply(compiled(DerivedOp::kConstant, {}, {}, {""}), {}).dtype == Dtype::kString);
  CHECK(is_refused(DerivedOp::kConstant, {}, {}, {}));
  CHECK(is_refused(DerivedOp::kConstant, {}, {1.0}, {"eu"}));
  CHECK(is_refused(DerivedOp::kConstant, {}, {}, {"eu", "us"}));
  CHECK(is_refused(DerivedOp::kConstant, {}, {kInfinity}));
}

TEST(large_vocabulary_finds_all) {
  std::vector<std::string> words;
  for (int i = 0; i < 100'000; ++i) words.push_back("word_" + std::to_string(i * 7));
  const Operation operation = compiled(DerivedOp::kVocabulary, {S}, {200'000}, words);
  for (size_t i = 0; i < words.size(); ++i) {
    const Value value = Value::of(std::string_view(words[i]));
    CHECK_EQ(operation.apply(&value).int64, static_cast<int64_t>(i));
  }
  words.push_back("one too many");
  CHECK(is_refused(DerivedOp::kVocabulary, {S}, {0}, words));
}

TEST(hash_bucket_is_xxh64) {
  const Operation text = compiled(DerivedOp::kHashBucket, {S}, {1000});
  CHECK_EQ(*integer(apply(text, {Value::of(std::string_view("shop"))})), static_cast<int64_t>(xxh64("shop") % 1000));
  const Operation number_bucket = compiled(DerivedOp::kHashBucket, {I}, {7});
  const char bytes[] = "\x02\x01\0\0\0\0\0\0";
  CHECK_EQ(*integer(apply(number_bucket, {Value::of(int64_t{0x0102})})), static_cast<int64_t>(xxh64({bytes, 8}) % 7));
  CHECK_EQ(number_bucket.result().range.maximum, 6);
  CHECK(is_refused(DerivedOp::kHashBucket, {S}, {0}));
  CHECK(is_refused(DerivedOp::kHashBucket, {S}, {1.5}));
  CHECK(is_refused(DerivedOp::kHashBucket, {F}, {10}));
}

TEST(is_missing_is_never_null) {
  for (const NodeType& any : {F, I, B, S}) {
    const Operation is_missing = compiled(DerivedOp::kIsMissing, {any});
    CHECK_EQ(*truth(apply(is_missing, {Value()})), true);
    CHECK_EQ(*truth(apply(is_missing, {Value::of(int64_t{0})})), false);
  }
}

TEST(a_null_argument_is_a_null_result) {
  const struct {
    DerivedOp op;
    std::vector<NodeType> types;
    std::vector<double> constants;
  } cases[] = {
      {DerivedOp::kScale, {F}, {2}},
      {DerivedOp::kRatio, {F, F}, {}},
      {DerivedOp::kDifference, {I, I}, {}},
      {DerivedOp::kLog1p, {F}, {}},
      {DerivedOp::kHour, {I}, {}},
      {DerivedOp::kWeekday, {I}, {}},
      {DerivedOp::kIsNight, {I}, {0, 6}},
      {DerivedOp::kIsWeekend, {I}, {}},
      {DerivedOp::kDaysSince, {I, I}, {}},
      {DerivedOp::kHaversineKm, {F, F, F, F}, {}},
      {DerivedOp::kSpeedKmh, {F, F, I, F, F, I}, {1}},
      {DerivedOp::kEquals, {I, I}, {}},
      {DerivedOp::kHashBucket, {I}, {10}},
  };
  for (const auto& one : cases) {
    const Operation operation = compiled(one.op, one.types, one.constants);
    std::vector<Value> values;
    for (const NodeType& argument : one.types) {
      values.push_back(argument.dtype == Dtype::kInt64 ? Value::of(int64_t{1}) : Value::of(1.0));
    }
    CHECK(!apply(operation, values).is_null());
    for (size_t i = 0; i < values.size(); ++i) {
      std::vector<Value> with_null = values;
      with_null[i] = Value();
      CHECK(apply(operation, with_null).is_null());
    }
    std::vector<NodeType> too_many = one.types;
    too_many.push_back(I);
    CHECK(is_refused(one.op, too_many, one.constants));
    CHECK(is_refused(one.op, std::vector<NodeType>(one.types.size(), S), one.constants) || one.op == DerivedOp::kEquals ||
          one.op == DerivedOp::kHashBucket);
    std::vector<double> more_constants = one.constants;
    more_constants.push_back(1.0);
    CHECK(is_refused(one.op, one.types, more_constants));
  }
  CHECK(is_refused(static_cast<DerivedOp>(0), {}));
  CHECK(is_refused(static_cast<DerivedOp>(17), {}));
}

TEST(ranges_of_differences) {
  const NodeType count{Dtype::kInt64, {true, 0, 10}}, open{Dtype::kInt64, {}};
  const Operation known = compiled(DerivedOp::kDifference, {count, count});
  CHECK(known.result().range.is_known);
  CHECK_EQ(known.result().range.minimum, -10);
  CHECK_EQ(known.result().range.maximum, 10);
  CHECK(!compiled(DerivedOp::kDifference, {count, open}).result().range.is_known);
  const NodeType wide{Dtype::kInt64, {true, INT64_MIN, INT64_MAX}};
  CHECK(!compiled(DerivedOp::kDifference, {wide, count}).result().range.is_known);
}

TEST(floor_division) {
  for (const int64_t value :
       {INT64_MIN + 6, int64_t{-8}, int64_t{-7}, int64_t{-1}, int64_t{0}, int64_t{6}, int64_t{7}, INT64_MAX}) {
    const auto expected = static_cast<int64_t>(std::floor(static_cast<long double>(value) / 7));
    CHECK_EQ(floor_divide(value, 7), expected);
    CHECK_EQ(floor_modulo(value, 7), value - expected * 7);
  }
}

ASSAY_TEST_MAIN
