// libFuzzer on one JSON line from outside: `make fuzz`.
//
// Beside what the sanitizers see, it holds: an accepted event is well typed, its text is UTF-8 and lies inside the line or the
// scratch; written down again it decodes to the same event, and the log that takes it gives its id back; a refusal names each
// violation in UTF-8 and never carries a run of digits that could be a card.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>

#include "core/base/utf8.h"
#include "core/features/event_json.h"
#include "core/features/event_log.h"
#include "sample_plan.h"

using namespace assay;

namespace {

const std::shared_ptr<const FeaturePlan>& shared_plan() {
  static const std::shared_ptr<const FeaturePlan> plan = [] {
    PlanSpec spec = sample::demo_spec();
    spec.request_features.push_back(sample::feature("rate", Dtype::kFloat64, false));
    spec.request_features.push_back(sample::feature("is_online", Dtype::kBool, false));
    spec.request_features.push_back(sample::feature("channel", Dtype::kString, false));
    spec.request_features.push_back(sample::feature("reading", Dtype::kFloat64, false));
    spec.request_features.back().accept_int = true;
    return sample::compile(std::move(spec));
  }();
  return plan;
}

bool is_inside(std::string_view text, std::string_view bytes) {
  return text.data() >= bytes.data() && text.data() + text.size() <= bytes.data() + bytes.size();
}

void check_text(std::string_view text, std::string_view line, std::string_view scratch) {
  ASSAY_ASSERT(is_inside(text, line) || is_inside(text, scratch));
  ASSAY_ASSERT(utf8_find_bad(text) == nullptr);
}

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    char escape[8];
    if (c == '"' || c == '\\' || static_cast<uint8_t>(c) < 0x20) {
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string json_value(const Value& value) {
  char text[64];
  switch (value.dtype) {
    case Dtype::kInt64: return std::to_string(value.int64);
    case Dtype::kFloat64: std::snprintf(text, sizeof text, "%.17e", value.float64); return text;
    case Dtype::kBool: return value.boolean ? "true" : "false";
    case Dtype::kString: return json_string(value.string());
    case Dtype::kNull: break;
  }
  return "null";
}

std::string json_time(int64_t time_us) {
  const int64_t seconds = time_us / 1'000'000 - (time_us % 1'000'000 < 0 ? 1 : 0);
  const time_t whole = static_cast<time_t>(seconds);
  std::tm fields{};
  gmtime_r(&whole, &fields);
  char text[64];
  std::snprintf(text, sizeof text, "\"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ\"", fields.tm_year + 1900, fields.tm_mon + 1,
                fields.tm_mday, fields.tm_hour, fields.tm_min, fields.tm_sec, static_cast<int>(time_us - seconds * 1'000'000));
  return text;
}

std::string json_event(const Transaction& event) {
  const PlanSpec& spec = shared_plan()->spec();
  std::string out = "{\"transaction_id\":" + json_string(event.id) + ",\"event_time\":" + json_time(event.event_time_us);
  out += ",\"is_fraud\":" + std::string(event.is_fraud < 0 ? "null" : event.is_fraud == 1 ? "true" : "false");
  out += ",\"label_time\":" + (event.label_time_us == Transaction::kNoTime ? "null" : json_time(event.label_time_us)) +
         ",\"entities\":{";
  for (size_t i = 0; i < spec.entities.size(); ++i) {
    const std::string_view id = event.entities[i];
    out += (i == 0 ? "\"" : ",\"") + spec.entities[i] + "\":" + (id.empty() ? "null" : json_string(id));
  }
  out += "},\"features\":{";
  for (size_t i = 0; i < spec.request_features.size(); ++i) {
    out += (i == 0 ? "\"" : ",\"") + spec.request_features[i].name + "\":" + json_value(event.features[i]);
  }
  return out + "}}";
}

void check_accepted_int(const RequestFeatureSpec& feature, const Value& value) {
  ASSAY_ASSERT(feature.accept_int && value.dtype == Dtype::kFloat64);
  ASSAY_ASSERT(std::abs(value.float64) <= 9'007'199'254'740'992.0 && value.float64 == std::floor(value.float64));
}

void check_accepted(const Transaction& event, std::string_view line, std::string_view scratch) {
  const PlanSpec& spec = shared_plan()->spec();
  check_text(event.id, line, scratch);
  for (size_t i = 0; i < spec.entities.size(); ++i) {
    if (!event.entities[i].empty()) check_text(event.entities[i], line, scratch);
  }
  for (size_t i = 0; i < spec.request_features.size(); ++i) {
    const Value& value = event.features[i];
    ASSAY_ASSERT(value.is_null() || value.dtype == spec.request_features[i].dtype);
    if (event.accepted_ints.has(i)) check_accepted_int(spec.request_features[i], value);
    if (value.dtype == Dtype::kString) check_text(value.string(), line, scratch);
    if (value.dtype == Dtype::kFloat64)
      ASSAY_ASSERT(std::isfinite(value.float64) && !(value.float64 == 0.0 && std::signbit(value.float64)));
  }
  static Transaction again;
  static std::string again_scratch;
  Violations violations;
  const std::string canonical = json_event(event);
  ASSAY_ASSERT(decode_event_json(canonical, *shared_plan(), again, again_scratch, violations));
  ASSAY_ASSERT(json_event(again) == canonical);
}

void check_refused(const Violations& violations) {
  ASSAY_ASSERT(!violations.empty());
  for (const Violation& violation : violations.list()) {
    ASSAY_ASSERT(!violation.field.empty() && !violation.description.empty());
    for (const std::string& text : {violation.field, violation.description}) {
      ASSAY_ASSERT(utf8_find_bad(text) == nullptr);
      int digits = 0;
      for (const char c : text) {
        digits = c >= '0' && c <= '9' ? digits + 1 : 0;
        ASSAY_ASSERT(digits < 16);  // 11 that are shown, behind the 4 of an escape
      }
    }
  }
}

// The log sees lines where the decoder saw one.
void check_log(std::string_view lines) {
  EventLog log(shared_plan());
  log.append(lines, 4);
  log.sort();
  for (uint64_t i = 0; i < log.event_count(); ++i) {
    ASSAY_ASSERT(!log.transaction_id(i).empty());
    ASSAY_ASSERT(i == 0 || !precedes(log.transaction_id(i), log.transaction_id(i)));
  }
  ASSAY_ASSERT(log.rejections().size() == std::min<uint64_t>(log.rejected_count(), 4));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  static Transaction event;
  static std::string scratch;
  static Violations violations;
  if (decode_event_json(line, *shared_plan(), event, scratch, violations)) {
    check_accepted(event, line, scratch);
  } else {
    check_refused(violations);
  }
  check_log(line);
  return 0;
}
