// How long a row may wait: what the pace learns, whom it refuses, and that goodput holds when more comes than a model can do.
#include "core/serving/queue_pace.h"

#include <thread>

#include "check.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr int64_t kUs = 1'000;
constexpr uint32_t kRowsMax = 64;
constexpr int64_t kRowNs = 100 * kUs;  // a batch of any size costs so much a row: 10,000 rows/s

// A lane whose runs take time. Time passes only in them, and when told.
struct Bank {
  explicit Bank(uint32_t queue_rows_max = 2048, bool has_threads = false) : house(House::sized(4096, 1024)) {
    house.fake->rows_max = kRowsMax;
    house.fake->on_gather = [this](const std::vector<int64_t>& amounts) {
      house.clock.advance_ns(static_cast<int64_t>(amounts.size()) * row_ns);
    };
    LaneSpec spec = house.lane_spec();
    spec.has_threads = has_threads;
    spec.options.queue_rows_max = queue_rows_max;
    spec.options.batch_rows_max = kRowsMax;
    ASSAY_ASSERT(house.add(std::move(spec), true).ok());
  }
  // Learns from so many full batches.
  void learn(int batches) {
    for (int i = 0; i < batches; ++i) {
      fill(kRowsMax);
      house.step();
      house.drain();
    }
  }
  void fill(uint32_t rows, const std::string& more = with_timeout_ms(30'000)) {
    for (uint32_t i = 0; i < rows; ++i) ASSAY_ASSERT(house.score(1, more).code == Code::kOk);
  }
  // With threads: until every accepted row is answered.
  void wait_answered() {
    while (house.engine.stats().slots_used > 0) {
      house.drain();
      std::this_thread::yield();
    }
  }
  std::string refusal(int64_t timeout_ms, uint64_t priority = 1) {
    return reason(house.score(2, with_timeout_ms(timeout_ms) + with_priority(priority)));
  }

  int64_t row_ns = kRowNs;
  House house;
};

// Callers come at `factor` times what the model can do and wait for 100 ms each; a full queue takes 205 ms. The share of the
// capacity that was answered in time.
double goodput(double factor) {
  Bank bank;
  House& house = bank.house;
  constexpr int64_t kTimeoutNs = 100 * kMs;
  const auto gap_ns = static_cast<double>(kRowNs) / factor;
  const int64_t start_ns = house.clock.now_ns(), end_ns = start_ns + 3 * kSecond;
  double next_ns = static_cast<double>(start_ns);
  std::map<uint64_t, int64_t> came_ns;
  size_t in_time = 0;
  while (house.clock.now_ns() < end_ns) {
    for (; next_ns <= static_cast<double>(house.clock.now_ns()); next_ns += gap_ns) {
      if (house.score(1, with_timeout_ms(kTimeoutNs / kMs)).code == Code::kOk) came_ns[house.token] = house.clock.now_ns();
    }
    if (house.step() == 0) house.clock.advance_ns(kRowNs);
    house.drain();
    for (const auto& [token, answer] : house.answers) {
      in_time += answer.code == Code::kOk && house.clock.now_ns() - came_ns[token] <= kTimeoutNs;
    }
    house.answers.clear();
  }
  return static_cast<double>(in_time) * static_cast<double>(kRowNs) / static_cast<double>(house.clock.now_ns() - start_ns);
}

}  // namespace

TEST(a_pace_is_an_average_of_full_batches) {
  QueuePace pace;
  CHECK(pace.has_time(1'000'000, 1, 1));  // nothing is known
  pace.learn(3, 64, 3'000'000);           // a small batch says nothing of a full one
  CHECK(pace.has_time(1'000'000, 1, 1));
  pace.learn(64, 64, 6'400);  // 100 ns a row
  CHECK(pace.has_time(10, 1, 2'000));
  CHECK(!pace.has_time(11, 1, 2'000));
  CHECK(pace.has_time(20, 2, 2'000));  // two runners
  pace.learn(32, 64, 32 * 900);        // half full is full enough: 100 + 800 / 8 = 200
  CHECK(pace.has_time(5, 1, 2'000));
  CHECK(!pace.has_time(6, 1, 2'000));
}

TEST(a_small_batch_can_only_lower_a_pace) {
  QueuePace pace;
  pace.learn(64, 64, 64 * 1'000);
  pace.learn(1, 64, 50'000);
  CHECK(!pace.has_time(11, 1, 20'000));
  pace.learn(1, 64, 10);
  CHECK(pace.has_time(1'000, 1, 20'000));
}

TEST(a_clock_that_stands_still_or_runs_backwards_keeps_nobody_out) {
  QueuePace pace;
  pace.learn(64, 64, 0);
  pace.learn(64, 64, -5);
  CHECK(pace.has_time(UINT32_MAX, 1, 0));
}

TEST(an_empty_queue_takes_every_row) {
  QueuePace pace;
  pace.learn(64, 64, INT64_MAX / 2);
  CHECK(pace.has_time(0, 1, -1));
}

TEST(rows_whose_wait_takes_more_than_half_of_their_time_are_refused) {
  Bank bank;
  bank.learn(20);
  bank.fill(100);  // 10 ms
  CHECK_EQ(bank.refusal(19), "QUEUE_TOO_LONG");
  CHECK_EQ(bank.refusal(21), "");
  CHECK_EQ(bank.house.engine.stats().refused_calls, 1u);
  for (int i = 0; i < 3; ++i) bank.house.step();
  bank.house.drain();
  CHECK_EQ(bank.refusal(1), "");
}

TEST(rows_that_are_running_are_waited_for_too) {
  Bank bank(2048, /*has_threads=*/true);
  House& house = bank.house;
  const std::vector<std::string> rows(kRowsMax, score_request(1));
  CHECK(house.batch(rows).code == Code::kOk);
  bank.wait_answered();
  house.fake->hold();
  CHECK(house.batch(rows).code == Code::kOk);  // takes 6.4 ms
  CHECK(house.fake->wait_running(1));
  CHECK_EQ(bank.refusal(12), "QUEUE_TOO_LONG");
  CHECK_EQ(bank.refusal(14), "");
  house.fake->release();
  while (bank.refusal(1) == "QUEUE_TOO_LONG") std::this_thread::yield();  // the runner is about to say that it is done
  bank.wait_answered();
}

TEST(less_urgent_rows_do_not_stand_in_the_way) {
  Bank bank;
  bank.learn(20);
  bank.fill(100, with_timeout_ms(30'000) + with_priority(2));
  CHECK_EQ(bank.refusal(19, 2), "QUEUE_TOO_LONG");
  CHECK_EQ(bank.refusal(1, 1), "");
  CHECK_EQ(bank.refusal(19, 2), "QUEUE_TOO_LONG");
}

TEST(less_urgent_rows_keep_their_share_of_a_long_queue) {
  Bank bank;
  bank.learn(20);
  bank.fill(1000);  // 100 ms
  CHECK_EQ(bank.refusal(10), "QUEUE_TOO_LONG");
  bank.fill(10, with_timeout_ms(30'000) + with_priority(2));  // an eighth of each batch is theirs: 8 ms
  CHECK_EQ(bank.refusal(15, 2), "QUEUE_TOO_LONG");
  CHECK_EQ(bank.refusal(17, 2), "");
}

TEST(a_batch_call_is_refused_as_one_and_a_message_of_a_stream_alone) {
  Bank bank;
  bank.learn(20);
  bank.fill(100);
  House& house = bank.house;
  const auto timeout_of_batch = [](int64_t ms) {  // interactive: else it has a share of its own
    return number(4, 1) + delimited(5, number(2, static_cast<uint64_t>(ms * kMs)));
  };
  CHECK_EQ(reason(house.batch({score_request(1), score_request(2)}, timeout_of_batch(19))), "QUEUE_TOO_LONG");
  CHECK_EQ(reason(house.batch({score_request(1), score_request(2)}, timeout_of_batch(21))), "");
  CHECK(house.stream(score_request(3, with_timeout_ms(19))).code == Code::kOk);
  CHECK_EQ(parse_result(house.answer(house.token).payload).reason, "QUEUE_TOO_LONG");
}

TEST(a_stall_is_forgotten) {
  Bank bank;
  bank.learn(20);
  bank.row_ns = 1'000 * kRowNs;
  bank.learn(1);
  bank.row_ns = kRowNs;
  bank.fill(2);
  CHECK_EQ(bank.refusal(10), "QUEUE_TOO_LONG");  // 125 times the usual
  bank.house.step();
  bank.house.drain();
  bank.fill(2);
  CHECK_EQ(bank.refusal(10), "");  // the small batch was quick
}

TEST(goodput_holds_however_much_comes) {
  for (const double factor : {0.9, 1.5, 2.0, 5.0, 10.0}) {
    const double share = goodput(factor);
    CHECK(share >= 0.9 * std::min(1.0, factor));
    if (share < 0.9 * std::min(1.0, factor)) std::fprintf(stderr, "  %.3f at %.1f\n", share, factor);
  }
}

ASSAY_TEST_MAIN
