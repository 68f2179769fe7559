#include "core/features/checks.h"

#include <charconv>
#include <cmath>
#include <string>

namespace assay {
namespace {

constexpr int64_t kSecondsMin = -62'135'596'800;  // 0001-01-01T00:00:00Z
constexpr int64_t kSecondsMax = 253'402'300'799;  // 9999-12-31T23:59:59Z
constexpr int32_t kNanosPerSecond = 1'000'000'000;
constexpr int64_t kExactIntegerMax = int64_t{1} << 53;  // beyond it float64 has gaps: some integers would become others

// A bound of the feature set, which is configuration and may be shown (the value itself may not).
std::string bound_text(const Value& bound) {
  char text[32];
  const auto result = bound.dtype == Dtype::kInt64 ? std::to_chars(text, text + sizeof text, bound.int64)
                                                   : std::to_chars(text, text + sizeof text, bound.float64);
  return std::string(text, result.ptr);
}

std::string range_text(const RequestFeatureSpec& feature) {
  if (feature.maximum.is_null()) return "expected at least " + bound_text(feature.minimum);
  if (feature.minimum.is_null()) return "expected at most " + bound_text(feature.maximum);
  return "expected " + bound_text(feature.minimum) + " to " + bound_text(feature.maximum);
}

template <typename T>
bool is_within(T value, const Value& minimum, const Value& maximum, T Value::* member) noexcept {
  return (minimum.is_null() || value >= minimum.*member) && (maximum.is_null() || value <= maximum.*member);
}

std::string length_text(size_t bytes, size_t bytes_max) {
  return std::to_string(bytes) + " bytes; expected at most " + std::to_string(bytes_max);
}

void check_float64(const RequestFeatureSpec& feature, Value& value, Violations& violations) {
  if (!std::isfinite(value.float64)) {
    return violations.add(Code::kNotFinite, feature_path(feature.name),
                          std::string("is ") + (std::isnan(value.float64) ? "NaN" : "infinite") +
                              "; expected a finite float64. Leave an unknown value out");
  }
  value.float64 += 0.0;  // -0.0 becomes +0.0: equal numbers must have equal bits
  if (!is_within(value.float64, feature.minimum, feature.maximum, &Value::float64)) {
    violations.add(Code::kOutOfRange, feature_path(feature.name), "is outside the declared range; " + range_text(feature));
  }
}

// A value of another type than declared. An int64 is taken where the feature accepts it.
bool take_other_type(const RequestFeatureSpec& feature, Value& value, Violations& violations) {
  if (!feature.accept_int || value.dtype != Dtype::kInt64) {
    violations.add(Code::kWrongType, feature_path(feature.name),
                   std::string("is ") + dtype_name(value.dtype) + "; expected " + dtype_name(feature.dtype) +
                       ". Send the declared type: nothing is converted");
    return false;
  }
  if (value.int64 < -kExactIntegerMax || value.int64 > kExactIntegerMax) {
    violations.add(Code::kOutOfRange, feature_path(feature.name),
                   "is an integer past 2^53, where float64 has gaps; expected an integer within +-2^53, or a float64");
    return false;
  }
  value = Value::of(static_cast<double>(value.int64));
  return true;
}

// Does a window view of an entity that the event names store this feature?
bool is_stored(const PlanSpec& spec, const Transaction& transaction, size_t feature) noexcept {
  for (const ViewSpec& view : spec.views) {
    if (view.kind != ViewKind::kWindow || transaction.entities[view.entity_index].empty()) continue;
    for (const ColumnSpec& column : view.columns) {
      if (column.source == ColumnSource::kRequestFeature && column.source_index == feature) return true;
    }
  }
  return false;
}

void check_id(const Transaction& transaction, Violations& violations) {
  if (transaction.id.empty()) {
    violations.add(Code::kMissingField, "transaction_id",
                   "is missing; expected 1 to " + std::to_string(limits::kIdBytesMax) + " bytes");
  } else if (transaction.id.size() > limits::kIdBytesMax) {
    violations.add(Code::kTooLong, "transaction_id", "has " + length_text(transaction.id.size(), limits::kIdBytesMax));
  }
}

void check_entities(const PlanSpec& spec, TransactionUse use, const Transaction& transaction, Violations& violations) {
  bool has_entity = false;
  for (size_t i = 0; i < spec.entities.size(); ++i) {
    const std::string_view id = transaction.entities[i];
    const bool is_sent = id.data() != nullptr;  // an id that was sent empty is a mistake, also where none is required
    has_entity |= is_sent;
    if (id.size() > limits::kIdBytesMax) {
      violations.add(Code::kTooLong, entity_path(spec.entities[i]), "has " + length_text(id.size(), limits::kIdBytesMax));
    } else if (id.empty() && (is_sent || use == TransactionUse::kScore)) {
      violations.add(Code::kMissingEntity, entity_path(spec.entities[i]),
                     std::string(is_sent ? "is empty" : "is missing") + "; expected an id of 1 to " +
                         std::to_string(limits::kIdBytesMax) + " bytes");
    }
  }
  if (use == TransactionUse::kEvent && !has_entity) {
    violations.add(Code::kMissingEntity, "entities", "names no entity of the feature set; an event needs at least one");
  }
}

// Of a label alone: whether it can be put somewhere. Else it would be taken for one that is there already, and lost. A feature set
// without labels wants none: that is no fault of who sends them.
void check_label_entities(const PlanSpec& spec, const Transaction& label, Violations& violations) {
  bool is_wanted = false, has_entity = false;
  for (const ViewSpec& view : spec.views) {
    if (!view.uses_labels) continue;
    if (!label.entities[view.entity_index].empty()) return;
    is_wanted = true;
  }
  for (size_t i = 0; i < spec.entities.size(); ++i) has_entity |= !label.entities[i].empty();
  if (!is_wanted || !has_entity) return;
  violations.add(Code::kMissingEntity, "entities", "names no entity of a view that uses labels; the label would count nowhere");
}

// A label says what became of an event, and nothing else of it. Whether it says since when: check_label_time().
void check_label(const PlanSpec& spec, const Transaction& transaction, Violations& violations) {
  if ((transaction.is_label || transaction.label_time_us != Transaction::kNoTime) && transaction.is_fraud < 0) {
    violations.add(Code::kMissingField, "is_fraud", "is missing; a label says true or false");
  }
  if (transaction.label_time_us != Transaction::kNoTime && transaction.label_time_us < transaction.event_time_us) {
    violations.add(Code::kBadTimestamp, "label_time", "is before event_time; nobody knew the label then");
  }
  if (transaction.is_label) check_label_entities(spec, transaction, violations);
}

void check_features(const PlanSpec& spec, TransactionUse use, const Transaction& transaction, Violations& violations) {
  for (size_t i = 0; i < spec.request_features.size(); ++i) {
    const RequestFeatureSpec& feature = spec.request_features[i];
    if (!feature.required || !transaction.features[i].is_null()) continue;
    if (use == TransactionUse::kEvent && !is_stored(spec, transaction, i)) continue;
    violations.add(Code::kMissingFeature, feature_path(feature.name),
                   std::string("is missing; expected ") + dtype_name(feature.dtype));
  }
}

std::string member_path(const char* map, std::string_view name) { return map + ("[\"" + printable(name)) + "\"]"; }

}  // namespace

bool check_value(const RequestFeatureSpec& feature, Value& value, Violations& violations) {
  const size_t before = violations.count();
  if (__builtin_expect(value.dtype != feature.dtype, 0) && !take_other_type(feature, value, violations)) return false;
  switch (value.dtype) {
    case Dtype::kFloat64: check_float64(feature, value, violations); break;
    case Dtype::kInt64:
      if (!is_within(value.int64, feature.minimum, feature.maximum, &Value::int64)) {
        violations.add(Code::kOutOfRange, feature_path(feature.name), "is outside the declared range; " + range_text(feature));
      }
      break;
    case Dtype::kString:
      if (value.text_bytes > limits::kStringValueBytesMax) {
        violations.add(Code::kTooLong, feature_path(feature.name),
                       "has " + length_text(value.text_bytes, limits::kStringValueBytesMax));
      }
      break;
    case Dtype::kBool:
    case Dtype::kNull: break;
  }
  return violations.count() == before;
}

bool check_feature(const FeaturePlan& plan, size_t feature, Transaction& transaction, Violations& violations) {
  const RequestFeatureSpec& spec = plan.spec().request_features[feature];
  Value& value = transaction.features[feature];
  const bool is_other_type = value.dtype != spec.dtype;
  if (!check_value(spec, value, violations)) return false;
  if (__builtin_expect(is_other_type, 0)) transaction.accepted_ints.set(feature);
  return true;
}

void check_required(const FeaturePlan& plan, TransactionUse use, const Transaction& transaction, Violations& violations) {
  check_id(transaction, violations);
  check_entities(plan.spec(), use, transaction, violations);
  check_label(plan.spec(), transaction, violations);
  if (!transaction.is_label) check_features(plan.spec(), use, transaction, violations);
}

void check_label_time(const Transaction& transaction, bool has_label_time, Violations& violations) {
  if (!transaction.is_label || has_label_time) return;
  violations.add(Code::kMissingField, "label_time", "is missing; expected when the label became known");
}

bool timestamp_us(int64_t seconds, int32_t nanos, int64_t* time_us) noexcept {
  if (seconds < kSecondsMin || seconds > kSecondsMax || nanos < 0 || nanos >= kNanosPerSecond) return false;
  *time_us = seconds * 1'000'000 + nanos / 1000;  // nanos count forward from a floored second, so this floors before 1970 too
  return true;
}

std::string feature_path(std::string_view name) { return member_path("features", name); }
std::string entity_path(std::string_view name) { return member_path("entities", name); }

}  // namespace assay
