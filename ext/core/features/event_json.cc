#include "core/features/event_json.h"

#include <limits>

#include "core/base/utf8.h"
#include "core/features/checks.h"
#include "core/features/json_reader.h"

namespace assay {
namespace {

constexpr const char* kKeyNames[] = {"transaction_id", "event_time", "entities", "features",
                                     "is_fraud",       "label_time", "was_fraud"};
constexpr size_t kWasFraud = 6;  // of labels alone

// Which names of one object were there.
class SeenNames {
 public:
  // False: it was there before.
  bool add(size_t index) noexcept {
    uint64_t& word = words_[index / 64];
    const uint64_t bit = uint64_t{1} << (index % 64);
    const bool is_new = (word & bit) == 0;
    word |= bit;
    return is_new;
  }

 private:
  uint64_t words_[(limits::kRequestFeaturesMax + 63) / 64] = {};
};

// Decodes one line, top down. A value that was there but wrong has its violation; a stand-in then keeps it from being
// reported missing as well (the event is refused, so nobody uses the stand-in).
class EventDecoder {
 public:
  EventDecoder(std::string_view line, const FeaturePlan& plan, Transaction& event, std::string& scratch, Violations& violations)
      : reader_(line, scratch), plan_(plan), event_(event), violations_(violations) {}

  bool run();

 private:
  void read_member(std::string_view key);
  void read_transaction_id();
  void read_time(const char* field, int64_t* time_us, bool* is_there);
  void read_entities();
  void read_entity(size_t index);
  void read_features();
  void read_feature(size_t index);
  void read_feature_number(size_t index);
  void read_fraud(const char* field, int8_t* fraud);

  // Opens the object of a top-level key. False: null, or a violation.
  bool open_map(const char* field);
  // A member that is unknown or stands twice: says so and skips its value.
  void refuse_member(std::string field, Code code);
  // Keeps a feature's value if it is one of its declaration's.
  void keep(size_t index, Value value);
  void refuse(Code code, std::string field, std::string description);
  // The value has another JSON type than the field: says so and skips it.
  void refuse_type(std::string field, const char* expected);

  JsonReader reader_;
  const FeaturePlan& plan_;
  Transaction& event_;
  Violations& violations_;
  SeenNames seen_keys_;
  bool has_id_ = false;
  bool has_time_ = false;
  bool has_label_time_ = false;
};

bool EventDecoder::run() {
  std::string_view key;
  if (reader_.open_object()) {
    while (reader_.next_key(&key)) read_member(key);
  }
  if (!reader_.finish()) {
    violations_.clear();  // what was read of a broken line means nothing
    refuse(Code::kMalformedJson, "line", "byte " + std::to_string(reader_.error_offset()) + ": expected " + reader_.error());
    return false;
  }
  if (!has_time_) refuse(Code::kMissingField, "event_time", "is missing; expected an RFC 3339 time with a zone");
  check_required(plan_, TransactionUse::kEvent, event_, violations_);
  check_label_time(event_, has_label_time_, violations_);
  if (!has_id_) event_.id = {};
  return violations_.empty();
}

void EventDecoder::read_member(std::string_view key) {
  for (size_t i = 0; i < std::size(kKeyNames); ++i) {
    if (key != kKeyNames[i] || (i == kWasFraud && !event_.is_label)) continue;
    if (!seen_keys_.add(i)) return refuse_member(kKeyNames[i], Code::kDuplicateKey);
    switch (i) {
      case 0: return read_transaction_id();
      case 1: return read_time("event_time", &event_.event_time_us, &has_time_);
      case 2: return read_entities();
      case 3: return read_features();
      case 4: return read_fraud("is_fraud", &event_.is_fraud);
      case 5: return read_time("label_time", &event_.label_time_us, &has_label_time_);
      default: return read_fraud("was_fraud", &event_.was_fraud);
    }
  }
  refuse(Code::kInvalidRequest, key.empty() ? "\"\"" : printable(key),
         std::string("is not a key of ") + (event_.is_label ? "a label" : "an event") +
             "; expected transaction_id, event_time, entities, features, is_fraud" +
             (event_.is_label ? ", label_time or was_fraud" : " or label_time"));
  reader_.skip_value();
}

void EventDecoder::read_transaction_id() {
  const JsonType type = reader_.peek();
  if (type == JsonType::kNull) {
    reader_.read_null();
    return;
  }
  if (type != JsonType::kString) {
    event_.id = "?";
    return refuse_type("transaction_id", "string");
  }
  has_id_ = reader_.read_string(&event_.id);
}

void EventDecoder::read_time(const char* field, int64_t* time_us, bool* is_there) {
  const JsonType type = reader_.peek();
  if (type == JsonType::kNull) {
    reader_.read_null();
    return;
  }
  *is_there = true;
  if (type != JsonType::kString) return refuse_type(field, "string");
  std::string_view text;
  if (reader_.read_string(&text) && !parse_rfc3339_us(text, time_us)) {
    refuse(Code::kBadTimestamp, field,
           "is not a time; expected RFC 3339 with a zone, from year 0001 to 9999, such as 2018-04-01T00:00:31Z");
  }
}

bool EventDecoder::open_map(const char* field) {
  const JsonType type = reader_.peek();
  if (type == JsonType::kNull) {
    reader_.read_null();
    return false;
  }
  if (type != JsonType::kObject) {
    refuse_type(field, "object");
    return false;
  }
  return reader_.open_object();
}

void EventDecoder::read_entities() {
  if (!open_map("entities")) return;
  SeenNames seen;
  std::string_view name;
  while (reader_.next_key(&name)) {
    const int index = plan_.find_entity(name);
    if (index < 0) {
      refuse_member(entity_path(name), Code::kUnknownEntity);
    } else if (!seen.add(static_cast<size_t>(index))) {
      refuse_member(entity_path(name), Code::kDuplicateKey);
    } else {
      read_entity(static_cast<size_t>(index));
    }
  }
}

void EventDecoder::read_entity(size_t index) {
  const JsonType type = reader_.peek();
  if (type == JsonType::kNull) {
    reader_.read_null();
    return;
  }
  if (type != JsonType::kString) {
    event_.entities[index] = "?";
    return refuse_type(entity_path(plan_.spec().entities[index]), "string");
  }
  reader_.read_string(&event_.entities[index]);
}

void EventDecoder::read_features() {
  if (!open_map("features")) return;
  SeenNames seen;
  std::string_view name;
  while (reader_.next_key(&name)) {
    const int index = plan_.find_feature(name);
    if (index < 0) {
      refuse_member(feature_path(name), Code::kUnknownFeature);
    } else if (!seen.add(static_cast<size_t>(index))) {
      refuse_member(feature_path(name), Code::kDuplicateKey);
    } else {
      read_feature(static_cast<size_t>(index));
    }
  }
}

void EventDecoder::read_feature(size_t index) {
  std::string_view text;
  bool truth;
  switch (reader_.peek()) {
    case JsonType::kNumber: return read_feature_number(index);
    case JsonType::kString:
      if (reader_.read_string(&text)) keep(index, Value::of(text));
      return;
    case JsonType::kBool:
      if (reader_.read_bool(&truth)) keep(index, Value::of(truth));
      return;
    case JsonType::kNull: reader_.read_null(); return;
    default: break;
  }
  const RequestFeatureSpec& feature = plan_.spec().request_features[index];
  event_.features[index] = Value::of(false);
  refuse_type(feature_path(feature.name), dtype_name(feature.dtype));
}

void EventDecoder::read_feature_number(size_t index) {
  JsonNumber number;
  if (!reader_.read_number(&number)) return;
  const RequestFeatureSpec& feature = plan_.spec().request_features[index];
  const int64_t integer = number.is_representable ? number.int64 : std::numeric_limits<int64_t>::max();  // past 2^53 either way
  const Value value = number.is_integer ? Value::of(integer) : Value::of(number.float64);
  if (number.is_representable || value.dtype != feature.dtype) return keep(index, value);
  event_.features[index] = value;
  if (number.is_integer) {
    refuse(Code::kIntegerOverflow, feature_path(feature.name), "is an integer past int64");
  } else {
    refuse(Code::kNotFinite, feature_path(feature.name), "is past the largest float64; expected a finite float64");
  }
}

void EventDecoder::keep(size_t index, Value value) {
  event_.features[index] = value;
  if (!check_feature(plan_, index, event_, violations_)) event_.features[index] = Value::of(false);
}

void EventDecoder::read_fraud(const char* field, int8_t* fraud) {
  bool value;
  const JsonType type = reader_.peek();
  if (type == JsonType::kNull) {
    reader_.read_null();
    return;
  }
  if (type != JsonType::kBool) return refuse_type(field, "bool");
  if (reader_.read_bool(&value)) *fraud = value ? 1 : 0;
}

void EventDecoder::refuse_member(std::string field, Code code) {
  const bool is_duplicate = code == Code::kDuplicateKey;
  refuse(code, std::move(field), is_duplicate ? "stands twice; send it once" : "is not declared in the feature set");
  reader_.skip_value();
}

void EventDecoder::refuse(Code code, std::string field, std::string description) {
  violations_.add(code, std::move(field), std::move(description));
}

void EventDecoder::refuse_type(std::string field, const char* expected) {
  const JsonType type = reader_.peek();
  std::string found = json_type_name(type);
  if (type == JsonType::kNumber) {
    JsonNumber number;
    reader_.read_number(&number);
    found = number.is_integer ? "int64" : "float64";
  } else {
    reader_.skip_value();
  }
  refuse(Code::kWrongType, std::move(field), "is " + found + "; expected " + expected);
}

bool decode_json(std::string_view line, const FeaturePlan& plan, bool is_label, Transaction& event, std::string& scratch,
                 Violations& violations) {
  scratch.clear();
  violations.clear();
  event.clear(plan.spec().entities.size(), plan.spec().request_features.size());
  event.is_label = is_label;
  if (line.size() > limits::kEventLineBytesMax) {
    violations.add(
        Code::kTooLong, "line",
        "has " + std::to_string(line.size()) + " bytes; expected at most " + std::to_string(limits::kEventLineBytesMax));
    return false;
  }
  if (const char* bad = utf8_find_bad(line); bad != nullptr) {
    violations.add(Code::kMalformedJson, "line", "byte " + std::to_string(bad - line.data()) + ": expected UTF-8");
    return false;
  }
  return EventDecoder(line, plan, event, scratch, violations).run();
}

}  // namespace

bool decode_event_json(std::string_view line, const FeaturePlan& plan, Transaction& event, std::string& scratch,
                       Violations& violations) {
  return decode_json(line, plan, false, event, scratch, violations);
}

bool decode_label_json(std::string_view line, const FeaturePlan& plan, Transaction& label, std::string& scratch,
                       Violations& violations) {
  return decode_json(line, plan, true, label, scratch, violations);
}

}  // namespace assay
