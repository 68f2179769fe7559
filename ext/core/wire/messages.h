// The shapes of the messages inside a ScoreRequest or an Event, each read by one function: scan_*() runs them to check, and
// decode_transaction() runs them again to take the values. Merging (repeated fields, repeated submessages) is as protobuf says.
#pragma once

#include <string_view>

#include "core/base/value.h"
#include "core/wire/wire_reader.h"

namespace assay {

// How a text field is read: checked for UTF-8 while scanning, taken as it is once that has been done.
struct CheckedText {
  static bool read(WireReader& in, std::string_view* text, const char* field) noexcept { return in.read_text(text, field); }
};
struct TrustedText {
  static bool read(WireReader& in, std::string_view* text, const char* field) noexcept { return in.read_delimited(text, field); }
};

// Calls field(tag) for every field of a message. `field` consumes the value and returns false to stop.
template <typename Field>
bool for_each_field(WireReader& in, Field&& field) noexcept {
  while (!in.at_end()) {
    uint32_t tag = 0;
    if (!in.read_tag(&tag) || !field(tag)) return false;
  }
  return true;
}

// google.protobuf.Timestamp and Duration have the same shape.
inline bool read_seconds_and_nanos(WireReader in, int64_t* seconds, int32_t* nanos) noexcept {
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case wire_tag(1, WireType::kVarint): {
        uint64_t bits = 0;
        const bool is_read = in.read_varint(&bits);
        *seconds = static_cast<int64_t>(bits);
        return is_read;
      }
      case wire_tag(2, WireType::kVarint): return in.read_int32(nanos);
      default: return in.skip(tag);
    }
  });
}

// One entry of map<string, string>. A missing key or value is an empty text, with a pointer to tell it from no entry at all.
template <typename Text>
bool read_entity_entry(WireReader in, std::string_view* key, std::string_view* value) noexcept {
  *key = *value = std::string_view("", 0);
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case wire_tag(1, WireType::kDelimited): return Text::read(in, key, "a name in entities");
      case wire_tag(2, WireType::kDelimited): return Text::read(in, value, "an id in entities");
      default: return in.skip(tag);
    }
  });
}

// assay.v1.FeatureValue into `value`, which keeps what it had if no member of the oneof occurs.
template <typename Text>
bool read_feature_value(WireReader in, Value* value) noexcept {
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case wire_tag(1, WireType::kFixed64): {
        double number = 0.0;
        if (!in.read_double(&number)) return false;
        *value = Value::of(number);
        return true;
      }
      case wire_tag(2, WireType::kVarint): {
        uint64_t bits = 0;
        if (!in.read_varint(&bits)) return false;
        *value = Value::of(static_cast<int64_t>(bits));
        return true;
      }
      case wire_tag(3, WireType::kVarint): {
        bool truth = false;
        if (!in.read_bool(&truth)) return false;
        *value = Value::of(truth);
        return true;
      }
      case wire_tag(4, WireType::kDelimited): {
        std::string_view text;
        if (!Text::read(in, &text, "a string_value in features")) return false;
        *value = Value::of(text);
        return true;
      }
      default: return in.skip(tag);
    }
  });
}

// One entry of map<string, FeatureValue>. A null value: no member of the oneof is set, or the entry has no value.
template <typename Text>
bool read_feature_entry(WireReader in, std::string_view* key, Value* value) noexcept {
  *key = std::string_view("", 0);
  *value = Value();
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case wire_tag(1, WireType::kDelimited): return Text::read(in, key, "a name in features");
      case wire_tag(2, WireType::kDelimited): {
        std::string_view payload;
        return in.read_delimited(&payload, "a value in features") && read_feature_value<Text>(in.nested(payload), value);
      }
      default: return in.skip(tag);
    }
  });
}

}  // namespace assay
