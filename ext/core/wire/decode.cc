// decode_transaction(): the spans of a scan, read with one plan's names and types.
#include <algorithm>
#include <array>
#include <bitset>
#include <limits>

#include "core/features/checks.h"
#include "core/wire/messages.h"
#include "core/wire/score_request.h"

namespace assay {
namespace {

constexpr int64_t kDurationSecondsMax = 315'576'000'000;  // google.protobuf.Duration: about 10,000 years
constexpr int32_t kNanosMax = 999'999'999;
constexpr int64_t kNanosPerSecond = 1'000'000'000;

// The feature was sent last without a value.
using UnsetFeatures = std::bitset<limits::kRequestFeaturesMax>;

// The unknown names of one map. One that was sent twice is one violation: protobuf would keep one entry of it. Text is made only
// for those that are listed: a message of a million unknown names must not cost a million strings.
class UnknownNames {
 public:
  template <typename Path>
  void add(Code code, std::string_view name, Path&& path, const char* description, Violations& violations) {
    const auto end = names_.begin() + count_;
    if (std::find(names_.begin(), end, name) != end) return;
    if (count_ == names_.size()) return violations.add(code, {}, {});  // the list is full: this is counted
    names_[count_++] = name;
    violations.add(code, path(name), description);
  }

 private:
  std::array<std::string_view, limits::kViolationsMax> names_;
  size_t count_ = 0;
};

// The last entry of a name wins, so an entry is only stored here and checked once all are in.
void take_entities(const TransactionScan& scan, const FeaturePlan& plan, Transaction& out, Violations& violations) {
  WireFault fault;
  UnknownNames unknown;
  for (uint32_t i = 0; i < scan.entity_count; ++i) {
    std::string_view name, id;
    ASSAY_ASSERT(read_entity_entry<TrustedText>(WireReader(scan.entities[i], fault), &name, &id));
    const int index = plan.find_entity(name);
    if (__builtin_expect(index < 0, 0)) {
      unknown.add(Code::kUnknownEntity, name, entity_path, "is not an entity of the feature set", violations);
    } else {
      out.entities[static_cast<size_t>(index)] = id;
    }
  }
}

void take_features(const TransactionScan& scan, const FeaturePlan& plan, Transaction& out, UnsetFeatures& unset,
                   Violations& violations) {
  WireFault fault;
  UnknownNames unknown;
  for (uint32_t i = 0; i < scan.feature_count; ++i) {
    std::string_view name;
    Value value;
    ASSAY_ASSERT(read_feature_entry<TrustedText>(WireReader(scan.features[i], fault), &name, &value));
    const int found = plan.find_feature(name);
    if (__builtin_expect(found < 0, 0)) {
      unknown.add(Code::kUnknownFeature, name, feature_path, "is not a request feature of the feature set", violations);
      continue;
    }
    const size_t index = static_cast<size_t>(found);
    unset[index] = value.is_null();
    // Not null even when unset: it was sent, and must not be reported as missing besides.
    out.features[index] = value.is_null() ? Value::of(false) : value;
  }
}

void check_features(const FeaturePlan& plan, const UnsetFeatures& unset, Transaction& out, Violations& violations) {
  const auto& specs = plan.spec().request_features;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (__builtin_expect(unset[i], 0)) {
      violations.add(Code::kValueUnset, feature_path(specs[i].name),
                     std::string("has no value; expected ") + dtype_name(specs[i].dtype) + ". Set it, or leave the name out");
    } else if (!out.features[i].is_null()) {
      check_feature(plan, i, out, violations);
    }
  }
}

void take_event_time(const TimestampField& field, Transaction& out, Violations& violations) {
  if (__builtin_expect(!field.is_set, 0)) {
    violations.add(Code::kMissingField, "event_time", "is missing; expected the time of the transaction, UTC");
  } else if (__builtin_expect(!timestamp_us(field.seconds, field.nanos, &out.event_time_us), 0)) {
    violations.add(Code::kBadTimestamp, "event_time",
                   "is out of range; expected 0001-01-01 to 9999-12-31 UTC, nanos 0 to 999,999,999");
  }
}

void take_label(const TransactionScan& scan, Transaction& out, Violations& violations) {
  out.is_fraud = scan.is_fraud;
  out.is_label = scan.is_label;
  const TimestampField& time = scan.label_time;
  check_label_time(out, time.is_set, violations);
  if (time.is_set && !timestamp_us(time.seconds, time.nanos, &out.label_time_us)) {
    violations.add(Code::kBadTimestamp, "label_time",
                   "is out of range; expected 0001-01-01 to 9999-12-31 UTC, nanos 0 to 999,999,999");
  }
}

}  // namespace

bool decode_transaction(const TransactionScan& scan, const FeaturePlan& plan, TransactionUse use, Transaction& out,
                        Violations& violations) {
  const size_t before = violations.count();
  UnsetFeatures unset;
  out.clear(plan.spec().entities.size(), plan.spec().request_features.size());
  out.id = scan.transaction_id;
  take_label(scan, out, violations);
  take_event_time(scan.event_time, out, violations);
  take_entities(scan, plan, out, violations);
  take_features(scan, plan, out, unset, violations);
  check_features(plan, unset, out, violations);
  check_required(plan, use, out, violations);
  return violations.count() == before;
}

bool positive_duration_ns(const DurationField& duration, int64_t* ns) noexcept {
  if (duration.seconds < 0 || duration.seconds > kDurationSecondsMax) return false;
  if (duration.nanos < 0 || duration.nanos > kNanosMax) return false;  // negative nanos are of mixed sign or not positive
  if (duration.seconds == 0 && duration.nanos == 0) return false;
  constexpr int64_t kNsMax = std::numeric_limits<int64_t>::max() / 2;  // so that a monotonic time can be added
  *ns = duration.seconds >= kNsMax / kNanosPerSecond ? kNsMax : duration.seconds * kNanosPerSecond + duration.nanos;
  return true;
}

std::string_view entity_id(const TransactionScan& scan, std::string_view name) noexcept {
  WireFault fault;
  std::string_view id;
  for (uint32_t i = 0; i < scan.entity_count; ++i) {
    std::string_view key, value;
    // Scanned once already. Of a name that stands twice the last one holds, as in a map.
    if (read_entity_entry<TrustedText>(WireReader(scan.entities[i], fault), &key, &value) && key == name) id = value;
  }
  return id;
}

}  // namespace assay
