// ModelInfer in the engine: rows of one request split and joined, all answered or none, every outcome counted.
#include <cmath>
#include <thread>

#include "check.h"
#include "core/runtime/faulty_model.h"
#include "infer_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

std::vector<double> pairs_of(const Answer& answer) {
  const std::optional<Field> raw = find_field(fields_of(answer.payload), 6);
  std::vector<double> values;
  if (!raw) return values;
  values.resize(raw->bytes.size() / sizeof(double));
  std::memcpy(values.data(), raw->bytes.data(), raw->bytes.size());
  return values;
}

void check_pairs(const Answer& answer, const std::vector<int64_t>& amounts) {
  CHECK(answer.code == Code::kOk);
  const std::vector<double> values = pairs_of(answer);
  CHECK(values.size() == 2 * amounts.size());
  for (size_t i = 0; i < amounts.size(); ++i) {
    CHECK(values[2 * i] == static_cast<double>(amounts[i]) / 1024.0);
    CHECK(values[2 * i + 1] == -values[2 * i]);
  }
}

TEST(rows_are_split_and_joined_in_order) {
  InferHouse house;
  house.fake->rows_max = 64;
  CHECK(house.engine.remove_lane("tensors", "1").ok());
  LaneSpec spec = house.tensor_spec();
  spec.options.batch_rows_max = 3;
  CHECK(house.add(std::move(spec)).ok());
  const std::vector<int64_t> amounts = {5, 4, 3, 2, 1, 9, 8};
  CHECK(house.infer(amounts).code == Code::kOk);
  while (house.run() > 0) {}
  CHECK(house.fake->batches().size() == 3);
  check_pairs(house.answer(house.token), amounts);
}

TEST(what_the_model_gives_is_given_nan_too) {
  InferHouse house;
  house.fake->score = [](int64_t) { return NAN; };
  CHECK(house.infer({1}).code == Code::kOk);
  house.run();
  const Answer& answer = house.answer(house.token);
  CHECK(answer.code == Code::kOk && std::isnan(pairs_of(answer)[0]));
}

TEST(a_row_that_fails_fails_its_call_and_no_other) {
  InferHouse house;
  house.fake->is_failing = [](const std::vector<int64_t>& batch) {
    return std::find(batch.begin(), batch.end(), 13) != batch.end();
  };
  CHECK(house.infer({1, 13, 3}).code == Code::kOk);
  const uint64_t failed = house.token;
  CHECK(house.infer({7, 8}).code == Code::kOk);
  while (house.run() > 0) {}
  CHECK(house.answer(failed).code == Code::kModelRunFailed);
  check_pairs(house.answer(house.token), {7, 8});
  const EngineStats stats = house.engine.stats();
  CHECK(stats.failed_rows == 3 && stats.answered_rows == 2);
}

TEST(an_output_of_another_size_is_withheld) {
  InferHouse house;
  house.fake->output_type = TensorType::kFloat32;
  CHECK(house.infer({1}).code == Code::kOk);
  house.run();
  CHECK(house.answer(house.token).code == Code::kModelOutputInvalid);
}

TEST(everything_that_is_wrong_is_named_at_once) {
  InferHouse house;
  const std::string shape = number(3, 2) + number(3, 1);
  const std::string input = delimited(1, "amount") + delimited(2, "INT64") + shape;
  const std::string request = delimited(1, "tensors") + delimited(4, delimited(1, "sequence_id") + delimited(2, number(2, 7))) +
                              delimited(5, input) + delimited(6, delimited(1, "pear")) + delimited(7, packed({1}));
  const Submission refused = house.engine.submit_infer(request, house.context(), &house.queue, 1);
  CHECK(refused.code == Code::kInvalidRequest);
  for (const char* words : {"amount has 8 bytes", "outputs[\"pear\"]", "parameters[\"sequence_id\"]"})
    CHECK(mentions(refused.rpc_status, words));
}

TEST(limits_deadlines_and_cancelling) {
  InferHouse house;
  CHECK(house.infer(std::vector<int64_t>(17, 1)).code == Code::kTooManyRows);  // batch_call_rows_max is 16
  CHECK(house.infer({}).code == Code::kEmptyBatch);
  const auto parameter = [](const char* name, uint64_t value) {
    return delimited(4, delimited(1, name) + delimited(2, number(2, value)));
  };
  const Submission timed = house.infer({1, 2}, parameter("timeout", 1000));
  CHECK(timed.code == Code::kOk && timed.deadline_ns == house.clock.now_ns() + 1'000'000);
  const uint64_t late = house.token;
  house.clock.advance_ns(2 * kMs);
  house.run();
  CHECK(house.answer(late).code == Code::kDeadlineExceeded);
  const Submission left = house.infer({1, 2});
  CHECK(house.engine.cancel(left.call));
  house.run();
  CHECK(house.fake->batches().empty());
}

TEST(a_model_without_a_feature_set_has_no_score_and_one_without_outputs_no_tensors) {
  InferHouse house;
  CHECK(house.add(house.lane_spec()).ok());
  CHECK(house.score(1, with_model("tensors")).code == Code::kNoFeatureSet);
  CHECK(house.engine.submit_infer(delimited(1, "fraud"), house.context(), &house.queue, 1).code == Code::kInferUnsupported);
  LaneSpec spec = house.tensor_spec("2");
  spec.infer_outputs[0].dims = {-1};
  CHECK(house.add(std::move(spec)).code == Code::kInferUnsupported);
}

// The card adds 1 to what the CPU gives, so that it shows who ran a row.
TEST(a_card_gives_outputs_and_the_cpu_those_that_it_cannot) {
  InferHouse house;
  CHECK(house.engine.remove_lane("tensors", "1").ok());
  const auto on_card = std::make_shared<Fake>();
  on_card->score = [](int64_t amount) { return static_cast<double>(amount) / 1024.0 + 1.0; };
  const auto faulty = std::make_shared<FaultyModel>();
  LaneSpec spec = house.tensor_spec();
  spec.standbys = std::move(spec.runners);
  spec.runners.clear();
  spec.runners.push_back(FaultyModel::wrap(faulty, std::make_unique<FakeRunner>(on_card, 0)));
  spec.card = std::make_shared<Card>(CardOptions());
  CHECK(house.add(std::move(spec)).ok());
  const auto firsts = [&house] {
    CHECK(house.infer({1, 2, 3}).code == Code::kOk);
    while (house.run() > 0) {}
    const Answer& answer = house.answer(house.token);
    CHECK(answer.code == Code::kOk);
    const std::vector<double> pairs = pairs_of(answer);
    return std::vector<double>{pairs[0] * 1024, pairs[2] * 1024, pairs[4] * 1024};
  };
  CHECK(firsts() == (std::vector<double>{1025, 1026, 1027}));
  FaultRule nan;
  nan.kind = FaultKind::kNan;
  nan.nan_row = 1;
  faulty->add(nan);
  CHECK(firsts() == (std::vector<double>{1025, 2, 1027}));
  faulty->clear();
  FaultRule sticky;
  sticky.text = "Run: CUDA failure 700: an illegal memory access was encountered";
  faulty->add(sticky);
  CHECK(firsts() == (std::vector<double>{1, 2, 3}));
}

TEST(many_threads_get_their_own_rows) {
  std::array<CompletionQueue, 4> queues{CompletionQueue(64), CompletionQueue(64), CompletionQueue(64), CompletionQueue(64)};
  InferHouse house;  // a runner may still be in a queue's push() when its last answer is there
  CHECK(house.engine.remove_lane("tensors", "1").ok());
  LaneSpec spec = house.tensor_spec();
  spec.has_threads = true;
  spec.runners.push_back(std::make_unique<FakeRunner>(house.fake, 0));
  spec.inline_runner = std::make_unique<FakeRunner>(house.fake, 0);
  spec.options.inline_overrun_ns = kSecond;
  CHECK(house.add(std::move(spec)).ok());
  const auto ask = [&](size_t mine) {
    CompletionQueue& queue = queues[mine];
    for (int64_t i = 0; i < 300; ++i) {
      std::vector<int64_t> amounts;
      for (int64_t k = 0; k <= i % 4; ++k) amounts.push_back(static_cast<int64_t>(mine) * 100'000 + i * 10 + k);
      const Submission sent = house.engine.submit_infer(infer_request(amounts), house.context(), &queue, 7);
      CHECK(sent.code == Code::kOk);
      std::vector<Completion> done;
      while (!sent.is_complete && done.empty()) {
        queue.drain(done);
        std::this_thread::yield();
      }
      check_pairs(house.engine.finish(sent.call), amounts);
    }
  };
  std::vector<std::thread> threads;
  for (size_t t = 0; t < queues.size(); ++t) threads.emplace_back(ask, t);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

ASSAY_TEST_MAIN
