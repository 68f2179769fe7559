// Strict JSON for events: one object a line, typed by the plan. Refuses what lenient parsers let through: duplicate keys,
// NaN, 1e400, integers past int64, a float where an integer is declared (5716.0 for an int64) and the
// reverse (but for features that accept integers), times without a zone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/features/plan.h"
#include "core/features/transaction.h"

namespace assay {

// Decodes one line into `event`. Keys: transaction_id, event_time (RFC 3339 with zone), entities, features, is_fraud (optional), and
// beside it label_time (optional; RFC 3339, not before event_time): when is_fraud became known.
// Text of `event` points into `line`, or into `scratch` where a string had escapes (cleared here; keep it as long as the event).
// False: `violations` (cleared here) names every field that is wrong, or MALFORMED_JSON with the byte offset. A top-level
// key that is none of these is INVALID_REQUEST: a mistyped is_fraud must not be silence.
// Required of an event: transaction_id, event_time, at least one entity, and every required request feature that a view of a
// named entity stores. null is absent.
bool decode_event_json(std::string_view line, const FeaturePlan& plan, Transaction& event, std::string& scratch,
                       Violations& violations);

// The same for a label: it repeats transaction_id, event_time and at least one entity of an event, and must say is_fraud and
// label_time. It may say was_fraud: what the event was taken for so far (record.h).
bool decode_label_json(std::string_view line, const FeaturePlan& plan, Transaction& label, std::string& scratch,
                       Violations& violations);

// RFC 3339 with 'Z' or an offset, up to nanoseconds (floored to microseconds), years 0001..9999. False: not such a time. A space
// for the 'T' and leap seconds (:60) are refused, as google.protobuf.Timestamp has none.
bool parse_rfc3339_us(std::string_view text, int64_t* time_us) noexcept;

}  // namespace assay
