// Explanations: what is told, when it is not, and that no score is late for it.
#include "core/serving/explanations.h"

#include <atomic>
#include <cmath>
#include <thread>

#include "check.h"
#include "explained_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

using Became = ExplanationStatus;

constexpr uint64_t kAtLeast = 3, kNotApproved = 4, kNever = 1, kInputs = 2;

uint64_t number_of(ExplanationStatus status) { return static_cast<uint64_t>(status); }
std::string when(uint64_t value) { return number(1, value); }

EngineOptions threaded(std::shared_ptr<ExplainFaults> faults = nullptr, uint32_t queue_rows_max = 64) {
  EngineOptions options = House::small();
  options.explain.faults = std::move(faults);
  options.explain.queue_rows_max = queue_rows_max;
  return options;
}

// Until the call is answered; the clock moves on meanwhile. Its explanation.
Explained await(ExplainedHouse& house, uint64_t token, int64_t step_ns = 0) {
  for (int i = 0; i < 20'000 && !house.is_answered(token); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    house.clock.advance_ns(step_ns);
  }
  CHECK(house.is_answered(token));
  CHECK_EQ(house.answers[token].code, Code::kOk);
  return parse_explained(house.answers[token].payload);
}

uint64_t count_of(const ExplainedHouse& house, ExplanationStatus status) {
  return house.engine.metrics().lanes[0].explanations[static_cast<size_t>(status)];
}

}  // namespace

TEST(a_score_waits_for_its_explanation_which_adds_up_to_it) {
  ExplainedHouse house;
  const uint64_t token = house.ask(600);
  CHECK(!house.is_answered(token));
  CHECK_EQ(house.engine.stats().explain.queued_rows, 1u);
  house.clock.advance_ns(kMs);
  CHECK_EQ(house.engine.step_explanations(), 1u);
  const Explained found = parse_explained(house.answer(token).payload);
  CHECK_EQ(parse_response(house.answer(token).payload).score, kHigh);
  CHECK_EQ(found.status, number_of(Became::kGiven));
  CHECK_EQ(found.base, kLow);
  CHECK_EQ(found.margin, kHigh);
  CHECK_EQ(found.background, std::string(64, 'c'));
  CHECK_EQ(found.reasons_version, std::string("7"));
  CHECK_EQ(found.contributions.size(), 1u);
  CHECK_EQ(found.contributions[0].player, std::string("amount"));
  CHECK_EQ(found.contributions[0].value, kHigh - kLow);
  CHECK(found.reasons == std::vector<std::string>{"AMOUNT_HIGH"});
  CHECK_EQ(count_of(house, Became::kGiven), 1u);
  CHECK_EQ(house.engine.stats().explain.queued_rows, 0u);
}

TEST(what_lowers_the_risk_or_does_nothing_is_no_reason) {
  ExplainedHouse house;
  const uint64_t token = house.ask(100);
  house.engine.step_explanations();
  const Explained found = parse_explained(house.answer(token).payload);
  CHECK_EQ(found.status, number_of(Became::kGiven));
  CHECK(found.contributions.empty());
  CHECK(found.reasons.empty());
}

TEST(inputs_by_themselves_have_their_own_names_and_no_reasons) {
  ExplainedHouse house;
  const uint64_t token = house.ask(600, number(4, kInputs));
  house.engine.step_explanations();
  const Explained found = parse_explained(house.answer(token).payload);
  CHECK_EQ(found.contributions.size(), 1u);
  CHECK_EQ(found.contributions[0].player, std::string("amount_input"));
  CHECK(found.reasons.empty() && found.reasons_version.empty());
}

TEST(only_wanted_scores_are_explained_and_wait) {
  ExplainedHouse house;
  const auto status_at_once = [&](int64_t amount, const std::string& options) {
    const uint64_t token = house.ask(amount, options);
    CHECK(house.is_answered(token));
    return parse_explained(house.answers[token].payload).status;
  };
  CHECK_EQ(status_at_once(600, when(kNever)), number_of(Became::kNone));
  CHECK_EQ(status_at_once(100, when(kNotApproved)), number_of(Became::kNotWanted));
  CHECK_EQ(status_at_once(100, when(kAtLeast) + fixed64(2, kHigh)), number_of(Became::kNotWanted));
  CHECK_EQ(count_of(house, Became::kNotWanted), 2u);
  for (const std::string& options : {when(kNotApproved), when(kAtLeast) + fixed64(2, kHigh)}) {
    const uint64_t token = house.ask(600, options);
    CHECK(!house.is_answered(token));
    CHECK_EQ(house.engine.step_explanations(), 1u);
    CHECK_EQ(parse_explained(house.answer(token).payload).status, number_of(Became::kGiven));
  }
}

TEST(options_that_are_none_are_refused_by_name) {
  ExplainedHouse house;
  for (const auto& [options, field] : std::vector<std::pair<std::string, const char*>>{
           {when(5), "explain.when"},
           {when(kAtLeast), "explain.min_score"},
           {when(kAtLeast) + fixed64(2, NAN), "explain.min_score"},
           {fixed64(2, 0.5), "explain.min_score"},
           {number(4, 3), "explain.players"},
           {number(5, 3), "explain.mode"},
           {number(5, 2), "explain.mode"},  // later, without an audit log
       }) {
    const Submission submission = house.score(600, delimited(12, options));
    CHECK_EQ(submission.code, Code::kInvalidRequest);
    CHECK(mentions(submission.rpc_status, field));
    CHECK(mentions(submission.rpc_status, "BAD_EXPLAIN"));
  }
}

TEST(a_model_without_a_background_explains_nothing_and_says_so) {
  ExplainedHouse house;
  CHECK(house.add(house.lane_spec("plain")).ok());
  const Submission submission = house.score(600, delimited(12, "") + with_model("plain"));
  CHECK_EQ(submission.code, Code::kInvalidRequest);
  CHECK(mentions(submission.rpc_status, "EXPLAIN_UNSUPPORTED"));
}

TEST(rows_of_a_batch_are_explained_and_leave_the_option_to_it) {
  ExplainedHouse house;
  const std::string lone = score_request(600, delimited(12, ""));
  house.batch({score_request(600), score_request(100), lone}, delimited(8, ""));
  CHECK_EQ(house.step(), 2u);
  CHECK(!house.is_answered(house.token));
  CHECK_EQ(house.engine.step_explanations(), 2u);
  std::vector<Explained> found;
  for (const Field& field : fields_of(house.answer(house.token).payload)) {
    if (field.number != 2) continue;
    if (const auto response = find_field(fields_of(field.bytes), 3)) found.push_back(parse_explained(response->bytes));
  }
  CHECK_EQ(found.size(), 2u);
  CHECK_EQ(found[0].margin, kHigh);
  CHECK_EQ(found[1].margin, kLow);
  CHECK(mentions(house.answers[house.token].payload, "NOT_IN_BATCH"));
}

// A ModelInfer of rows that are 0 but for the amount.
std::string infer_rows(const FeaturePlan& plan, const std::vector<int64_t>& amounts, const std::vector<const char*>& outputs) {
  std::string inputs, contents;
  for (size_t i = 0; i < plan.spec().tensors.size(); ++i) {
    const TensorSpec& tensor = plan.spec().tensors[i];
    inputs += delimited(5, delimited(1, tensor.name) + delimited(2, infer_datatype(tensor.type)) + number(3, amounts.size()) +
                               number(3, tensor.element_count));
    std::string raw;
    for (const int64_t amount : amounts) {
      std::string row(plan.segments()[i].bytes, '\0');
      if (i == 2) std::memcpy(row.data(), &amount, sizeof amount);
      raw += row;
    }
    contents += delimited(7, raw);
  }
  std::string wanted;
  for (const char* const name : outputs) wanted += delimited(6, delimited(1, name));
  return delimited(1, "fraud") + delimited(2, "2") + inputs + wanted + contents;
}

std::vector<double> doubles(std::string_view bytes) {
  std::vector<double> values(bytes.size() / sizeof(double));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

struct InferExplainedHouse : ExplainedHouse {
  InferExplainedHouse() {
    LaneSpec spec = explained_spec("2");
    spec.infer_outputs = {{"pair", TensorType::kFloat64, {2}, 0}};
    CHECK(add(std::move(spec)).ok());
  }
  Submission infer(const std::vector<int64_t>& amounts, const std::vector<const char*>& outputs) {
    return engine.submit_infer(infer_rows(reader->plan(), amounts, outputs), context(), &queue, ++token);
  }
};

TEST(tensors_are_explained_where_an_output_says_so) {
  InferExplainedHouse house;
  const size_t inputs = house.reader->plan().spec().inputs.size();
  const auto names = {"explanation_contributions", "pair", "explanation_errors", "explanation_residual"};
  CHECK_EQ(house.infer({600, 100}, names).code, Code::kOk);
  CHECK_EQ(house.step("fraud", "2"), 2u);
  CHECK(!house.is_answered(house.token));
  CHECK_EQ(house.engine.step_explanations(), 2u);
  const std::vector<Field> fields = fields_of(house.answer(house.token).payload);
  std::vector<std::vector<double>> contents;
  std::vector<std::string> described;
  for (const Field& field : fields) {
    if (field.number == 5) described.emplace_back(find_field(fields_of(field.bytes), 1)->bytes);
    if (field.number == 6) contents.push_back(doubles(field.bytes));
  }
  CHECK(described ==
        (std::vector<std::string>{"pair", "explanation_contributions", "explanation_errors", "explanation_residual"}));
  CHECK_EQ(contents.size(), 4u);
  CHECK_EQ(contents[0][0], kHigh);
  const std::vector<double>& values = contents[1];
  CHECK_EQ(values.size(), 2 * (inputs + 1));
  for (size_t row = 0; row < 2; ++row) {
    double sum = 0.0;
    for (size_t i = 0; i <= inputs; ++i) sum += values[row * (inputs + 1) + i];
    CHECK_EQ(sum, row == 0 ? kHigh : kLow);
    CHECK_EQ(values[row * (inputs + 1) + inputs], kLow);  // the base
  }
  CHECK(contents[2] == std::vector<double>(2 * inputs));
  CHECK(contents[3] == std::vector<double>(2));
}

TEST(a_row_without_its_explanation_has_nan_in_the_explanations_outputs) {
  InferExplainedHouse house;
  CHECK_EQ(house.infer({600}, {"pair", "explanation_contributions"}).code, Code::kOk);
  CHECK_EQ(house.step("fraud", "2"), 1u);
  house.clock.advance_ns(5 * kMs);
  house.engine.step_explanations();
  const std::vector<Field> fields = fields_of(house.answer(house.token).payload);
  std::vector<std::vector<double>> contents;
  for (const Field& field : fields) {
    if (field.number == 6) contents.push_back(doubles(field.bytes));
  }
  CHECK_EQ(contents[0][0], kHigh);
  CHECK_EQ(contents[1].size(), house.reader->plan().spec().inputs.size() + 1);
  for (const double value : contents[1]) CHECK(std::isnan(value));
}

// A client that sends NaN gets it back, and takes nobody else's explanations away.
TEST(tensors_that_nobody_can_explain_say_nothing_of_the_model) {
  InferExplainedHouse house;
  const auto score = house.fake->score;
  house.fake->score = [](int64_t) { return NAN; };
  for (uint32_t i = 0; i < 2 * Breaker::kFailuresMax; ++i) {
    CHECK_EQ(house.infer({600}, {"pair", "explanation_contributions"}).code, Code::kOk);
    CHECK_EQ(house.step("fraud", "2"), 1u);
    CHECK_EQ(house.engine.step_explanations(), 1u);
    house.answer(house.token);
  }
  house.fake->score = score;
  CHECK_EQ(house.score(600, delimited(12, "") + with_version("2")).code, Code::kOk);
  CHECK_EQ(house.step("fraud", "2"), 1u);
  house.engine.step_explanations();
  CHECK_EQ(parse_explained(house.answer(house.token).payload).status, number_of(Became::kGiven));
}

TEST(outputs_of_explanations_are_checked_like_others) {
  InferExplainedHouse house;
  const Submission twice = house.infer({1}, {"explanation_residual", "explanation_residual"});
  CHECK_EQ(twice.code, Code::kInvalidRequest);
  CHECK(mentions(twice.rpc_status, "asked for twice"));
  CHECK_EQ(house.infer({1}, {}).code, Code::kOk);  // all of the model's, and no more
  CHECK_EQ(house.step("fraud", "2"), 1u);
  CHECK(house.is_answered(house.token));
  CHECK(house.engine.remove_lane("fraud", "2").ok());
  LaneSpec plain = house.lane_spec("fraud", "2");
  plain.infer_outputs = {{"pair", TensorType::kFloat64, {2}, 0}};
  CHECK(house.add(std::move(plain)).ok());
  const Submission unexplained = house.infer({1}, {"explanation_residual"});
  CHECK_EQ(unexplained.code, Code::kInvalidRequest);
  CHECK(mentions(unexplained.rpc_status, "EXPLAIN_UNSUPPORTED"));
}

TEST(a_score_is_given_without_its_explanation_rather_than_late) {
  ExplainedHouse house;
  const uint64_t token = house.ask(600);
  house.clock.advance_ns(5 * kMs);
  house.engine.step_explanations();
  const Explained found = parse_explained(house.answer(token).payload);
  CHECK_EQ(house.answers[token].code, Code::kOk);
  CHECK_EQ(found.status, number_of(Became::kLate));
  CHECK(!found.is_there);
}

TEST(a_call_that_is_nearly_late_does_not_wait_at_all) {
  ExplainedHouse house;
  const Submission submission = house.score(600, delimited(12, "") + with_timeout_ms(1));
  CHECK_EQ(submission.code, Code::kOk);
  house.step();
  CHECK(house.is_answered(house.token));
  CHECK_EQ(parse_explained(house.answers[house.token].payload).status, number_of(Became::kLate));
}

TEST(beyond_the_queues_length_explanations_are_shed_and_scores_given) {
  EngineOptions options = ExplainedHouse::stepped();
  options.explain.queue_rows_max = 2;
  ExplainedHouse house(options);
  const uint64_t first = house.ask(600);
  house.ask(600);
  const uint64_t third = house.ask(600);
  CHECK(house.is_answered(third));
  CHECK(!house.is_answered(first));
  CHECK_EQ(parse_explained(house.answers[third].payload).status, number_of(Became::kShed));
  CHECK_EQ(house.engine.step_explanations(), 2u);
  CHECK_EQ(parse_explained(house.answer(first).payload).status, number_of(Became::kGiven));
  CHECK_EQ(count_of(house, Became::kShed), 1u);
}

// The submitter runs the row: where it is known before that it cannot wait, its call is complete at once.
TEST(a_row_that_is_run_at_once_does_not_pay_for_an_explanation_that_has_no_room) {
  EngineOptions options = ExplainedHouse::stepped();
  options.explain.queue_rows_max = 1;
  ExplainedHouse house(options);
  LaneSpec spec = house.explained_spec("2");
  spec.inline_runner = house.make_runner(house.fake);
  spec.options.inline_overrun_ns = kMs;
  CHECK(house.add(std::move(spec)).ok());
  const auto ask = [&](const std::string& explain) { return house.score(600, with_version("2") + delimited(12, explain)); };
  CHECK(!ask("").is_complete);  // it waits
  const uint64_t waits = house.token;
  const Submission shed = ask("");
  CHECK(shed.is_complete);
  CHECK_EQ(parse_explained(house.engine.finish(shed.call).payload).status, number_of(Became::kShed));
  const Submission unwanted = ask(when(kAtLeast) + fixed64(2, 1.0));
  CHECK(unwanted.is_complete);
  CHECK_EQ(parse_explained(house.engine.finish(unwanted.call).payload).status, number_of(Became::kNotWanted));
  CHECK_EQ(house.engine.step_explanations(), 1u);
  CHECK_EQ(parse_explained(house.answer(waits).payload).status, number_of(Became::kGiven));
  CHECK(!ask("").is_complete);  // there is room again
  CHECK_EQ(house.engine.step_explanations(), 1u);
}

TEST(bulk_rows_wait_as_long_as_their_call_may_take) {
  ExplainedHouse house;
  house.batch({score_request(600)}, delimited(8, ""));
  CHECK_EQ(house.step(), 1u);
  house.clock.advance_ns(500 * kMs);
  CHECK_EQ(house.engine.step_explanations(), 1u);
  CHECK(mentions(house.answer(house.token).payload, "AMOUNT_HIGH"));
}

TEST(a_bulk_call_has_time_left_for_its_answer) {
  ExplainedHouse house;
  house.batch({score_request(600)}, delimited(8, ""));
  CHECK_EQ(house.step(), 1u);
  house.clock.advance_ns(kSecond * 7 / 8);  // of the second that it may take
  CHECK_EQ(house.engine.step_explanations(), 1u);
  CHECK_EQ(house.answer(house.token).code, Code::kOk);
  CHECK(!mentions(house.answer(house.token).payload, "AMOUNT_HIGH"));
  CHECK_EQ(count_of(house, Became::kLate), 1u);
}

TEST(a_cancelled_call_ends_with_its_explanation) {
  ExplainedHouse house;
  const Submission submission = house.score(600, delimited(12, ""));
  house.step();
  CHECK(house.engine.cancel(submission.call));
  house.engine.step_explanations();
  CHECK_EQ(house.engine.stats().slots_used, 0u);
}

TEST(the_stage_is_as_long_as_the_score_waited) {
  ExplainedHouse house;
  const Submission submission = house.score(600, delimited(12, "") + number(11, 1));
  CHECK_EQ(submission.code, Code::kOk);
  house.step();
  house.clock.advance_ns(2 * kMs);
  house.engine.step_explanations();
  const std::string encoded = parse_response(house.answer(house.token).payload).timings;
  const std::vector<Field> timings = fields_of(encoded);
  CHECK_EQ(find_field(fields_of(find_field(timings, 10)->bytes), 2)->value, static_cast<uint64_t>(2 * kMs));
  CHECK_EQ(find_field(timings, 9)->bytes.size(), 0u);  // nothing is waited for after it
}

TEST(what_does_not_add_up_to_the_score_is_withheld_and_rests) {
  ExplainedHouse house;
  house.fake->score = [](int64_t) { return 0.25; };  // no score of the tree's
  for (uint32_t i = 0; i < Breaker::kFailuresMax; ++i) {
    const uint64_t token = house.ask(600);
    house.engine.step_explanations();
    const Explained found = parse_explained(house.answer(token).payload);
    CHECK_EQ(found.status, number_of(Became::kWithheld));
    CHECK(!found.is_there);
  }
  const uint64_t suspended = house.ask(600);
  CHECK(house.is_answered(suspended));
  CHECK_EQ(parse_explained(house.answers[suspended].payload).status, number_of(Became::kSuspended));
  CHECK(house.engine.metrics().lanes[0].is_explaining_suspended);
  // One is tried when the rest is over, and what adds up ends it.
  house.fake->score = [](int64_t) { return kHigh; };
  house.clock.advance_ns(Breaker::kRestNs);
  const uint64_t trial = house.ask(600);
  CHECK_EQ(parse_explained(house.answer(house.ask(600)).payload).status, number_of(Became::kSuspended));
  house.engine.step_explanations();
  CHECK_EQ(parse_explained(house.answer(trial).payload).status, number_of(Became::kGiven));
  CHECK(!house.engine.metrics().lanes[0].is_explaining_suspended);
}

TEST(threads_explain_by_themselves) {
  ExplainedHouse house(threaded());
  for (int i = 0; i < check::scaled(50); ++i) CHECK_EQ(await(house, house.ask(600)).status, number_of(Became::kGiven));
  CHECK_EQ(house.engine.stats().explain.threads, 1u);
}

// One that took long once, or seemed to because it got no processor, is tried again: else nothing would ever say that it is quick.
TEST(what_took_long_once_is_tried_again) {
  const auto faults = std::make_shared<ToldFaults>();
  ExplainedHouse house(threaded(faults));
  faults->hold(true);
  house.batch({score_request(600)}, delimited(8, ""));
  const uint64_t slow = house.token;
  CHECK_EQ(house.step(), 1u);
  CHECK(faults->wait_begun(1));
  house.clock.advance_ns(100 * kMs);
  faults->hold(false);
  await(house, slow);
  CHECK(mentions(house.answers[slow].payload, "AMOUNT_HIGH"));
  CHECK_EQ(await(house, house.ask(600)).status, number_of(Became::kGiven));
}

// However many callers have no patience: what is late for them says nothing of the worker.
TEST(impatient_callers_suspend_nothing) {
  const auto faults = std::make_shared<ToldFaults>();
  ExplainedHouse house(threaded(faults));
  faults->hold(true);
  for (const uint32_t calls : {1u, 2 * Breaker::kFailuresMax}) {  // one is worked on, the others wait behind it
    std::vector<uint64_t> tokens;
    for (uint32_t i = 0; i < calls; ++i) {
      CHECK_EQ(house.score(600, delimited(12, "") + with_timeout_ms(3)).code, Code::kOk);
      tokens.push_back(house.token);
      CHECK_EQ(house.step(), 1u);
    }
    CHECK(faults->wait_begun(1));
    house.clock.advance_ns(2 * kMs);
    for (const uint64_t token : tokens) CHECK_EQ(await(house, token).status, number_of(Became::kLate));
  }
  CHECK(!house.engine.stats().explain.is_suspended);
  faults->hold(false);
  CHECK_EQ(await(house, house.ask(600)).status, number_of(Became::kGiven));
}

TEST(a_worker_that_hangs_changes_no_score_and_is_left_alone) {
  const auto faults = std::make_shared<ToldFaults>();
  ExplainedHouse house(threaded(faults));
  faults->hold(true);
  const uint64_t first = house.ask(600);
  CHECK(faults->wait_begun(1));
  CHECK_EQ(await(house, first, kMs).status, number_of(Became::kLate));
  house.clock.advance_ns(Explanations::kStuckNs);
  for (uint32_t i = 0; i < Breaker::kFailuresMax; ++i)
    CHECK_EQ(await(house, house.ask(600), kMs).status, number_of(Became::kLate));
  CHECK(house.engine.stats().explain.is_suspended);
  const uint64_t suspended = house.ask(600);  // at once
  CHECK(house.is_answered(suspended));
  CHECK_EQ(parse_response(house.answers[suspended].payload).score, kHigh);
  // It comes back: what it did is forgotten, what comes next is explained.
  faults->hold(false);
  for (int i = 0; i < 20'000 && house.engine.stats().explain.is_suspended; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_EQ(await(house, house.ask(600)).status, number_of(Became::kGiven));
}

TEST(a_worker_that_ends_changes_no_score_and_is_started_anew) {
  const auto faults = std::make_shared<ToldFaults>();
  ExplainedHouse house(threaded(faults));
  faults->set(ExplainFaults::Fault::kEnds);
  for (uint32_t i = 0; i < Breaker::kFailuresMax; ++i) CHECK_EQ(await(house, house.ask(600)).status, number_of(Became::kLate));
  CHECK_EQ(await(house, house.ask(600)).status, number_of(Became::kSuspended));
  faults->set(ExplainFaults::Fault::kNone);
  house.clock.advance_ns(Breaker::kRestNs);
  CHECK_EQ(await(house, house.ask(600)).status, number_of(Became::kGiven));
  CHECK_EQ(house.engine.stats().explain.threads, 1u);
}

TEST(a_stop_ends_what_waits) {
  const auto faults = std::make_shared<ToldFaults>();
  ExplainedHouse house(threaded(faults));
  faults->hold(true);
  const uint64_t first = house.ask(600), second = house.ask(600);
  CHECK(faults->wait_begun(1));
  std::thread stopping([&] { house.engine.stop(); });
  CHECK_EQ(await(house, first).status, number_of(Became::kShed));
  CHECK_EQ(await(house, second).status, number_of(Became::kShed));
  faults->hold(false);
  stopping.join();
}

TEST(a_storm_of_explained_calls_loses_none) {
  EngineOptions options = threaded(nullptr, 8);
  options.slots = 256;
  options.explain.threads = 2;
  SystemClock clock;
  Engine engine(options, clock);
  ExplainedHouse house;  // for its parts
  LaneSpec spec = house.explained_spec();
  spec.has_threads = true;
  house.fake->score = [](int64_t amount) { return amount < kHighAmount ? kLow : kHigh; };
  CHECK(engine.add_lane(std::move(spec), true).ok());
  std::atomic<uint64_t> answered{0};
  std::vector<std::unique_ptr<CompletionQueue>> queues;  // a wake may still be on its way when a call is answered
  for (int i = 0; i < 3; ++i) queues.push_back(std::make_unique<CompletionQueue>(options.slots));
  const auto submit = [&](int number) {
    CompletionQueue& queue = *queues[static_cast<size_t>(number)];
    std::vector<Completion> completions;
    const auto settle = [&] {
      queue.drain(completions);
      for (const Completion& completion : completions) {
        const Answer answer = engine.finish(completion.call);
        answered += answer.code == Code::kOk && parse_explained(answer.payload).status != 0;
      }
      return completions.size();
    };
    int left = 0;
    for (int i = 0; i < check::scaled(300); ++i) {
      const std::string more = delimited(12, i % 3 == 0 ? when(kNotApproved) : "");
      const Submission submission =
          engine.submit_score(score_request((i * 7 + number) % 1000, more), {clock.now_ns(), 0}, &queue, 1);
      if (submission.code != Code::kOk) continue;
      if (i % 11 != 0 || !engine.cancel(submission.call)) ++left;
      left -= static_cast<int>(settle());
    }
    while (left > 0) {
      left -= static_cast<int>(settle());
      std::this_thread::yield();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(submit, i);
  for (std::thread& thread : threads) thread.join();
  engine.stop();
  engine.check_idle();
  CHECK(answered.load() > 0);
  CHECK_EQ(engine.stats().explain.queued_rows, 0u);
}

ASSAY_TEST_MAIN
