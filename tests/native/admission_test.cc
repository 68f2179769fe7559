// What gets in and what does not: the call's own fields, limits at the limit and one past it, deadlines at each of the five
// checks, shedding, the choice of the lane, draining and stopping. One thread, no waiting.
#include "serving_fixture.h"

#include <set>

#include "check.h"

using namespace assay;
using namespace fixture;

namespace {

std::vector<std::string> good_rows(size_t count) {
  std::vector<std::string> rows;
  for (size_t i = 0; i < count; ++i) rows.push_back(score_request(static_cast<int64_t>(i)));
  return rows;
}

}  // namespace

// --- fields of the call

TEST(all_violations_come_at_once) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const Submission refused =
      house.score(1, with_priority(3) + delimited(8, number(1, 0)) + delimited(12, "") + feature_entry("nope", integer(1)));
  CHECK(refused.code == Code::kInvalidRequest);
  for (const char* reason : {"BAD_PRIORITY", "BAD_DURATION", "EXPLAIN_UNSUPPORTED", "UNKNOWN_FEATURE"})
    CHECK(mentions(refused.rpc_status, reason));
  CHECK(!refused.message.empty());
  CHECK_EQ(house.engine.stats().refused_calls, 1u);
  CHECK_EQ(house.engine.stats().accepted_rows, 0u);
}

TEST(priorities_of_clients_are_two) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  for (const uint64_t priority : {0u, 1u, 2u}) CHECK(house.score(1, with_priority(priority)).code == Code::kOk);
  for (const uint64_t priority : {static_cast<uint64_t>(-1), uint64_t{3}, uint64_t{4}}) {
    CHECK(mentions(house.score(1, with_priority(priority)).rpc_status, "BAD_PRIORITY"));
    CHECK(mentions(house.batch(good_rows(1), number(4, priority)).rpc_status, "BAD_PRIORITY"));
  }
  CHECK_EQ(house.step(), 3u);
}

TEST(a_row_that_fails_in_look_up_is_refused_and_gives_its_slot_back) {
  House house(House::sized(4, 1));
  REQUIRE(house.add(house.lane_spec()).ok());
  for (int i = 0; i < 20; ++i) {
    const Submission refused = house.engine.submit_score(without_ratio(1), house.context(), &house.queue, 1);
    CHECK(refused.code == Code::kInvalidRequest);
    CHECK(mentions(refused.rpc_status, "NULL_INPUT"));
  }
  CHECK_EQ(house.engine.stats().slots_used, 0u);
}

// --- limits

TEST(slots_run_out_and_come_back) {
  House house(House::sized(8, 2));
  REQUIRE(house.add(house.lane_spec()).ok());
  for (int64_t i = 0; i < 7; ++i) CHECK(house.score(i).code == Code::kOk);
  CHECK_EQ(reason(house.batch(good_rows(2))), "SLOTS_EXHAUSTED");  // one is left: all or none
  CHECK(house.score(7).code == Code::kOk);
  CHECK_EQ(reason(house.score(8)), "SLOTS_EXHAUSTED");
  CHECK_EQ(reason(house.stream(score_request(8))), "SLOTS_EXHAUSTED");  // no slot to carry the answer
  CHECK_EQ(house.step(), 8u);
  CHECK_EQ(reason(house.score(9)), "SLOTS_EXHAUSTED");  // until the answers are taken
  CHECK_EQ(house.drain(), 8u);
  CHECK(house.score(9).code == Code::kOk);
}

TEST(batch_calls_have_a_limit) {
  House house;  // 16 rows a call
  REQUIRE(house.add(house.lane_spec()).ok());
  CHECK_EQ(reason(house.batch({})), "EMPTY_BATCH");
  CHECK_EQ(reason(house.batch(good_rows(17))), "TOO_MANY_ROWS");
  CHECK(house.batch(good_rows(16)).code == Code::kOk);
  House quarter(House::sized(8, 1024));  // slots / 4 holds
  REQUIRE(quarter.add(quarter.lane_spec()).ok());
  CHECK_EQ(reason(quarter.batch(good_rows(3))), "TOO_MANY_ROWS");
  CHECK(quarter.batch(good_rows(2)).code == Code::kOk);
}

TEST(full_queue_refuses_equals_and_sheds_the_lower) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.options.queue_rows_max = 4;
  REQUIRE(house.add(std::move(spec)).ok());
  for (int64_t i = 0; i < 4; ++i) CHECK(house.score(i, with_priority(2)).code == Code::kOk);
  CHECK_EQ(reason(house.score(4, with_priority(2))), "QUEUE_FULL");
  CHECK_EQ(house.engine.stats().accepted_rows, 4u);
  CHECK(house.score(5).code == Code::kOk);  // interactive
  CHECK_EQ(house.drain(), 1u);
  CHECK(house.answers[4].code == Code::kShed);  // the newest bulk row
  CHECK_EQ(reason_in(house.answers[4].rpc_status), "SHED");
  CHECK_EQ(reason(house.batch(good_rows(5), number(4, 1))), "TOO_MANY_ROWS");  // never fits
  CHECK(house.batch(good_rows(3), number(4, 1)).code == Code::kOk);
  CHECK_EQ(house.drain(), 3u);
  CHECK_EQ(reason(house.score(6)), "QUEUE_FULL");
  CHECK(house.stream(score_request(7)).code == Code::kOk);  // a stream carries its refusals
  CHECK_EQ(parse_result(house.answer(house.token).payload).reason, "QUEUE_FULL");
  CHECK_EQ(house.engine.stats().failed_rows, 1u);
  CHECK_EQ(house.step(), 4u);
  CHECK_EQ(house.engine.stats().shed_rows, 4u);
  CHECK_EQ(house.engine.stats().queued_rows, 0u);
}

TEST(a_shed_row_of_a_batch_fails_alone) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.options.queue_rows_max = 4;
  REQUIRE(house.add(std::move(spec)).ok());
  CHECK(house.batch(good_rows(4)).code == Code::kOk);
  CHECK(house.score(9).code == Code::kOk);
  house.step();
  house.drain();
  const std::vector<Row> rows = parse_batch(house.answers[1].payload);
  REQUIRE(rows.size() == 4);
  for (size_t i = 0; i < 3; ++i) CHECK_EQ(rows[i].score, static_cast<double>(i) / 1024.0);
  CHECK_EQ(rows[3].reason, "SHED");
  CHECK_EQ(rows[3].grpc, 14);
}

TEST(a_refused_batch_leaves_nothing_behind) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.options.queue_rows_max = 4;
  REQUIRE(house.add(std::move(spec)).ok());
  CHECK(house.score(1).code == Code::kOk);
  CHECK_EQ(reason(house.batch(good_rows(4))), "QUEUE_FULL");
  CHECK_EQ(house.engine.stats().slots_used, 1u);
  CHECK_EQ(house.engine.stats().queued_rows, 1u);
  CHECK_EQ(house.step(), 1u);
}

TEST(runners_limit_their_batches) {
  House house;
  house.fake->rows_max = 3;
  REQUIRE(house.add(house.lane_spec()).ok());
  for (int64_t i = 0; i < 7; ++i) house.score(i);
  CHECK_EQ(house.step(), 3u);
  CHECK_EQ(house.step(), 3u);
  CHECK_EQ(house.step(), 1u);
}

// --- the one deadline

TEST(deadline_is_the_least_of_its_terms) {
  House house(House::sized(64, 16, 700 * kMs));
  LaneSpec spec = house.lane_spec();
  spec.options.timeout_ns_default = 400 * kMs;
  REQUIRE(house.add(std::move(spec)).ok());
  LaneSpec patient = house.lane_spec("patient");
  patient.options.timeout_ns_default = 5 * kSecond;
  REQUIRE(house.add(std::move(patient)).ok());
  const int64_t now = house.clock.now_ns();
  const auto deadline = [&](int64_t rpc_ns, const std::string& more) {
    return house.engine.submit_score(score_request(1, more), {now, rpc_ns}, &house.queue, 1).deadline_ns - now;
  };
  CHECK_EQ(deadline(0, ""), 400 * kMs);
  CHECK_EQ(house.engine.stats().defaulted_deadlines, 1u);
  CHECK_EQ(deadline(now + 300 * kMs, ""), 300 * kMs);
  CHECK_EQ(deadline(now + 500 * kMs, ""), 400 * kMs);
  CHECK_EQ(deadline(0, with_timeout_ms(200)), 200 * kMs);
  CHECK_EQ(deadline(now + 100 * kMs, with_timeout_ms(200)), 100 * kMs);
  CHECK_EQ(deadline(0, with_timeout_ms(9'000'000)), 400 * kMs);
  CHECK_EQ(deadline(0, with_model("patient")), 700 * kMs);  // the cap
  CHECK_EQ(house.engine.stats().defaulted_deadlines, 2u);
  const Submission batch = house.batch(good_rows(2), delimited(5, number(2, 50 * kMs)));
  CHECK_EQ(batch.deadline_ns - now, 50 * kMs);
  house.step();
  house.step("patient");
}

TEST(deadline_is_checked_at_admission) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const int64_t now = house.clock.now_ns();
  CHECK_EQ(reason(house.engine.submit_score(score_request(1), {now, now}, &house.queue, 1)), "DEADLINE_EXCEEDED");
  CHECK_EQ(reason(house.engine.submit_score(score_request(1, with_timeout_ms(5)), {now - 5 * kMs, 0}, &house.queue, 1)),
           "DEADLINE_EXCEEDED");
  CHECK(house.engine.submit_score(score_request(1), {now, now + 1}, &house.queue, 1).code == Code::kOk);
  CHECK_EQ(reason(house.engine.submit_batch(batch_request(good_rows(3)), {now, now - 1}, &house.queue, 1)), "DEADLINE_EXCEEDED");
  CHECK_EQ(house.engine.stats().expired_rows[0], 5u);
  house.step();
}

TEST(deadline_is_checked_after_look_up) {
  for (const bool is_batch : {false, true}) {
    // The clock jumps at one reading after another: whichever it is, the call is refused, or expires later; it never runs.
    std::set<size_t> checks;
    for (int reading = 1; reading <= 4; ++reading) {
      House house;
      REQUIRE(house.add(house.lane_spec()).ok());
      const CallContext context{house.clock.now_ns(), house.clock.now_ns() + 10 * kMs};
      house.clock.jump_at(reading, 20 * kMs);
      const Submission submission = is_batch ? house.engine.submit_batch(batch_request(good_rows(2)), context, &house.queue, 1)
                                             : house.engine.submit_score(score_request(1), context, &house.queue, 1);
      house.clock.jump_at(0, 0);
      if (submission.code == Code::kOk) house.clock.advance_ns(20 * kMs);
      CHECK_EQ(house.step(), 0u);
      house.drain();
      CHECK(house.fake->batches().empty());
      const EngineStats stats = house.engine.stats();
      for (size_t check = 0; check < 5; ++check)
        if (stats.expired_rows[check] > 0) checks.insert(check);
    }
    CHECK(checks.count(0) == 1 && checks.count(1) == 1);
  }
}

TEST(deadline_is_checked_at_forming) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.score(1, with_timeout_ms(10));
  house.score(2, with_timeout_ms(11));
  house.clock.advance_ns(10 * kMs);
  CHECK_EQ(house.step(), 1u);
  house.drain();
  CHECK(house.answers[1].code == Code::kDeadlineExceeded);
  CHECK_EQ(reason_in(house.answers[1].rpc_status), "DEADLINE_EXCEEDED");
  CHECK(house.answers[2].code == Code::kOk);
  CHECK_EQ(house.engine.stats().expired_rows[2], 1u);
  CHECK((house.fake->batches() == std::vector<std::vector<int64_t>>{{2}}));
}

TEST(deadline_is_checked_before_the_run) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.score(1, with_timeout_ms(10));
  house.score(2);
  house.score(3, with_timeout_ms(10));
  house.fake->on_gather = [&](const std::vector<int64_t>& amounts) {
    if (amounts.size() == 3) house.clock.advance_ns(10 * kMs);
  };
  house.step();
  CHECK((house.fake->batches() == std::vector<std::vector<int64_t>>{{2}}));
  house.drain();
  CHECK(house.answers[1].code == Code::kDeadlineExceeded && house.answers[3].code == Code::kDeadlineExceeded);
  CHECK_EQ(parse_response(house.answers[2].payload).score, 2 / 1024.0);
  CHECK_EQ(house.engine.stats().expired_rows[3], 2u);
}

TEST(deadline_is_checked_between_the_halves_of_a_failed_batch) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.score(1, with_timeout_ms(10));
  house.score(2);
  house.fake->is_failing = [&](const std::vector<int64_t>& amounts) {
    house.clock.advance_ns(10 * kMs);
    return amounts.size() == 2;
  };
  house.step();
  CHECK((house.fake->batches() == std::vector<std::vector<int64_t>>{{1, 2}, {2}}));
}

TEST(deadline_is_checked_before_encoding) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.score(1, with_timeout_ms(10));
  house.batch(good_rows(3), delimited(5, number(2, 10 * kMs)));
  house.score(2);
  CHECK_EQ(house.step(), 5u);
  house.clock.advance_ns(10 * kMs);
  house.drain();
  CHECK(house.answers[1].code == Code::kDeadlineExceeded && house.answers[2].code == Code::kDeadlineExceeded);
  CHECK(house.answers[3].code == Code::kOk);
  CHECK_EQ(house.engine.stats().expired_rows[4], 4u);
}

// --- delay

TEST(delay_waits_for_a_full_batch_its_time_or_a_deadline) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.options.batch_rows_max = 3;
  spec.options.queue_delay_ns_max = 10 * kMs;
  REQUIRE(house.add(std::move(spec)).ok());
  house.score(1);
  CHECK_EQ(house.step(), 0u);
  house.clock.advance_ns(10 * kMs - 1);
  CHECK_EQ(house.step(), 0u);
  house.clock.advance_ns(1);
  CHECK_EQ(house.step(), 1u);
  for (int64_t i = 0; i < 3; ++i) house.score(i);
  CHECK_EQ(house.step(), 3u);
  house.score(4, with_timeout_ms(8));
  house.clock.advance_ns(4 * kMs - 1);
  CHECK_EQ(house.step(), 0u);
  house.clock.advance_ns(1);
  CHECK_EQ(house.step(), 1u);
  CHECK_EQ(house.drain(), 5u);
}

// --- which lane

TEST(lanes_are_chosen_by_model_and_version) {
  House house;
  CHECK_EQ(reason(house.score(1)), "UNKNOWN_MODEL");
  const auto answered_by = [&](const std::string& more) {
    const Submission submission = house.score(1, more);
    if (submission.code != Code::kOk) return reason(submission);
    for (const char* model : {"fraud", "other"})
      for (const char* version : {"1", "2"}) house.step(model, version);
    const std::string provenance = parse_response(house.answer(house.token).payload).provenance;
    return std::string(find_field(fields_of(provenance), 1)->bytes) + "/" +
           std::string(find_field(fields_of(provenance), 2)->bytes);
  };
  REQUIRE(house.add(house.lane_spec("fraud", "1")).ok());
  REQUIRE(house.add(house.lane_spec("other", "1")).ok());
  CHECK_EQ(answered_by(""), "fraud/1");
  REQUIRE(house.add(house.lane_spec("fraud", "2")).ok());
  CHECK_EQ(answered_by(""), "fraud/2");
  CHECK_EQ(answered_by(with_version("1")), "fraud/1");
  CHECK_EQ(answered_by(with_model("other")), "other/1");
  CHECK_EQ(answered_by(with_model("other") + with_version("2")), "UNKNOWN_VERSION");
  CHECK_EQ(answered_by(with_model("nope")), "UNKNOWN_MODEL");
  REQUIRE(house.add(house.lane_spec("other", "2"), /*is_default=*/true).ok());
  CHECK_EQ(answered_by(""), "other/2");
  CHECK(house.engine.remove_lane("other", "2").ok());
  CHECK_EQ(answered_by(""), "other/1");
  CHECK(house.engine.remove_lane("other", "1").ok());
  CHECK_EQ(answered_by(""), "UNKNOWN_MODEL");  // no other model answers in its place
  CHECK(house.engine.remove_lane("other", "1").code == Code::kUnknownModel);
  CHECK(house.engine.remove_lane("fraud", "9").code == Code::kUnknownVersion);
  CHECK_EQ(house.step("nope", "1"), 0u);
}

TEST(lanes_have_a_limit_and_a_name_each) {
  House house;
  for (size_t i = 0; i < limits::kLanesMax; ++i) CHECK(house.add(house.lane_spec("fraud", std::to_string(i))).ok());
  CHECK(house.add(house.lane_spec("fraud", "more")).code == Code::kModelUnsupported);
  CHECK(house.engine.remove_lane("fraud", "0").ok());
  CHECK(house.add(house.lane_spec("fraud", "1")).code == Code::kModelUnsupported);
  CHECK(house.add(house.lane_spec("fraud", "0")).ok());
}

TEST(lane_specs_are_checked) {
  House house;
  const auto refused = [&](const std::function<void(LaneSpec&)>& spoil) {
    LaneSpec spec = house.lane_spec();
    spoil(spec);
    const Status status = house.add(std::move(spec));
    return !status.ok() && !status.detail.empty();
  };
  for (const char* name : {"", "Fraud", "-fraud", "fra ud", "fraud/1"})
    CHECK(refused([&](LaneSpec& spec) { spec.model = name; }));
  CHECK(refused([](LaneSpec& spec) { spec.model = std::string(limits::kNameBytesMax + 1, 'a'); }));
  CHECK(refused([](LaneSpec& spec) { spec.version.clear(); }));
  CHECK(refused([](LaneSpec& spec) { spec.reader = nullptr; }));
  CHECK(refused([](LaneSpec& spec) { spec.runners.clear(); }));
  CHECK(refused([](LaneSpec& spec) { spec.thresholds = {{NAN, Decision::kReview}}; }));
  CHECK(refused([](LaneSpec& spec) { spec.options.batch_rows_max = 0; }));
  CHECK(refused([](LaneSpec& spec) { spec.options.queue_rows_max = 0; }));
  CHECK(refused([](LaneSpec& spec) { spec.options.queue_delay_ns_max = -1; }));
  CHECK(refused([](LaneSpec& spec) { spec.options.queue_delay_ns_max = spec.options.timeout_ns_default; }));
  CHECK(refused([](LaneSpec& spec) { spec.options.timeout_ns_default = 0; }));
  CHECK(refused([](LaneSpec& spec) { spec.options.ageing_ns = -1; }));
  LaneSpec longest = house.lane_spec(std::string(limits::kNameBytesMax, 'a'));
  CHECK(house.add(std::move(longest)).ok());
}

// --- the end

TEST(removed_lane_runs_what_it_holds) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  CHECK(house.score(1).code == Code::kOk);
  CHECK(house.batch(good_rows(3)).code == Code::kOk);
  CHECK(house.engine.remove_lane("fraud", "1").ok());
  CHECK_EQ(reason(house.score(2)), "UNKNOWN_MODEL");
  CHECK_EQ(house.drain(), 2u);  // encoded from row memory that the slots still hold
  CHECK_EQ(parse_response(house.answers[1].payload).score, 1 / 1024.0);
}

TEST(drain_refuses_the_new_and_ends_the_accepted) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  CHECK(house.score(1).code == Code::kOk);
  house.engine.drain();
  CHECK_EQ(reason(house.score(2)), "DRAINING");
  CHECK_EQ(reason(house.batch(good_rows(2))), "DRAINING");
  CHECK(!house.engine.wait_idle(0));
  CHECK_EQ(house.step(), 1u);
  CHECK_EQ(house.drain(), 1u);
  CHECK(house.engine.wait_idle(0));
}

TEST(stop_answers_what_is_queued) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  CHECK(house.score(1).code == Code::kOk);
  CHECK(house.batch({score_request(1), without_ratio(2)}).code == Code::kOk);
  const CallId unwanted = house.score(3).call;
  CHECK(house.engine.cancel(unwanted));
  house.engine.stop();
  house.engine.stop();
  CHECK_EQ(house.drain(), 2u);
  CHECK(house.answers[1].code == Code::kCancelled);
  const std::vector<Row> rows = parse_batch(house.answers[2].payload);
  REQUIRE(rows.size() == 2);
  CHECK_EQ(rows[0].reason, "CANCELLED");
  CHECK_EQ(rows[1].reason, "INVALID_REQUEST");
  CHECK_EQ(reason(house.score(4)), "DRAINING");
  CHECK(house.add(house.lane_spec("late")).code == Code::kDraining);
  CHECK_EQ(house.engine.stats().cancelled_rows, 3u);
}

TEST(calls_that_nobody_waits_for_count_by_why) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const CallId left = house.score(1).call, late = house.score(2, with_timeout_ms(10)).call;
  const CallId late_batch = house.batch({score_request(3), without_ratio(4)}, delimited(5, number(2, 10'000'000))).call;
  CHECK(house.engine.cancel(left));
  CHECK(house.engine.expire(late));
  CHECK(house.engine.expire(late_batch));
  CHECK(!house.engine.expire(left) && !house.engine.cancel(late));
  house.clock.advance_ns(kSecond);  // why is settled when they are abandoned, not when their rows end
  CHECK_EQ(house.step(), 0u);
  CHECK_EQ(house.drain(), 0u);
  const EngineStats stats = house.engine.stats();
  CHECK_EQ(stats.cancelled_rows, 1u);
  uint64_t expired = 0;
  for (const uint64_t rows : stats.expired_rows) expired += rows;
  CHECK_EQ(expired, 3u);
  CHECK_EQ(stats.failed_rows, 0u);
}

ASSAY_TEST_MAIN
