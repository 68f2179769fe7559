// Decoding of assay.v1 requests straight from the wire: no protobuf objects, no allocation unless something is wrong.
//
// Two steps, because fields come in any order and the model decides the plan: scan_*() walks the top level, checks the wire
// format (maps' entries included) and keeps spans; decode_transaction() reads the spans with one plan's names and types.
// Accepts and refuses exactly what google.protobuf (upb) does, see tests/property/test_decoder.py; one limit is ours: more than
// kMapEntriesMax entries of one map are kInvalidRequest. A malformed message is one Status with the byte offset; everything
// else is a violation with the field's name.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/features/checks.h"
#include "core/features/plan.h"
#include "core/features/transaction.h"
#include "core/wire/explain_fields.h"

namespace assay {

// assay.v1.Priority on the wire; kShadow is internal and never decoded.
enum class Priority : uint8_t { kUnspecified = 0, kInteractive = 1, kBulk = 2, kShadow = 3 };

struct TimestampField {
  bool is_set = false;
  int64_t seconds = 0;
  int32_t nanos = 0;
};
struct DurationField {
  bool is_set = false;
  int64_t seconds = 0;
  int32_t nanos = 0;
};

// The top level of one ScoreRequest or Event. Spans point into the scanned bytes. About 17 KiB, reused, cleared by scan.
struct TransactionScan {
  std::string_view transaction_id;
  TimestampField event_time;
  std::string_view model;
  std::string_view version;
  int32_t priority = 0;  // raw enum number
  DurationField timeout;
  ExplainFields explain;
  bool include_features = false;
  bool include_timings = false;
  // Event only:
  int8_t is_fraud = -1;
  bool is_label = false;
  TimestampField label_time;
  uint32_t entity_count = 0;
  uint32_t feature_count = 0;
  std::array<std::string_view, limits::kMapEntriesMax> entities;  // map entries' payloads
  std::array<std::string_view, limits::kMapEntriesMax> features;
};

// The top level of one ScoreBatchRequest.
struct BatchScan {
  std::vector<std::string_view> rows;  // capacity kept between calls
  std::string_view model;
  std::string_view version;
  int32_t priority = 0;
  DurationField timeout;
  ExplainFields explain;
  bool include_features = false;
  bool include_timings = false;
};

// REQUIRES: `bytes` outlives every use of the scan. Status::offset counts from bytes.begin().
Status scan_score_request(std::string_view bytes, TransactionScan& scan);
// A ScoreStreamRequest: its `request` field; several occurrences merge, as protobuf says. None: an empty request.
Status scan_stream_request(std::string_view bytes, TransactionScan& scan);
// Splits only; each row is scanned on its own (a malformed row fails alone). rows_max + 1 rows: kTooManyRows.
Status scan_batch_request(std::string_view bytes, size_t rows_max, BatchScan& scan);
// RecordEventsRequest: the spans of its events; more than kEventsPerMessageMax: kTooManyRows.
Status scan_record_events_request(std::string_view bytes, std::vector<std::string_view>& events);
Status scan_event(std::string_view bytes, TransactionScan& scan);

// Converts the Duration to nanoseconds, at most half of int64's so that a monotonic time can be added. False: out of range, of
// mixed sign, or not positive.
bool positive_duration_ns(const DurationField& duration, int64_t* ns) noexcept;

// REQUIRES: the scan was filled by a scan_*() that returned kOk.
// Reads the spans with the plan's names and types. False: `violations` has every one. Thread-safe; allocates only then.
// Checks ids and text for length, values for type, finiteness (-0.0 becomes +0.0) and range, event_time for range.
bool decode_transaction(const TransactionScan& scan, const FeaturePlan& plan, TransactionUse use, Transaction& out,
                        Violations& violations);

// The id of the entity of this name, as the request has it; empty: it names none.
std::string_view entity_id(const TransactionScan& scan, std::string_view name) noexcept;

}  // namespace assay
