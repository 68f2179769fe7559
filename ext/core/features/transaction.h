// Transaction: what one request or one event says, typed by a plan; and the list of what is wrong with it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/base/value.h"
#include "core/features/accepted_ints.h"
#include "core/features/fence.h"

namespace assay {

// Filled by a decoder (wire/score_request.h, wire/event_message.h, features/event_json.h). All text points into the
// decoder's input (or, for an escaped JSON string, into the decoder's scratch): valid as long as that is. About 4.5 KiB; one per
// thread, reused.
struct Transaction {
  static constexpr int64_t kNoTime = INT64_MIN;

  std::string_view id;
  int64_t event_time_us = 0;  // microseconds since 1970-01-01 UTC, floored
  // Events only: -1 unknown, 0, 1; when that became known (kNoTime: event_time + a view's delay); whether this is only the label
  // of an event that was recorded before.
  int8_t is_fraud = -1;
  bool is_label = false;
  int8_t was_fraud = -1;  // of a label: what the event was taken for so far
  int64_t label_time_us = kNoTime;
  Fence place;  // where a topic has it; set by whoever decoded it, not by the decoder
  std::array<std::string_view, limits::kEntitiesMax> entities;  // empty: absent
  std::array<Value, limits::kRequestFeaturesMax> features;      // null: absent. Defaults are not applied here.
  FeatureBits accepted_ints;  // the features whose value came as an int64 where a float64 is declared (accept_int)

  // Clears the part that a plan with these counts uses.
  void clear(size_t entity_count, size_t feature_count) noexcept {
    id = {};
    event_time_us = 0;
    is_fraud = -1;
    is_label = false;
    was_fraud = -1;
    label_time_us = kNoTime;
    place = Fence();
    accepted_ints.clear();
    for (size_t i = 0; i < entity_count; ++i) entities[i] = {};
    for (size_t i = 0; i < feature_count; ++i) features[i] = Value();
  }
};

// All violations of one transaction, at most kViolationsMax of them; the rest is counted. Costs nothing while empty.
class Violations {
 public:
  void add(Code code, std::string field, std::string description) {
    if (list_.size() < limits::kViolationsMax) list_.push_back({code, std::move(field), std::move(description)});
    ++count_;
  }
  void clear() noexcept {
    list_.clear();
    count_ = 0;
  }
  bool empty() const noexcept { return count_ == 0; }
  size_t count() const noexcept { return count_; }  // including those not listed
  const std::vector<Violation>& list() const noexcept { return list_; }

 private:
  std::vector<Violation> list_;
  size_t count_ = 0;
};

}  // namespace assay
