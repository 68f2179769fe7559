// Models that must be asked: their own lane scores what an explanation wants to know, and no client's row pays for it.
#include "core/serving/sampling_desk.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "audit_fixture.h"
#include "check.h"
#include "core/audit/audit_log.h"
#include "core/serving/explanations.h"
#include "explained_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

using Became = ExplanationStatus;
constexpr uint64_t kInputs = 2, kPermutation = 3, kLater = 2;

uint64_t number_of(ExplanationStatus status) { return static_cast<uint64_t>(status); }
double log_odds(double probability) { return std::log(probability / (1.0 - probability)); }

struct AskedHouse : House {
  explicit AskedHouse(EngineOptions options = ExplainedHouse::stepped()) : House(options) {
    fake->score = [](int64_t amount) { return amount < kHighAmount ? kLow : kHigh; };
    CHECK(add(asked_spec()).ok());
  }
  LaneSpec asked_spec(const std::string& version = "1") const {
    LaneSpec spec = lane_spec("fraud", version);
    spec.explained = asked_model(reader->plan());
    return spec;
  }
  uint64_t ask(int64_t amount, const std::string& options = {}) {
    CHECK_EQ(score(amount, delimited(12, options)).code, Code::kOk);
    CHECK_EQ(step(), 1u);
    return token;
  }
  bool is_answered(uint64_t of_token) {
    drain();
    return answers.count(of_token) != 0;
  }
  // Until the call is answered, the lane and the explanations taking turns.
  Explained settle(uint64_t of_token) {
    for (int i = 0; i < 10'000 && !is_answered(of_token); ++i) {
      engine.step_explanations();
      step();
    }
    CHECK(is_answered(of_token));
    CHECK_EQ(answers[of_token].code, Code::kOk);
    return parse_explained(answers[of_token].payload);
  }
  uint64_t asked_rows() const { return engine.stats().explain.asked_rows; }
};

}  // namespace

TEST(a_score_is_explained_by_asking_its_model) {
  AskedHouse house;
  const Explained found = house.settle(house.ask(600));
  CHECK_EQ(found.status, number_of(Became::kGiven));
  CHECK_EQ(found.method, kPermutation);
  CHECK_NEAR(found.base, log_odds(kLow), 1e-9);
  CHECK_NEAR(found.margin, log_odds(kHigh), 1e-9);
  CHECK_EQ(found.margin_space, 1u);
  CHECK_EQ(found.contributions.size(), 1u);
  CHECK_EQ(found.contributions[0].player, std::string("amount"));
  CHECK_NEAR(found.contributions[0].value, log_odds(kHigh) - log_odds(kLow), 1e-9);
  CHECK(found.reasons == std::vector<std::string>{"AMOUNT_HIGH"});
}

// The client sent one row; what was asked is told apart from it, and nobody counts it as traffic.
TEST(rows_that_were_asked_about_are_no_traffic) {
  AskedHouse house;
  house.settle(house.ask(600, number(4, kInputs)));
  const EngineStats stats = house.engine.stats();
  CHECK_EQ(stats.accepted_rows, 1u);
  CHECK_EQ(stats.answered_rows, 1u);
  const size_t inputs = house.reader->plan().spec().inputs.size();
  CHECK_EQ(stats.explain.asked_rows % (2 * (inputs - 1)), 0u);  // whole rounds of one background row
  CHECK(stats.explain.asked_rows >= 8 * 2 * (inputs - 1));
}

TEST(no_more_rows_are_in_the_lane_than_the_limit) {
  AskedHouse house;
  const uint64_t token = house.ask(600, number(4, kInputs));
  for (int i = 0; i < 10'000 && !house.is_answered(token); ++i) {
    house.engine.step_explanations();
    CHECK(house.engine.stats().queued_rows <= SamplingDesk::kRowsMax);
    house.step();
  }
  CHECK(house.is_answered(token));
}

TEST(while_half_of_the_slots_are_used_nothing_is_asked) {
  AskedHouse house;  // of 64 slots
  const uint64_t token = house.ask(600);
  for (int i = 0; i < 33; ++i) CHECK_EQ(house.score(100).code, Code::kOk);
  house.engine.step_explanations();
  house.engine.step_explanations();
  CHECK_EQ(parse_explained(house.answer(token).payload).status, number_of(Became::kShed));
  CHECK_EQ(house.asked_rows(), 0u);
  while (house.step() > 0) {}
}

TEST(what_is_known_when_time_is_up_is_told) {
  AskedHouse house;
  const uint64_t token = house.ask(600, number(4, kInputs));
  const size_t per_round = 2 * (house.reader->plan().spec().inputs.size() - 1);
  while (house.asked_rows() < 5 * per_round) {
    house.engine.step_explanations();
    house.step();
  }
  house.clock.advance_ns(5 * kMs);
  house.engine.step_explanations();
  const Explained found = parse_explained(house.answer(token).payload);
  CHECK_EQ(found.status, number_of(Became::kGiven));
  CHECK_NEAR(found.base + found.contributions[0].value + found.rest, found.margin, 1e-6);
  while (house.step() > 0) {}
}

TEST(a_score_is_given_without_its_explanation_rather_than_late) {
  AskedHouse house;
  const uint64_t token = house.ask(600, number(4, kInputs));
  house.engine.step_explanations();  // the first rows are in the lane
  house.clock.advance_ns(5 * kMs);
  house.engine.step_explanations();
  CHECK_EQ(parse_explained(house.answer(token).payload).status, number_of(Became::kLate));
  while (house.step() > 0) {}  // what nobody waits for ends there
  CHECK_EQ(house.engine.stats().slots_used, 0u);
  CHECK_EQ(house.settle(house.ask(600)).status, number_of(Became::kGiven));
}

TEST(a_model_that_fails_when_it_is_asked_is_withheld) {
  AskedHouse house;
  const uint64_t token = house.ask(600, number(4, kInputs));
  house.fake->is_failing = [](const auto&) { return true; };
  CHECK_EQ(house.settle(token).status, number_of(Became::kWithheld));
  house.fake->is_failing = [](const auto&) { return false; };
  CHECK_EQ(house.engine.stats().failed_rows, 0u);
}

TEST(a_model_that_scores_the_same_row_otherwise_is_withheld) {
  AskedHouse house;
  LaneSpec spec = house.asked_spec("2");
  auto wrong = std::make_shared<Fake>();
  wrong->score = [](int64_t) { return 7.0; };  // no probability
  spec.runners.clear();
  spec.runners.push_back(house.make_runner(wrong));
  CHECK(house.add(std::move(spec)).ok());
  CHECK_EQ(house.score(600, delimited(12, "") + with_version("2")).code, Code::kOk);
  CHECK_EQ(house.step("fraud", "2"), 1u);
  const uint64_t token = house.token;
  for (int i = 0; i < 100 && !house.is_answered(token); ++i) {
    house.engine.step_explanations();
    house.step("fraud", "2");
  }
  CHECK_EQ(parse_explained(house.answer(token).payload).status, number_of(Became::kWithheld));
}

TEST(clients_rows_go_first) {
  AskedHouse house;
  house.fake->rows_max = 4;
  CHECK(house.add(house.asked_spec("2")).ok());  // with the small batches
  CHECK_EQ(house.score(600, delimited(12, number(4, kInputs)) + with_version("2")).code, Code::kOk);
  CHECK_EQ(house.step("fraud", "2"), 1u);
  house.engine.step_explanations();
  for (int i = 0; i < 2; ++i) CHECK_EQ(house.score(900 + i, with_version("2")).code, Code::kOk);
  house.step("fraud", "2");
  const std::vector<int64_t> batch = house.fake->batches().back();
  CHECK(std::find(batch.begin(), batch.end(), 900) != batch.end());
  CHECK(std::find(batch.begin(), batch.end(), 901) != batch.end());
}

TEST(a_lane_that_ends_is_asked_nothing_more) {
  AskedHouse house;
  CHECK(house.add(house.asked_spec("2"), true).ok());
  CHECK_EQ(house.score(600, delimited(12, number(4, kInputs)) + with_version("2")).code, Code::kOk);
  CHECK_EQ(house.step("fraud", "2"), 1u);
  const uint64_t token = house.token;
  house.engine.step_explanations();
  CHECK(house.engine.remove_lane("fraud", "2").ok());
  house.engine.step_explanations();
  house.engine.step_explanations();
  CHECK_EQ(parse_explained(house.answer(token).payload).status, number_of(Became::kShed));
}

TEST(a_cancelled_call_ends_with_its_explanation) {
  AskedHouse house;
  const Submission submission = house.score(600, delimited(12, number(4, kInputs)));
  house.step();
  house.engine.step_explanations();
  CHECK(house.engine.cancel(submission.call));
  for (int i = 0; i < 10'000 && house.engine.stats().slots_used > 0; ++i) {
    house.engine.step_explanations();
    house.step();
  }
  CHECK_EQ(house.engine.stats().slots_used, 0u);
}

// They go before it, so what it takes says nothing of how long they wait.
TEST(interactive_rows_are_not_shed_for_bulk_rows_ahead) {
  AskedHouse house;
  house.batch({score_request(600)}, delimited(8, number(4, kInputs)));
  CHECK_EQ(house.step(), 1u);
  house.engine.step_explanations();
  house.clock.advance_ns(20 * kMs);  // more than an interactive row waits
  while (!house.is_answered(house.token)) {
    house.engine.step_explanations();
    house.step();
  }
  house.batch({score_request(600), score_request(700)}, delimited(8, number(4, kInputs)));
  CHECK_EQ(house.step(), 2u);
  CHECK(!house.is_answered(house.ask(600)));
  while (house.engine.stats().slots_used > 0) {
    house.engine.step_explanations();
    house.step();
    house.drain();
  }
}

TEST(a_short_queue_is_asked_a_few_rows_at_a_time) {
  AskedHouse house;
  LaneSpec spec = house.asked_spec("2");
  spec.options.queue_rows_max = 4;
  CHECK(house.add(std::move(spec)).ok());
  CHECK_EQ(house.score(600, delimited(12, number(4, kInputs)) + with_version("2")).code, Code::kOk);
  CHECK_EQ(house.step("fraud", "2"), 1u);
  for (int i = 0; i < 10'000 && !house.is_answered(house.token); ++i) {
    house.engine.step_explanations();
    CHECK(house.engine.stats().queued_rows <= 2);
    house.step("fraud", "2");
  }
  CHECK_EQ(parse_explained(house.answer(house.token).payload).status, number_of(Became::kGiven));
}

// Such rows would hold slots, and the server waits for its slots before it ends.
TEST(a_server_that_ends_asks_nothing_for_what_comes_later) {
  PuppetDisk disk;
  std::unique_ptr<Spool> spool;
  CHECK(Spool::open(SpoolOptions(), std::make_unique<PuppetFiles>(disk), 0, &spool).ok());
  AuditOptions audit;
  audit.level = AuditLevel::kMemory;
  audit.has_thread = false;
  EngineOptions options = ExplainedHouse::stepped();
  options.audit.log = std::make_shared<AuditLog>(audit, std::move(spool));
  CHECK(options.audit.log->start().ok());
  AskedHouse house(options);
  for (int i = 0; i < 2; ++i) {
    const uint64_t token = house.ask(600, number(4, kInputs) + number(5, kLater));
    CHECK_EQ(parse_explained(house.answer(token).payload).status, number_of(Became::kLater));
  }
  house.engine.step_explanations();
  CHECK(house.engine.stats().slots_used > 0);
  house.engine.drain();
  for (int i = 0; i < 2; ++i) {
    house.engine.step_explanations();
    house.step();
  }
  CHECK_EQ(house.engine.stats().slots_used, 0u);
  CHECK_EQ(house.engine.stats().explain.queued_rows, 0u);
  const uint64_t asked_rows = house.asked_rows();
  house.engine.step_explanations();
  house.step();
  CHECK_EQ(house.asked_rows(), asked_rows);
}

// Of a call that is gone nothing more is asked, neither of the row at hand nor of those that wait.
TEST(for_a_cancelled_call_nothing_more_is_asked) {
  AskedHouse house;
  const Submission submission = house.batch({score_request(600), score_request(700)}, delimited(8, number(4, kInputs)));
  CHECK_EQ(house.step(), 2u);
  house.engine.step_explanations();
  const uint64_t in_lane = house.engine.stats().queued_rows;
  CHECK(house.engine.cancel(submission.call));
  for (int i = 0; i < 4; ++i) {
    house.engine.step_explanations();
    house.step();
  }
  CHECK_EQ(house.asked_rows(), in_lane);
  CHECK_EQ(house.engine.stats().explain.queued_rows, 0u);
  CHECK_EQ(house.engine.stats().slots_used, 0u);
  CHECK_EQ(house.settle(house.ask(600)).status, number_of(Became::kGiven));
}

TEST(a_stop_ends_what_is_asked) {
  EngineOptions options = House::small();
  options.explain.inline_ns_max = 20 * kSecond;
  AskedHouse house(options);
  const uint64_t token = house.ask(600, number(4, kInputs));
  for (int i = 0; i < 20'000 && house.engine.stats().queued_rows == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  house.engine.stop();
  CHECK_EQ(parse_explained(house.answer(token).payload).status, number_of(Became::kShed));
}

TEST(a_storm_of_asked_models_loses_no_call) {
  EngineOptions options = House::sized(256, 16);
  options.explain.queue_rows_max = 8;
  options.explain.threads = 2;
  options.explain.inline_ns_max = 2 * kMs;  // many are cut short
  SystemClock clock;
  Engine engine(options, clock);
  AskedHouse house;  // for its parts
  house.fake->score = [](int64_t amount) { return amount < kHighAmount ? kLow : kHigh; };
  LaneSpec spec = house.asked_spec();
  spec.has_threads = true;
  CHECK(engine.add_lane(std::move(spec), true).ok());
  CompletionQueue queue(options.slots);
  std::vector<Completion> completions;
  int left = 0, given = 0;
  const auto settle = [&] {
    queue.drain(completions);
    for (const Completion& completion : completions) {
      const Answer answer = engine.finish(completion.call);
      CHECK_EQ(answer.code, Code::kOk);
      given += parse_explained(answer.payload).status == number_of(Became::kGiven);
      --left;
    }
  };
  for (int i = 0; i < check::scaled(400); ++i) {
    const std::string how = i % 2 == 0 ? number(4, kInputs) : "";
    const Submission submission =
        engine.submit_score(score_request(i * 7 % 1000, delimited(12, how)), {clock.now_ns(), 0}, &queue, 1);
    if (submission.code == Code::kOk && (i % 11 != 0 || !engine.cancel(submission.call))) ++left;
    settle();
    if (i % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  while (left > 0) {
    settle();
    std::this_thread::yield();
  }
  // A call that was given up in the moment of its end has its slots until the desk hears of it.
  for (int i = 0; i < 20'000 && engine.stats().slots_used > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_EQ(engine.stats().slots_used, 0u);
  CHECK(given > 0);
  CHECK(engine.stats().explain.asked_rows > 0);
  engine.stop();
  engine.check_idle();
}

ASSAY_TEST_MAIN
