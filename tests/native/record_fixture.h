// Views, random events and the slow reference fold that the record and store tests share.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "core/base/hash.h"
#include "core/features/attribute_record.h"
#include "core/features/embedded_store.h"
#include "core/features/fold.h"
#include "core/features/record.h"
#include "core/features/record_layout.h"
#include "core/features/tiles.h"
#include "core/features/view.h"

namespace assay::fixture {

inline constexpr int64_t kSecond = 1'000'000, kMinute = 60 * kSecond, kHour = 60 * kMinute, kDay = 24 * kHour;

inline std::array<uint8_t, 32> hash_of(const std::string& name) {
  std::array<uint8_t, 32> hash{};
  const uint64_t word = xxh64(name);
  std::memcpy(hash.data(), &word, sizeof word);
  std::memcpy(hash.data() + 24, &word, sizeof word);
  return hash;
}

inline ViewSchema compiled(ViewSpec spec) {
  ViewSchema schema;
  const Status status = ViewSchema::compile(std::move(spec), &schema);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return schema;
}

// Every operation over int64, float64, bool and string columns; the current transaction counts.
inline ViewSpec customer_spec(const std::string& name = "customer") {
  ViewSpec spec;
  spec.name = name;
  spec.view_hash = hash_of(name);
  spec.includes_current = true;
  spec.lateness_us = kHour;
  spec.columns = {{ColumnSource::kRequestFeature, 0, Dtype::kInt64},
                  {ColumnSource::kRequestFeature, 1, Dtype::kFloat64},
                  {ColumnSource::kRequestFeature, 2, Dtype::kBool},
                  {ColumnSource::kRequestFeature, 3, Dtype::kString}};
  for (int64_t window_us : {kDay, kHour, 7 * kDay}) {  // not in order, on purpose
    spec.aggregates.push_back({AggregateOp::kCount, kNoColumn, window_us});
    spec.aggregates.push_back({AggregateOp::kSum, 0, window_us});
    spec.aggregates.push_back({AggregateOp::kAvg, 0, window_us});
    for (int16_t column : {int16_t{0}, int16_t{1}}) {
      spec.aggregates.push_back({AggregateOp::kMin, column, window_us});
      spec.aggregates.push_back({AggregateOp::kMax, column, window_us});
      spec.aggregates.push_back({AggregateOp::kLast, column, window_us});
    }
    spec.aggregates.push_back({AggregateOp::kLast, 2, window_us});
    spec.aggregates.push_back({AggregateOp::kRateTrue, 2, window_us});
    spec.aggregates.push_back({AggregateOp::kDistinct, 3, window_us});
    spec.aggregates.push_back({AggregateOp::kDistinct, 0, window_us});
  }
  return spec;
}

// The demo's terminal: labels, seven days late.
inline ViewSpec terminal_spec(const std::string& name = "terminal") {
  ViewSpec spec;
  spec.name = name;
  spec.view_hash = hash_of(name);
  spec.uses_labels = true;
  spec.delay_us = 7 * kDay;
  for (int64_t window_us : {kDay, 7 * kDay, 30 * kDay}) {
    spec.aggregates.push_back({AggregateOp::kCount, kNoColumn, window_us});
    spec.aggregates.push_back({AggregateOp::kRateTrue, kLabelColumn, window_us});
  }
  return spec;
}

// What DESIGN calls the demo's customer: one column, count and average over three windows.
inline ViewSpec amount_spec(const std::string& name = "amount") {
  ViewSpec spec;
  spec.name = name;
  spec.view_hash = hash_of(name);
  spec.includes_current = true;
  spec.columns = {{ColumnSource::kRequestFeature, 0, Dtype::kInt64}};
  for (int64_t window_us : {kDay, 7 * kDay, 30 * kDay}) {
    spec.aggregates.push_back({AggregateOp::kCount, kNoColumn, window_us});
    spec.aggregates.push_back({AggregateOp::kAvg, 0, window_us});
  }
  return spec;
}

inline ViewSpec attribute_spec(const std::string& name = "profile") {
  ViewSpec spec;
  spec.name = name;
  spec.view_hash = hash_of(name);
  spec.kind = ViewKind::kAttributes;
  spec.attributes = {{"home_latitude", Dtype::kFloat64},
                     {"age_days", Dtype::kInt64},
                     {"is_vip", Dtype::kBool},
                     {"tier", Dtype::kString},
                     {"country", Dtype::kString}};
  spec.max_age_us = 30 * kDay;
  return spec;
}

inline EventEntry event_at(int64_t time_us, uint64_t fingerprint) {
  EventEntry event;
  event.event_time_us = time_us;
  event.fingerprint = fingerprint;
  return event;
}

// Random columns and label for a view made above. Times are for the caller.
inline EventEntry random_event(const ViewSchema& schema, int64_t time_us, std::mt19937_64& random) {
  EventEntry event = event_at(time_us, random());
  const ViewSpec& spec = schema.spec();
  for (size_t c = 0; c < spec.columns.size(); ++c) {
    if (random() % 5 == 0) continue;
    switch (spec.columns[c].dtype) {
      case Dtype::kFloat64:
        event.columns[c] = Value::of(static_cast<double>(static_cast<int64_t>(random() % 2001) - 1000) / 8);
        break;
      case Dtype::kBool: event.columns[c] = Value::of(random() % 2 == 0); break;
      default: event.columns[c] = Value::of(static_cast<int64_t>(random() % 41) - 20);
    }
  }
  if (spec.uses_labels && random() % 3 != 0) {
    event.is_fraud = static_cast<int8_t>(random() % 2);
    event.label_time_us = time_us + spec.delay_us + (random() % 4 == 0 ? static_cast<int64_t>(random() % (3 * kDay)) : 0);
  }
  return event;
}

// --- a record in a vector

struct Record {
  std::vector<uint8_t> bytes;

  const uint8_t* data() const { return bytes.empty() ? nullptr : bytes.data(); }

  Code apply(const ViewSchema& schema, const EventEntry& event, uint64_t digest = 7) {
    const InsertPlan plan = plan_insert(schema, data(), event);
    if (plan.code != Code::kOk) return plan.code;
    const bool is_new = bytes.empty();
    bytes.resize(std::max<size_t>(bytes.size(), plan.bytes_needed));  // exactly as much as promised to be enough: ASAN watches
    bytes.shrink_to_fit();
    if (is_new) init_window_record(schema, digest, bytes.data());
    commit_insert(schema, bytes.data(), plan, event);
    bytes.resize(record_bytes(bytes.data()));
    return Code::kOk;
  }

  // The events' part of the state.
  std::vector<uint8_t> without_fences() const {
    std::vector<uint8_t> copy = bytes;
    std::fill(copy.begin() + header::kFences, copy.begin() + kRecordHeaderBytes, uint8_t{0});
    return copy;
  }

  std::vector<uint8_t> sealed() const {
    std::vector<uint8_t> copy = bytes;
    seal_record(copy.data());
    return copy;
  }

  Code validate(const ViewSchema& schema, uint64_t digest = 7) const {
    const std::vector<uint8_t> copy = sealed();
    return validate_record(copy.data(), copy.size(), schema, digest);
  }

  uint32_t entry_count() const { return load_le<uint32_t>(bytes.data() + header::kEntryCount); }
  uint32_t tile_count() const { return load_le<uint32_t>(bytes.data() + header::kTileCount); }
};

struct Folded {
  std::vector<Value> values;
  FoldResult result;
};

inline Folded fold(const ViewSchema& schema, const uint8_t* record, int64_t time_us, const EventEntry* current = nullptr) {
  Folded folded;
  folded.values.resize(schema.output_count());
  FoldRequest request;
  request.event_time_us = time_us;
  request.current = current;
  fold_record(schema, record, request, folded.values.data(), &folded.result);
  return folded;
}

inline bool is_same(const Value& a, const Value& b) {
  if (a.dtype != b.dtype) return false;
  if (a.is_null()) return true;
  return a.dtype == Dtype::kFloat64 ? a.float64 == b.float64
         : a.dtype == Dtype::kBool  ? a.boolean == b.boolean
                                    : a.int64 == b.int64;
}

inline std::string text_of(const Value& value) {
  if (value.is_null()) return "null";
  if (value.dtype == Dtype::kFloat64) return std::to_string(value.float64);
  return value.dtype == Dtype::kBool ? (value.boolean ? "true" : "false") : std::to_string(value.int64);
}

// --- the reference: straight from the definitions, over a plain list of distinct events

// Events of (from, to], the current one left out by its fingerprint and added at its time where the view includes it, oldest
// first.
inline std::vector<EventEntry> events_between(const ViewSchema& schema, const std::vector<EventEntry>& events, int64_t from_us,
                                              int64_t to_us, const EventEntry* current) {
  std::vector<EventEntry> inside;
  for (const EventEntry& event : events) {
    if (current != nullptr && event.fingerprint == current->fingerprint) continue;
    if (event.event_time_us > from_us && event.event_time_us <= to_us) inside.push_back(event);
  }
  if (current != nullptr && schema.spec().includes_current && schema.spec().delay_us == 0) inside.push_back(*current);
  std::sort(inside.begin(), inside.end(), [](const EventEntry& a, const EventEntry& b) {
    return a.event_time_us != b.event_time_us ? a.event_time_us < b.event_time_us : a.fingerprint < b.fingerprint;
  });
  return inside;
}

inline double real(const Value& value) {
  return value.dtype == Dtype::kFloat64 ? value.float64
                                        : static_cast<double>(value.dtype == Dtype::kBool ? value.boolean : value.int64);
}

inline Value aggregate_of(const AggregateSpec& aggregate, const std::vector<EventEntry>& inside, int64_t t_us) {
  const int64_t count = static_cast<int64_t>(inside.size());
  if (aggregate.op == AggregateOp::kCount) return Value::of(count);
  if (aggregate.column == kLabelColumn) {
    int64_t frauds = 0;
    for (const EventEntry& event : inside) frauds += event.is_fraud == 1 && event.label_time_us <= t_us;
    return count == 0 ? Value() : Value::of(static_cast<double>(frauds) / static_cast<double>(count));
  }
  std::vector<Value> present;
  for (const EventEntry& event : inside) {
    const Value& value = event.columns[static_cast<size_t>(aggregate.column)];
    if (!value.is_null()) present.push_back(value);
  }
  int64_t sum = 0;
  std::set<double> different;
  Value low, high;
  for (const Value& value : present) {
    if (value.dtype != Dtype::kFloat64) sum += value.dtype == Dtype::kBool ? value.boolean : value.int64;
    different.insert(real(value));
    if (low.is_null() || real(value) < real(low)) low = value;
    if (high.is_null() || real(value) > real(high)) high = value;
  }
  switch (aggregate.op) {
    case AggregateOp::kSum: return Value::of(sum);
    case AggregateOp::kDistinct: return Value::of(static_cast<int64_t>(different.size()));
    case AggregateOp::kMin: return low;
    case AggregateOp::kMax: return high;
    case AggregateOp::kLast: return present.empty() ? Value() : present.back();
    default: return present.empty() ? Value() : Value::of(static_cast<double>(sum) / static_cast<double>(present.size()));
  }
}

inline std::vector<Value> reference_fold(const ViewSchema& schema, const std::vector<EventEntry>& events, int64_t t_us,
                                         const EventEntry* current = nullptr) {
  std::vector<Value> values;
  const int64_t head_us = t_us - schema.spec().delay_us;
  for (const AggregateSpec& aggregate : schema.spec().aggregates) {
    values.push_back(
        aggregate_of(aggregate, events_between(schema, events, head_us - aggregate.window_us, head_us, current), t_us));
  }
  return values;
}

inline void check_same(const std::vector<Value>& found, const std::vector<Value>& expected, const std::string& where) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (is_same(found[i], expected[i])) continue;
    check::fail(__FILE__, __LINE__,
                where + ", aggregate " + std::to_string(i) + ": " + text_of(found[i]) + " instead of " + text_of(expected[i]));
    return;
  }
}

}  // namespace assay::fixture
