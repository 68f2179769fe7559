// A lane on a card that goes wrong: memory, hangs, NaN and errors for good, at every batch size. Whatever it does, every row is
// answered with its own score. The card is played by FaultyModel; the clock stands still but for where a test moves it.
#include "core/serving/card_run.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "check.h"
#include "core/runtime/faulty_model.h"
#include "core/runtime/run_faults.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr uint32_t kRows = 16;
constexpr int64_t kHold = 10 * kSecond;
// As ort_message() leaves them.
constexpr const char* kOutOfMemory =
    "Run: bfc_arena.cc:### void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to "
    "allocate "
    "memory for requested buffer of size ########";
constexpr const char* kSticky = "Run: CUDA failure 700: an illegal memory access was encountered";
constexpr const char* kOther = "Run: CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED";

FaultRule error(const char* text, uint64_t rows_min = 1, uint64_t rows_max = UINT64_MAX) {
  FaultRule rule;
  rule.text = text;
  rule.rows_min = rows_min;
  rule.rows_max = rows_max;
  return rule;
}
FaultRule hang() {
  FaultRule rule;
  rule.kind = FaultKind::kHang;
  return rule;
}
FaultRule nan_at(int64_t row) {
  FaultRule rule;
  rule.kind = FaultKind::kNan;
  rule.nan_row = row;
  return rule;
}

// timeout of a ScoreBatchRequest.
std::string batch_timeout_ms(int64_t ms) {
  return delimited(5, number(1, static_cast<uint64_t>(ms / 1000)) + number(2, static_cast<uint64_t>(ms % 1000 * kMs)));
}

// A house whose model runs on a card. `fake` is the standby on the CPU, `on_card` what the card runs where nothing is wrong.
struct CardHouse : House {
  explicit CardHouse(CardOptions options = {}) : card(std::make_shared<Card>(options)) {
    LaneSpec spec = lane_spec();
    spec.options.batch_rows_max = kRows;
    spec.runners.clear();
    spec.runners.push_back(FaultyModel::wrap(faulty, make_runner(on_card)));
    spec.standbys.push_back(make_runner(fake));
    spec.card = card;
    const Status status = add(std::move(spec));
    if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  }
  ~CardHouse() {
    faulty->clear();
    wait_back();
  }

  // Runs a batch of `count` rows to its end and checks that each has its own score, to the bit.
  void run_batch(uint32_t count, int64_t timeout_ms = 1000) {
    std::vector<std::string> rows;
    const int64_t first = next_amount;
    for (uint32_t i = 0; i < count; ++i) rows.push_back(score_request(next_amount++));
    REQUIRE(batch(rows, batch_timeout_ms(timeout_ms)).code == Code::kOk);
    const uint64_t call = token;
    while (step() > 0) {}
    const std::vector<Row> answers = parse_batch(answer(call).payload);
    REQUIRE(answers.size() == count);
    for (uint32_t i = 0; i < count; ++i) {
      CHECK_EQ(answers[i].id, "tx-" + std::to_string(first + i));
      CHECK(answers[i].has_score);
      CHECK_EQ(answers[i].score, static_cast<double>(first + i) / 1024.0);
    }
  }

  // Until no run hangs, and what was given up is back.
  void wait_back() {
    while (faulty->hanging() > 0) std::this_thread::yield();
  }
  CardStats stats() { return card->stats(clock.now_ns()); }
  uint64_t faults(CardFault fault) { return stats().faults[static_cast<size_t>(fault)]; }
  uint64_t cpu_rows(CpuCause cause) { return stats().cpu_rows[static_cast<size_t>(cause)]; }
  std::vector<uint64_t> card_batches() const { return faulty->batches(); }

  std::shared_ptr<Card> card;
  std::shared_ptr<Fake> on_card = std::make_shared<Fake>();
  std::shared_ptr<FaultyModel> faulty = std::make_shared<FaultyModel>();
  int64_t next_amount = 1;
};

// Moves the clock on once a run hangs.
class Impatience {
 public:
  Impatience(CardHouse& house, int64_t delta_ns) {
    thread_ = std::thread([&house, delta_ns] {
      while (house.faulty->hanging() == 0) std::this_thread::yield();
      house.clock.advance_ns(delta_ns);
    });
  }
  ~Impatience() { thread_.join(); }

 private:
  std::thread thread_;
};

}  // namespace

TEST(every_text_of_the_table_is_known) {
  for (const char* text : {kOutOfMemory, "CUDA failure 2: out of memory", "CUBLAS failure 3: the resource allocation failed",
                           "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED",
                           "Available memory of 256 is smaller than requested bytes of 1024"}) {
    CHECK(run_fault(text) == Fault::kOutOfMemory);
  }
  for (const int number : {214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 999}) {
    CHECK(run_fault("Run: CUDA failure " + std::to_string(number) + ": whatever") == Fault::kSticky);
  }
  CHECK(run_fault("CUDA error: unspecified launch failure") == Fault::kSticky);
  for (const char* text : {"", kOther, "CUDA failure 20: another", "CUDA failure 7000: another",
                           "CUBLAS failure 13: the function failed to launch on the GPU",
                           "Non-zero status code returned while running Gather node"}) {
    CHECK(run_fault(text) == Fault::kOther);
  }
}

TEST(a_lane_on_a_card_wants_a_standby_for_each_runner) {
  House house;
  LaneSpec spec = house.lane_spec();
  spec.card = std::make_shared<Card>(CardOptions());
  CHECK(house.add(std::move(spec)).code == Code::kModelUnsupported);
  LaneSpec without = house.lane_spec();
  without.standbys.push_back(house.make_runner(house.fake));
  CHECK(house.add(std::move(without)).code == Code::kModelUnsupported);
}

TEST(a_card_that_works_runs_everything) {
  CardHouse house;
  for (uint32_t count = 1; count <= kRows; ++count) house.run_batch(count);
  CHECK(house.fake->batches().empty());
  CHECK_EQ(house.stats().runs, uint64_t{kRows});
  CHECK_EQ(house.stats().uses.at(0).rows, kRows);
}

// The card's memory holds fewer than `full` rows, for every such number and every size of a batch.
TEST(out_of_memory_at_every_batch_size_is_halved_and_the_cap_comes_back) {
  for (uint32_t full = 1; full <= kRows; ++full) {
    for (uint32_t count = 1; count <= kRows; ++count) {
      CardHouse house;
      house.faulty->add(error(kOutOfMemory, full));
      house.run_batch(count);
      const bool is_hit = count >= full;
      CHECK_EQ(house.faults(CardFault::kOutOfMemory) > 0, is_hit);
      CHECK_EQ(house.fake->batches().empty(), !is_hit || full > 1);  // the CPU only where not one row fits
      const uint32_t cap = house.stats().uses.at(0).rows;
      CHECK(is_hit ? cap < full : cap == kRows);
      const size_t runs = house.card_batches().size();
      house.run_batch(count);  // at once: none is tried that is known not to fit
      for (size_t i = runs; i < house.card_batches().size(); ++i) CHECK(house.card_batches()[i] < full);

      house.faulty->clear();
      for (uint32_t rows = cap; rows < kRows; rows = std::max(1u, rows * 2)) {
        house.clock.advance_ns(kHold);
        house.run_batch(1);
      }
      house.run_batch(kRows);
      CHECK_EQ(house.card_batches().back(), uint64_t{kRows});
      CHECK(!house.stats().is_dead);
    }
  }
}

TEST(while_memory_stays_full_the_cap_is_tried_ever_more_seldom) {
  CardHouse house;
  house.faulty->add(error(kOutOfMemory, kRows));
  house.run_batch(kRows);
  const auto failed = [&] { return house.faults(CardFault::kOutOfMemory); };
  uint64_t before = failed();
  for (int second = 0; second < 1200; ++second) {
    house.clock.advance_ns(kSecond);
    house.run_batch(kRows);
  }
  CHECK(failed() - before >= 5 && failed() - before <= 8);  // after 10, 20, 40, ... 600 s
}

TEST(a_sticky_error_at_every_batch_size_ends_the_card_and_no_row) {
  for (uint32_t count = 1; count <= kRows; ++count) {
    CardHouse house;
    house.run_batch(kRows);
    house.faulty->add(error(kSticky, count, count));
    house.run_batch(count);
    CHECK(house.stats().is_dead);
    CHECK_EQ(house.stats().why, kSticky);
    CHECK_EQ(house.faults(CardFault::kSticky), 1u);
    CHECK_EQ(house.cpu_rows(CpuCause::kDead), uint64_t{count});
    house.faulty->clear();
    house.clock.advance_ns(3600 * kSecond);
    house.run_batch(kRows);
    CHECK_EQ(house.card_batches().size(), 2u);  // it is asked no more
    CHECK_EQ(house.stats().uses.at(0).rows, 0u);
  }
}

TEST(a_dead_card_is_dead_for_every_lane_on_it) {
  CardHouse house;
  LaneSpec spec = house.lane_spec("other");
  spec.runners.clear();
  const auto faulty = std::make_shared<FaultyModel>();
  spec.runners.push_back(FaultyModel::wrap(faulty, house.make_runner(house.on_card)));
  spec.standbys.push_back(house.make_runner(house.fake));
  spec.card = house.card;
  REQUIRE(house.add(std::move(spec)).ok());
  house.faulty->add(error(kSticky));
  house.run_batch(3);
  CHECK(house.score(7, with_model("other")).code == Code::kOk);
  CHECK_EQ(house.step("other"), 1u);
  CHECK(faulty->batches().empty());
  CHECK_EQ(house.stats().uses.size(), 2u);
}

TEST(a_hang_at_every_batch_size_is_given_up_and_the_card_comes_back) {
  for (uint32_t count = 1; count <= kRows; ++count) {
    CardHouse house;
    house.faulty->add(hang());
    {
      const Impatience impatience(house, 25 * kMs);  // of 50
      house.run_batch(count, 50);
    }
    CHECK_EQ(house.faults(CardFault::kLate), 1u);
    CHECK_EQ(house.cpu_rows(CpuCause::kLate), uint64_t{count});
    house.run_batch(kRows);  // while it hangs
    CHECK_EQ(house.card_batches().size(), 1u);
    CHECK(!house.stats().is_dead);
    house.faulty->release();
    while (house.card_batches().size() == 1) house.run_batch(2);  // until the thread is back
    CHECK(!house.stats().is_dead);
    CHECK_EQ(house.card_batches().back(), 2u);
  }
}

TEST(a_run_that_stays_away_too_long_ends_the_card) {
  for (const bool has_traffic : {true, false}) {
    CardHouse house;
    house.faulty->add(hang());
    {
      const Impatience impatience(house, 25 * kMs);
      house.run_batch(4, 50);
    }
    house.clock.advance_ns(CardOptions().hang_ns_max - 26 * kMs);
    CHECK(!house.stats().is_dead);
    house.clock.advance_ns(kMs);
    if (has_traffic) house.run_batch(4);
    CHECK(house.stats().is_dead);  // whoever looks finds out, rows or not
    CHECK_EQ(house.faults(CardFault::kHung), 1u);
    house.run_batch(4);
    CHECK_EQ(house.card_batches().size(), 1u);
  }
}

TEST(a_caller_in_a_hurry_takes_the_card_from_nobody) {
  CardOptions options;
  options.patience_ns_min = 20 * kMs;
  CardHouse house(options);
  house.on_card->on_gather = [&](const auto&) { house.clock.advance_ns(2 * kMs); };
  house.run_batch(4, 4);  // half of what is left has passed when the run is done
  CHECK_EQ(house.faults(CardFault::kLate), 0u);
  CHECK(house.fake->batches().empty());
}

TEST(nan_in_every_row_of_every_batch_is_scored_by_the_cpu_and_its_neighbours_are_not) {
  for (uint32_t count = 1; count <= kRows; ++count) {
    for (int64_t row = -1; row < static_cast<int64_t>(count); ++row) {
      CardHouse house;
      house.faulty->add(nan_at(row));
      house.run_batch(count);
      const uint64_t odd_rows = row < 0 ? count : 1;
      CHECK_EQ(house.cpu_rows(CpuCause::kNotFinite), odd_rows);
      CHECK_EQ(house.faults(CardFault::kNotFinite), 1u);
      REQUIRE(house.fake->batches().size() == 1);
      CHECK_EQ(house.fake->batches()[0].size(), odd_rows);
      if (row >= 0) CHECK_EQ(house.fake->batches()[0][0], 1 + row);
    }
  }
}

TEST(a_row_that_is_nan_on_the_cpu_too_fails_alone) {
  CardHouse house;
  house.fake->score = [](int64_t amount) { return amount == 3 ? NAN : static_cast<double>(amount) / 1024.0; };
  house.faulty->add(nan_at(2));  // the third row, whose amount is 3
  std::vector<std::string> rows;
  for (int64_t amount = 1; amount <= 5; ++amount) rows.push_back(score_request(amount));
  REQUIRE(house.batch(rows).code == Code::kOk);
  house.step();
  const std::vector<Row> answers = parse_batch(house.answer(house.token).payload);
  for (size_t i = 0; i < 5; ++i) CHECK_EQ(answers[i].has_score, i != 2);
  CHECK_EQ(answers[2].reason, "MODEL_OUTPUT_INVALID");
}

TEST(another_failure_goes_to_the_cpu_and_the_card_rests) {
  for (uint32_t count = 1; count <= kRows; ++count) {
    CardHouse house;
    house.faulty->add(error(kOther));
    house.run_batch(count);
    house.run_batch(kRows);
    CHECK_EQ(house.card_batches().size(), 1u);
    CHECK_EQ(house.cpu_rows(CpuCause::kFailed), uint64_t{count} + kRows);
    house.faulty->clear();
    house.clock.advance_ns(kHold);
    house.run_batch(1);
    CHECK_EQ(house.card_batches().size(), 2u);
    CHECK(!house.stats().is_dead);
  }
}

TEST(a_row_that_no_session_can_run_is_not_the_cards_fault) {
  CardHouse house;
  house.fake->is_failing = [](const std::vector<int64_t>& amounts) { return std::count(amounts.begin(), amounts.end(), 3) > 0; };
  house.faulty->add(error(kOther, 5, 5));
  std::vector<std::string> rows;
  for (int64_t amount = 1; amount <= 5; ++amount) rows.push_back(score_request(amount));
  REQUIRE(house.batch(rows).code == Code::kOk);
  house.step();
  const std::vector<Row> answers = parse_batch(house.answer(house.token).payload);
  for (size_t i = 0; i < 5; ++i) CHECK_EQ(answers[i].has_score, i != 2);
  CHECK_EQ(answers[2].reason, "MODEL_RUN_FAILED");
  CHECK_EQ(house.stats().uses.at(0).rows, kRows);
}

TEST(a_hot_card_gets_no_batch_and_takes_up_again) {
  CardHouse house;
  house.card->set_hot(true);
  house.run_batch(kRows);
  CHECK(house.card_batches().empty());
  CHECK_EQ(house.cpu_rows(CpuCause::kHot), uint64_t{kRows});
  house.card->set_hot(false);
  house.run_batch(kRows);
  CHECK_EQ(house.card_batches().size(), 1u);
}

// Threads, a real clock and faults that come and go: every row is answered, with its own score.
TEST(storm_of_faults) {
  std::mt19937_64 random = check::random_engine();
  for (int round = 0; round < check::scaled(3); ++round) {
    CardOptions options;
    options.hold_ns_min = kMs;
    options.hold_ns_max = 4 * kMs;
    options.patience_ns_min = kMs;
    options.hang_ns_max = round % 3 == 2 ? 5 * kMs : 60 * kSecond;
    const auto card = std::make_shared<Card>(options);
    const auto faulty = std::make_shared<FaultyModel>();
    const auto fake = std::make_shared<Fake>();
    const auto reader = make_reader();
    EngineOptions engine_options;
    engine_options.slots = 256;
    engine_options.batch_call_rows_max = 16;
    Engine engine(engine_options, SystemClock::instance());
    LaneSpec spec;
    spec.model = "fraud";
    spec.version = "1";
    spec.model_sha256 = std::string(64, 'b');
    spec.reader = reader;
    spec.card = card;
    spec.options.batch_rows_max = kRows;
    spec.options.timeout_ns_default = 60 * kSecond;
    for (int runner = 0; runner < 2; ++runner) {
      const auto make = [&] { return std::make_unique<FakeRunner>(fake, reader->plan().segments()[2].offset_bytes); };
      spec.runners.push_back(FaultyModel::wrap(faulty, make()));
      spec.standbys.push_back(make());
    }
    REQUIRE(engine.add_lane(std::move(spec), true).ok());

    std::atomic<bool> has_ended{false};
    std::thread trouble([&, seed = random()] {
      std::mt19937_64 dice(seed);
      while (!has_ended) {
        const uint64_t rows = 1 + dice() % kRows;
        switch (dice() % 4) {
          case 0: faulty->add(error(kOutOfMemory, rows)); break;
          case 1: faulty->add(error(kOther, rows, rows)); break;
          case 2: faulty->add(nan_at(static_cast<int64_t>(dice() % 4) - 1)); break;
          case 3: faulty->add(hang()); break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1 + dice() % 3));
        if (dice() % 2 == 0) faulty->clear();
        card->set_hot(dice() % 8 == 0);
        (void)card->stats(SystemClock::instance().now_ns());
      }
    });

    CompletionQueue queue(engine_options.slots);
    constexpr uint64_t kCalls = 300;
    uint64_t answered = 0, right = 0;
    for (uint64_t call = 0; call < kCalls; ++call) {
      const uint32_t count = 1 + static_cast<uint32_t>(random() % 16);
      std::vector<std::string> rows;
      for (uint32_t i = 0; i < count; ++i) rows.push_back(score_request(static_cast<int64_t>(call * 16 + i + 1)));
      const CallContext context{SystemClock::instance().now_ns(), 0};
      const auto drain = [&] {
        std::vector<Completion> completions;
        queue.drain(completions);
        for (const Completion& completion : completions) {
          const Answer answer = engine.finish(completion.call);
          ++answered;
          uint64_t good = 0;
          const std::vector<Row> results = parse_batch(answer.payload);
          for (size_t i = 0; i < results.size(); ++i) {
            const double expected = static_cast<double>(completion.token * 16 + i + 1) / 1024.0;
            good += results[i].has_score && results[i].score == expected;
          }
          right += !results.empty() && good == results.size();
        }
      };
      while (engine.submit_batch(batch_request(rows, batch_timeout_ms(60'000)), context, &queue, call).code != Code::kOk)
        drain();  // slots may be short
      drain();
      if (call + 1 == kCalls) {
        while (answered < kCalls) {
          drain();
          std::this_thread::yield();
        }
      }
    }
    has_ended = true;
    trouble.join();
    faulty->clear();
    CHECK_EQ(right, kCalls);
    engine.stop();
    engine.check_idle();
    while (faulty->hanging() > 0) std::this_thread::yield();
  }
}

ASSAY_TEST_MAIN
