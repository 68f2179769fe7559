// The engine on one thread: a clock that stands still, a runner that obeys, step() in place of runner threads.
#include "serving_fixture.h"

#include <poll.h>
#include <unistd.h>

#include <set>

#include "check.h"

using namespace assay;
using namespace fixture;

namespace {

Row only_row(const Answer& answer) { return parse_response(answer.payload); }

}  // namespace

TEST(score_is_answered_from_its_own_row) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const std::vector<int64_t> amounts = {100, 600, 800, 900, 0};
  for (const int64_t amount : amounts) CHECK(house.score(amount).code == Code::kOk);
  CHECK_EQ(house.step(), 5u);
  CHECK_EQ(house.step(), 0u);
  CHECK_EQ(house.drain(), 5u);
  for (size_t i = 0; i < amounts.size(); ++i) {
    const Row row = only_row(house.answers[i + 1]);
    CHECK_EQ(row.id, "tx-" + std::to_string(amounts[i]));
    CHECK(row.has_score);
    CHECK_EQ(row.score, static_cast<double>(amounts[i]) / 1024.0);
    const Decision decision = row.score >= 0.75 ? Decision::kDecline : row.score >= 0.5 ? Decision::kReview : Decision::kApprove;
    CHECK_EQ(row.decision, static_cast<uint64_t>(decision));
    CHECK_EQ(find_field(fields_of(row.provenance), 1)->bytes, "fraud");
    CHECK_EQ(find_field(fields_of(row.provenance), 3)->bytes, std::string(64, 'b'));
    CHECK(row.timings.empty());
  }
  const EngineStats stats = house.engine.stats();
  CHECK_EQ(stats.accepted_rows, 5u);
  CHECK_EQ(stats.answered_rows, 5u);
  CHECK_EQ(stats.batch_count, 1u);
  CHECK_EQ(stats.batched_rows, 5u);
  CHECK_EQ(stats.slots_used, 0u);
  CHECK_EQ(stats.slots_used_max, 5u);
  CHECK_EQ(stats.defaulted_deadlines, 5u);
}

TEST(timings_are_stamped_where_asked_for) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.fake->on_gather = [&](const auto&) { house.clock.advance_ns(3 * kMs); };
  const CallContext context{house.clock.now_ns() - 1 * kMs, 0};
  CHECK(house.engine.submit_score(score_request(7, number(11, 1)), context, &house.queue, 1).code == Code::kOk);
  house.clock.advance_ns(2 * kMs);
  house.step();
  house.clock.advance_ns(4 * kMs);
  const Row row = only_row(house.answer(1));
  const std::vector<Field> timings = fields_of(row.timings);
  const auto stage_ns = [&](uint32_t field) -> int64_t {
    const auto stage = find_field(timings, field);
    const auto nanos = stage ? find_field(fields_of(stage->bytes), 2) : std::nullopt;
    return nanos ? static_cast<int64_t>(nanos->value) : 0;
  };
  CHECK_EQ(stage_ns(1), 1 * kMs);  // received to decoded
  CHECK_EQ(stage_ns(3), 2 * kMs);  // queued
  CHECK_EQ(stage_ns(4), 3 * kMs);  // assembled
  CHECK_EQ(stage_ns(6), 4 * kMs);  // answered
  CHECK_EQ(stage_ns(7), 10 * kMs);
  CHECK_EQ(find_field(timings, 8)->value, 1u);
}

TEST(batch_comes_back_in_order_from_many_batches_with_bad_rows_between) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.options.batch_rows_max = 3;
  REQUIRE(house.add(std::move(spec)).ok());
  std::vector<std::string> rows;
  for (int64_t amount = 0; amount < 12; ++amount) rows.push_back(score_request(amount));
  rows[2] = "\xff\xff";                                              // not a message
  rows[5] = score_request(5, feature_entry("no_such", integer(1)));  // decodes badly
  rows[7] = without_ratio(7);                                        // decodes; a model input is null
  rows[11] = score_request(11, with_model("x") + with_version("2") + with_priority(1) + with_timeout_ms(5) + delimited(12, ""));
  CHECK(house.batch(rows).code == Code::kOk);
  CHECK(house.score(1000).code == Code::kOk);
  size_t steps = 0;
  while (house.step() > 0) ++steps;
  CHECK_EQ(steps, 3u);  // 8 good rows and a neighbour, 3 at a time
  CHECK_EQ(house.drain(), 2u);
  const std::vector<Row> results = parse_batch(house.answers[1].payload);
  REQUIRE(results.size() == 12);
  for (size_t i = 0; i < results.size(); ++i) {
    const bool is_bad = i == 2 || i == 5 || i == 7 || i == 11;
    CHECK_EQ(results[i].has_score, !is_bad);
    CHECK_EQ(results[i].grpc, is_bad ? 3 : 0);
    if (i != 2) CHECK_EQ(results[i].id, "tx-" + std::to_string(i));
    if (!is_bad) CHECK_EQ(results[i].score, static_cast<double>(i) / 1024.0);
    CHECK(results[i].provenance.empty());
  }
  CHECK_EQ(results[2].reason, "MALFORMED_MESSAGE");
  CHECK_EQ(results[5].reason, "INVALID_REQUEST");
  const std::string& payload = house.answers[1].payload;
  for (const char* reason : {"UNKNOWN_FEATURE", "NULL_INPUT", "NOT_IN_BATCH", "explain"}) {
    CHECK(payload.find(reason) != std::string::npos);
  }
  CHECK_EQ(house.engine.stats().answered_rows, 9u);
  CHECK_EQ(house.engine.stats().failed_rows, 4u);
}

TEST(batch_of_bad_rows_completes_at_once) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  CHECK(house.batch({without_ratio(1), "\xff"}).code == Code::kOk);
  CHECK_EQ(house.drain(), 1u);
  const std::vector<Row> results = parse_batch(house.answers[1].payload);
  REQUIRE(results.size() == 2);
  CHECK(!results[0].has_score && !results[1].has_score);
  CHECK_EQ(house.step(), 0u);
}

TEST(malformed_row_is_located_in_the_whole_message) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const std::string bad = number(7, 1) + "\x03";  // field 0 at offset 2 of the row
  const std::string first = delimited(1, score_request(1));
  const std::string whole = first + delimited(1, bad);
  const Submission alone = house.engine.submit_score(bad, house.context(), &house.queue, 1);
  CHECK_EQ(reason(alone), "MALFORMED_MESSAGE");
  CHECK(house.engine.submit_batch(whole, house.context(), &house.queue, 2).code == Code::kOk);
  house.step();
  const auto offset_of = [](std::string_view bytes) {  // ErrorInfo.metadata["byte_offset"]
    const size_t at = bytes.find("byte_offset");
    const std::vector<Field> value = at == std::string_view::npos
                                         ? std::vector<Field>()
                                         : fields_of(bytes.substr(at + 11, 2 + static_cast<size_t>(bytes[at + 12])));
    return value.empty() ? -1 : std::atoi(std::string(value[0].bytes).c_str());
  };
  const int alone_at = offset_of(alone.rpc_status);
  CHECK(alone_at >= 0);
  CHECK_EQ(offset_of(house.answer(2).payload), alone_at + static_cast<int>(first.size()) + 2);  // past the row's tag and length
}

TEST(one_wake_a_batch_and_queue) {
  House house;
  CompletionQueue other(64);
  REQUIRE(house.add(house.lane_spec()).ok());
  for (int64_t amount = 0; amount < 10; ++amount) {
    CompletionQueue* queue = amount % 2 == 0 ? &house.queue : &other;
    CHECK(house.engine.submit_score(score_request(amount), house.context(), queue, static_cast<uint64_t>(amount)).code ==
          Code::kOk);
  }
  CHECK_EQ(house.step(), 10u);
  for (CompletionQueue* queue : {&house.queue, &other}) {
    uint64_t wakes = 0;
    CHECK_EQ(read(queue->fd(), &wakes, sizeof wakes), static_cast<ssize_t>(sizeof wakes));
    CHECK_EQ(wakes, 1u);
    std::vector<Completion> completions;
    queue->drain(completions);
    CHECK_EQ(completions.size(), 5u);
    for (const Completion& completion : completions) CHECK(house.engine.finish(completion.call).code == Code::kOk);
  }
}

// --- streams

TEST(stream_answers_every_message_with_its_own_status) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const std::map<std::string, std::string> bad = {{"UNKNOWN_MODEL", score_request(2, with_model("nope"))},
                                                  {"INVALID_REQUEST", without_ratio(3)}};
  CHECK(house.stream(score_request(1)).code == Code::kOk);
  for (const auto& one : bad) {
    CHECK(house.stream(one.second).code == Code::kOk);
    CHECK_EQ(house.drain(), 1u);  // at once
    const Row row = parse_result(house.answers[house.token].payload);
    CHECK(!row.has_score);
    CHECK_EQ(row.reason, one.first);
    CHECK(!row.id.empty());
  }
  house.step();
  const Row row = parse_result(house.answer(1).payload);
  CHECK_EQ(row.score, 1 / 1024.0);
  CHECK(!row.provenance.empty());
  CHECK_EQ(reason(house.engine.submit_stream("\xff", house.context(), &house.queue, 9)), "MALFORMED_MESSAGE");
  house.engine.drain();
  CHECK(house.stream(score_request(4)).code == Code::kOk);
  CHECK_EQ(parse_result(house.answer(house.token).payload).reason, "DRAINING");
}

TEST(stream_message_that_expires_or_fails_is_answered_in_the_stream) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.fake->is_failing = [](const auto& amounts) { return amounts[0] == 13; };
  CHECK(house.stream(score_request(1, with_timeout_ms(5))).code == Code::kOk);
  house.clock.advance_ns(5 * kMs);
  CHECK_EQ(house.step(), 0u);
  CHECK_EQ(parse_result(house.answer(1).payload).reason, "DEADLINE_EXCEEDED");
  CHECK(house.stream(score_request(13)).code == Code::kOk);
  house.step();
  CHECK_EQ(parse_result(house.answer(2).payload).reason, "MODEL_RUN_FAILED");
  CHECK_EQ(house.stream(score_request(1)).code == Code::kOk, true);
  house.step();
  house.clock.advance_ns(2 * kSecond);
  CHECK_EQ(parse_result(house.answer(3).payload).reason, "DEADLINE_EXCEEDED");
}

// --- cancel

TEST(cancelled_rows_never_run_and_neighbours_keep_their_bits) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.options.batch_rows_max = 4;
  REQUIRE(house.add(std::move(spec)).ok());
  std::vector<CallId> calls;
  for (int64_t amount = 0; amount < 8; ++amount) calls.push_back(house.score(amount).call);
  const Submission batch = house.batch({score_request(100), score_request(101)});
  for (const size_t i : {0u, 3u, 7u}) CHECK(house.engine.cancel(calls[i]));
  CHECK(house.engine.cancel(batch.call));
  CHECK(!house.engine.cancel(batch.call));
  while (house.step() > 0) {}
  CHECK_EQ(house.drain(), 5u);
  for (const auto& answer : house.answers)
    CHECK_EQ(only_row(answer.second).score, static_cast<double>(answer.first - 1) / 1024.0);
  for (const auto& run : house.fake->batches())
    for (const int64_t amount : run) CHECK(amount != 0 && amount != 3 && amount != 7 && amount < 100);
  const EngineStats stats = house.engine.stats();
  CHECK_EQ(stats.cancelled_rows, 5u);
  CHECK_EQ(stats.slots_used, 0u);
}

TEST(cancel_while_running_frees_without_an_answer) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const CallId first = house.score(1).call;
  CHECK(house.score(2).code == Code::kOk);
  house.fake->is_failing = [&](const auto&) {
    CHECK(house.engine.cancel(first));
    return false;
  };
  CHECK_EQ(house.step(), 2u);
  CHECK_EQ(house.drain(), 1u);
  CHECK_EQ(only_row(house.answers[2]).score, 2 / 1024.0);
  CHECK_EQ(house.engine.stats().slots_used, 0u);
}

TEST(cancel_before_the_run_takes_the_row_out_of_the_matrix) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const CallId first = house.score(1).call;
  CHECK(house.score(2).code == Code::kOk);
  bool is_first = true;
  house.fake->on_gather = [&](const auto&) {
    if (is_first) CHECK(house.engine.cancel(first));
    is_first = false;
  };
  house.step();
  CHECK((house.fake->batches() == std::vector<std::vector<int64_t>>{{2}}));
  CHECK_EQ(only_row(house.answer(2)).score, 2 / 1024.0);
}

TEST(cancel_after_completion_is_false_and_the_answer_is_still_there) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  const CallId call = house.score(1).call;
  house.step();
  CHECK(!house.engine.cancel(call));
  CHECK(house.engine.finish(call).code == Code::kOk);
  CHECK(!house.engine.cancel(call));
  CHECK(house.engine.finish(call).code == Code::kInternal);  // once only
  std::vector<Completion> completions;
  house.queue.drain(completions);
}

TEST(handles_of_earlier_calls_reach_nobody) {
  House house(House::sized(4, 1));
  REQUIRE(house.add(house.lane_spec()).ok());
  std::set<CallId> old;
  for (int round = 0; round < 50; ++round) {
    const Submission now = house.score(round);
    CHECK(now.call != 0 && old.count(now.call) == 0);
    for (const CallId call : old) {
      CHECK(!house.engine.cancel(call));
      CHECK(house.engine.finish(call).code == Code::kInternal);
    }
    CHECK(house.engine.finish(now.call).code == Code::kInternal);  // not completed yet
    house.step();
    for (const CallId call : old) CHECK(house.engine.finish(call).code == Code::kInternal);
    CHECK_EQ(only_row(house.answer(house.token)).score, round / 1024.0);
    old.insert(now.call);
  }
  CHECK(!house.engine.cancel(0) && !house.engine.cancel(UINT64_MAX));
  CHECK(house.engine.finish(UINT64_MAX).code == Code::kInternal);
}

// --- a model that misbehaves

TEST(halving_isolates_the_bad_rows) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.fake->is_failing = [](const auto& amounts) {
    return std::any_of(amounts.begin(), amounts.end(), [](int64_t amount) { return amount == 3 || amount == 10; });
  };
  for (int64_t amount = 0; amount < 13; ++amount) house.score(amount);
  CHECK_EQ(house.step(), 13u);
  CHECK_EQ(house.drain(), 13u);
  for (int64_t amount = 0; amount < 13; ++amount) {
    const Answer& answer = house.answers[static_cast<uint64_t>(amount) + 1];
    if (amount == 3 || amount == 10) {
      CHECK(answer.code == Code::kModelRunFailed);
      CHECK_EQ(reason_in(answer.rpc_status), "MODEL_RUN_FAILED");
      CHECK(answer.message.find("told to fail") != std::string::npos);
    } else {
      CHECK_EQ(only_row(answer).score, static_cast<double>(amount) / 1024.0);
    }
  }
  CHECK_EQ(house.engine.stats().failed_rows, 2u);
  CHECK(house.engine.stats().retried_batches >= 4);
}

TEST(a_model_that_always_fails_costs_a_bounded_number_of_runs) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.fake->is_failing = [](const auto&) { return true; };
  for (int64_t amount = 0; amount < 16; ++amount) house.score(amount);
  house.step();
  CHECK_EQ(house.drain(), 16u);
  CHECK_EQ(house.fake->batches().size(), 31u);
  CHECK_EQ(house.engine.stats().failed_rows, 16u);
}

TEST(a_score_that_is_not_finite_fails_its_row_alone) {
  House house;
  REQUIRE(house.add(house.lane_spec()).ok());
  house.fake->score = [](int64_t amount) { return amount == 1 ? NAN : amount == 2 ? INFINITY : 0.25; };
  for (int64_t amount = 0; amount < 4; ++amount) house.score(amount);
  house.step();
  house.drain();
  CHECK(house.answers[1].code == Code::kOk && house.answers[4].code == Code::kOk);
  CHECK(house.answers[2].code == Code::kModelOutputInvalid && house.answers[3].code == Code::kModelOutputInvalid);
}

TEST(every_output_type_and_the_named_column_are_read) {
  for (const TensorType type :
       {TensorType::kFloat32, TensorType::kFloat64, TensorType::kInt32, TensorType::kInt64, TensorType::kBool}) {
    House house;
    house.fake->output_type = type;
    house.fake->score = [](int64_t amount) { return static_cast<double>(amount); };
    LaneSpec spec = house.lane_spec();
    spec.score_column = 1;
    REQUIRE(house.add(std::move(spec)).ok());
    house.score(3);
    house.step();
    CHECK_EQ(only_row(house.answer(1)).score, type == TensorType::kBool ? 1.0 : -3.0);
  }
}

TEST(an_output_without_the_named_column_fails_loudly) {
  for (const bool is_column : {true, false}) {
    House house;
    LaneSpec spec = house.lane_spec();
    (is_column ? spec.score_column : spec.score_output) = is_column ? 2 : 1;
    REQUIRE(house.add(std::move(spec)).ok());
    house.score(3);
    house.score(4);
    house.step();
    house.drain();
    CHECK(house.answers[1].code == Code::kModelOutputInvalid && house.answers[2].code == Code::kModelOutputInvalid);
  }
}

TEST(thresholds_hold_at_their_minimum) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.thresholds = {{0.5, Decision::kChallenge}, {-1.0, Decision::kReview}, {0.25, Decision::kDecline}};
  REQUIRE(house.add(std::move(spec)).ok());
  const std::map<int64_t, Decision> expected = {{0, Decision::kReview},
                                                {255, Decision::kReview},
                                                {256, Decision::kDecline},
                                                {511, Decision::kDecline},
                                                {512, Decision::kChallenge}};
  for (const auto& one : expected) {
    house.score(one.first);
    house.step();
    CHECK_EQ(only_row(house.answer(house.token)).decision, static_cast<uint64_t>(one.second));
  }
}

ASSAY_TEST_MAIN
