// Whole runs against a server in another thread: how calls end, what goes wrong, what is said about it.
#include "core/load/load_run.h"

#include "check.h"
#include "core/base/clock.h"
#include "core/load/arrivals.h"
#include "load_fixture.h"
#include "load_stub_server.h"

using namespace assay;
using namespace assay::load;
using load_fixture::encode_messages;
using load_fixture::TemporaryFile;

namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000 * kMs;
constexpr uint8_t kConstant = static_cast<uint8_t>(ArrivalKind::kConstant);

stub::Behaviour behaviour(void (*change)(stub::Behaviour&)) {
  stub::Behaviour made;
  change(made);
  return made;
}

struct Bench {
  explicit Bench(stub::Behaviour behaviour = {}) : server(std::move(behaviour)), messages(encode_messages({"one", "two"})) {
    server.serve();
    options.target = server.target();
    options.method = "/t.S/Ok";
    options.messages = messages.path();
    options.connections = 2;
    options.streams = 4;
    options.duration_ns = 200 * kMs;
    options.drain_ns_max = kSecond;
  }
  LoadResult run() {
    std::unique_ptr<LoadRun> run;
    const Status created = LoadRun::create(options, &run);
    if (!created.ok()) std::fprintf(stderr, "%s\n", created.detail.c_str());
    CHECK(created.ok());
    const Status started = run->start();
    if (!started.ok()) std::fprintf(stderr, "%s\n", started.detail.c_str());
    CHECK(started.ok());
    CHECK(run->wait(30 * kSecond));
    return run->result();
  }
  stub::Server server;
  TemporaryFile messages;
  LoadOptions options;
};

uint64_t count_of(const LoadResult& result, Outcome outcome) { return result.outcomes[static_cast<size_t>(outcome)]; }
uint64_t total_of(const LoadResult& result) {
  uint64_t total = 0;
  for (const uint64_t count : result.outcomes) total += count;
  return total;
}

bool is_refused(const LoadOptions& options, const char* why) {
  std::unique_ptr<LoadRun> run;
  const Status status = LoadRun::create(options, &run);
  const bool is_said = status.code == Code::kInvalidRequest && status.detail.find(why) != std::string::npos;
  if (!is_said) std::fprintf(stderr, "%s\n", status.detail.c_str());
  return is_said && run == nullptr;
}

std::string start_error(LoadOptions options) {
  std::unique_ptr<LoadRun> run;
  const Status created = LoadRun::create(std::move(options), &run);
  return created.ok() ? run->start().detail : created.detail;
}

}  // namespace

TEST(a_closed_loop_keeps_every_stream_busy) {
  Bench bench;
  bench.options.warm_up_ns = 100 * kMs;
  const LoadResult result = bench.run();
  CHECK(count_of(result, Outcome::kOk) > 100);
  CHECK_EQ(total_of(result), count_of(result, Outcome::kOk));
  CHECK_EQ(result.ok.count(), count_of(result, Outcome::kOk));
  CHECK_EQ(result.in_flight_max, 8u);
  CHECK(result.sent > result.offered);  // the warm-up
  CHECK_EQ(result.sent, bench.server.call_count.load());
  CHECK(result.cpu_s > 0);
  CHECK_EQ(result.lost, 0u);
  CHECK(result.failure.empty());
}

TEST(several_threads_count_as_one) {
  Bench bench;
  bench.options.threads = 2;
  bench.options.connections = 3;
  bench.options.arrivals = kConstant;
  bench.options.rate_per_s = 2000;
  bench.options.duration_ns = kSecond;
  const LoadResult result = bench.run();
  CHECK_EQ(result.offered, 2000u);
  CHECK_EQ(result.ok.count(), 2000u);
  CHECK_EQ(bench.server.connection_count.load(), 4u);  // and one to find the address
  uint64_t ok = 0;
  for (const Second& second : result.seconds) ok += second.ok;
  CHECK(ok >= 1900);
}

// The proof of load_client_test once more in real time: what is computed is of the stall that the server saw itself, from its start
// to when it woke up (nothing may seem shorter: that would be omission), and to when it had answered all that waited. A machine that
// stalls as well would spoil it: it has three tries.
TEST(a_stall_is_seen_in_real_time) {
  constexpr int64_t kStall = 100 * kMs, kWindow = 3 * kSecond;
  bool is_right = false;
  for (int attempt = 0; attempt < 3 && !is_right; ++attempt) {
    Bench bench;
    bench.options.arrivals = kConstant;
    bench.options.rate_per_s = 2000;
    bench.options.streams = 200;  // none that waits is in want of a stream
    bench.options.warm_up_ns = 200 * kMs;
    bench.options.duration_ns = kWindow;
    std::unique_ptr<LoadRun> run;
    REQUIRE(LoadRun::create(bench.options, &run).ok());
    REQUIRE(run->start().ok());
    while (run->progress().elapsed_s < 1) ::usleep(1000);
    bench.server.stall(kStall);
    REQUIRE(run->wait(30 * kSecond));
    const int64_t above_ns = kWindow / 1000;  // so much of the stall is past the quantile
    const double least = 1e-6 * static_cast<double>(bench.server.woke_ns - bench.server.stalled_from_ns - above_ns);
    const double most = 1e-6 * static_cast<double>(bench.server.stalled_to_ns - bench.server.stalled_from_ns - above_ns);
    const double found = 1e-6 * static_cast<double>(run->result().ok.quantile(0.999));
    std::printf("a stall of %.2f ms: p99.9 %.2f ms, computed %.2f to %.2f ms\n", 1e-6 * kStall, found, least, most);
    is_right = found >= 0.98 * least && found <= 1.05 * most;
  }
  CHECK(is_right);
}

TEST(calls_end_as_the_server_says) {
  const std::pair<const char*, Outcome> cases[] = {
      {"/t.S/Unavailable", static_cast<Outcome>(14)}, {"/t.S/Late", static_cast<Outcome>(13)},
      {"/t.S/Http503", Outcome::kHttpError},          {"/t.S/NoStatus", Outcome::kNoStatus},
      {"/t.S/NoMessage", Outcome::kNoMessage},        {"/t.S/Reset", Outcome::kReset},
  };
  for (const auto& [method, outcome] : cases) {
    Bench bench;
    bench.options.method = method;
    bench.options.duration_ns = 50 * kMs;
    const LoadResult result = bench.run();
    CHECK(count_of(result, outcome) > 10);
    CHECK_EQ(total_of(result), count_of(result, outcome));
    CHECK_EQ(result.ok.count(), 0u);
    CHECK_EQ(result.failed.count(), total_of(result));
    CHECK_EQ(result.messages[static_cast<size_t>(outcome)], outcome == static_cast<Outcome>(14) ? "full%3A come back" : "");
  }
}

TEST(calls_that_are_not_answered_time_out_or_are_lost_at_the_end) {
  for (const int64_t timeout_ns : {int64_t{0}, 20 * kMs}) {
    Bench bench;
    bench.options.method = "/t.S/Silent";
    bench.options.timeout_ns = timeout_ns;
    bench.options.drain_ns_max = 100 * kMs;
    const LoadResult result = bench.run();
    const Outcome outcome = timeout_ns == 0 ? Outcome::kUnanswered : Outcome::kTimedOut;
    CHECK_EQ(count_of(result, outcome), total_of(result));
    CHECK(timeout_ns == 0 ? total_of(result) == 8 : total_of(result) >= 16);
    CHECK_EQ(result.lost, total_of(result));
    CHECK_EQ(result.ok.quantile(0.5, result.lost), -1);
    bench.server.pause();
    CHECK_EQ(bench.server.last_timeout, timeout_ns == 0 ? "" : "20000u");
  }
}

TEST(metadata_reaches_the_server) {
  Bench bench;
  bench.options.metadata = {{"x-extra", "yes"}};
  bench.options.duration_ns = 20 * kMs;
  bench.run();
  bench.server.pause();
  CHECK_EQ(bench.server.last_extra, "yes");
}

TEST(a_goaway_is_followed_by_a_new_connection) {
  Bench bench(behaviour([](auto& b) { b.goaway_after = 50; }));
  const LoadResult result = bench.run();
  CHECK(result.reconnects > 2);
  CHECK(count_of(result, Outcome::kOk) > 200);
  CHECK_EQ(total_of(result), count_of(result, Outcome::kOk) + count_of(result, Outcome::kReset));
  CHECK_EQ(count_of(result, Outcome::kConnectionLost), 0u);
}

TEST(a_lost_connection_is_made_again) {
  Bench bench(behaviour([](auto& b) { b.hang_up_after = 50; }));
  const LoadResult result = bench.run();
  CHECK(result.reconnects > 2);
  CHECK(count_of(result, Outcome::kConnectionLost) > 0);
  CHECK_EQ(result.lost, count_of(result, Outcome::kConnectionLost));
}

TEST(the_servers_limit_of_streams_holds) {
  Bench bench(behaviour([](auto& b) { b.streams_max = 3; }));
  CHECK_EQ(bench.run().in_flight_max, 6u);
}

TEST(a_run_can_be_stopped_early) {
  Bench bench;
  bench.options.duration_ns = 600 * kSecond;
  std::unique_ptr<LoadRun> run;
  REQUIRE(LoadRun::create(bench.options, &run).ok());
  REQUIRE(run->start().ok());
  CHECK(!run->wait(50 * kMs));
  CHECK(run->progress().phase == LoadPhase::kMeasuring);
  CHECK(run->progress().ok > 0);
  run->stop();
  REQUIRE(run->wait(10 * kSecond));
  const LoadResult result = run->result();
  CHECK(result.duration_s > 0.01 && result.duration_s < 10);
  CHECK(run->progress().phase == LoadPhase::kEnded);
}

TEST(a_run_that_nobody_waits_for_ends_with_its_object) {
  Bench bench;
  bench.options.duration_ns = 600 * kSecond;
  std::unique_ptr<LoadRun> run;
  REQUIRE(LoadRun::create(bench.options, &run).ok());
  REQUIRE(run->start().ok());
  run.reset();
}

TEST(a_target_that_is_not_there_is_named) {
  Bench bench;
  bench.options.target = "127.0.0.1:1";
  CHECK_EQ(start_error(bench.options), "127.0.0.1:1: Connection refused");
  bench.options.target = "unix:/nonexistent.sock";
  CHECK_EQ(start_error(bench.options), "unix:/nonexistent.sock: No such file or directory");
  for (const char* wrong :
       {"", "localhost", "localhost:", ":50051", "localhost:0", "localhost:65536", "localhost:http", "::1:50051", "unix:"}) {
    bench.options.target = wrong;
    CHECK(start_error(bench.options).find("expected HOST:PORT or unix:PATH") != std::string::npos);
  }
  bench.options.target = bench.server.target();
  bench.options.target.replace(0, 9, "localhost");
  CHECK_EQ(start_error(bench.options), "");
}

TEST(a_server_of_something_else_is_said_to_be_one) {
  Bench bench(behaviour([](auto& b) { b.greeting = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"; }));
  CHECK(start_error(bench.options).find("does not speak HTTP/2") != std::string::npos);
}

TEST(wrong_options_are_refused_with_what_is_right) {
  Bench bench;
  const auto with = [&](auto change) {
    LoadOptions options = bench.options;
    change(options);
    return options;
  };
  CHECK(is_refused(with([](auto& o) { o.method = "Score"; }), "method: expected package.Service/Method"));
  CHECK(is_refused(with([](auto& o) { o.method = "/a.B/"; }), "method"));
  CHECK(is_refused(with([](auto& o) { o.threads = 0; }), "threads"));
  CHECK(is_refused(with([](auto& o) { o.threads = 65; }), "threads"));
  CHECK(is_refused(with([](auto& o) { o.threads = 3; }), "connections"));
  CHECK(is_refused(with([](auto& o) { o.connections = 4097; }), "connections"));
  CHECK(is_refused(with([](auto& o) { o.streams = 0; }), "streams"));
  CHECK(is_refused(with([](auto& o) { o.streams = 4097; }), "streams"));
  CHECK(is_refused(with([](auto& o) { o.connections = o.streams = 2048; }), "connections x streams"));
  CHECK(is_refused(with([](auto& o) { o.arrivals = kConstant; }), "rate"));
  CHECK(is_refused(with([](auto& o) { o.arrivals = 3; }), "arrivals"));
  CHECK(is_refused(with([](auto& o) { o.backlog_max = 0; }), "backlog"));
  CHECK(is_refused(with([](auto& o) { o.duration_ns = 0; }), "duration"));
  CHECK(is_refused(with([](auto& o) { o.warm_up_ns = -1; }), "warm-up"));
  CHECK(is_refused(with([](auto& o) { o.metadata = {{"X-Upper", "a"}}; }), "lower case"));
  CHECK(is_refused(with([](auto& o) { o.metadata = {{"grpc-timeout", "1S"}}; }), "gRPC's own"));
  CHECK(is_refused(with([](auto& o) { o.metadata = {{"x", "a\nb"}}; }), "cannot be sent"));
  CHECK(is_refused(with([](auto& o) { o.metadata.assign(65, {"x", "y"}); }), "at most 64"));
  CHECK(is_refused(with([](auto& o) { o.metadata = {{"x", std::string(8193, 'y')}}; }), "8 KiB"));
}

ASSAY_TEST_MAIN
