// The native transport under threads: clients of many connections that call, cancel, leave and read slowly; certificates and roles
// that change; drains and stops in the middle. In real time. Run under TSAN and ASAN.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>

#include <atomic>
#include <random>
#include <thread>

#include "check.h"
#include "core/transport/native_transport.h"
#include "core/transport/tls.h"
#include "tls_fixture.h"
#include "transport_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr int kOk = 0, kDeadlineExceeded = 4, kPermissionDenied = 7, kResourceExhausted = 8, kUnavailable = 14;

// A transport of two threads over an engine with a runner, on a port of loopback.
struct Port {
  explicit Port(const TransportPem* pem = nullptr, bool is_inline = false)
      : transport(engine, SystemClock::instance(), options()) {
    LaneSpec spec;
    spec.model = "fraud";
    spec.version = "1";
    spec.model_sha256 = std::string(64, 'b');
    spec.reader = reader;
    const uint32_t offset = reader->plan().segments()[2].offset_bytes;
    for (int i = 0; i < 2; ++i) spec.runners.push_back(std::make_unique<FakeRunner>(fake, offset));
    if (is_inline) {
      spec.inline_runner = std::make_unique<FakeRunner>(fake, offset);
      spec.options.inline_overrun_ns = 20'000;
    }
    spec.options.timeout_ns_default = 30 * kSecond;
    ASSAY_ASSERT(engine.add_lane(std::move(spec), true).ok());
    if (pem != nullptr) ASSAY_ASSERT(transport.protect(*pem, nullptr).ok());
  }
  void start() {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSAY_ASSERT(::bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
    ASSAY_ASSERT(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    ASSAY_ASSERT(::listen(listener, 128) == 0 && transport.start(listener).ok());
  }
  ~Port() {
    fake->release();
    transport.stop();
    CHECK_EQ(transport.stats().waiting_calls, 0u);
    CHECK_EQ(transport.stats().open_streams, 0u);
    CHECK(engine.wait_idle(20 * kSecond));
    engine.check_idle();
    engine.stop();  // before the transport's queues go
  }
  static TransportOptions options() {
    TransportOptions given;
    given.io_threads = 2;
    given.streams_max = 8;
    return given;
  }
  static EngineOptions engine_options() {
    EngineOptions given;
    given.slots = 256;
    given.batch_call_rows_max = 16;
    return given;
  }
  // -1: nobody listens any more.
  int connect() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      ::close(fd);
      return -1;
    }
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
  }

  Engine engine{engine_options(), SystemClock::instance()};
  std::shared_ptr<Fake> fake = std::make_shared<Fake>();
  std::shared_ptr<const FeatureReader> reader = make_reader();
  NativeTransport transport;
  sockaddr_in address{};
  std::atomic<size_t> read_answers{0};  // by callers
};

// What one client thread does, over one connection after another.
class Caller {
 public:
  using MakeStream = std::function<std::unique_ptr<ByteStream>(int fd)>;
  Caller(Port& port, uint64_t seed, MakeStream make_stream = nullptr)
      : port_(port), random_(seed), make_stream_(std::move(make_stream)) {}

  void run(int calls) {
    for (int i = 0; i < calls && !is_sent_away; ++i) {
      if (client_ == nullptr && !connect()) break;
      begin_one();
      pump(0);
      if (random_() % 4 == 0) cancel_one();
      if (random_() % 64 == 0) leave();
      if (client_ != nullptr && open_count() > 30) pump(5);
    }
    for (int waits = 0; client_ != nullptr && open_count() > 0 && waits < 4000; ++waits) {
      end_all();
      pump(5);
    }
    CHECK(client_ == nullptr || open_count() == 0);
    leave();
  }

  std::map<int, size_t> statuses;  // of calls that were not cancelled
  size_t cut = 0;                  // by a connection that went
  bool is_sent_away = false;       // a connection was asked to go, and there is no other
  size_t broken_promises = 0;      // whole calls that its last GOAWAY had counted in, and nobody answered

 private:
  struct Asked {
    char kind = 'u';
    int64_t amount = 0;
    bool is_whole = true;
    bool is_cancelled = false;
  };

  bool connect() {
    const int fd = port_.connect();
    if (fd < 0) return false;
    client_ = std::make_unique<Client>(fd, ClientSettings{random_() % 8 == 0 ? 16u : 65'535u, true},
                                       make_stream_ ? make_stream_(fd) : nullptr);
    return true;
  }
  void begin_one() {
    Asked asked;
    asked.amount = static_cast<int64_t>(random_() % 1'000'000);
    const uint64_t kind = random_() % 8;
    asked.kind = kind == 0 ? 'b' : kind == 1 ? 's' : 'u';
    asked.is_whole = random_() % 8 != 0;
    const std::string row = score_request(asked.amount);
    const std::string message = message_of(asked.kind == 'b'   ? batch_request({row, row, row})
                                           : asked.kind == 's' ? delimited(1, row)
                                                               : row);
    const std::string bytes = asked.is_whole ? message : message.substr(0, random_() % message.size());
    const char* const path = asked.kind == 'b' ? kScoreBatch : asked.kind == 's' ? kScoreStream : kScore;
    Client::Fields more;
    if (random_() % 16 == 0) more.emplace_back("grpc-timeout", random_() % 2 == 0 ? "1m" : "100u");
    asked_[client_->call(path, bytes, asked.is_whole, more)] = asked;
  }
  void cancel_one() {
    if (client_ == nullptr || asked_.empty()) return;
    auto chosen = asked_.begin();
    std::advance(chosen, static_cast<ptrdiff_t>(random_() % asked_.size()));
    chosen->second.is_cancelled = true;
    client_->cancel(chosen->first);
  }
  // Calls that were left half get their end: cancelled.
  void end_all() {
    for (auto& [id, asked] : asked_) {
      if (asked.is_whole || asked.is_cancelled) continue;
      asked.is_cancelled = true;
      client_->cancel(id);
    }
  }
  void pump(int wait_ms) {
    if (client_ == nullptr) return;
    pollfd ready{client_->fd(), POLLIN, 0};
    const bool is_up = client_->write();
    if (wait_ms > 0) ::poll(&ready, 1, wait_ms);
    if (!client_->read() || !is_up) {
      settle();
      if (client_->goaway_count > 0 && client_->goaway_error == NGHTTP2_NO_ERROR) be_sent_away();
      return leave();
    }
    settle();
  }
  void be_sent_away() {
    is_sent_away = true;
    for (const auto& [id, asked] : asked_) {
      if (asked.is_whole && !asked.is_cancelled && id <= client_->goaway_last_id) ++broken_promises;
    }
  }
  void settle() {
    for (auto asked = asked_.begin(); asked != asked_.end();) {
      const ClientCall& call = client_->calls[asked->first];
      if (!call.is_closed) {
        ++asked;
        continue;
      }
      if (!asked->second.is_cancelled) check_answer(asked->second, call);
      client_->calls.erase(asked->first);
      asked = asked_.erase(asked);
    }
  }
  void check_answer(const Asked& asked, const ClientCall& call) {
    const int status = call.grpc_status();
    if (status < 0) {
      ++cut;
      return;
    }
    ++statuses[status];
    if (status != kOk) return;
    port_.read_answers.fetch_add(1);
    const std::vector<std::string> messages = call.messages();
    CHECK_EQ(messages.size(), 1u);
    if (messages.size() != 1) return;
    if (asked.kind == 'b') {
      for (const Row& row : parse_batch(messages[0])) check_row(row, asked.amount);
      return;
    }
    check_row(asked.kind == 's' ? parse_result(messages[0]) : parse_response(messages[0]), asked.amount);
  }
  static void check_row(const Row& row, int64_t amount) {
    CHECK_EQ(row.id, "tx-" + std::to_string(amount));
    if (row.has_score) CHECK_EQ(row.score, static_cast<double>(amount) / 1024.0);
  }
  void leave() {
    for (const auto& [id, asked] : asked_) cut += asked.is_cancelled ? 0 : 1;
    asked_.clear();
    client_.reset();
  }
  size_t open_count() const { return asked_.size(); }

  Port& port_;
  std::mt19937_64 random_;
  const MakeStream make_stream_;
  std::unique_ptr<Client> client_;
  std::map<int32_t, Asked> asked_;
};

// `threads` callers at work, and what else happens meanwhile. How many calls had each status.
std::map<int, size_t> storm(
    Port& port, int calls, const Caller::MakeStream& make_stream = nullptr, const std::function<void()>& meanwhile = [] {}) {
  std::mutex mutex;
  std::map<int, size_t> statuses;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      Caller caller(port, check::seed() + t, make_stream);
      caller.run(calls);
      const std::lock_guard<std::mutex> lock(mutex);
      for (const auto& [status, count] : caller.statuses) statuses[status] += count;
      CHECK_EQ(caller.broken_promises, 0u);
    });
  }
  meanwhile();
  for (std::thread& thread : threads) thread.join();
  return statuses;
}

void check_statuses(const std::map<int, size_t>& statuses, std::initializer_list<int> allowed) {
  for (const auto& [status, count] : statuses) {
    if (std::find(allowed.begin(), allowed.end(), status) != allowed.end()) continue;
    check::fail(__FILE__, __LINE__, "status " + std::to_string(status) + ", " + std::to_string(count) + " times");
  }
  CHECK(statuses.count(kOk) != 0);
}

}  // namespace

TEST(a_storm_of_calls_and_cancels_leaves_nothing) {
  const size_t descriptors = descriptor_count();
  for (const bool is_inline : {false, true}) {
    Port port(nullptr, is_inline);
    port.start();
    check_statuses(storm(port, check::scaled(1200)), {kOk, kDeadlineExceeded, kResourceExhausted, kUnavailable});
    CHECK(port.transport.wait_closed(20 * kSecond));
    CHECK(port.engine.wait_idle(20 * kSecond));
  }
  CHECK_EQ(descriptor_count(), descriptors);
}

TEST(calls_that_run_when_their_client_goes_leave_nothing) {
  for (const bool cancels : {false, true}) {
    Port port;
    port.start();
    port.fake->hold();
    Client client(port.connect());
    std::vector<int32_t> ids;
    for (int i = 0; i < 40; ++i) ids.push_back(client.call(kScore, message_of(score_request(i))));
    client.write();
    CHECK(port.fake->wait_running(1));
    if (cancels) {
      for (const int32_t id : ids) client.cancel(id);
      client.write();
    } else {
      client.leave();
    }
    for (int i = 0; i < 4000 && port.transport.stats().waiting_calls > 0; ++i) ::usleep(5'000);
    CHECK_EQ(port.transport.stats().waiting_calls, 0u);  // though one batch still runs
    port.fake->release();
    CHECK(port.engine.wait_idle(20 * kSecond));
  }
}

TEST(a_deadline_that_passes_while_a_call_runs_is_answered) {
  Port port;
  port.start();
  port.fake->hold();
  Client client(port.connect());
  const int32_t id = client.call(kScore, message_of(score_request(1)), true, {{"grpc-timeout", "200m"}});
  client.write();
  CHECK(port.fake->wait_running(1));
  for (int i = 0; i < 4000 && !client.calls[id].is_closed; ++i) {
    pollfd ready{client.fd(), POLLIN, 0};
    ::poll(&ready, 1, 5);
    client.read();
    client.write();
  }
  CHECK_EQ(client.calls[id].grpc_status(), kDeadlineExceeded);
  port.fake->release();
  CHECK(port.engine.wait_idle(20 * kSecond));
}

TEST(a_drain_in_the_middle_of_a_storm_answers_what_it_took) {
  for (int round = 0; round < check::scaled(3); ++round) {
    Port port;
    port.start();
    const auto statuses = storm(port, 1'000'000, nullptr, [&] {
      while (port.transport.stats().accepted_connections < 3 || port.read_answers < 30) std::this_thread::yield();
      port.transport.drain(20 * kSecond);
      CHECK(port.transport.wait_closed(30 * kSecond));
      port.transport.stop();  // else callers would wait in the backlog
    });
    check_statuses(statuses, {kOk, kDeadlineExceeded, kResourceExhausted, kUnavailable});
  }
}

TEST(a_stop_in_the_middle_of_a_storm_leaves_nothing) {
  for (int round = 0; round < check::scaled(6); ++round) {
    Port port(nullptr, round % 2 == 0);
    port.start();
    std::atomic<bool> is_over{false};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random(check::seed() + t);
        Client client(port.connect());
        while (!is_over) {
          const int32_t id = client.call(kScore, message_of(score_request(static_cast<int64_t>(random() % 1000))));
          client.write();
          if (random() % 4 == 0) client.cancel(id);
          client.read();
          client.calls.clear();
        }
      });
    }
    while (port.engine.stats().accepted_rows < 50) std::this_thread::yield();
    port.transport.stop();
    is_over = true;
    for (std::thread& thread : threads) thread.join();
    CHECK(port.engine.wait_idle(20 * kSecond));
  }
}

TEST(certificates_and_roles_change_under_load) {
  const Certificates& certificates = fixture::house();
  const Pair other = issue(dns_spec("localhost"), &certificates.authority);
  const std::string authority = pem_of(certificates.authority.certificate);
  const TransportPem pems[] = {{pem_of(certificates.server.certificate), pem_of(certificates.server.key), authority},
                               {pem_of(other.certificate), pem_of(other.key), authority}};
  const std::vector<std::pair<std::string, uint8_t>> roles[] = {
      {{"dns:core.bank.internal", static_cast<uint8_t>(Role::kScore)}},
      {{"dns:core.bank.internal", static_cast<uint8_t>(Role::kRead)}, {"dns:other", static_cast<uint8_t>(Role::kScore)}}};
  const std::string chain = pem_of(certificates.client.certificate), key = pem_of(certificates.client.key);
  std::shared_ptr<const TlsClientContext> context;
  REQUIRE(TlsClientContext::make({authority, chain, key}, &context).ok());

  Port port;
  REQUIRE(port.transport.protect(pems[0], &roles[0]).ok());
  port.start();
  const auto statuses = storm(
      port, check::scaled(400), [&](int fd) { return std::make_unique<TlsStream>(fd, *context, "localhost"); },
      [&] {
        for (int i = 0; i < 200; ++i) {
          CHECK(port.transport.protect(pems[i % 2], &roles[i / 2 % 2]).ok());
          CHECK(!port.transport.protect({"no certificate", "no key", ""}, nullptr).ok());
          (void)port.transport.drain_denials();
          (void)port.transport.stats();
          ::usleep(2'000);
        }
        CHECK(port.transport.protect(pems[0], &roles[0]).ok());
      });
  check_statuses(statuses, {kOk, kDeadlineExceeded, kPermissionDenied, kResourceExhausted, kUnavailable});
  CHECK(statuses.count(kPermissionDenied) != 0);
}

ASSAY_TEST_MAIN
