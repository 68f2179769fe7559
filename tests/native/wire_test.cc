// wire/: the traps of the format, the meaning of a transaction, and the answers' bytes. tests/property/test_decoder.py holds the
// decoder against google.protobuf; here stand the cases that need no Python, so that the sanitizers see them.
#include <algorithm>
#include <cmath>
#include <limits>

#include "check.h"
#include "core/wire/response.h"
#include "core/wire/score_request.h"
#include "core/wire/wire_writer.h"
#include "wire_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

std::shared_ptr<const FeaturePlan> shared_plan() {
  static const std::shared_ptr<const FeaturePlan> compiled = plan();
  return compiled;
}

// A copy without a byte to spare, so that ASAN sees a read past its end.
struct Exact {
  explicit Exact(std::string_view text) : bytes(new char[text.size()]), size(text.size()) {
    std::copy(text.begin(), text.end(), bytes.get());
  }
  std::string_view view() const { return {bytes.get(), size}; }
  std::unique_ptr<char[]> bytes;
  size_t size;
};

struct Decoded {
  explicit Decoded(std::string_view message, TransactionUse use = TransactionUse::kScore) : bytes(message) {
    scan = std::make_unique<TransactionScan>();
    status = use == TransactionUse::kScore ? scan_score_request(bytes.view(), *scan) : scan_event(bytes.view(), *scan);
    if (status.ok()) is_valid = decode_transaction(*scan, *shared_plan(), use, transaction, violations);
    CHECK_EQ(is_valid, status.ok() && violations.empty());
  }
  // "CODE field" of each violation, in order.
  std::string codes() const {
    std::string text;
    for (const Violation& violation : violations.list()) {
      text += (text.empty() ? "" : ", ") + std::string(reason_of(violation.code)) + " " + violation.field;
    }
    return text;
  }
  Exact bytes;
  std::unique_ptr<TransactionScan> scan;
  Status status;
  Transaction transaction;
  Violations violations;
  bool is_valid = false;
};

// Where the bytes stop being a message; -1: they are one.
int64_t fault(std::string_view message) {
  const Decoded decoded(message);
  if (decoded.status.ok()) return -1;
  CHECK(decoded.status.code == Code::kMalformedMessage);
  CHECK(decoded.status.offset <= message.size());
  return decoded.status.offset;
}
bool is_message(std::string_view message) { return fault(message) == -1; }

std::string violations_of(std::string_view message, TransactionUse use = TransactionUse::kScore) {
  const Decoded decoded(message, use);
  CHECK(decoded.status.ok());
  return decoded.codes();
}

// The payloads of all occurrences of a length-delimited field, in order. Aborts the test on bytes that are no message.
std::vector<std::string> members(std::string_view message, uint32_t field) {
  std::vector<std::string> found;
  WireFault fault;
  WireReader in(message, fault);
  while (!in.at_end()) {
    uint32_t tag = 0;
    std::string_view payload;
    bool is_read = in.read_tag(&tag);
    if (is_read && tag == wire_tag(field, WireType::kDelimited)) {
      is_read = in.read_delimited(&payload);
      found.emplace_back(payload);
    } else {
      is_read = is_read && in.skip(tag);
    }
    if (!is_read) {
      CHECK(false);
      break;
    }
  }
  return found;
}
std::string member(std::string_view message, uint32_t field) {
  const auto found = members(message, field);
  CHECK_EQ(found.size(), 1u);
  return found.empty() ? "" : found[0];
}

}  // namespace

// --- the wire format ---

TEST(a_good_request) {
  const Decoded decoded(transaction() + feature_entry("ratio", fixed64(1, 0.5)) + feature_entry("is_online", number(3, 1)) +
                        feature_entry("merchant", delimited(4, "caf\xc3\xa9")) + delimited(5, "card") + delimited(6, "3") +
                        number(7, 2) + delimited(8, number(1, 2) + number(2, 5)) + number(10, 1) + number(11, 1) +
                        delimited(12, number(1, 3) + fixed64(2, 0.5)) + delimited(12, number(3, 7) + number(5, 2)));
  REQUIRE(decoded.is_valid);
  const Transaction& transaction = decoded.transaction;
  CHECK_EQ(transaction.id, "tx-1");
  CHECK_EQ(transaction.event_time_us, 1'522'540'831'000'001);
  CHECK_EQ(transaction.entities[0], "596");
  CHECK_EQ(transaction.entities[1], "3156");
  CHECK_EQ(transaction.features[0].int64, 5716);
  CHECK_EQ(transaction.features[1].float64, 0.5);
  CHECK(transaction.features[2].boolean);
  CHECK_EQ(transaction.features[3].string(), "caf\xc3\xa9");
  const TransactionScan& scan = *decoded.scan;
  CHECK_EQ(scan.model, "card");
  CHECK_EQ(scan.version, "3");
  CHECK_EQ(scan.priority, 2);
  CHECK(scan.timeout.is_set && scan.timeout.seconds == 2 && scan.timeout.nanos == 5);
  CHECK(scan.include_features && scan.include_timings);
  const ExplainFields& explain = scan.explain;  // two occurrences are one message
  CHECK(explain.is_set && explain.has_min_score);
  CHECK_EQ(explain.when, 3);
  CHECK_EQ(explain.min_score, 0.5);
  CHECK_EQ(explain.top_k, 7u);
  CHECK_EQ(explain.players, 0);
  CHECK_EQ(explain.mode, 2);
}

TEST(every_truncation_is_refused_or_shorter) {
  const std::string whole = transaction() + number(7, 300) + fixed64(90, 1.0) + tag(91, WireType::kStartGroup) + number(1, 1) +
                            tag(91, WireType::kEndGroup);
  int refused = 0;
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) refused += is_message(whole.substr(0, bytes)) ? 0 : 1;
  CHECK(is_message(whole));
  CHECK_EQ(refused, static_cast<int>(whole.size()) - 8);  // eight fields begin here, each a place where a message may end
}

TEST(lengths_of_tags_and_varints) {
  const std::string a =
      "\x01"
      "a";
  for (size_t bytes = 1; bytes <= 5; ++bytes) {
    CHECK_EQ(Decoded(varint(wire_tag(1, WireType::kDelimited), bytes) + a).transaction.id, "a");
    CHECK_EQ(Decoded("\x0a" + varint(1, bytes) + "a").transaction.id, "a");
  }
  CHECK_EQ(fault(varint(wire_tag(1, WireType::kDelimited), 6) + a), 0);
  CHECK_EQ(fault("\x0a" + varint(1, 6) + "a"), 1);
  CHECK_EQ(fault(std::string("\x8a\x80\x80\x80\x10", 5) + a), 0);  // a tag past 32 bits
  CHECK_EQ(fault(std::string("\x0a\x81\x80\x80\x80\x08", 6)), 1);  // a length past 31 bits
  CHECK_EQ(Decoded(varint(wire_tag(7, WireType::kVarint)) + varint(2, 10)).scan->priority, 2);
  CHECK_EQ(fault(varint(wire_tag(7, WireType::kVarint)) + varint(2, 11)), 1);
  CHECK_EQ(Decoded("\x38" + std::string(9, '\x81') + "\x7f").scan->priority, 270549121);  // high bits fall off
  CHECK_EQ(fault(varint(wire_tag(99, WireType::kVarint)) + varint(2, 11)), 2);
}

TEST(fields_that_cannot_be) {
  CHECK_EQ(fault(std::string("\x00\x01", 2)), 0);
  CHECK_EQ(fault(std::string("\x02\x00", 2)), 0);
  CHECK_EQ(fault(delimited(1, "a") + "\x0e\x01"), 4);  // wire type 6
  CHECK_EQ(fault("\x0f\x01"), 1);
  CHECK_EQ(fault("\x0c"), 1);  // a stray end of a group
  CHECK_EQ(fault(delimited(2, "\x0c")), 3);
  CHECK_EQ(fault("\x12\x01\x0a"), 3);  // a tag, and then the Timestamp ends
  CHECK_EQ(fault("\x0a\x05"
                 "abc"),
           1);
  CHECK_EQ(fault("\x12\x01\x08\x05"), 3);  // the varint lies past the Timestamp's end
}

TEST(unknown_fields_are_skipped) {
  const std::string group = tag(90, WireType::kStartGroup) + number(3, 7) + tag(2, WireType::kStartGroup) + delimited(1, "\xff") +
                            tag(2, WireType::kEndGroup) + tag(90, WireType::kEndGroup);
  const std::string unknown =
      number(99, 1) + fixed64(98, 1.0) + tag(97, WireType::kFixed32) + "abcd" + delimited(96, "\xff") + group;
  CHECK(Decoded(unknown + transaction() + unknown).is_valid);
  // A known field with another wire type is unknown, also inside other messages.
  CHECK(Decoded(number(1, 5) + number(2, 5) + fixed64(7, 1.0) + number(3, 1) + delimited(9, "x") + transaction()).is_valid);
  CHECK(Decoded(transaction() + feature_entry("amount_minor", integer(3) + number(1, 9) + unknown)).is_valid);
  CHECK(Decoded(transaction() + delimited(2, fixed64(1, 1.0) + unknown)).is_valid);
  // upb drops the whole entry; the specification keeps it, and so do we.
  CHECK(Decoded(transaction() + delimited(4, unknown + delimited(1, "ratio") + number(1, 9) + delimited(2, fixed64(1, 0.0))))
            .is_valid);
}

TEST(groups) {
  const auto nested = [](size_t depth) { return std::string(depth, '\x0b') + std::string(depth, '\x0c'); };
  CHECK(is_message(nested(100)));
  CHECK_EQ(fault(nested(101)), 100);
  CHECK(is_message(delimited(2, nested(99))) && !is_message(delimited(2, nested(100))));
  CHECK(is_message(feature_entry("a", nested(98))) && !is_message(feature_entry("a", nested(99))));
  CHECK_EQ(fault("\x0b\x14"), 1);                         // another group's end
  CHECK_EQ(fault("\x0b\x08\x01"), 3);                     // no end
  CHECK(is_message(std::string("\x0b\x00\x01\x0c", 4)));  // within a group upb lets the number 0 pass
  CHECK(!is_message(std::string("\x0b\x0e\x0c", 3)));
}

TEST(text_is_utf8) {
  CHECK_EQ(fault(delimited(1, "ab\xff")), 4);
  CHECK_EQ(fault(delimited(1, "\xff") + delimited(1, "a")), 2);  // even if another one wins
  CHECK(!is_message(entity("\xc3", "x")) && !is_message(entity("x", "\xed\xa0\x80")));
  CHECK(!is_message(feature_entry("\x80", "")) && !is_message(feature_entry("a", delimited(4, "\xff") + integer(1))));
  CHECK(!is_message(delimited(5, "\xff")) && !is_message(delimited(6, "\xff")));
  const Decoded decoded(entity("customer_id", "4111111111111111\xff"));
  CHECK_EQ(decoded.status.detail, "byte 33 (an id in entities): text is not UTF-8");
}

TEST(what_occurs_twice) {
  // Strings and numbers: the last. Timestamps and values merge.
  const Decoded decoded(delimited(1, "old") + delimited(2, number(1, 5)) + transaction() + delimited(2, number(2, 3'000)) +
                        number(7, 1) + number(7, 2));
  CHECK_EQ(decoded.transaction.id, "tx-1");
  CHECK_EQ(decoded.transaction.event_time_us, 1'522'540'831'000'003);
  CHECK_EQ(decoded.scan->priority, 2);
  const std::string amount = delimited(1, "amount_minor");
  CHECK_EQ(
      Decoded(transaction() + delimited(4, amount + delimited(2, integer(5)) + delimited(2, ""))).transaction.features[0].int64,
      5);
  CHECK_EQ(Decoded(transaction() + delimited(4, delimited(2, integer(6)) + amount)).transaction.features[0].int64, 6);
  CHECK_EQ(Decoded(transaction() + feature_entry("amount_minor", fixed64(1, 1.0) + integer(7))).transaction.features[0].int64, 7);
  // A name twice: the last entry, also for what is wrong with it.
  CHECK(Decoded(feature_entry("amount_minor", fixed64(1, 2.0)) + transaction()).is_valid);
  CHECK(Decoded(feature_entry("amount_minor", "") + transaction()).is_valid);
  CHECK_EQ(violations_of(transaction() + feature_entry("amount_minor", "")), "VALUE_UNSET features[\"amount_minor\"]");
  CHECK_EQ(violations_of(transaction() + feature_entry("amount_minor", fixed64(1, 2.0))),
           "WRONG_TYPE features[\"amount_minor\"]");
  CHECK_EQ(Decoded(transaction() + entity("customer_id", "9")).transaction.entities[0], "9");
  CHECK_EQ(violations_of(transaction() + entity("customer_id", "")), "MISSING_ENTITY entities[\"customer_id\"]");
  CHECK(Decoded(entity("customer_id", std::string(200, 'x')) + transaction()).is_valid);
}

TEST(numbers_are_cut_as_protobuf_cuts) {
  CHECK_EQ(Decoded(transaction() + delimited(2, number(2, (uint64_t{5} << 32) | 7'000))).transaction.event_time_us,
           1'522'540'831'000'007);
  CHECK_EQ(Decoded(number(7, (uint64_t{7} << 32) | 2)).scan->priority, 2);
  CHECK_EQ(Decoded(number(7, ~uint64_t{0})).scan->priority, -1);
  CHECK(Decoded(number(10, uint64_t{1} << 63)).scan->include_features);
  CHECK(Decoded(number(10, 1) + number(10, 0)).scan->include_features == false);
  CHECK_EQ(Decoded(delimited(12, number(3, (uint64_t{7} << 32) | 4))).scan->explain.top_k, 4u);
  CHECK(Decoded(delimited(12, "")).scan->explain.is_set);
  CHECK_EQ(Decoded(number(5, 2), TransactionUse::kEvent).scan->is_fraud, 1);
  CHECK_EQ(Decoded(number(5, 0), TransactionUse::kEvent).scan->is_fraud, 0);
  CHECK_EQ(Decoded("", TransactionUse::kEvent).scan->is_fraud, -1);
}

TEST(a_scan_forgets_the_last_message) {
  const auto scan = std::make_unique<TransactionScan>();
  const std::string full = transaction() + delimited(5, "m") + delimited(6, "v") + number(7, 2) + delimited(8, number(1, 2)) +
                           number(10, 1) + number(11, 1) + delimited(12, number(1, 2) + fixed64(2, 1.0));
  CHECK(scan_score_request(full, *scan).ok());
  CHECK(scan_score_request("", *scan).ok());
  CHECK(scan->transaction_id.empty() && scan->model.empty() && scan->version.empty() && scan->priority == 0);
  CHECK(!scan->event_time.is_set && scan->event_time.seconds == 0 && scan->event_time.nanos == 0 && !scan->timeout.is_set);
  CHECK(!scan->explain.is_set && !scan->explain.has_min_score && scan->explain.when == 0);
  CHECK(!scan->include_features && !scan->include_timings);
  CHECK_EQ(scan->entity_count + scan->feature_count, 0u);
}

TEST(map_entries_have_a_limit) {
  std::string message = transaction();
  for (size_t i = 1; i < limits::kMapEntriesMax; ++i) message += feature_entry("amount_minor", integer(1));
  for (size_t i = 2; i < limits::kMapEntriesMax; ++i) message += entity("customer_id", "a");
  CHECK(Decoded(message).is_valid);
  const Decoded features(message + feature_entry("amount_minor", integer(1)));
  CHECK(features.status.code == Code::kInvalidRequest);
  CHECK_EQ(features.status.detail,
           "byte " + std::to_string(message.size() + 1) + " (features): more than 512 entries; send each name once");
  CHECK(Decoded(message + entity("customer_id", "a")).status.detail.find("(entities): more than 512 entries") !=
        std::string::npos);
}

TEST(stream_requests_merge) {
  const auto scan = std::make_unique<TransactionScan>();
  const std::string message =
      delimited(1, transaction()) + number(9, 1) + delimited(1, delimited(1, "tx-2") + entity("customer_id", "1"));
  CHECK(scan_stream_request(message, *scan).ok());
  CHECK_EQ(scan->transaction_id, "tx-2");
  CHECK_EQ(scan->entity_count, 3u);
  CHECK(scan->event_time.is_set);
  CHECK(scan_stream_request("", *scan).ok() && scan->transaction_id.empty());
  const Status status = scan_stream_request(delimited(1, std::string("\x00", 1)), *scan);
  CHECK(status.code == Code::kMalformedMessage && status.offset == 2);
}

TEST(batches_are_split) {
  BatchScan scan;
  const std::string message = delimited(1, "one") + delimited(2, "m") + delimited(1, "") + delimited(3, "v") + number(4, 1) +
                              delimited(5, number(1, 3)) + number(6, 1) + number(7, 1);
  REQUIRE(scan_batch_request(message, 2, scan).ok());
  CHECK(scan.rows == (std::vector<std::string_view>{"one", ""}));
  CHECK(scan.model == "m" && scan.version == "v" && scan.priority == 1 && scan.include_features && scan.include_timings);
  CHECK(scan.timeout.is_set && scan.timeout.seconds == 3);
  CHECK(scan_batch_request(message, 1, scan).code == Code::kTooManyRows);
  CHECK(scan_batch_request(message + "\x0c", 2, scan).code == Code::kMalformedMessage);
  CHECK(scan_batch_request(delimited(2, "\xff"), 2, scan).code == Code::kMalformedMessage);
  CHECK(scan_batch_request("", 2, scan).ok() && scan.rows.empty() && scan.model.empty() && !scan.timeout.is_set);

  std::vector<std::string_view> events{"stale"};
  std::string many;
  for (size_t i = 0; i < limits::kEventsPerMessageMax; ++i) many += delimited(1, "x");
  CHECK(scan_record_events_request(many, events).ok() && events.size() == limits::kEventsPerMessageMax);
  CHECK(scan_record_events_request(many + delimited(1, "x"), events).code == Code::kTooManyRows);
  CHECK(scan_record_events_request("\x0a\x02x", events).code == Code::kMalformedMessage);
}

// --- what a transaction must be ---

TEST(all_violations_at_once) {
  CHECK_EQ(violations_of(""),
           "MISSING_FIELD event_time, MISSING_FIELD transaction_id, MISSING_ENTITY entities[\"customer_id\"], "
           "MISSING_ENTITY entities[\"terminal_id\"], MISSING_FEATURE features[\"amount_minor\"]");
  CHECK_EQ(
      violations_of(transaction() + entity("costumer_id", "1") + entity("costumer_id", "2") +
                    feature_entry("amuont", integer(1)) + feature_entry("ratio", integer(1)) +
                    feature_entry("is_online", fixed64(1, 1.0)) + feature_entry("merchant", delimited(4, std::string(257, 'x')))),
      "UNKNOWN_ENTITY entities[\"costumer_id\"], UNKNOWN_FEATURE features[\"amuont\"], WRONG_TYPE features[\"ratio\"], "
      "WRONG_TYPE features[\"is_online\"], TOO_LONG features[\"merchant\"]");
}

TEST(an_integer_is_taken_where_it_is_accepted_and_lossless) {
  constexpr size_t kAltitude = 4;
  constexpr int64_t kMax = int64_t{1} << 53;
  for (const TransactionUse use : {TransactionUse::kScore, TransactionUse::kEvent}) {
    for (const int64_t value : {int64_t{0}, int64_t{-12}, kMax - 1, kMax, -kMax}) {
      const Decoded decoded(transaction() + feature_entry("altitude", integer(value)), use);
      REQUIRE(decoded.is_valid);
      CHECK(decoded.transaction.features[kAltitude].dtype == Dtype::kFloat64);
      CHECK_EQ(static_cast<int64_t>(decoded.transaction.features[kAltitude].float64), value);
      CHECK(decoded.transaction.accepted_ints.has(kAltitude) && !decoded.transaction.accepted_ints.has(0));
    }
    for (const int64_t value : {kMax + 1, -kMax - 1, INT64_MAX, INT64_MIN}) {
      const Decoded decoded(transaction() + feature_entry("altitude", integer(value)), use);
      CHECK_EQ(decoded.codes(), "OUT_OF_RANGE features[\"altitude\"]");
      CHECK(!decoded.transaction.accepted_ints.has(kAltitude));
    }
  }
  // The last entry of a name counts, and a float64 is nothing that was accepted.
  const Decoded last(transaction() + feature_entry("altitude", integer(1)) + feature_entry("altitude", fixed64(1, 2.0)));
  CHECK(last.is_valid && !last.transaction.accepted_ints.has(kAltitude));
  CHECK_EQ(violations_of(transaction() + feature_entry("altitude", fixed64(1, 1.1e16))), "OUT_OF_RANGE features[\"altitude\"]");
  CHECK_EQ(violations_of(transaction() + feature_entry("ratio", integer(1))), "WRONG_TYPE features[\"ratio\"]");
}

TEST(violations_are_listed_up_to_a_limit) {
  std::string message = transaction();
  for (size_t i = 0; i < limits::kViolationsMax + 5; ++i) message += feature_entry("x" + std::to_string(i), integer(1));
  const Decoded decoded(message);
  CHECK_EQ(decoded.violations.list().size(), limits::kViolationsMax);
  CHECK_EQ(decoded.violations.count(), limits::kViolationsMax + 5);
}

TEST(violations_never_show_values) {
  const std::string card = "4111111111111111";
  const Decoded decoded(
      delimited(1, card + std::string(200, '1')) + entity("customer_id", card + std::string(200, '1')) + entity(card, "x") +
      feature_entry(card, integer(4111111111111111)) + feature_entry("amount_minor", integer(4111111111111111)) +
      feature_entry("ratio", fixed64(1, 4111111111111111.0)) + feature_entry("merchant", delimited(4, std::string(300, '4'))));
  CHECK(decoded.violations.count() >= 7);
  const std::string status = encode_rpc_status(Status(Code::kInvalidRequest), &decoded.violations);
  CHECK_EQ(status.find("4111"), std::string::npos);
  CHECK_EQ(status.find("4444"), std::string::npos);
}

TEST(ids_have_limits) {
  const std::string rest = transaction();
  CHECK(Decoded(rest + delimited(1, std::string(128, 'x')) + entity("customer_id", std::string(128, 'y'))).is_valid);
  CHECK_EQ(violations_of(rest + delimited(1, std::string(129, 'x')) + entity("customer_id", std::string(129, 'y'))),
           "TOO_LONG transaction_id, TOO_LONG entities[\"customer_id\"]");
  CHECK(Decoded(rest + feature_entry("merchant", delimited(4, std::string(256, 'x')))).is_valid);
}

TEST(numbers_have_ranges) {
  const auto amount = [](int64_t value) { return violations_of(transaction() + feature_entry("amount_minor", integer(value))); };
  const auto ratio = [](double value) { return violations_of(transaction() + feature_entry("ratio", fixed64(1, value))); };
  CHECK_EQ(amount(0) + amount(1'000'000'000) + ratio(-1.0) + ratio(1.0), "");
  CHECK_EQ(amount(-1), "OUT_OF_RANGE features[\"amount_minor\"]");
  CHECK_EQ(amount(1'000'000'001), "OUT_OF_RANGE features[\"amount_minor\"]");
  CHECK_EQ(ratio(std::nextafter(1.0, 2.0)), "OUT_OF_RANGE features[\"ratio\"]");
  CHECK_EQ(ratio(std::numeric_limits<double>::quiet_NaN()), "NOT_FINITE features[\"ratio\"]");
  CHECK_EQ(ratio(-std::numeric_limits<double>::infinity()), "NOT_FINITE features[\"ratio\"]");
  const Decoded zero(transaction() + feature_entry("ratio", fixed64(1, -0.0)));
  CHECK(zero.is_valid && !std::signbit(zero.transaction.features[1].float64));
  const Decoded described(transaction() + feature_entry("amount_minor", integer(-1)));
  CHECK_EQ(described.violations.list().at(0).description, "is outside the declared range; expected 0 to 1000000000");
}

TEST(event_times) {
  const auto time = [](int64_t seconds, int32_t nanos) {
    int64_t time_us = 0;
    return timestamp_us(seconds, nanos, &time_us) ? time_us : std::numeric_limits<int64_t>::min();
  };
  constexpr int64_t kRefused = std::numeric_limits<int64_t>::min();
  CHECK_EQ(time(-62'135'596'800, 0), -62'135'596'800'000'000);
  CHECK_EQ(time(253'402'300'799, 999'999'999), 253'402'300'799'999'999);
  CHECK_EQ(time(-62'135'596'801, 999'999'999), kRefused);
  CHECK_EQ(time(253'402'300'800, 0), kRefused);
  CHECK_EQ(time(0, -1), kRefused);
  CHECK_EQ(time(0, 1'000'000'000), kRefused);
  CHECK_EQ(time(-1, 999'999'999), -1);  // floored, not cut
  CHECK_EQ(violations_of(transaction() + delimited(2, number(2, 1'000'000'000))), "BAD_TIMESTAMP event_time");
  CHECK(Decoded(transaction() + delimited(2, number(1, 0) + number(2, 0))).transaction.event_time_us == 0);
}

TEST(durations) {
  const auto ns = [](int64_t seconds, int32_t nanos) {
    int64_t result = -1;
    return positive_duration_ns({true, seconds, nanos}, &result) ? result : -1;
  };
  CHECK_EQ(ns(1, 5), 1'000'000'005);
  CHECK_EQ(ns(0, 1), 1);
  CHECK_EQ(ns(0, 0), -1);
  CHECK_EQ(ns(-1, 0), -1);
  CHECK_EQ(ns(1, -1), -1);
  CHECK_EQ(ns(-1, 1), -1);
  CHECK_EQ(ns(0, 1'000'000'000), -1);
  CHECK_EQ(ns(315'576'000'001, 0), -1);
  CHECK(ns(315'576'000'000, 999'999'999) > 0 && ns(4'611'686'018, 427'387'903) > 0);
  CHECK_EQ(ns(4'611'686'017, 999'999'999), 4'611'686'017'999'999'999);
}

TEST(events_need_less) {
  const std::string head = delimited(1, "tx-1") + delimited(2, timestamp(5, 0));
  CHECK_EQ(violations_of(head, TransactionUse::kEvent), "MISSING_ENTITY entities");
  CHECK_EQ(violations_of(head + entity("terminal_id", "1"), TransactionUse::kEvent), "");
  CHECK_EQ(violations_of(head + entity("customer_id", "1"), TransactionUse::kEvent),
           "MISSING_FEATURE features[\"amount_minor\"]");
  CHECK_EQ(violations_of(head + entity("terminal_id", "1") + entity("customer_id", ""), TransactionUse::kEvent),
           "MISSING_ENTITY entities[\"customer_id\"]");
}

// --- answers ---

namespace {

struct Answered {
  Answered() {
    views[0].is_found = true;
    views[0].age_us = 1'500'000;
    answer.transaction_id = "tx-1";
    answer.has_score = true;
    answer.score = 0.0;
    answer.decision = Decision::kDecline;
    answer.plan = shared_plan().get();
    answer.row = row;
    answer.missing = &missing;
    answer.imputed = &imputed;
    answer.views = views;
    answer.stamps = &stamps;
    answer.batch_rows = 300;
  }
  std::string encoded(std::string_view provenance = {}) const {
    std::string out;
    append_score_response(answer, provenance, out);
    return out;
  }
  alignas(8) uint8_t row[64] = {};
  uint64_t missing = 0, imputed = 0;
  FoldResult views[2];
  Stamps stamps{};
  RowAnswer answer;
};

}  // namespace

TEST(a_score_of_zero_is_there) {
  Answered answered;
  const std::string head = delimited(1, "tx-1") + fixed64(2, 0.0) + number(3, 4);
  CHECK_EQ(answered.encoded().substr(0, head.size()), head);
  answered.answer.has_score = false;
  answered.answer.decision = Decision::kUnspecified;
  CHECK_EQ(answered.encoded("p").substr(0, 9), delimited(1, "tx-1") + delimited(4, "p"));
}

TEST(view_ages) {
  Answered answered;
  CHECK(members(answered.encoded(), 8) ==
        (std::vector<std::string>{delimited(1, "customer") + delimited(2, number(1, 1) + number(2, 500'000'000)),
                                  delimited(1, "terminal")}));
  answered.views[0].age_us = 0;
  CHECK_EQ(members(answered.encoded(), 8)[0], delimited(1, "customer") + delimited(2, ""));
  answered.views[0].age_us = -1'500'000;
  const uint64_t nanos = static_cast<uint64_t>(int64_t{-500'000'000});
  CHECK_EQ(members(answered.encoded(), 8)[0],
           delimited(1, "customer") + delimited(2, number(1, ~uint64_t{0}) + number(2, nanos)));
}

TEST(degradations_and_names) {
  Answered answered;
  CHECK(members(answered.encoded(), 5).empty() && members(answered.encoded(), 6).empty() &&
        members(answered.encoded(), 7).empty());
  answered.views[0].rejected = Code::kRecordChecksum;
  answered.views[1].rejected = Code::kStoreUnavailable;
  answered.views[1].is_stale = answered.views[1].is_saturated = answered.views[1].is_approximate = true;
  answered.missing = 0b1011;
  answered.imputed = 0b1001;
  const auto found = members(answered.encoded(), 5);
  REQUIRE(found.size() == 5);
  CHECK_EQ(found[0], number(1, 3) + delimited(2, "customer") + delimited(3, "RECORD_CHECKSUM"));
  CHECK_EQ(found[1], number(1, 1) + delimited(2, "terminal") + delimited(3, "STORE_UNAVAILABLE"));
  CHECK_EQ(found[2].substr(0, 2) + found[3].substr(0, 2) + found[4].substr(0, 2), number(1, 2) + number(1, 4) + number(1, 5));
  CHECK(members(answered.encoded(), 6) == (std::vector<std::string>{"count_input", "ratio_input", "online_input"}));
  CHECK(members(answered.encoded(), 7) == (std::vector<std::string>{"count_input", "online_input"}));
}

TEST(inputs_are_shown_typed) {
  Answered answered;
  const float count = 2.5f;
  const double ratio = std::numeric_limits<double>::quiet_NaN();
  const int64_t amount = -3;
  std::memcpy(answered.row + shared_plan()->segments()[0].offset_bytes, &count, 4);
  std::memcpy(answered.row + shared_plan()->segments()[1].offset_bytes, &ratio, 8);
  std::memcpy(answered.row + shared_plan()->segments()[2].offset_bytes, &amount, 8);
  CHECK(members(answered.encoded(), 9).empty());
  answered.answer.include_features = true;
  CHECK(members(answered.encoded(), 9) == (std::vector<std::string>{
                                              delimited(1, "count_input") + delimited(2, fixed64(1, 2.5)),
                                              delimited(1, "ratio_input") + delimited(2, fixed64(1, ratio)),
                                              delimited(1, "amount_input") + delimited(2, integer(-3)),
                                              delimited(1, "online_input") + delimited(2, number(3, 0)),  // false, not unset
                                          }));
}

TEST(stage_times) {
  Answered answered;
  answered.answer.include_timings = true;
  answered.stamps = {1'000, 1'001, 1'003, 1'006, 1'010, 2'000'001'015, 2'000'001'015, 2'000'001'017, 2'000'001'021};
  const auto ns = [](uint64_t seconds, uint64_t nanos) { return (seconds != 0 ? number(1, seconds) : "") + number(2, nanos); };
  CHECK_EQ(member(answered.encoded(), 10), delimited(1, ns(0, 1)) + delimited(2, ns(0, 2)) + delimited(3, ns(0, 3)) +
                                               delimited(4, ns(0, 4)) + delimited(5, ns(2, 5)) + delimited(6, ns(0, 4)) +
                                               delimited(7, ns(2, 21)) + number(8, 300) + delimited(9, ns(0, 2)));
  answered.stamps[6] += 1;  // it waited for an explanation
  CHECK_EQ(members(member(answered.encoded(), 10), 9)[0], ns(0, 1));
  CHECK_EQ(members(member(answered.encoded(), 10), 10)[0], ns(0, 1));
  answered.stamps[3] = 0;  // a stage that was not reached has no time, and neither has the one before
  CHECK(members(member(answered.encoded(), 10), 3).empty() && members(member(answered.encoded(), 10), 4).empty());
}

TEST(batch_and_stream_answers) {
  Answered answered;
  const std::string response = answered.encoded();
  std::string batch, stream, refused;
  append_batch_provenance("p", batch);
  append_batch_result(answered.answer, {}, batch);
  CHECK_EQ(batch, delimited(1, "p") + delimited(2, delimited(1, "tx-1") + delimited(3, response)));
  append_stream_response(answered.answer, {}, "p", stream);
  CHECK_EQ(stream, delimited(1, "tx-1") + delimited(3, answered.encoded("p")));
  RowAnswer empty;  // what a refused row has: no plan, perhaps no id
  append_batch_result(empty, "s", refused);
  CHECK_EQ(refused, delimited(2, delimited(2, "s")));
}

TEST(nested_messages_of_every_length) {
  for (const size_t bytes : {0, 1, 127, 128, 129, 16383, 16384, 2097151, 2097152}) {
    const std::string payload(bytes, 'x');
    std::string out = "before";
    WireWriter writer(out);
    writer.message(20, [&] { out += payload; });
    CHECK(out == "before" + delimited(20, payload));
    CHECK_EQ(out.size() - 6, WireWriter::delimited_bytes(20, bytes));
  }
  for (int bit = 0; bit < 64; ++bit) CHECK_EQ(WireWriter::varint_bytes(uint64_t{1} << bit), varint(uint64_t{1} << bit).size());
}

TEST(provenance) {
  CHECK_EQ(encode_provenance("card", "3", "ab", *shared_plan()), delimited(1, "card") + delimited(2, "3") + delimited(3, "ab") +
                                                                     delimited(4, "test") + delimited(5, "7") +
                                                                     delimited(6, std::string(64, 'a')));
}

// --- google.rpc.Status ---

namespace {

std::string any_of(std::string_view status, const char* type) {
  for (const std::string& any : members(status, 3)) {
    if (member(any, 1) == std::string("type.googleapis.com/google.rpc.") + type) return member(any, 2);
  }
  return "absent";
}

}  // namespace

TEST(a_status_for_malformed_bytes) {
  const Status status = Decoded(delimited(1, "ab\xff")).status;
  const std::string bytes = encode_rpc_status(status);
  CHECK_EQ(bytes.substr(0, 2), number(1, 3));
  CHECK_EQ(member(bytes, 2), rpc_message(status));
  CHECK(member(bytes, 2).find("byte 4 (transaction_id): text is not UTF-8") != std::string::npos);
  CHECK_EQ(any_of(bytes, "ErrorInfo"), delimited(1, "MALFORMED_MESSAGE") + delimited(2, "assay") +
                                           delimited(3, delimited(1, "byte_offset") + delimited(2, "4")));
  CHECK_EQ(any_of(bytes, "RetryInfo") + any_of(bytes, "BadRequest"), "absentabsent");
}

TEST(a_status_that_invites_a_retry) {
  const std::string bytes = encode_rpc_status(Status(Code::kDraining));
  CHECK_EQ(bytes.substr(0, 2), number(1, 14));
  const int64_t ns = int64_t{code_info(Code::kDraining).retry_ms} * 1'000'000;
  CHECK_EQ(any_of(bytes, "RetryInfo"), delimited(1, number(2, static_cast<uint64_t>(ns))));
  CHECK_EQ(any_of(bytes, "ErrorInfo"), delimited(1, "DRAINING") + delimited(2, "assay"));
}

TEST(a_status_with_violations) {
  Violations violations;
  violations.add(Code::kWrongType, "features[\"a\"]", "is int64; expected float64");
  const std::string bytes = encode_rpc_status(Status(Code::kInvalidRequest), &violations);
  CHECK_EQ(
      any_of(bytes, "BadRequest"),
      delimited(1, delimited(1, "features[\"a\"]") + delimited(2, "is int64; expected float64") + delimited(3, "WRONG_TYPE")));
  CHECK_EQ(member(bytes, 2),
           std::string(code_info(Code::kInvalidRequest).message) + " features[\"a\"] is int64; expected float64.");
}

TEST(a_status_fits_into_trailers) {
  Violations violations;
  for (int i = 0; i < 40; ++i) violations.add(Code::kUnknownFeature, feature_path(std::string(64, 'x')), std::string(100, 'y'));
  const std::string bytes = encode_rpc_status(Status(Code::kInvalidRequest), &violations);
  CHECK(bytes.size() < 6 * 1024);
  const size_t listed = members(any_of(bytes, "BadRequest"), 1).size();
  CHECK(listed > 10 && listed < 32);
  const std::string message = member(bytes, 2);
  CHECK(message.find(" 37 more. The details list the first " + std::to_string(listed) + ".") != std::string::npos);
  CHECK(message.size() < 1024);
  CHECK(encode_rpc_status(Status(Code::kIo, std::string(10'000, 'z'))).size() < 1024);
  CHECK_EQ(utf8_find_bad(rpc_message(Status(Code::kIo, "caf\xe9"))), nullptr);
}

// --- any bytes ---

TEST(any_bytes_give_a_status) {
  auto random = check::random_engine();
  const std::string seed = transaction() + feature_entry("ratio", fixed64(1, 0.5)) +
                           feature_entry("merchant", delimited(4, "\xc3\xa4")) + delimited(8, number(1, 2)) + number(7, 2) +
                           tag(91, WireType::kStartGroup) + number(1, 1) + tag(91, WireType::kEndGroup);
  int good = 0;
  for (int i = 0; i < check::scaled(5000); ++i) {
    std::string bytes = seed;
    for (uint64_t edits = random() % 4; edits-- > 0;) {
      const size_t at = random() % (bytes.size() + 1);
      if (random() % 3 == 0)
        bytes.insert(at, 1, static_cast<char>(random()));
      else if (at < bytes.size() && random() % 2 == 0)
        bytes.erase(at, 1 + random() % 3);
      else if (at < bytes.size())
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
    }
    for (const TransactionUse use : {TransactionUse::kScore, TransactionUse::kEvent}) {
      const Decoded decoded(bytes, use);
      good += decoded.is_valid ? 1 : 0;
      if (!decoded.is_valid) {
        const std::string status =
            encode_rpc_status(decoded.status.ok() ? Status(Code::kInvalidRequest) : decoded.status, &decoded.violations);
        CHECK_EQ(utf8_find_bad(member(status, 2)), nullptr);
      }
    }
  }
  CHECK(good > 100);
}

ASSAY_TEST_MAIN
