// Which calls are told, and what: trace context, sampling, reasons, the bounded list.
#include "core/serving/call_recorder.h"

#include <atomic>
#include <set>
#include <thread>

#include "check.h"
#include "core/wire/traceparent.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

const std::string kTraceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string kSpanId = "00f067aa0ba902b7";
const std::string kSampled = "00-" + kTraceId + "-" + kSpanId + "-01";
const std::string kUnsampled = "00-" + kTraceId + "-" + kSpanId + "-00";

EngineOptions traced(double ratio = 0.0, int64_t slow_ns = 0) {
  EngineOptions options = House::small();
  options.tracing.is_on = true;
  options.tracing.sample_ratio = ratio;
  options.tracing.slow_ns = slow_ns;
  return options;
}

LaneSpec approving(const House& house) {
  LaneSpec spec = house.lane_spec();
  spec.thresholds.clear();
  return spec;
}

std::vector<CallRecord> records(House& house) {
  std::vector<CallRecord> found;
  house.engine.drain_records(found);
  return found;
}

Submission score(House& house, int64_t amount, const std::string& traceparent, const std::string& more = {}) {
  return house.engine.submit_score(score_request(amount, more), {house.clock.now_ns(), 0, traceparent}, &house.queue,
                                   ++house.token);
}

// One scored call, told or not.
std::vector<CallRecord> told(House& house, const std::string& traceparent, int64_t amount = 1) {
  CHECK(score(house, amount, traceparent).code == Code::kOk);
  house.step();
  house.drain();
  return records(house);
}

constexpr uint8_t bit(RecordReason reason) { return static_cast<uint8_t>(reason); }

}  // namespace

TEST(traceparent_is_read_strictly) {
  TraceParent parent;
  REQUIRE(parse_traceparent(kSampled, &parent));
  CHECK_EQ(parent.trace_id_high, 0x4bf92f3577b34da6u);
  CHECK_EQ(parent.trace_id_low, 0xa3ce929d0e0e4736u);
  CHECK_EQ(parent.span_id, 0x00f067aa0ba902b7u);
  CHECK(parent.is_sampled);
  REQUIRE(parse_traceparent(kUnsampled, &parent));
  CHECK(!parent.is_sampled);
  CHECK(parse_traceparent("00-" + kTraceId + "-" + kSpanId + "-fe", &parent) && !parent.is_sampled);
  CHECK(parse_traceparent("01-" + kTraceId + "-" + kSpanId + "-ff-later", &parent) && parent.is_sampled);
  CHECK(parse_traceparent("00-" + std::string(32, '1') + "-" + std::string(16, '2') + "-00", &parent));
  const TraceParent before = parent;
  for (size_t size = 0; size < kSampled.size(); ++size) CHECK(!parse_traceparent(kSampled.substr(0, size), &parent));
  for (size_t at = 0; at < kSampled.size(); ++at) {
    for (const char wrong : {'g', 'A', '.', '\0', ' '}) {
      std::string text = kSampled;
      text[at] = wrong;
      CHECK(!parse_traceparent(text, &parent));
    }
  }
  for (const std::string& wrong :
       {"ff" + kSampled.substr(2), kSampled + "-", kSampled + "-x", kSampled + "0", "01" + kSampled.substr(2) + "x",
        "00-" + std::string(32, '0') + "-" + kSpanId + "-01", "00-" + kTraceId + "-" + std::string(16, '0') + "-01",
        "00-" + std::string(16, '0') + "4111111111111111-" + kSpanId + "-01", "00-" + kTraceId + "-4111111111111111-01"}) {
    CHECK(!parse_traceparent(wrong, &parent));
  }
  CHECK_EQ(parent.span_id, before.span_id);
}

TEST(callers_decision_holds_and_its_ids_are_kept) {
  House house(traced(0.0));
  REQUIRE(house.add(approving(house)).ok());
  CHECK(told(house, kUnsampled).empty());
  CHECK(told(house, "").empty());
  const std::vector<CallRecord> found = told(house, kSampled);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].trace.trace_id_high, 0x4bf92f3577b34da6u);
  CHECK_EQ(found[0].trace.trace_id_low, 0xa3ce929d0e0e4736u);
  CHECK_EQ(found[0].trace.parent_span_id, 0x00f067aa0ba902b7u);
  CHECK(found[0].span_id != 0 && found[0].span_id != found[0].trace.parent_span_id);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kSampled));
  CHECK_EQ(found[0].lane->model, "fraud");
  CHECK(found[0].kind == CallKind::kUnary && found[0].priority == Priority::kInteractive);
  CHECK(found[0].decision == Decision::kApprove);
  CHECK(records(house).empty());  // told once
}

TEST(ratio_decides_where_nobody_did) {
  House house(traced(1.0));
  REQUIRE(house.add(approving(house)).ok());
  std::set<uint64_t> ids;
  for (int i = 0; i < 50; ++i) {
    const std::vector<CallRecord> found = told(house, i % 2 == 0 ? "" : "no trace context");
    REQUIRE(found.size() == 1);
    CHECK_EQ(found[0].trace.parent_span_id, 0u);
    ids.insert({found[0].span_id, found[0].trace.trace_id_high, found[0].trace.trace_id_low});
  }
  CHECK_EQ(ids.size(), 150u);
  CHECK_EQ(house.engine.metrics().refused_traceparents, 25u);
  CHECK(told(house, kUnsampled).empty());
}

TEST(slow_failed_and_declined_calls_are_told_whatever_was_decided) {
  House house(traced(0.0, 5 * kMs));
  REQUIRE(house.add(house.lane_spec()).ok());
  CHECK(told(house, kUnsampled, 100).empty());
  std::vector<CallRecord> found = told(house, kUnsampled, 900);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kDeclined));
  CHECK_EQ(found[0].trace.trace_id_low, 0xa3ce929d0e0e4736u);  // the caller's trace, though it keeps none of it
  CHECK(!found[0].trace.is_sampled);
  house.fake->on_gather = [&](const auto&) { house.clock.advance_ns(5 * kMs); };
  found = told(house, "", 100);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kSlow));
  CHECK(found[0].trace.has_id());
  house.fake->on_gather = [&](const auto&) { house.clock.advance_ns(5 * kMs - 1); };
  CHECK(told(house, "", 100).empty());
  house.fake->is_failing = [](const auto&) { return true; };
  found = told(house, "", 100);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kFailed));
  CHECK(found[0].answer == Code::kModelRunFailed && found[0].failure == Code::kModelRunFailed);
  CHECK_EQ(found[0].stamps[static_cast<size_t>(Stamp::kScored)], 0);
  CHECK(found[0].stamps[static_cast<size_t>(Stamp::kRunStarted)] != 0);
}

TEST(with_tracing_off_only_failures_are_told_and_no_ids_are_made) {
  EngineOptions options = House::small();
  options.tracing.sample_ratio = 1.0;
  options.tracing.slow_ns = 1;
  House house(options);
  REQUIRE(house.add(house.lane_spec()).ok());
  house.fake->on_gather = [&](const auto&) { house.clock.advance_ns(kMs); };
  CHECK(told(house, kSampled, 900).empty());
  CHECK(told(house, "no trace context", 1).empty());
  CHECK_EQ(house.engine.metrics().refused_traceparents, 0u);
  house.fake->is_failing = [](const auto&) { return true; };
  const std::vector<CallRecord> found = told(house, kSampled);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].span_id, 0u);
  CHECK(!found[0].trace.has_id());
}

TEST(batch_is_told_once_with_the_last_times_of_its_rows) {
  House house(traced());
  LaneSpec spec = approving(house);
  spec.options.batch_rows_max = 2;
  REQUIRE(house.add(std::move(spec)).ok());
  const std::string bytes = batch_request({score_request(1), without_ratio(2), score_request(3), score_request(4)});
  const int64_t received_ns = house.clock.now_ns();
  CHECK(house.engine.submit_batch(bytes, {received_ns, 0, kSampled}, &house.queue, 1).code == Code::kOk);
  house.clock.advance_ns(kMs);
  CHECK_EQ(house.step(), 2u);
  house.clock.advance_ns(kMs);
  CHECK_EQ(house.step(), 1u);
  house.clock.advance_ns(kMs);
  house.drain();
  const std::vector<CallRecord> found = records(house);
  REQUIRE(found.size() == 1);
  const CallRecord& call = found[0];
  CHECK(call.kind == CallKind::kBatch && call.priority == Priority::kBulk);
  CHECK_EQ(call.row_count, 4u);
  CHECK_EQ(call.failed_rows, 1u);
  CHECK_EQ(call.batch_rows, 2u);
  CHECK(call.answer == Code::kOk && call.failure == Code::kInvalidRequest);
  CHECK_EQ(call.reasons, bit(RecordReason::kSampled));  // a bad row is its sender's fault
  CHECK_EQ(call.stamps[static_cast<size_t>(Stamp::kReceived)], received_ns);
  CHECK_EQ(call.stamps[static_cast<size_t>(Stamp::kBatched)], received_ns + 2 * kMs);
  CHECK_EQ(call.ended_ns, received_ns + 3 * kMs);
}

TEST(refused_calls_are_told_if_sampled_or_the_servers_fault) {
  House house(traced());
  REQUIRE(house.add(approving(house)).ok());
  CHECK(score(house, 1, kUnsampled, with_model("none")).code == Code::kUnknownModel);
  CHECK(house.engine.submit_score("\xff", {house.clock.now_ns(), 0, kUnsampled}, &house.queue, 1).code ==
        Code::kMalformedMessage);
  CHECK(records(house).empty());
  CHECK(score(house, 1, kSampled, with_model("none")).code == Code::kUnknownModel);
  std::vector<CallRecord> found = records(house);
  REQUIRE(found.size() == 1);
  CHECK(found[0].lane == nullptr && found[0].answer == Code::kUnknownModel);
  CHECK_EQ(found[0].failed_rows, 1u);
  house.engine.drain();
  CHECK(score(house, 1, kUnsampled).code == Code::kDraining);
  found = records(house);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kFailed));
}

TEST(cancelled_calls_are_told_if_sampled_and_expired_ones_always) {
  House house(traced());
  REQUIRE(house.add(approving(house)).ok());
  const auto abandon = [&](const std::string& traceparent, bool (Engine::*how)(CallId)) {
    const Submission submission = score(house, 1, traceparent, with_timeout_ms(10));
    CHECK((house.engine.*how)(submission.call));
    house.clock.advance_ns(10 * kMs);
    house.step();
    return records(house);
  };
  CHECK(abandon(kUnsampled, &Engine::cancel).empty());
  std::vector<CallRecord> found = abandon(kSampled, &Engine::cancel);
  REQUIRE(found.size() == 1);
  CHECK(found[0].answer == Code::kCancelled);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kSampled));
  found = abandon(kUnsampled, &Engine::expire);
  REQUIRE(found.size() == 1);
  CHECK(found[0].answer == Code::kDeadlineExceeded);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kFailed));
  CHECK_EQ(house.drain(), 0u);
}

TEST(records_wait_up_to_their_limit_and_failures_up_to_half_of_it) {
  EngineOptions options = traced();
  options.call_records_max = 8;
  House house(options);
  REQUIRE(house.add(approving(house)).ok());
  const auto score_many = [&](int count, const std::string& traceparent) {
    for (int i = 0; i < count; ++i) {
      CHECK(score(house, 1, traceparent).code == Code::kOk);
      house.step();
      house.drain();
    }
  };
  house.fake->is_failing = [](const auto&) { return true; };
  score_many(6, "");
  CHECK_EQ(house.engine.metrics().dropped_records, 2u);  // 4 wait: half of the list is not for them
  house.fake->is_failing = [](const auto&) { return false; };
  score_many(4, kSampled);
  CHECK_EQ(house.engine.metrics().dropped_records, 2u);
  score_many(1, kSampled);
  CHECK_EQ(house.engine.metrics().dropped_records, 3u);
  CHECK_EQ(records(house).size(), 8u);
  score_many(8, kSampled);
  CHECK_EQ(records(house).size(), 8u);
  CHECK_EQ(house.engine.metrics().dropped_records, 3u);
}

TEST(a_record_outlives_its_lane) {
  House house(traced());
  REQUIRE(house.add(approving(house)).ok());
  CHECK(score(house, 1, kSampled).code == Code::kOk);
  house.step();
  house.drain();
  CHECK(house.engine.remove_lane("fraud", "1").ok());
  const std::vector<CallRecord> found = records(house);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].lane->version, "1");
}

TEST(the_ratio_may_change_while_calls_come) {
  House house(traced(0.0));
  REQUIRE(house.add(approving(house)).ok());
  CHECK(told(house, "").empty());
  house.engine.set_sample_ratio(1.0);
  CHECK_EQ(told(house, "").size(), 1u);
  house.engine.set_sample_ratio(0.0);
  CHECK(told(house, "").empty());
  CHECK(told(house, kUnsampled).empty());
  CHECK_EQ(told(house, kSampled).size(), 1u);
}

TEST(ratios_change_while_other_threads_ask) {
  TracingOptions options;
  options.is_on = true;
  TraceSampler sampler(options);
  std::atomic<bool> is_done{false};
  std::thread setter([&] {
    for (int i = 0; i < 1000; ++i) sampler.set_sample_ratio(i % 2 == 0 ? 0.0 : 1.0);
    is_done = true;
  });
  size_t taken = 0, asked = 0;
  for (; !is_done || asked == 0; ++asked) taken += sampler.begin("").is_sampled;
  setter.join();
  CHECK(taken <= asked);
  sampler.set_sample_ratio(1.0);
  CHECK(sampler.begin("").is_sampled);
}

TEST(some_calls_get_a_line_and_no_more_than_the_log_takes) {
  EngineOptions options = House::small();  // no tracing
  options.request_log = {1.0, 2};
  House house(options);
  REQUIRE(house.add(approving(house)).ok());
  for (int i = 0; i < 3; ++i) {
    CHECK(score(house, 1, "").code == Code::kOk);
    house.step();
    house.drain();
  }
  std::vector<CallRecord> found = records(house);
  REQUIRE(found.size() == 2);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kLogged));
  CHECK(!found[0].trace.has_id() && found[0].span_id == 0);
  CHECK_EQ(told(house, "").size(), 1u);  // a new interval
  house.engine.set_log_ratio(0.0);
  CHECK(told(house, "").empty());
}

TEST(a_line_alone_makes_up_no_trace) {
  EngineOptions options = traced(0.0);
  options.request_log = {1.0, 100};
  House house(options);
  REQUIRE(house.add(approving(house)).ok());
  std::vector<CallRecord> found = told(house, kUnsampled);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kLogged));
  CHECK(found[0].trace.has_id() && !found[0].trace.is_sampled && found[0].span_id == 0);
}

TEST(refused_calls_get_lines_too) {
  EngineOptions options = House::small();
  options.request_log = {1.0, 100};
  House house(options);
  REQUIRE(house.add(approving(house)).ok());
  CHECK(house.engine.submit_score("\xff", {house.clock.now_ns(), 0, ""}, &house.queue, ++house.token).code != Code::kOk);
  const std::vector<CallRecord> found = records(house);
  REQUIRE(found.size() == 1);
  CHECK_EQ(found[0].reasons, bit(RecordReason::kLogged));
  CHECK(found[0].answer != Code::kOk);
}

ASSAY_TEST_MAIN
