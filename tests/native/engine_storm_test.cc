// The engine under threads: submit, cancel and finish from many at once, lanes that come, go and hang. Run under TSAN and ASAN.
#include <poll.h>

#include <atomic>
#include <thread>
#include <unordered_map>

#include "check.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

// Waits on the descriptor as a transport does. False: nothing came for 20 s.
bool wait_readable(const CompletionQueue& queue) {
  pollfd poller{queue.fd(), POLLIN, 0};
  return poll(&poller, 1, 20'000) == 1;
}

// None, a caller that keeps its trace, one that does not, and what is none.
constexpr std::array<std::string_view, 4> kTraceparents = {"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                                           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                                                           "00-4bf92f3577b34da6a3ce929d0e0e4736"};

double expected_score(int64_t amount) { return static_cast<double>(amount) / 1024.0; }

// An engine in real time.
struct LiveHouse {
  explicit LiveHouse(EngineOptions wanted) : options(wanted), engine(wanted, SystemClock::instance()) {}
  ~LiveHouse() {
    fake->release();
    engine.stop();
  }
  LaneSpec lane_spec(const std::string& version, size_t runners, std::shared_ptr<Fake> which = nullptr) const {
    LaneSpec spec;
    spec.model = "fraud";
    spec.version = version;
    spec.model_sha256 = std::string(64, 'b');
    spec.reader = reader;
    for (size_t i = 0; i < runners; ++i) {
      spec.runners.push_back(std::make_unique<FakeRunner>(which ? which : fake, reader->plan().segments()[2].offset_bytes));
    }
    spec.options.timeout_ns_default = 30 * kSecond;
    return spec;
  }
  LaneSpec inline_lane_spec(const std::string& version, size_t runners) const {
    LaneSpec spec = lane_spec(version, runners);
    spec.inline_runner = std::make_unique<FakeRunner>(fake, reader->plan().segments()[2].offset_bytes);
    spec.options.inline_overrun_ns = 20'000;  // some runs will be longer: rows go both ways
    return spec;
  }
  CallContext context(std::string_view traceparent = {}) const { return {SystemClock::instance().now_ns(), 0, traceparent}; }
  CompletionQueue& open_queue() {
    const std::lock_guard<std::mutex> lock(mutex_);
    queues_.push_back(std::make_unique<CompletionQueue>(options.slots));
    return *queues_.back();
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<CompletionQueue>> queues_;  // outlive the engine: a runner may be about to wake one

 public:
  EngineOptions options;
  Engine engine;
  std::shared_ptr<Fake> fake = std::make_shared<Fake>();
  std::shared_ptr<const FeatureReader> reader = make_reader();
};

// One transport thread: submits at random, keeps the book of what it was promised, takes answers, cancels some.
class Client {
 public:
  Client(LiveHouse& house, uint64_t seed) : house_(house), queue_(house.open_queue()), random_(seed) {}

  void submit_one() {
    const uint64_t token = ++token_;
    Promise promise;
    promise.rows = 1;
    Submission submission;
    const CallContext context = house_.context(kTraceparents[random_() % kTraceparents.size()]);
    const uint64_t kind = random_() % 8;
    if (kind == 0) {
      promise.rows = 1 + random_() % house_.options.batch_call_rows_max;
      promise.kind = 'b';
      std::vector<std::string> rows;
      for (size_t i = 0; i < promise.rows; ++i) {
        promise.amounts.push_back(random_amount());
        rows.push_back(random_() % 16 == 0 ? without_ratio(promise.amounts.back()) : score_request(promise.amounts.back()));
        promise.is_bad.push_back(rows.back().size() != score_request(promise.amounts.back()).size());
      }
      submission = house_.engine.submit_batch(batch_request(rows), context, &queue_, token);
    } else {
      promise.amounts.push_back(random_amount());
      promise.is_bad.push_back(false);
      promise.kind = kind == 1 ? 's' : 'u';
      const std::string request = score_request(promise.amounts[0], random_() % 4 == 0 ? with_priority(2) : "");
      submission = kind == 1 ? house_.engine.submit_stream(delimited(1, request), context, &queue_, token)
                             : house_.engine.submit_score(request, context, &queue_, token);
    }
    if (submission.code != Code::kOk) {
      ++refused;
      is_refused_for_good |= submission.code == Code::kDraining;
      CHECK(submission.code == Code::kSlotsExhausted || submission.code == Code::kQueueFull ||
            submission.code == Code::kDraining);
      return;
    }
    ++accepted;
    promise.call = submission.call;
    if (submission.is_complete) {
      CHECK(promise.kind != 'b');
      CHECK(!house_.engine.cancel(submission.call));
      check_answer(promise, house_.engine.finish(submission.call));
      ++answered;
      return;
    }
    promises_.emplace(token, promise);
    if (random_() % 8 == 0) cancel_one(token);
  }

  void cancel_one(uint64_t token) {
    const auto promise = promises_.find(token);
    if (promise == promises_.end() || !house_.engine.cancel(promise->second.call)) return;
    promises_.erase(promise);  // from here on an answer would be a broken promise
    ++cancelled;
  }

  void drain() {
    queue_.drain(completions_);
    for (const Completion& completion : completions_) {
      const auto promise = promises_.find(completion.token);
      CHECK(promise != promises_.end() && promise->second.call == completion.call);
      const Answer answer = house_.engine.finish(completion.call);
      if (promise == promises_.end()) continue;
      check_answer(promise->second, answer);
      promises_.erase(promise);
      ++answered;
    }
  }

  size_t open() const { return promises_.size(); }
  CompletionQueue& queue() { return queue_; }

  uint64_t accepted = 0, refused = 0, cancelled = 0, answered = 0;
  bool is_refused_for_good = false;

 private:
  struct Promise {
    CallId call = 0;
    char kind = 'u';
    size_t rows = 0;
    std::vector<int64_t> amounts;
    std::vector<bool> is_bad;
  };

  int64_t random_amount() { return static_cast<int64_t>(random_() % 1'000'000); }

  static void check_row(const Row& row, int64_t amount, bool is_bad) {
    CHECK_EQ(row.id, "tx-" + std::to_string(amount));
    if (row.has_score) {
      CHECK(!is_bad);
      CHECK_EQ(row.score, expected_score(amount));
    } else {
      CHECK(is_bad ? row.reason == "INVALID_REQUEST"
                   : row.reason == "SHED" || row.reason == "MODEL_RUN_FAILED" || row.reason == "CANCELLED" ||
                         row.reason == "QUEUE_FULL" || row.reason == "DRAINING");
    }
  }
  static void check_answer(const Promise& promise, const Answer& answer) {
    if (promise.kind == 'b') {
      const std::vector<Row> rows = parse_batch(answer.payload);
      CHECK_EQ(rows.size(), promise.rows);
      for (size_t i = 0; i < rows.size() && i < promise.rows; ++i) check_row(rows[i], promise.amounts[i], promise.is_bad[i]);
      return;
    }
    Row row;
    if (promise.kind == 's') {
      row = parse_result(answer.payload);
    } else if (answer.code == Code::kOk) {
      row = parse_response(answer.payload);
    } else {
      row.id = "tx-" + std::to_string(promise.amounts[0]);
      row.reason = reason_in(answer.rpc_status);
    }
    check_row(row, promise.amounts[0], promise.is_bad[0]);
  }

  LiveHouse& house_;
  CompletionQueue& queue_;
  std::mt19937_64 random_;
  uint64_t token_ = 0;
  std::unordered_map<uint64_t, Promise> promises_;
  std::vector<Completion> completions_;
};

// Takes records and metrics while the others work, as the watch and a scrape do.
class Watcher {
 public:
  explicit Watcher(Engine& engine) : engine_(engine), thread_([this] { watch(); }) {}
  // Every call that was let in or refused since the start is told or dropped.
  void check_told(uint64_t calls) {
    is_ending_ = true;
    thread_.join();
    take();
    CHECK_EQ(told_ + engine_.metrics().dropped_records, calls);
  }

 private:
  void watch() {
    while (!is_ending_) {
      take();
      (void)engine_.metrics();
      std::this_thread::yield();
    }
  }
  void take() {
    std::vector<CallRecord> records;
    engine_.drain_records(records);
    for (const CallRecord& record : records) {
      CHECK(record.trace.has_id() && record.span_id != 0 && record.reasons != 0);
      CHECK(record.lane == nullptr || record.lane->model == "fraud");
      CHECK(record.ended_ns >= record.stamps[0]);
    }
    told_ += records.size();
  }

  Engine& engine_;
  uint64_t told_ = 0;
  std::atomic<bool> is_ending_{false};
  std::thread thread_;
};

// The histograms of the lanes that are left.
void check_histograms(const Engine& engine, bool has_all_lanes) {
  uint64_t counted = 0;
  for (const LaneSnapshot& lane : engine.metrics().lanes) {
    for (const LatencyHistogram& inference : lane.histograms.inference) counted += inference.count();
  }
  const uint64_t answered = engine.stats().answered_rows;
  CHECK(has_all_lanes ? counted == answered : counted <= answered);
}

// `threads` clients at work; then all promises kept, all slots free, all calls told.
void storm(
    LiveHouse& house, size_t threads, int calls, bool has_all_lanes = true, const std::function<void()>& meanwhile = [] {}) {
  std::atomic<uint64_t> accepted{0}, answered{0}, cancelled{0}, refused{0};
  Watcher watcher(house.engine);
  std::vector<std::thread> clients;
  for (size_t t = 0; t < threads; ++t) {
    clients.emplace_back([&, t] {
      Client client(house, check::seed() + t);
      for (int i = 0; i < calls; ++i) {
        client.submit_one();
        if (i % 5 == 0) client.drain();
      }
      while (client.open() > 0 && wait_readable(client.queue())) client.drain();
      CHECK_EQ(client.open(), 0u);
      accepted += client.accepted;
      answered += client.answered;
      cancelled += client.cancelled;
      refused += client.refused;
      CHECK(client.accepted > 0);
    });
  }
  meanwhile();
  for (std::thread& client : clients) client.join();
  CHECK_EQ(accepted.load(), answered.load() + cancelled.load());
  CHECK(house.engine.wait_idle(20 * kSecond));  // cancelled rows may still run
  house.engine.check_idle();
  watcher.check_told(accepted + refused);
  check_histograms(house.engine, has_all_lanes);
}

EngineOptions engine_options() {
  EngineOptions options;
  options.slots = 256;
  options.batch_call_rows_max = 24;
  options.tracing.is_on = true;  // every call is told, or dropped and counted
  options.tracing.sample_ratio = 1.0;
  options.tracing.slow_ns = 1;
  return options;
}

void swap_under_load(LiveHouse& house, const std::function<LaneSpec(const std::string& version)>& make_spec) {
  REQUIRE(house.engine.add_lane(make_spec("0"), true).ok());
  storm(house, 2, check::scaled(1500), /*has_all_lanes=*/false, [&] {
    for (int version = 1; version <= 40; ++version) {
      CHECK(house.engine.add_lane(make_spec(std::to_string(version)), true).ok());
      CHECK(house.engine.remove_lane("fraud", std::to_string(version - 1)).ok());
    }
  });
}

}  // namespace

TEST(storm_every_call_is_answered_once) {
  for (const size_t runners : {1u, 3u}) {
    LiveHouse house(engine_options());
    LaneSpec spec = house.lane_spec("1", runners);
    spec.options.batch_rows_max = 16;
    spec.options.queue_rows_max = 48;
    REQUIRE(house.engine.add_lane(std::move(spec), true).ok());
    storm(house, 3, check::scaled(1500));
  }
}

TEST(storm_with_a_model_that_fails_now_and_then) {
  LiveHouse house(engine_options());
  house.fake->is_failing = [](const std::vector<int64_t>& amounts) {
    return std::any_of(amounts.begin(), amounts.end(), [](int64_t amount) { return amount % 31 == 0; });
  };
  REQUIRE(house.engine.add_lane(house.lane_spec("1", 2), true).ok());
  storm(house, 2, check::scaled(800));
  CHECK(house.engine.stats().retried_batches > 0);
}

TEST(storm_with_a_delay_keeps_every_promise) {
  LiveHouse house(engine_options());
  LaneSpec spec = house.lane_spec("1", 2);
  spec.options.queue_delay_ns_max = 200'000;
  REQUIRE(house.engine.add_lane(std::move(spec), true).ok());
  storm(house, 2, check::scaled(400));
}

TEST(storm_with_inline_runs_keeps_every_promise) {
  for (const size_t runners : {1u, 3u}) {
    LiveHouse house(engine_options());
    house.fake->is_failing = [](const std::vector<int64_t>& amounts) { return amounts.size() == 1 && amounts[0] % 31 == 0; };
    REQUIRE(house.engine.add_lane(house.inline_lane_spec("1", runners), true).ok());
    storm(house, 3, check::scaled(1500));
    const EngineStats stats = house.engine.stats();
    CHECK(stats.inline_rows > 0);
    CHECK(stats.batched_rows > stats.inline_rows);
  }
}

TEST(hot_swaps_with_inline_runs_lose_no_call) {
  LiveHouse house(engine_options());
  swap_under_load(house, [&](const std::string& version) { return house.inline_lane_spec(version, 1); });
  CHECK(house.engine.stats().inline_rows > 0);
}

TEST(hot_swaps_under_load_lose_no_call) {
  LiveHouse house(engine_options());
  swap_under_load(house, [&](const std::string& version) { return house.lane_spec(version, 2); });
}

TEST(a_hung_run_stops_neither_submit_nor_other_lanes) {
  LiveHouse house(engine_options());
  const auto quick = std::make_shared<Fake>();
  LaneSpec other = house.lane_spec("1", 1, quick);
  other.model = "quick";
  REQUIRE(house.engine.add_lane(house.lane_spec("1", 1), true).ok());
  REQUIRE(house.engine.add_lane(std::move(other), false).ok());
  CompletionQueue& queue = house.open_queue();
  house.fake->hold();
  const CallId hung = house.engine.submit_score(score_request(1), house.context(), &queue, 1).call;
  REQUIRE(house.fake->wait_running(1));
  const CallId waiting = house.engine.submit_score(score_request(2), house.context(), &queue, 2).call;
  std::vector<Completion> completions;
  for (uint64_t token = 10; token < 20; ++token) {
    CHECK(
        house.engine.submit_score(score_request(static_cast<int64_t>(token), with_model("quick")), house.context(), &queue, token)
            .code == Code::kOk);
    REQUIRE(wait_readable(queue));
    queue.drain(completions);
    REQUIRE(completions.size() == 1);
    CHECK_EQ(completions[0].token, token);
    CHECK(house.engine.finish(completions[0].call).code == Code::kOk);
  }
  CHECK(house.engine.expire(hung));               // the transport's timer has answered
  CHECK_EQ(house.engine.stats().slots_used, 2u);  // but the slot is busy until the run gives it back
  house.fake->release();
  REQUIRE(wait_readable(queue));
  queue.drain(completions);
  REQUIRE(completions.size() == 1);
  CHECK_EQ(completions[0].call, waiting);
  CHECK(house.engine.finish(waiting).code == Code::kOk);
  CHECK(house.engine.wait_idle(20 * kSecond));
  house.engine.check_idle();
}

TEST(while_one_runner_hangs_the_other_works_and_batches_grow) {
  LiveHouse house(engine_options());
  REQUIRE(house.engine.add_lane(house.lane_spec("1", 2), true).ok());
  CompletionQueue& queue = house.open_queue();
  house.fake->hold();
  const auto submit = [&](int64_t amount) {
    CHECK(house.engine.submit_score(score_request(amount), house.context(), &queue, static_cast<uint64_t>(amount)).code ==
          Code::kOk);
  };
  submit(1);
  REQUIRE(house.fake->wait_running(1));  // a lone request does not wait for company
  submit(2);
  REQUIRE(house.fake->wait_running(2));
  for (int64_t amount = 3; amount <= 12; ++amount) submit(amount);  // all runners are busy
  CHECK_EQ(house.engine.stats().queued_rows, 10u);
  house.fake->release();
  std::vector<Completion> completions;
  size_t done = 0;
  while (done < 12 && wait_readable(queue)) {
    queue.drain(completions);
    for (const Completion& completion : completions) CHECK(house.engine.finish(completion.call).code == Code::kOk);
    done += completions.size();
  }
  CHECK_EQ(done, 12u);
  CHECK_EQ(house.fake->batches().size(), 3u);  // 1, 1, then the ten that waited
}

TEST(a_runner_wakes_the_next_for_what_it_leaves) {
  for (int round = 0; round < check::scaled(20); ++round) {
    LiveHouse house(engine_options());
    LaneSpec spec = house.lane_spec("1", 3);
    spec.options.batch_rows_max = 1;
    REQUIRE(house.engine.add_lane(std::move(spec), true).ok());
    CompletionQueue& queue = house.open_queue();
    house.fake->hold();
    const std::string rows = batch_request({score_request(1), score_request(2), score_request(3)});
    CHECK(house.engine.submit_batch(rows, house.context(), &queue, 1).code == Code::kOk);  // wakes one
    CHECK(house.fake->wait_running(3));
    house.fake->release();
    REQUIRE(wait_readable(queue));
    std::vector<Completion> completions;
    queue.drain(completions);
    REQUIRE(completions.size() == 1);
    CHECK_EQ(parse_batch(house.engine.finish(completions[0].call).payload)[2].score, expected_score(3));
  }
}

TEST(stop_while_running_answers_the_running_and_cancels_the_queued) {
  LiveHouse house(engine_options());
  REQUIRE(house.engine.add_lane(house.lane_spec("1", 1), true).ok());
  CompletionQueue& queue = house.open_queue();
  house.fake->hold();
  CHECK(house.engine.submit_score(score_request(1), house.context(), &queue, 1).code == Code::kOk);
  REQUIRE(house.fake->wait_running(1));
  CHECK(house.engine.submit_score(score_request(2), house.context(), &queue, 2).code == Code::kOk);
  std::thread stopper([&] { house.engine.stop(); });
  REQUIRE(wait_readable(queue));  // the queued one is answered though the run hangs
  std::vector<Completion> completions;
  queue.drain(completions);
  REQUIRE(completions.size() == 1);
  CHECK_EQ(completions[0].token, 2u);
  CHECK(house.engine.finish(completions[0].call).code == Code::kCancelled);
  house.fake->release();
  stopper.join();
  queue.drain(completions);
  REQUIRE(completions.size() == 1);
  CHECK(house.engine.finish(completions[0].call).code == Code::kOk);
  house.engine.check_idle();
}

TEST(stop_in_the_middle_of_a_storm) {
  for (int round = 0; round < check::scaled(10); ++round) {
    LiveHouse house(engine_options());
    REQUIRE(house.engine.add_lane(round % 2 == 0 ? house.lane_spec("1", 2) : house.inline_lane_spec("1", 2), true).ok());
    std::atomic<bool> is_begun{false};
    std::vector<std::thread> clients;
    for (uint64_t t = 0; t < 2; ++t) {
      clients.emplace_back([&, t] {
        Client client(house, check::seed() + 100 * static_cast<uint64_t>(round) + t);
        while (!client.is_refused_for_good) {
          client.submit_one();
          client.drain();
          is_begun = true;
        }
        while (client.open() > 0 && wait_readable(client.queue())) client.drain();
        CHECK_EQ(client.open(), 0u);
      });
    }
    while (!is_begun) std::this_thread::yield();
    house.engine.stop();
    for (std::thread& client : clients) client.join();
    CHECK(house.engine.wait_idle(20 * kSecond));
    house.engine.check_idle();
  }
}

ASSAY_TEST_MAIN
