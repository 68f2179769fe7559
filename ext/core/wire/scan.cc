// scan_*(): the top level of a request. Every byte of it is checked here, once; decode.cc then trusts the spans.
#include <string>

#include "core/wire/messages.h"
#include "core/wire/score_request.h"
#include "core/wire/wire_fault.h"
#include "core/wire/wire_reader.h"

namespace assay {
namespace {

constexpr uint32_t text_tag(uint32_t field) noexcept { return wire_tag(field, WireType::kDelimited); }
constexpr uint32_t varint_tag(uint32_t field) noexcept { return wire_tag(field, WireType::kVarint); }

static_assert(limits::kMapEntriesMax == 512, "the texts below say 512");

template <typename Field>
bool read_time(WireReader& in, Field* field, const char* name) noexcept {
  std::string_view payload;
  field->is_set = true;
  return in.read_delimited(&payload, name) && read_seconds_and_nanos(in.nested(payload), &field->seconds, &field->nanos);
}

bool read_explain(WireReader& in, ExplainFields* fields) noexcept {
  std::string_view payload;
  return in.read_delimited(&payload, "explain") && read_explain_fields(in.nested(payload), fields);
}

bool scan_entity(WireReader& in, TransactionScan& scan) noexcept {
  const char* const start = in.position();
  std::string_view payload, key, value;
  if (!in.read_delimited(&payload, "entities")) return false;
  if (!read_entity_entry<CheckedText>(in.nested(payload), &key, &value)) return false;
  if (scan.entity_count == limits::kMapEntriesMax) {
    return in.fail(start, "more than 512 entries; send each name once", "entities", Code::kInvalidRequest);
  }
  scan.entities[scan.entity_count++] = payload;
  return true;
}

bool scan_feature(WireReader& in, TransactionScan& scan) noexcept {
  const char* const start = in.position();
  std::string_view payload, key;
  Value value;
  if (!in.read_delimited(&payload, "features")) return false;
  if (!read_feature_entry<CheckedText>(in.nested(payload), &key, &value)) return false;
  if (scan.feature_count == limits::kMapEntriesMax) {
    return in.fail(start, "more than 512 entries; send each name once", "features", Code::kInvalidRequest);
  }
  scan.features[scan.feature_count++] = payload;
  return true;
}

// The fields that ScoreRequest and Event have in common, and those that neither has.
bool scan_common_field(WireReader& in, uint32_t tag, TransactionScan& scan) noexcept {
  switch (tag) {
    case text_tag(1): return in.read_text(&scan.transaction_id, "transaction_id");
    case text_tag(2): return read_time(in, &scan.event_time, "event_time");
    case text_tag(3): return scan_entity(in, scan);
    case text_tag(4): return scan_feature(in, scan);
    default: return in.skip(tag);
  }
}

bool scan_score_fields(WireReader in, TransactionScan& scan) noexcept {
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case text_tag(5): return in.read_text(&scan.model, "model");
      case text_tag(6): return in.read_text(&scan.version, "version");
      case varint_tag(7): return in.read_int32(&scan.priority);
      case text_tag(8): return read_time(in, &scan.timeout, "timeout");
      case varint_tag(10): return in.read_bool(&scan.include_features);
      case varint_tag(11): return in.read_bool(&scan.include_timings);
      case text_tag(12): return read_explain(in, &scan.explain);
      default: return scan_common_field(in, tag, scan);
    }
  });
}

bool scan_event_fields(WireReader in, TransactionScan& scan) noexcept {
  return for_each_field(in, [&](uint32_t tag) {
    bool is_fraud = false;
    switch (tag) {
      case varint_tag(5):
        if (!in.read_bool(&is_fraud)) return false;
        scan.is_fraud = is_fraud ? 1 : 0;
        return true;
      case text_tag(6): return read_time(in, &scan.label_time, "label_time");
      case varint_tag(7): return in.read_bool(&scan.is_label);
      default: return scan_common_field(in, tag, scan);
    }
  });
}

bool scan_batch_fields(WireReader in, size_t rows_max, BatchScan& scan) {
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case text_tag(1): {
        if (scan.rows.size() >= rows_max) {
          return in.fail(in.position(), "more rows than one call may have", "requests", Code::kTooManyRows);
        }
        return in.read_delimited(&scan.rows.emplace_back(), "requests");
      }
      case text_tag(2): return in.read_text(&scan.model, "model");
      case text_tag(3): return in.read_text(&scan.version, "version");
      case varint_tag(4): return in.read_int32(&scan.priority);
      case text_tag(5): return read_time(in, &scan.timeout, "timeout");
      case varint_tag(6): return in.read_bool(&scan.include_features);
      case varint_tag(7): return in.read_bool(&scan.include_timings);
      case text_tag(8): return read_explain(in, &scan.explain);
      default: return in.skip(tag);
    }
  });
}

// Clears all but the spans themselves, which the counts guard.
void clear(TransactionScan& scan) noexcept {
  scan.transaction_id = scan.model = scan.version = {};
  scan.event_time = {};
  scan.timeout = {};
  scan.priority = 0;
  scan.explain = {};
  scan.include_features = scan.include_timings = false;
  scan.is_fraud = -1;
  scan.is_label = false;
  scan.label_time = {};
  scan.entity_count = scan.feature_count = 0;
}

void clear(BatchScan& scan) noexcept {
  scan.rows.clear();
  scan.model = scan.version = {};
  scan.priority = 0;
  scan.timeout = {};
  scan.explain = {};
  scan.include_features = scan.include_timings = false;
}

}  // namespace

Status scan_score_request(std::string_view bytes, TransactionScan& scan) {
  WireFault fault;
  clear(scan);
  return scan_score_fields(WireReader(bytes, fault), scan) ? Status() : fault_status(fault, bytes);
}

Status scan_stream_request(std::string_view bytes, TransactionScan& scan) {
  WireFault fault;
  clear(scan);
  WireReader in(bytes, fault);
  const bool is_read = for_each_field(in, [&](uint32_t tag) {
    if (tag != text_tag(1)) return in.skip(tag);
    std::string_view payload;
    return in.read_delimited(&payload, "request") && scan_score_fields(in.nested(payload), scan);
  });
  return is_read ? Status() : fault_status(fault, bytes);
}

Status scan_batch_request(std::string_view bytes, size_t rows_max, BatchScan& scan) {
  WireFault fault;
  clear(scan);
  return scan_batch_fields(WireReader(bytes, fault), rows_max, scan) ? Status() : fault_status(fault, bytes);
}

Status scan_record_events_request(std::string_view bytes, std::vector<std::string_view>& events) {
  WireFault fault;
  events.clear();
  WireReader in(bytes, fault);
  const bool is_read = for_each_field(in, [&](uint32_t tag) {
    if (tag != text_tag(1)) return in.skip(tag);
    if (events.size() >= limits::kEventsPerMessageMax) {
      return in.fail(in.position(), "more events than one message may have", "events", Code::kTooManyRows);
    }
    return in.read_delimited(&events.emplace_back(), "events");
  });
  return is_read ? Status() : fault_status(fault, bytes);
}

Status scan_event(std::string_view bytes, TransactionScan& scan) {
  WireFault fault;
  clear(scan);
  return scan_event_fields(WireReader(bytes, fault), scan) ? Status() : fault_status(fault, bytes);
}

}  // namespace assay
