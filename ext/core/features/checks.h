// The checks that every decoder of transactions shares (protobuf and JSON): one meaning of "valid", whatever the format.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/features/plan.h"
#include "core/features/transaction.h"

namespace assay {

// Which fields a transaction must have.
enum class TransactionUse : uint8_t {
  kScore,  // all entities, all required features
  kEvent,  // at least one entity; the required features that a window view of a named entity stores
};

// Checks one present value against its declaration: type, finiteness (-0.0 becomes +0.0), range, length. An int64 where integers are
// accepted becomes the float64 that equals it. Adds a violation and returns false if it must not be used.
bool check_value(const RequestFeatureSpec& feature, Value& value, Violations& violations);

// The same of one present value of a transaction, which then knows whether it was such an int64.
bool check_feature(const FeaturePlan& plan, size_t feature, Transaction& transaction, Violations& violations);

// Checks the length of transaction_id (required) and of entity ids, then adds what is missing once all fields are in. event_time is
// the decoder's to check. An id that was sent empty (its data() is not null) is a violation even where none is required.
void check_required(const FeaturePlan& plan, TransactionUse use, const Transaction& transaction, Violations& violations);

// A label says when it became known. `has_label_time`: it was sent, if wrongly: then that is its violation, and it is not missing
// besides. The transaction alone does not know.
void check_label_time(const Transaction& transaction, bool has_label_time, Violations& violations);

// Seconds and nanos to floored microseconds. False: outside 0001-01-01..9999-12-31 or nanos outside 0..999,999,999.
bool timestamp_us(int64_t seconds, int32_t nanos, int64_t* time_us) noexcept;

// "features[\"amount\"]" and "entities[\"customer_id\"]" with the name made printable.
std::string feature_path(std::string_view name);
std::string entity_path(std::string_view name);

}  // namespace assay
