// Look-ups over one connection: what the core does by itself, and what it gives back.
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <thread>

#include "check.h"
#include "core/features/resp_mget.h"
#include "core/serving/lookup_hops.h"
#include "remote_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr HopLimits kLimits = {64, 10 * kSecond, kSecond};

std::string bulk(std::string_view text) { return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n"; }

// The keys of an MGET as a server reads them; none: it is no MGET.
std::vector<std::string> keys_of(std::string_view command) {
  std::vector<std::string> words;
  size_t at = command.find("\r\n") + 2;
  while (at < command.size()) {
    const size_t line_end = command.find("\r\n", at);
    const size_t size = std::stoul(std::string(command.substr(at + 1, line_end - at - 1)));
    words.emplace_back(command.substr(line_end + 2, size));
    at = line_end + 2 + size + 2;
  }
  std::string whole = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) whole += bulk(word);
  if (command != whole) return {};
  if (words.empty() || words[0] != "MGET") return {};
  words.erase(words.begin());
  return words;
}

// A connection whose other end answers each command with what `answer` makes of its keys; an empty answer closes it.
class Server {
 public:
  using Answer = std::function<std::string(const std::vector<std::string>&)>;

  explicit Server(Answer answer) : answer_(std::move(answer)) {
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_) == 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~Server() {
    ::shutdown(ends_[0], SHUT_RDWR);
    thread_.join();
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  int socket() const { return ends_[0]; }

 private:
  void serve() {
    char bytes[64 << 10];
    for (;;) {
      const ssize_t got = ::recv(ends_[1], bytes, sizeof bytes, 0);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        std::this_thread::yield();
        continue;
      }
      if (got <= 0) return;
      const std::string said = answer_(keys_of({bytes, static_cast<size_t>(got)}));
      if (said.empty()) {
        ::shutdown(ends_[1], SHUT_RDWR);
        return;
      }
      CHECK(::send(ends_[1], said.data(), said.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(said.size()));
    }
  }

  Answer answer_;
  int ends_[2] = {-1, -1};
  std::thread thread_;
};

std::string records_of(FakeStore& store, const std::vector<std::string>& keys, const std::string& null = "_\r\n") {
  std::string answer = "*" + std::to_string(keys.size()) + "\r\n";
  for (const std::string& key : keys) {
    const auto at = store.records().find(key);
    answer += at == store.records().end() ? null : bulk(at->second);
  }
  return answer;
}

// What hops give for one row, which is parked before.
HopsResult hop_once(RemoteHouse& house, const Server& server, const HopLimits& limits = kLimits) {
  CHECK(house.score(1).code == Code::kOk);
  return house.engine.run_hops(server.socket(), limits);
}

}  // namespace

TEST(hops_give_what_the_store_says_until_the_engine_stops) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  std::atomic<int> asked{0};
  Server server([&](const std::vector<std::string>& keys) {
    CHECK(!keys.empty());
    return records_of(store, keys, ++asked % 2 ? "_\r\n" : "$-1\r\n");  // RESP 3, RESP 2
  });
  auto running = std::async(std::launch::async, [&] { return house.engine.run_hops(server.socket(), kLimits); });
  House embedded(stepping());
  REQUIRE(FeatureReader::create(house.plan, store.embedded, &embedded.reader).ok());
  REQUIRE(embedded.add(embedded.lane_spec()).ok());
  const std::string with_features = number(10, 1);
  for (const int64_t amount : {5, 77, 100'000}) {
    CHECK(house.score(amount, with_features).code == Code::kOk);
    size_t rows = 0;  // a row is in its lane's queue a moment after it is no longer being looked up
    while ((rows = house.step()) == 0) std::this_thread::yield();
    CHECK_EQ(rows, 1u);
    CHECK(embedded.score(amount, with_features).code == Code::kOk);
    CHECK_EQ(embedded.step(), 1u);
    CHECK_EQ(house.answer(house.token).payload, embedded.answer(embedded.token).payload);
  }
  house.engine.stop();
  const HopsResult result = running.get();
  CHECK(result.end == HopsEnd::kStopped);
  CHECK_EQ(result.hop_count, 3u);
  CHECK(result.batch == nullptr);
}

TEST(a_slow_hop_gives_its_records_and_comes_back) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  Server server([&](const std::vector<std::string>& keys) {
    house.clock.advance_ns(11 * kMs);
    return records_of(store, keys);
  });
  const HopsResult result = hop_once(house, server, {64, 40 * kMs, 10 * kMs});
  CHECK(result.end == HopsEnd::kSlow);
  CHECK_EQ(result.hop_count, 1u);
  CHECK(result.batch == nullptr);
  CHECK_EQ(house.step(), 1u);
}

TEST(no_answer_in_time_gives_the_batch_back) {
  RemoteHouse house;
  Server server([&](const std::vector<std::string>&) {
    house.clock.advance_ns(50 * kMs);
    return std::string("*");
  });
  const HopsResult result = hop_once(house, server, {64, 40 * kMs, 10 * kMs});
  CHECK(result.end == HopsEnd::kTimeout);
  CHECK_EQ(result.hop_count, 0u);
  REQUIRE(result.batch != nullptr);
  house.engine.fail_lookups(*result.batch);
  CHECK_EQ(house.step(), 1u);
}

TEST(what_is_no_answer_to_an_mget_gives_the_batch_back) {
  const std::vector<std::string> odd = {
      "-LOADING Redis is loading the dataset in memory\r\n",
      "+OK\r\n",
      "*0\r\n",
      "*1\r\n_\r\n",
      "*3\r\n_\r\n_\r\n_\r\n",
      "*2\r\n:1\r\n_\r\n",
      "*2\r\n-ERR shard\r\n_\r\n",
      "*2\r\n*0\r\n_\r\n",
      "~2\r\n_\r\n_\r\n",
      "_\r\n",
      "$-1\r\n",
      ">1\r\n+moved\r\n*2\r\n_\r\n_\r\n",
      "*2\r\n_\r\n_\r\n_\r\n",
      "HTTP/1.1 400 Bad Request\r\n",
      "",
  };
  for (const std::string& said : odd) {
    RemoteHouse house;
    FakeStore store = filled_store(house.plan);
    Server server([&](const std::vector<std::string>& keys) {
      CHECK_EQ(keys.size(), 2u);
      return said;
    });
    const HopsResult result = hop_once(house, server);
    CHECK(result.end == HopsEnd::kOdd);
    CHECK_EQ(result.hop_count, 0u);
    REQUIRE(result.batch != nullptr);
    house.engine.give_lookups(*result.batch, store.fetch(result.batch->keys).data());  // who called has asked elsewhere
    CHECK_EQ(house.step(), 1u);
  }
}

TEST(an_mget_is_read_as_it_is_written) {
  std::mt19937_64 random = check::random_engine();
  for (int round = 0; round < check::scaled(500); ++round) {
    std::vector<std::string> keys(1 + random() % 20), values(keys.size());
    std::string answer = "*" + std::to_string(keys.size()) + "\r\n";
    std::vector<bool> is_there;
    for (size_t i = 0; i < keys.size(); ++i) {
      keys[i].resize(random() % 300);
      for (char& c : keys[i]) c = static_cast<char>(random());
      values[i].resize(random() % 300);
      for (char& c : values[i]) c = static_cast<char>(random());
      is_there.push_back(random() % 4 != 0);
      answer += is_there[i] ? bulk(values[i]) : random() % 2 ? "_\r\n" : "$-1\r\n";
    }
    std::string command = "what was there";
    write_mget(keys, &command);
    CHECK(keys_of(command) == keys);
    std::vector<FetchedRecord> records(keys.size());
    REQUIRE(read_mget(answer, &records));
    for (size_t i = 0; i < keys.size(); ++i) {
      CHECK_EQ(records[i].bytes.data() != nullptr, is_there[i]);
      CHECK(records[i].why == Code::kOk);
      if (is_there[i]) CHECK_EQ(records[i].bytes, values[i]);
    }
    CHECK(!read_mget(answer.substr(0, answer.size() - 1 - random() % 2), &records));
    CHECK(!read_mget(answer + "_\r\n", &records));
    records.pop_back();
    CHECK(!read_mget(answer, &records));
  }
}

ASSAY_TEST_MAIN
