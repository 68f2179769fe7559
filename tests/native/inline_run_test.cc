// Rows that their submitter runs: when, when not, and that nothing else changes. One thread and a clock that stands still, but for
// the tests of what happens while an inline run lasts.
#include "core/serving/inline_run.h"

#include <thread>

#include "check.h"
#include "core/serving/slot.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr int64_t kRunNsMax = 1 * kMs;

LaneSpec inline_spec(const House& house) {
  LaneSpec spec = house.lane_spec();
  spec.inline_runner = house.make_runner(house.fake);
  spec.options.inline_overrun_ns = kRunNsMax;
  return spec;
}

// The next run takes this long by the house's clock.
void take_ns(House& house, int64_t duration_ns) {
  house.fake->on_gather = [&house, duration_ns](const auto&) { house.clock.advance_ns(duration_ns); };
}

Answer finish(House& house, const Submission& submission) {
  CHECK(submission.code == Code::kOk && submission.is_complete);
  return house.engine.finish(submission.call);
}

// Refused whatever happens, so it is never queued; says whether the model is still known.
Submission submit_bad(House& house) { return house.engine.submit_score(without_ratio(2), house.context(), &house.queue, 0); }

// A thread that submits a row and hangs in its inline run.
class HangingSubmit {
 public:
  explicit HangingSubmit(House& house) : house_(house) {
    house.fake->hold();
    thread_ = std::thread([this] {
      submission_ = house_.engine.submit_score(score_request(1), house_.context(), &house_.queue, /*token=*/1'000'000);
    });
    CHECK(house.fake->wait_running(1));
  }
  Row release_and_finish() {
    house_.fake->release();
    thread_.join();
    return parse_response(finish(house_, submission_).payload);
  }

 private:
  House& house_;
  Submission submission_;
  std::thread thread_;
};

// A call that ends something, on a thread of its own.
class Ending {
 public:
  explicit Ending(std::function<void()> call) {
    thread_ = std::thread([this, call = std::move(call)] {
      call();
      has_ended_ = true;
    });
  }
  bool has_ended() const { return has_ended_; }
  void join() { thread_.join(); }

 private:
  std::atomic<bool> has_ended_{false};
  std::thread thread_;
};

}  // namespace

TEST(row_that_nothing_waits_before_is_run_by_its_submitter) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  const Answer answer = finish(house, house.score(800));
  CHECK(answer.code == Code::kOk);
  const Row row = parse_response(answer.payload);
  CHECK_EQ(row.id, "tx-800");
  CHECK_EQ(row.score, 800.0 / 1024.0);
  CHECK_EQ(row.decision, static_cast<uint64_t>(Decision::kDecline));
  CHECK_EQ(house.drain(), 0u);  // nothing comes through the queue
  CHECK_EQ(house.step(), 0u);   // and no runner has anything to do
  const EngineStats stats = house.engine.stats();
  CHECK_EQ(stats.inline_rows, 1u);
  CHECK_EQ(stats.inline_overruns, 0u);
  CHECK_EQ(stats.batch_count, 1u);
  CHECK_EQ(stats.batched_rows, 1u);
  CHECK_EQ(stats.accepted_rows, 1u);
  CHECK_EQ(stats.answered_rows, 1u);
  CHECK_EQ(stats.slots_used, 0u);
}

TEST(inline_answer_has_every_stage) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  take_ns(house, kMs / 2);
  const Row row = parse_response(finish(house, house.score(7, number(11, 1))).payload);
  const std::vector<Field> timings = fields_of(row.timings);
  CHECK_EQ(find_field(fields_of(find_field(timings, 4)->bytes), 2)->value, static_cast<uint64_t>(kMs / 2));  // assembled
  CHECK_EQ(find_field(fields_of(find_field(timings, 7)->bytes), 2)->value, static_cast<uint64_t>(kMs / 2));  // in all
  CHECK_EQ(find_field(timings, 8)->value, 1u);
}

TEST(stream_message_is_run_inline_too) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  const Row row = parse_result(finish(house, house.stream(score_request(100))).payload);
  CHECK_EQ(row.id, "tx-100");
  CHECK_EQ(row.score, 100.0 / 1024.0);
  const Row bad = parse_result(house.answer((house.stream(without_ratio(5)), house.token)).payload);  // refused before any run
  CHECK_EQ(bad.reason, "INVALID_REQUEST");
  CHECK_EQ(house.engine.stats().inline_rows, 1u);
}

TEST(batch_is_never_run_inline) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  CHECK(!house.batch({score_request(1)}).is_complete);
  CHECK_EQ(house.step(), 1u);
  CHECK_EQ(house.drain(), 1u);
  CHECK_EQ(house.engine.stats().inline_rows, 0u);
}

TEST(row_waits_its_turn_behind_its_own_priority_and_higher) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  CHECK(!house.batch({score_request(1)}).is_complete);                // a bulk row waits
  CHECK(!house.score(2, with_priority(2)).is_complete);               // bulk behind bulk
  (void)finish(house, house.score(3));                                // interactive before bulk
  CHECK(!house.batch({score_request(4)}, number(4, 1)).is_complete);  // an interactive row waits
  CHECK(!house.score(5).is_complete);
  CHECK_EQ(house.step(), 4u);
  CHECK_EQ(house.drain(), 4u);
  (void)finish(house, house.score(6, with_priority(2)));
  CHECK_EQ(house.engine.stats().inline_rows, 2u);
}

TEST(overrun_sends_rows_to_the_runners_for_a_hundred_times_as_long) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  take_ns(house, kRunNsMax);
  (void)finish(house, house.score(1));
  take_ns(house, kRunNsMax + 1);  // one nanosecond too long
  (void)finish(house, house.score(2));
  CHECK_EQ(house.engine.stats().inline_overruns, 1u);
  take_ns(house, 0);
  house.clock.advance_ns(kInlineRestFactor * (kRunNsMax + 1) - 1);
  CHECK(!house.score(3).is_complete);
  CHECK_EQ(house.step(), 1u);
  CHECK_EQ(house.drain(), 1u);
  house.clock.advance_ns(1);
  (void)finish(house, house.score(4));
  CHECK_EQ(house.engine.stats().inline_rows, 3u);
}

TEST(inline_run_that_fails_is_a_refusal_and_the_next_is_not) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  house.fake->is_failing = [](const std::vector<int64_t>& amounts) { return amounts[0] == 13; };
  const Answer failed = finish(house, house.score(13));
  CHECK(failed.code == Code::kModelRunFailed);
  CHECK_EQ(reason_in(failed.rpc_status), "MODEL_RUN_FAILED");
  house.fake->score = [](int64_t) { return std::nan(""); };
  CHECK(finish(house, house.score(14)).code == Code::kModelOutputInvalid);
  house.fake->score = [](int64_t) { return 0.25; };
  CHECK(finish(house, house.score(15)).code == Code::kOk);
  CHECK_EQ(house.engine.stats().failed_rows, 2u);
}

TEST(row_that_expires_before_its_inline_run_is_never_run) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  take_ns(house, 10 * kMs);
  const Answer answer = finish(house, house.score(1, with_timeout_ms(10)));
  CHECK(answer.code == Code::kDeadlineExceeded);
  CHECK(house.fake->batches().empty());
  CHECK_EQ(house.engine.stats().expired_rows[static_cast<size_t>(DeadlineCheck::kBeforeRun)], 1u);
}

TEST(complete_call_cannot_be_cancelled_and_is_finished_once) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  const Submission submission = house.score(1);
  REQUIRE(submission.is_complete);
  CHECK(!house.engine.cancel(submission.call));
  CHECK(house.engine.finish(submission.call).code == Code::kOk);
  CHECK(house.engine.finish(submission.call).code == Code::kInternal);
}

TEST(second_submitter_goes_to_the_runners_while_one_runs) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  HangingSubmit first(house);
  CHECK(!house.score(2).is_complete);
  CHECK_EQ(first.release_and_finish().id, "tx-1");
  CHECK_EQ(house.step(), 1u);
  CHECK_EQ(house.drain(), 1u);
}

// Without runner threads: what stop() and remove_lane() wait for is the inline run alone.
TEST(stop_waits_for_an_inline_run_and_it_is_answered) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  HangingSubmit first(house);
  CHECK(house.score(2).code == Code::kOk);  // queued: the inline runner is taken
  Ending stop([&] { house.engine.stop(); });
  while (house.drain() == 0) std::this_thread::yield();  // until abort() has answered it
  CHECK(house.answers[house.token].code == Code::kCancelled);
  CHECK(!stop.has_ended());
  CHECK_EQ(first.release_and_finish().id, "tx-1");
  stop.join();
}

TEST(lane_is_removed_after_its_inline_run) {
  House house;
  REQUIRE(house.add(inline_spec(house)).ok());
  HangingSubmit first(house);
  Ending removal([&] { CHECK(house.engine.remove_lane("fraud", "1").ok()); });
  while (submit_bad(house).code != Code::kUnknownModel) std::this_thread::yield();  // until it is out of the table
  CHECK(!removal.has_ended());
  CHECK_EQ(first.release_and_finish().id, "tx-1");
  removal.join();
}

// A clock that stops one thread at one of its readings until told, with the time standing still.
class GateClock final : public Clock {
 public:
  int64_t now_ns() const noexcept override {
    if (std::this_thread::get_id() == who_.load() && readings_left_.fetch_sub(1) == 1) {
      is_waiting_ = true;
      while (!is_open_) std::this_thread::yield();
    }
    return kSecond;
  }
  void stop_this_thread_at(int reading) {
    readings_left_ = reading;
    who_ = std::this_thread::get_id();
  }
  void wait_stopped() const {
    while (!is_waiting_) std::this_thread::yield();
  }
  void open() { is_open_ = true; }

 private:
  mutable std::atomic<int> readings_left_{0};
  mutable std::atomic<bool> is_waiting_{false};
  std::atomic<bool> is_open_{false};
  std::atomic<std::thread::id> who_{};
};

// Between taking its ticket and its turn, a submitter must see that the lane ended: the inline runner is gone.
TEST(submitter_that_comes_after_stop_is_refused) {
  int refused = 0;
  for (int reading = 1; reading <= 3; ++reading) {  // at the start of submit, after decoding, after look-up
    House house;
    GateClock clock;
    Engine engine(House::small(), clock);
    REQUIRE(engine.add_lane(inline_spec(house), true).ok());
    Submission late;
    std::thread submitter([&] {
      clock.stop_this_thread_at(reading);
      late = engine.submit_score(score_request(1), {kSecond, 0}, &house.queue, 1);
    });
    clock.wait_stopped();
    engine.stop();
    clock.open();
    submitter.join();
    CHECK(!late.is_complete);
    refused += late.code == Code::kDraining ? 1 : 0;
    CHECK_EQ(engine.stats().inline_rows, 0u);
    engine.check_idle();
  }
  CHECK_EQ(refused, 3);
}

TEST(inline_runner_needs_a_limit) {
  House house;
  LaneSpec spec = inline_spec(house);
  spec.options.inline_overrun_ns = 0;
  const Status status = house.add(std::move(spec));
  CHECK(status.code == Code::kModelUnsupported);
  CHECK(status.detail.find("inline_overrun_ns") != std::string::npos);
}

ASSAY_TEST_MAIN
