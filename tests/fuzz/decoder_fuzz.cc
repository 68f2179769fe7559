// libFuzzer on everything that reads bytes from a client: `make fuzz`. The first byte picks the message, the rest is the message.
//
// Beside what the sanitizers see, it holds: the status of a refusal is well formed and fits into trailers; a valid transaction's
// text lies inside the message and its values are of the declared types; a good message stays good when it is merged with itself.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/base/utf8.h"
#include "core/wire/score_request.h"
#include "refusal_fixture.h"
#include "wire_fixture.h"

using namespace assay;
using fixture::check_refusal;

namespace {

const FeaturePlan& shared_plan() {
  static const std::shared_ptr<const FeaturePlan> compiled = fixture::plan();
  ASSAY_ASSERT(compiled != nullptr);
  return *compiled;
}

TransactionScan& shared_scan() {
  static const auto scan = std::make_unique<TransactionScan>();
  return *scan;
}

bool is_inside(std::string_view text, std::string_view message) {
  return text.empty() || (text.data() >= message.data() && text.data() + text.size() <= message.data() + message.size());
}

void check_transaction(const Transaction& transaction, TransactionUse use, std::string_view message) {
  const PlanSpec& spec = shared_plan().spec();
  ASSAY_ASSERT(!transaction.id.empty() && transaction.id.size() <= limits::kIdBytesMax);
  ASSAY_ASSERT(is_inside(transaction.id, message));
  for (size_t i = 0; i < spec.entities.size(); ++i) {
    const std::string_view id = transaction.entities[i];
    ASSAY_ASSERT(is_inside(id, message) && id.size() <= limits::kIdBytesMax && (use == TransactionUse::kEvent || !id.empty()));
  }
  for (size_t i = 0; i < spec.request_features.size(); ++i) {
    const Value& value = transaction.features[i];
    ASSAY_ASSERT(value.is_null() || value.dtype == spec.request_features[i].dtype);
    if (transaction.accepted_ints.has(i)) {
      ASSAY_ASSERT(spec.request_features[i].accept_int && value.dtype == Dtype::kFloat64);
      ASSAY_ASSERT(std::abs(value.float64) <= 9'007'199'254'740'992.0 && value.float64 == std::floor(value.float64));
    }
    if (value.dtype == Dtype::kString)
      ASSAY_ASSERT(is_inside(value.string(), message) && utf8_find_bad(value.string()) == nullptr);
    if (value.dtype == Dtype::kFloat64)
      ASSAY_ASSERT(std::isfinite(value.float64) && (value.float64 != 0.0 || !std::signbit(value.float64)));
  }
}

void check_decoding(const Status& status, TransactionUse use, std::string_view message) {
  if (!status.ok()) return check_refusal(status, nullptr, message);
  static Transaction transaction;
  Violations violations;
  const bool is_valid = decode_transaction(shared_scan(), shared_plan(), use, transaction, violations);
  ASSAY_ASSERT(is_valid == violations.empty());
  if (is_valid) return check_transaction(transaction, use, message);
  check_refusal(Status(Code::kInvalidRequest), &violations, message);
}

void check_twice(std::string_view message) {
  const Status once = scan_score_request(message, shared_scan());
  const std::string doubled = std::string(message) + std::string(message);
  const Status twice = scan_score_request(doubled, shared_scan());
  ASSAY_ASSERT(!once.ok() || twice.ok() || twice.code == Code::kInvalidRequest);  // twice the map entries may be too many
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view message(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0: check_decoding(scan_score_request(message, shared_scan()), TransactionUse::kScore, message); break;
    case 1: check_decoding(scan_event(message, shared_scan()), TransactionUse::kEvent, message); break;
    case 2: check_decoding(scan_stream_request(message, shared_scan()), TransactionUse::kScore, message); break;
    case 3: {
      static BatchScan batch;
      const Status status = scan_batch_request(message, 64, batch);
      if (!status.ok()) return check_refusal(status, nullptr, message), 0;
      for (const std::string_view row : batch.rows)
        check_decoding(scan_score_request(row, shared_scan()), TransactionUse::kScore, row);
      break;
    }
    case 4: {
      static std::vector<std::string_view> events;
      const Status status = scan_record_events_request(message, events);
      if (!status.ok()) return check_refusal(status, nullptr, message), 0;
      for (const std::string_view event : events) check_decoding(scan_event(event, shared_scan()), TransactionUse::kEvent, event);
      break;
    }
    default: check_twice(message); break;
  }
  return 0;
}
