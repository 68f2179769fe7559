// Row records from anywhere: whatever passes the checks can be folded and written to.
//
// Input: one byte that picks a view, eight that place the folds and inserts, then the record. Its length, entity digest, view
// hash and checksum are put right first, so that the fuzzer spends its time behind them; the untouched bytes are checked too.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/features/attribute_record.h"
#include "core/features/fold.h"
#include "core/features/record.h"
#include "core/features/record_layout.h"

namespace {

using namespace assay;

constexpr int64_t kHour = 3'600'000'000, kDay = 24 * kHour;
constexpr uint64_t kDigest = 7;

ViewSchema compiled(ViewSpec spec) {
  ViewSchema schema;
  if (!ViewSchema::compile(std::move(spec), &schema).ok()) std::abort();
  return schema;
}

// The three views of tests/native/record_fixture.h, which made the kept corpus: all operations, labels, attributes.
ViewSchema customer_view() {
  ViewSpec spec;
  spec.name = "customer";
  spec.includes_current = true;
  spec.lateness_us = kHour;
  spec.columns = {{ColumnSource::kRequestFeature, 0, Dtype::kInt64},
                  {ColumnSource::kRequestFeature, 1, Dtype::kFloat64},
                  {ColumnSource::kRequestFeature, 2, Dtype::kBool},
                  {ColumnSource::kRequestFeature, 3, Dtype::kString}};
  for (int64_t window_us : {kHour, kDay, 7 * kDay}) {
    spec.aggregates.push_back({AggregateOp::kCount, kNoColumn, window_us});
    spec.aggregates.push_back({AggregateOp::kSum, 0, window_us});
    spec.aggregates.push_back({AggregateOp::kAvg, 0, window_us});
    spec.aggregates.push_back({AggregateOp::kMin, 1, window_us});
    spec.aggregates.push_back({AggregateOp::kMax, 0, window_us});
    spec.aggregates.push_back({AggregateOp::kLast, 2, window_us});
    spec.aggregates.push_back({AggregateOp::kRateTrue, 2, window_us});
    spec.aggregates.push_back({AggregateOp::kDistinct, 3, window_us});
  }
  return compiled(spec);
}

ViewSchema terminal_view() {
  ViewSpec spec;
  spec.name = "terminal";
  spec.uses_labels = true;
  spec.delay_us = 7 * kDay;
  for (int64_t window_us : {kDay, 7 * kDay, 30 * kDay}) {
    spec.aggregates.push_back({AggregateOp::kCount, kNoColumn, window_us});
    spec.aggregates.push_back({AggregateOp::kRateTrue, kLabelColumn, window_us});
  }
  return compiled(spec);
}

ViewSchema profile_view() {
  ViewSpec spec;
  spec.name = "profile";
  spec.kind = ViewKind::kAttributes;
  spec.attributes = {{"home_latitude", Dtype::kFloat64},
                     {"age_days", Dtype::kInt64},
                     {"is_vip", Dtype::kBool},
                     {"tier", Dtype::kString},
                     {"country", Dtype::kString}};
  return compiled(spec);
}

void use_window_record(const ViewSchema& schema, std::vector<uint8_t> record, uint64_t choice) {
  const int64_t newest_us = load_le<int64_t>(record.data() + header::kNewestTime);
  std::vector<Value> values(schema.output_count());
  FoldResult result;
  EventEntry event;
  for (int i = 0; i < 4; ++i) {
    event.event_time_us =
        std::min(newest_us + static_cast<int64_t>((choice >> (8 * i)) % 256) * kHour - kDay, limits::kTimeUsMax);
    event.fingerprint = choice >> i;
    event.is_fraud = 1;
    event.label_time_us = event.event_time_us + 7 * kDay;
    event.is_label = schema.spec().uses_labels && (choice >> (60 + i)) % 2 != 0;
    event.was_fraud = 0;
    event.place = {fence_of(record.data(), event.is_label ? FenceKind::kLabels : FenceKind::kEvents).source, UINT32_MAX, 0};
    event.late = LateEvents::kApply;
    if (!schema.spec().columns.empty()) event.columns[0] = Value::of(static_cast<int64_t>(choice));
    fold_record(schema, record.data(), {event.event_time_us, &event}, values.data(), &result);
    const InsertPlan plan = plan_insert(schema, record.data(), event);
    if (plan.code != Code::kOk) continue;
    record.resize(std::max<size_t>(record.size(), plan.bytes_needed));
    record.shrink_to_fit();
    commit_insert(schema, record.data(), plan, event);
    record.resize(record_bytes(record.data()));
  }
  fold_record(schema, record.data(), {newest_us, nullptr}, values.data(), &result);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ViewSchema schemas[] = {customer_view(), terminal_view(), profile_view()};
  if (size < 9) return 0;
  const ViewSchema& schema = schemas[data[0] % 3];
  const uint64_t choice = load_le<uint64_t>(data + 1);
  std::vector<uint8_t> record(data + 9, data + size);
  (void)validate_record(record.data(), record.size(), schema, kDigest);
  if (record.size() < kRecordHeaderBytes) return 0;
  store_le<uint32_t>(record.data() + header::kRecordBytes, static_cast<uint32_t>(record.size()));
  store_le<uint64_t>(record.data() + header::kViewHash, schema.hash64());
  store_le<uint64_t>(record.data() + header::kEntityDigest, kDigest);
  seal_record(record.data());
  if (validate_record(record.data(), record.size(), schema, kDigest) != Code::kOk) return 0;
  if (schema.spec().kind == ViewKind::kWindow) {
    use_window_record(schema, std::move(record), choice);
  } else {
    Value values[limits::kAttributesMax];
    FoldResult result;
    static char arena[limits::kAttributesMax * limits::kStringValueBytesMax];
    read_attributes(schema, record.data(), static_cast<int64_t>(choice % static_cast<uint64_t>(limits::kTimeUsMax)), values,
                    &result, arena);
  }
  return 0;
}
