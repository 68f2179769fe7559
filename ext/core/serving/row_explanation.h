// RowExplanation: what is to become, and became, of the explanation that was asked for of one row. In the row's slot.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/serving/explain_request.h"

namespace assay {

// assay.v1.ExplanationStatus.
enum class ExplanationStatus : uint8_t {
  kNone = 0,
  kGiven = 1,
  kNotWanted = 2,
  kLater = 3,
  kShed = 4,
  kLate = 5,
  kWithheld = 6,
  kSuspended = 7,
};
inline constexpr size_t kExplanationStatuses = 8;
inline constexpr std::array<const char*, kExplanationStatuses> kExplanationStatusNames = {
    "none", "given", "not_wanted", "later", "shed", "late", "withheld", "suspended"};

struct RowExplanation {
  explicit RowExplanation(const ExplainRequest& its_request) : request(its_request) {}

  const ExplainRequest request;
  ExplanationStatus status = ExplanationStatus::kNone;
  ExplanationStatus refusal = ExplanationStatus::kNone;  // found before the score was made: there is no room, or no time
  int64_t received_us = 0;  // kLater: when the request was received, by the wall clock, as both records say
  std::string answer;       // kGiven: an assay.v1.Explanation, or numbers (infer_explained.h)
  std::string record;       // kGiven: an assay.v1.ExplanationRecord
};

}  // namespace assay
