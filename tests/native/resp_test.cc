// Answers of a Redis: where they end, however their bytes come; and the exchange over a real socket, with a server that closes,
// stalls, says too much or something else.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/features/resp_exchange.h"
#include "core/features/resp_scanner.h"

using namespace assay;

namespace {

using Found = RespScanner::Found;

constexpr size_t kAnyValues = 1'000'000'000;

Found scan(std::string_view bytes, size_t answers = 1, size_t values_max = kAnyValues) {
  return RespScanner(answers, values_max).scan(bytes);
}

std::string bulk(const std::string& text) { return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n"; }

std::string random_answer(std::mt19937_64& random, size_t depth = 0) {
  std::string text(random() % 40, '\0');
  for (char& c : text) c = static_cast<char>(random());
  const std::string line = "x" + std::to_string(random() % 1000);
  switch (random() % (depth < 3 ? 12 : 9)) {
    case 0: return "+" + line + "\r\n";
    case 1: return "-ERR " + line + "\r\n";
    case 2: return ":" + std::to_string(random() % 100) + "\r\n";
    case 3: return "_\r\n";
    case 4: return "$-1\r\n";
    case 5: return "#t\r\n";
    case 6: return ",1.5\r\n";
    case 7: return "=" + bulk("txt:" + text).substr(1);
    case 8: return bulk(text);
    default: break;
  }
  const size_t count = random() % 5;
  const bool is_map = random() % 3 == 0;
  std::string all = (is_map ? "%" : random() % 2 ? "*" : "~") + std::to_string(count) + "\r\n";
  for (size_t i = 0; i < (is_map ? 2 * count : count); ++i) all += random_answer(random, depth + 1);
  return all;
}

struct Sockets {
  Sockets() { REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0); }
  ~Sockets() {
    ::close(ends[0]);
    if (ends[1] >= 0) ::close(ends[1]);
  }
  void say(std::string_view text) const {
    REQUIRE(::send(ends[1], text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }
  void hang_up() { ::close(ends[1]), ends[1] = -1; }
  ExchangeEnd receive(size_t count, std::string* answers, int64_t wait_ns = 10'000'000'000) const {
    return receive_answers(ends[0], count, kAnyValues, SystemClock::instance().now_ns() + wait_ns, SystemClock::instance(),
                           answers);
  }
  ExchangeEnd send(std::string_view commands, int64_t wait_ns = 10'000'000'000) const {
    return send_commands(ends[0], commands, SystemClock::instance().now_ns() + wait_ns, SystemClock::instance());
  }

  int ends[2];
};

}  // namespace

TEST(it_ends_where_the_answers_end) {
  CHECK(scan("+OK\r\n") == Found::kAll);
  CHECK(scan("*2\r\n$3\r\nabc\r\n$-1\r\n") == Found::kAll);
  CHECK(scan("*0\r\n") == Found::kAll);
  CHECK(scan("%1\r\n+a\r\n*1\r\n_\r\n") == Found::kAll);
  CHECK(scan("$0\r\n\r\n") == Found::kAll);
  CHECK(scan("", 0) == Found::kAll);
  CHECK(scan(":1\r\n:2\r\n", 2) == Found::kAll);
  CHECK(scan(">2\r\n+MOVING\r\n:1\r\n:1\r\n>0\r\n:2\r\n", 2) == Found::kAll);  // pushes are no answers
  CHECK(scan(">1\r\n+MOVING\r\n") == Found::kMore);
  CHECK(scan(":1\r\n", 2) == Found::kMore);
  CHECK(scan("") == Found::kMore);
}

TEST(what_is_no_answer_is_refused) {
  for (const char* bad :
       {"\xff", "GET", "*1\r\n>1\r\n+MOVING\r\n", ">-1\r\n:1\r\n", "$x\r\n", "$-2\r\n", "*-3\r\n", "$ 3\r\nabc\r\n", "$\r\n",
        "$1\r\nabc", "+OK\r\n+OK\r\n", "$3\r\nabcd\r\n", "*1x\r\n", "$99999999999999999999\r\n"}) {
    CHECK(scan(bad) == Found::kNotResp);
  }
}

TEST(limits) {
  CHECK(scan("$268435456\r\n") == Found::kTooLarge);  // with its line it passes kBytesMax
  CHECK(scan("$268435400\r\n") == Found::kMore);
  CHECK(scan("*268435457\r\n") == Found::kTooLarge);
  CHECK(scan("*268435456\r\n") == Found::kMore);
  CHECK(scan("+" + std::string(RespScanner::kLineBytesMax, 'x')) == Found::kTooLarge);
  CHECK(scan("+" + std::string(RespScanner::kLineBytesMax - 3, 'x') + "\r\n") == Found::kAll);
  std::string deep;
  for (size_t i = 0; i + 1 < RespScanner::kDepthMax; ++i) deep += "*1\r\n";
  CHECK(scan(deep + ":1\r\n") == Found::kAll);
  CHECK(scan(deep + "*1\r\n:1\r\n") == Found::kTooLarge);
  const char* const three = "*2\r\n$1\r\na\r\n$1\r\nb\r\n";
  CHECK(scan(three, 1, 3) == Found::kAll);
  CHECK(scan(three, 1, 2) == Found::kTooLarge);
  CHECK(scan(">0\r\n:1\r\n", 1, 1) == Found::kTooLarge);
  RespScanner scanner(1, kAnyValues);
  CHECK(scanner.scan("x") == Found::kNotResp);
  CHECK(scanner.scan("+OK\r\n") == Found::kNotResp);  // it stays so
}

TEST(bytes_may_come_in_any_pieces) {
  std::mt19937_64 random(check::seed());
  for (int round = 0; round < check::scaled(2'000); ++round) {
    const size_t count = 1 + random() % 4;
    std::string all;
    for (size_t i = 0; i < count; ++i) all += random_answer(random);
    CHECK(scan(all, count) == Found::kAll);
    CHECK(scan(all + "+", count) == Found::kNotResp);
    RespScanner scanner(count, kAnyValues);
    for (size_t size = random() % 4; size < all.size(); size += 1 + random() % 4) {
      CHECK(scanner.scan(std::string_view(all).substr(0, size)) == Found::kMore);
    }
    CHECK(scanner.scan(all) == Found::kAll);
  }
}

TEST(an_exchange_brings_the_answers_whole) {
  std::mt19937_64 random(check::seed());
  for (int round = 0; round < check::scaled(50); ++round) {
    Sockets pair;
    const size_t count = 1 + random() % 20;
    std::string all;
    for (size_t i = 0; i < count; ++i) all += random() % 4 ? random_answer(random) : bulk(std::string(random() % 200'000, 'x'));
    CHECK(pair.send("PING\r\n") == ExchangeEnd::kDone);
    std::thread server([&] {
      for (size_t place = 0; place < all.size();) {
        const std::string_view piece = std::string_view(all).substr(place, 1 + random() % 50'000);
        const ssize_t sent = ::send(pair.ends[1], piece.data(), piece.size(), 0);
        if (sent > 0) place += static_cast<size_t>(sent);
        if (sent < 0) std::this_thread::yield();  // full: the other side reads
      }
    });
    std::string answers = "from before";
    CHECK(pair.receive(count, &answers) == ExchangeEnd::kDone);
    server.join();
    CHECK(answers == all);
  }
}

// Who sends without an end is not read without one: what was there by the deadline is less than this.
TEST(an_endless_answer_ends_with_the_time) {
  Sockets pair;
  std::atomic<bool> is_over{false};
  std::thread server([&] {
    const std::string piece(1 << 16, 'x');
    pair.say("$200000000\r\n");
    while (!is_over) {
      if (::send(pair.ends[1], piece.data(), piece.size(), MSG_NOSIGNAL) < 0) std::this_thread::yield();
    }
  });
  std::string answers;
  CHECK(pair.receive(1, &answers, 1'000'000) == ExchangeEnd::kTimeout);
  is_over = true;
  server.join();
}

TEST(commands_larger_than_the_sockets_buffer_go_out) {
  Sockets pair;
  const std::string commands(4 << 20, 'c');
  std::string seen;
  std::thread server([&] {
    std::vector<char> buffer(1 << 16);
    while (seen.size() < commands.size()) {
      const ssize_t got = ::recv(pair.ends[1], buffer.data(), buffer.size(), 0);
      if (got > 0) seen.append(buffer.data(), static_cast<size_t>(got));
    }
  });
  CHECK(pair.send(commands) == ExchangeEnd::kDone);
  server.join();
  CHECK(seen == commands);
}

TEST(who_closes_the_socket_meanwhile_ends_the_exchange) {
  Sockets pair, other;
  std::string answers;
  const OwnSocket own(pair.ends[0]);
  REQUIRE(own.number() >= 0);
  std::thread closing([&] {
    ::shutdown(pair.ends[0], SHUT_RDWR);
    REQUIRE(::dup2(other.ends[0], pair.ends[0]) >= 0);  // its number is somebody else's now
    other.say("+for somebody else\r\n");
  });
  const int64_t deadline_ns = SystemClock::instance().now_ns() + 10'000'000'000;
  CHECK(receive_answers(own.number(), 1, kAnyValues, deadline_ns, SystemClock::instance(), &answers) == ExchangeEnd::kClosed);
  closing.join();
  CHECK_EQ(answers, "");
  CHECK(OwnSocket(-1).number() == -1);
}

TEST(how_it_ends_otherwise) {
  std::string answers;
  {
    Sockets pair;
    pair.say("$3\r\nab");
    CHECK(pair.receive(1, &answers, 1'000'000) == ExchangeEnd::kTimeout);
    pair.hang_up();
    CHECK(pair.receive(1, &answers) == ExchangeEnd::kClosed);
    CHECK(pair.send("PING\r\n") == ExchangeEnd::kClosed);  // no SIGPIPE
  }
  {
    Sockets pair;
    pair.say("HTTP/1.1 400 Bad Request\r\n");
    CHECK(pair.send("PING\r\n") == ExchangeEnd::kNotResp);  // nobody asked for it
    CHECK(pair.receive(1, &answers) == ExchangeEnd::kNotResp);
  }
  {
    Sockets pair;
    pair.say("*999999999\r\n");
    CHECK(pair.receive(1, &answers) == ExchangeEnd::kTooLarge);
  }
  {
    Sockets pair;
    CHECK(pair.send(std::string(4 << 20, 'c'), 1'000'000) == ExchangeEnd::kTimeout);  // nobody reads
  }
  CHECK(send_commands(-1, "PING\r\n", 1, SystemClock::instance()) == ExchangeEnd::kClosed);
  CHECK(receive_answers(-1, 1, kAnyValues, 1, SystemClock::instance(), &answers) != ExchangeEnd::kDone);
}

ASSAY_TEST_MAIN
