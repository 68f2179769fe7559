// The tool's own proof: a server that stalls is charged for every call that was meant to be sent meanwhile. On a clock that stands
// still until told, with a real HTTP/2 session between client and server, so that the answer is a number and not a range.
#include "core/load/load_client.h"

#include "check.h"
#include "load_fixture.h"
#include "load_stub_server.h"

using namespace assay;
using namespace assay::load;

namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000 * kMs;
constexpr int64_t kStep = 100'000;

std::string socket_path() { return "/tmp/assay-load-" + std::to_string(::getpid()) + ".sock"; }

struct Simulation {
  explicit Simulation(ClientShare share, stub::Behaviour behaviour = {}) : server(behaviour, socket_path()), series(1, 1000) {
    Target target;
    CHECK(find_target(server.target(), &target).ok());
    settings.address = target.addresses.front();
    for (const auto& [name, value] :
         {std::pair{":method", "POST"}, {":scheme", "http"}, {":path", "/t.S/Ok"}, {":authority", "localhost"}}) {
      settings.headers.push_back({name, value});
    }
    settings.streams_max = 64;
    settings.stream_maker = &plain;
    CHECK(MessageFile::parse(load_fixture::encode_messages({"one", "two", "three"}), "memory", &messages).ok());
    client = std::make_unique<LoadClient>(share, settings, messages, series, clock);
    server.serve();
    CHECK(client->connect(kSecond).ok());
    server.pause();
    start_ns = clock.now_ns();
  }

  // Runs to the end; from `stall_at_ns` (of the run) on, the server does nothing for `stall_ns`.
  void run(const Window& window, int64_t stall_at_ns, int64_t stall_ns) {
    client->begin(start_ns, {start_ns + window.start_ns, start_ns + window.end_ns});
    while (client->turn(false)) {
      const int64_t at_ns = clock.now_ns() - start_ns;
      const bool is_stalled = at_ns >= stall_at_ns && at_ns < stall_at_ns + stall_ns;
      if (!is_stalled) server.step(0);
      client->turn(false);
      clock.advance_ns(kStep);
    }
  }
  const LogHistogram& latencies() const { return client->tally().counted().ok; }

  ManualClock clock;
  stub::Server server;
  SecondSeries series;
  PlainStreamMaker plain;
  ConnectionSettings settings;
  std::shared_ptr<const MessageFile> messages;
  std::unique_ptr<LoadClient> client;
  int64_t start_ns = 0;
};

ClientShare open_share(ArrivalKind kind, double rate) {
  ClientShare share;
  share.arrivals = kind;
  share.rate_per_s = rate;
  share.seed = 1;
  share.backlog_max = 10'000;
  share.drain_ns_max = kSecond;
  return share;
}

bool is_within(int64_t found, int64_t wanted, double share) {
  const bool is_near = std::abs(static_cast<double>(found - wanted)) <= share * static_cast<double>(wanted);
  if (!is_near) std::fprintf(stderr, "%lld, expected %lld\n", static_cast<long long>(found), static_cast<long long>(wanted));
  return is_near;
}

// Of calls at even distances over `window_ns`, those meant to be sent in the last x of a stall wait up to x: a share
// (stall - latency) / window of all is above a latency.
int64_t computed_quantile(double q, int64_t stall_ns, int64_t window_ns) {
  return stall_ns - static_cast<int64_t>((1 - q) * static_cast<double>(window_ns));
}

}  // namespace

TEST(an_open_loop_charges_a_stall_to_every_call_in_it) {
  for (const ArrivalKind kind : {ArrivalKind::kConstant, ArrivalKind::kPoisson}) {
    Simulation simulation(open_share(kind, 5000));
    simulation.run({kSecond, 11 * kSecond}, 3 * kSecond, 100 * kMs);
    const double tolerance = kind == ArrivalKind::kConstant ? 0.01 : 0.03;  // of few and random arrivals
    CHECK(is_within(simulation.latencies().quantile(0.999), computed_quantile(0.999, 100 * kMs, 10 * kSecond), tolerance));
    CHECK(is_within(simulation.latencies().quantile(0.9995), computed_quantile(0.9995, 100 * kMs, 10 * kSecond), tolerance));
    CHECK(is_within(simulation.latencies().max(), 100 * kMs, tolerance));
    CHECK(simulation.latencies().quantile(0.98) <= 2 * kStep);
    CHECK_EQ(simulation.latencies().count(), simulation.client->open_loop()->offered());
  }
}

// What it would say without: one call in flight is the only one that sees the stall.
TEST(a_closed_loop_does_not_see_it) {
  Simulation simulation(ClientShare{});
  simulation.settings.streams_max = 1;
  simulation.run({0, 10 * kSecond}, 3 * kSecond, 100 * kMs);
  CHECK(simulation.latencies().count() > 10'000);
  CHECK(simulation.latencies().quantile(0.999) <= 2 * kStep);
  CHECK(is_within(simulation.latencies().max(), 100 * kMs, 0.01));
}

TEST(a_stall_past_the_backlog_drops_and_says_so) {
  ClientShare share = open_share(ArrivalKind::kConstant, 5000);
  share.backlog_max = 100;
  Simulation simulation(share);
  simulation.run({0, 2 * kSecond}, kSecond, 100 * kMs);
  // 500 arrive in the stall, or one more or less at its edges: 64 streams and 100 places take some, the rest is lost.
  const uint64_t dropped = simulation.client->open_loop()->dropped();
  CHECK(dropped >= 500 - 164 - 1 && dropped <= 500 - 164 + 1);
  CHECK_EQ(simulation.client->open_loop()->offered(), 10'000u);
  CHECK_EQ(simulation.latencies().count(), 10'000 - dropped);
}

TEST(what_is_unanswered_at_the_end_is_counted) {
  ClientShare share = open_share(ArrivalKind::kConstant, 1000);
  share.drain_ns_max = 50 * kMs;
  Simulation simulation(share);
  simulation.run({0, kSecond}, 900 * kMs, kSecond);
  const auto& outcomes = simulation.client->tally().counted().outcomes;
  const uint64_t answered = outcomes[static_cast<size_t>(Outcome::kOk)];
  const uint64_t unanswered = outcomes[static_cast<size_t>(Outcome::kUnanswered)];
  CHECK_EQ(unanswered, 64u);
  CHECK_EQ(answered + unanswered + simulation.client->unsent(), 1000u);
  CHECK(answered >= 899 && answered <= 901);
}

TEST(a_run_without_a_server_gives_up_after_ten_seconds) {
  Simulation simulation(open_share(ArrivalKind::kConstant, 100));
  LoadClient& client = *simulation.client;
  client.begin(simulation.start_ns, {simulation.start_ns, simulation.start_ns + 60 * kSecond});
  simulation.server.leave();
  while (client.turn(false)) simulation.clock.advance_ns(10 * kMs);
  const int64_t ran_ns = simulation.clock.now_ns() - simulation.start_ns;
  CHECK(ran_ns >= 10 * kSecond && ran_ns < 11 * kSecond);
  CHECK_EQ(client.failure(), "no connection for 10 seconds: Connection refused");
  const auto& outcomes = client.tally().counted().outcomes;
  CHECK_EQ(outcomes[static_cast<size_t>(Outcome::kConnectionLost)] + client.unsent(), client.open_loop()->offered());
}

TEST(the_warm_up_does_not_count) {
  Simulation simulation(open_share(ArrivalKind::kConstant, 1000));
  simulation.run({kSecond, 2 * kSecond}, 500 * kMs, 100 * kMs);
  CHECK_EQ(simulation.latencies().count(), 1000u);
  CHECK(simulation.latencies().max() <= 2 * kStep);
  CHECK_EQ(simulation.client->tally().live().sent.get(), 2000u);
  const auto seconds = simulation.series.seconds();
  REQUIRE(seconds.size() >= 2);
  CHECK(seconds[0].max_ns >= 99 * kMs);  // the series shows it
}

TEST(messages_are_sent_in_turn_or_shuffled) {
  stub::Behaviour behaviour;
  behaviour.keeps_messages = true;
  for (const bool is_shuffled : {false, true}) {
    ClientShare share = open_share(ArrivalKind::kConstant, 1000);
    share.is_shuffled = is_shuffled;
    share.first_message = 1;
    Simulation simulation(share, behaviour);
    simulation.run({0, kSecond}, 0, 0);
    const auto& bodies = simulation.server.bodies;
    REQUIRE(bodies.size() == 1000);
    size_t in_turn = 0;
    for (size_t i = 0; i < bodies.size(); ++i) in_turn += bodies[i] == simulation.messages->frame((i + 1) % 3);
    CHECK_EQ(bodies[0], simulation.messages->frame(1));
    CHECK(is_shuffled ? in_turn > 200 && in_turn < 500 : in_turn == 1000);
  }
}

ASSAY_TEST_MAIN
