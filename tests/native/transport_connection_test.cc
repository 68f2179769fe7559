// One client's connection, driven turn by turn: calls answered; cancelled, late, cut off and drained at every stage of their life,
// with nothing left of them; limits on what is held; floods. Time stands still unless it is told.
#include "check.h"
#include "load_stub_server.h"
#include "message_fixture.h"
#include "transport_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr int kDeadlineExceeded = 4, kResourceExhausted = 8, kUnavailable = 14;

// Where a call can be when something happens to it.
enum class Point { kHeaders, kHalf, kWhole, kQueued, kFinished, kUnread };
constexpr Point kPoints[] = {Point::kHeaders, Point::kHalf, Point::kWhole, Point::kQueued, Point::kFinished, Point::kUnread};

struct Method {
  const char* path;
  std::string message;
};
std::vector<Method> methods() {
  return {{kScore, message_of(score_request(100))},
          {kScoreBatch, message_of(batch_request({score_request(1), score_request(2), score_request(3)}))},
          {kScoreStream, message_of(delimited(1, score_request(7)))}};
}

// Brings a call to a stage. kWhole: sent, not told to the server yet.
int32_t begin(TurnHouse& house, Client& client, const Method& method, Point stage, const Client::Fields& more = {}) {
  const bool is_whole = stage >= Point::kWhole;
  const std::string half = method.message.substr(0, method.message.size() / 2);
  const int32_t id = client.call(method.path,
                                 stage == Point::kHeaders ? ""
                                 : stage == Point::kHalf  ? half
                                                          : method.message,
                                 is_whole, more);
  if (stage == Point::kWhole) {
    client.write();
    return id;
  }
  house.settle(client);
  if (stage == Point::kFinished) house.house.step();  // the thread has not heard of it
  if (stage == Point::kUnread) {
    house.step();
    house.settle(client);
  }
  return id;
}

const ClientSettings& settings_for(Point stage) {
  static const ClientSettings usual, unread{0, true};
  return stage == Point::kUnread ? unread : usual;
}

void each_stage(const std::function<void(Point, const Method&)>& run) {
  for (const Method& method : methods()) {
    for (const Point stage : kPoints) {
      const int before = check::failures();
      run(stage, method);
      if (check::failures() != before) std::fprintf(stderr, "  at stage %d of %s\n", static_cast<int>(stage), method.path);
    }
  }
}

}  // namespace

TEST(calls_of_every_kind_are_answered) {
  const size_t descriptors = descriptor_count();
  {
    TurnHouse house;
    auto client = house.connect();
    const int32_t score = client->call(kScore, methods()[0].message);
    const int32_t batch = client->call(kScoreBatch, methods()[1].message);
    const int32_t stream = client->call(kScoreStream, methods()[2].message, false);
    house.settle(*client);
    CHECK_EQ(house.counters.waiting_calls.get(), 3u);
    CHECK_EQ(house.counters.open_streams.get(), 1u);
    house.step();
    client->send(stream, message_of(delimited(1, score_request(8))), true);
    house.settle(*client);
    house.step();
    house.settle(*client);
    for (const int32_t id : {score, batch, stream}) {
      CHECK_EQ(client->calls[id].grpc_status(), 0);
      CHECK(client->calls[id].is_closed);
    }
    CHECK_EQ(parse_response(client->calls[score].messages().at(0)).score, 100 / 1024.0);
    CHECK_EQ(parse_batch(client->calls[batch].messages().at(0)).size(), 3u);
    CHECK_EQ(client->calls[stream].messages().size(), 2u);
    CHECK(house.is_clean());
    client.reset();
    house.turn();
    CHECK(house.is_empty());
  }
  CHECK_EQ(descriptor_count(), descriptors);
}

TEST(a_call_that_is_cancelled_at_any_stage_leaves_nothing) {
  each_stage([](Point stage, const Method& method) {
    TurnHouse house;
    auto client = house.connect(settings_for(stage));
    const int32_t id = begin(house, *client, method, stage);
    client->cancel(id);
    house.settle(*client);
    CHECK(house.is_clean());
    const int32_t next = client->call(kScore, methods()[0].message);  // the connection goes on
    client->set_window(65'535);
    house.settle(*client);
    house.step();
    house.settle(*client);
    CHECK_EQ(client->calls[next].grpc_status(), 0);
    CHECK(house.is_clean());
  });
}

TEST(a_client_that_leaves_at_any_stage_leaves_nothing) {
  each_stage([](Point stage, const Method& method) {
    TurnHouse house;
    auto client = house.connect(settings_for(stage));
    begin(house, *client, method, stage);
    client->leave();
    house.turn();
    CHECK(house.is_empty());
  });
}

TEST(a_thread_that_stops_at_any_stage_leaves_nothing) {
  each_stage([](Point stage, const Method& method) {
    const size_t descriptors = descriptor_count();
    {
      TurnHouse house;
      auto client = house.connect(settings_for(stage));
      begin(house, *client, method, stage);
      house.thread.stop();
      while (house.house.step() > 0) continue;
      CHECK_EQ(house.house.engine.stats().slots_used, 0u);  // of what was finished and nobody heard of, too
      CHECK_EQ(house.thread.loop().timers().size(), 0u);
    }
    CHECK_EQ(descriptor_count(), descriptors);
  });
}

// Else whoever sends headers and nothing else would hold a stream for as long as its connection lives.
TEST(a_deadline_that_passes_at_any_stage_is_answered) {
  each_stage([](Point stage, const Method& method) {
    TurnHouse house;
    auto client = house.connect(settings_for(stage));
    const int32_t id = begin(house, *client, method, stage, {{"grpc-timeout", "100m"}});
    if (stage == Point::kWhole) return client->leave();  // its time begins when it is read
    house.house.clock.advance_ns(200 * kMs);
    house.settle(*client);
    if (stage == Point::kUnread) client->set_window(65'535);
    house.settle(*client);
    house.step();
    house.settle(*client);
    CHECK(client->calls[id].is_closed);
    // A stream is not over before its answers are read.
    const bool is_answered = stage == Point::kUnread && method.path != std::string(kScoreStream);
    CHECK_EQ(client->calls[id].grpc_status(), is_answered ? 0 : kDeadlineExceeded);
    CHECK(house.is_clean());
  });
}

TEST(a_request_that_never_ends_is_given_up_without_a_deadline_too) {
  for (const Point stage : {Point::kHeaders, Point::kHalf}) {
    TurnHouse house;
    auto client = house.connect();
    const int32_t id = begin(house, *client, methods()[0], stage);
    house.house.clock.advance_ns(house.options.request_ns_max + kMs);
    house.settle(*client);
    CHECK_EQ(client->calls[id].grpc_status(), kDeadlineExceeded);
    CHECK(house.is_clean());
  }
}

TEST(a_drain_at_any_stage_answers_what_it_has) {
  each_stage([](Point stage, const Method& method) {
    TurnHouse house;
    auto client = house.connect(settings_for(stage));
    const int32_t id = begin(house, *client, method, stage);
    house.thread.drain(10 * kSecond);
    house.settle(*client);
    CHECK(client->goaway_count >= 1);  // the notice, and the end, which an idle session of nghttp2 does not tell
    const bool is_stream = method.path == std::string(kScoreStream);
    if (stage < Point::kWhole && !is_stream)
      client->send(id, method.message.substr(stage == Point::kHalf ? method.message.size() / 2 : 0), true);
    client->set_window(65'535);
    house.settle(*client);
    house.step();
    house.settle(*client);
    CHECK(client->calls[id].is_closed);
    CHECK(client->calls[id].grpc_status() == (is_stream && stage < Point::kWhole ? kUnavailable : 0) || is_stream);
    CHECK(client->is_over);
    CHECK(house.is_empty());
  });
}

TEST(a_call_that_crosses_the_notice_is_answered) {
  TurnHouse house;
  auto client = house.connect();
  house.thread.drain(10 * kSecond);
  house.turn();  // the notice is on its way; the client has not read it
  const int32_t id = client->call(kScore, methods()[0].message);
  client->write();
  house.turn();
  house.step();
  house.settle(*client);
  CHECK_EQ(client->calls[id].grpc_status(), 0);
  CHECK(client->is_over);
  CHECK(house.is_empty());
}

TEST(a_drain_past_its_grace_cuts_what_is_left) {
  TurnHouse house;
  auto client = house.connect();
  begin(house, *client, methods()[0], Point::kQueued);
  house.thread.drain(2 * kSecond);
  house.settle(*client);
  CHECK(!client->is_over);
  house.house.clock.advance_ns(3 * kSecond);
  house.settle(*client);
  CHECK(client->is_over);
  CHECK(house.is_empty());
}

// nghttp2 has no more to say once it has given its bytes, but the socket had not taken them: the last answers were cut.
TEST(a_connection_that_leaves_gives_all_its_answers_to_a_slow_socket) {
  TurnHouse house;
  auto client = house.connect({1 << 20, true}, 4096);
  std::vector<std::string> rows;
  for (int i = 0; i < 16; ++i) rows.push_back(score_request(i));
  std::vector<int32_t> ids;
  for (int i = 0; i < 20; ++i) {
    ids.push_back(client->call(kScoreBatch, message_of(batch_request(rows))));
    house.settle(*client, /*reads=*/false);
    if (i < 19) house.step();
  }
  house.thread.drain(10 * kSecond);
  house.turn();
  house.house.clock.advance_ns(1500 * kMs);  // nobody answers the notice, and the last call is late
  house.turn();
  for (int i = 0; i < 5000 && !client->is_over; ++i) {
    client->read(256);
    house.turn(1);
  }
  CHECK(client->is_over);
  for (const int32_t id : ids) CHECK_EQ(client->calls[id].grpc_status(), id == ids.back() ? kDeadlineExceeded : 0);
  CHECK(house.is_empty());
}

TEST(sockets_given_to_a_thread_that_stops_are_closed) {
  const size_t descriptors = descriptor_count();
  {
    const TransportOptions options;
    TransportCounters counters;
    Denials denials;
    House house;
    IoThread thread(house.engine, house.clock, options, counters, denials);
    REQUIRE(thread.open().ok());
    thread.start();
    thread.stop();
    const auto [server, client] = make_pair_of_sockets();
    thread.adopt(server);  // by an acceptor on another thread
    ::close(client);
  }
  CHECK_EQ(descriptor_count(), descriptors);
}

// --- what is held

TEST(messages_that_are_still_coming_are_held_up_to_a_limit_and_then_refused) {
  TransportOptions options;
  options.held_bytes_max = 1 << 20;
  TurnHouse house(options);
  auto client = house.connect();
  const std::string lie = prefix(0, 4 << 20) + std::string(250 << 10, 'x');  // 4 MiB are claimed
  std::vector<int32_t> ids;
  for (int i = 0; i < 12; ++i) {
    ids.push_back(client->call(kScoreBatch, lie, false));
    house.settle(*client);
    CHECK(house.thread.held_bytes() <= options.held_bytes_max);
  }
  int refused = 0;
  for (const int32_t id : ids) refused += client->calls[id].grpc_status() == kResourceExhausted;
  CHECK(refused >= 4 && refused < 12);
  const int32_t honest = client->call(kScore, methods()[0].message);  // comes in one piece, and is never held
  house.settle(*client);
  house.step();
  house.settle(*client);
  CHECK_EQ(client->calls[honest].grpc_status(), 0);
  for (const int32_t id : ids) client->cancel(id);
  house.settle(*client);
  CHECK(house.is_clean());
  client->send(ids[0], "", true);
}

TEST(a_claimed_length_costs_nothing) {
  TurnHouse house;
  auto client = house.connect();
  for (int i = 0; i < 1000; ++i) client->call(kScore, prefix(0, 4 << 20), false);
  house.settle(*client);
  CHECK(house.thread.held_bytes() < 3 << 20);  // of 4 GiB
}

TEST(whoever_reads_no_answers_loses_the_connection_and_nobody_else_does) {
  TransportOptions options;
  options.held_bytes_max = 256 << 10;
  TurnHouse house(options);
  auto greedy = house.connect({0, true});
  auto neighbour = house.connect();
  std::vector<std::string> rows;
  for (int i = 0; i < 16; ++i) rows.push_back(score_request(i));
  for (int i = 0; i < 400 && !greedy->is_over; ++i) {
    greedy->call(kScoreBatch, message_of(batch_request(rows)));
    house.settle(*greedy);
    house.step();
    house.settle(*greedy);
    CHECK(house.thread.held_bytes() <= options.held_bytes_max);
    if (i % 20 != 0) continue;
    const int32_t id = neighbour->call(kScore, methods()[0].message);
    house.settle(*neighbour);
    house.step();
    house.settle(*neighbour);
    CHECK_EQ(neighbour->calls[id].grpc_status(), 0);
  }
  CHECK(greedy->is_over);
  CHECK(!neighbour->is_over);
  CHECK(house.is_clean());
}

TEST(a_stream_whose_answers_are_not_read_is_read_no_further) {
  TurnHouse house;
  auto client = house.connect({0, true});
  const int32_t id = client->call(kScoreStream, "", false);
  for (int i = 0; i < 200; ++i) client->send(id, message_of(delimited(1, score_request(i))), false);
  house.settle(*client);
  house.step();
  CHECK_EQ(house.house.engine.stats().accepted_rows, house.options.stream_messages_max);
  client->set_window(65'535);
  for (int i = 0; i < 8; ++i) {
    house.settle(*client);
    house.step();
  }
  client->send(id, "", true);
  house.settle(*client);
  CHECK_EQ(client->calls[id].grpc_status(), 0);
  CHECK_EQ(client->calls[id].messages().size(), 200u);
  CHECK(house.is_clean());
}

// --- floods: what a connection may do without asking anything

namespace {

// Runs until the server ends the connection; how many steps it took, `max`: it did not.
int steps_until_over(TurnHouse& house, Client& client, int max, const std::function<void(int)>& step) {
  for (int i = 0; i < max; ++i) {
    step(i);
    house.settle(client);
    if (client.is_over) return i;
  }
  return max;
}

void push(Client& client, const std::string& frames) {
  for (size_t at = 0; at < frames.size();) {
    const ssize_t sent = ::send(client.fd(), frames.data() + at, frames.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) return;
    at += static_cast<size_t>(sent);
  }
}
std::string raw_frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string bytes;
  for (int shift : {16, 8, 0}) bytes.push_back(static_cast<char>(payload.size() >> shift));
  bytes.push_back(static_cast<char>(type));
  bytes.push_back(static_cast<char>(flags));
  for (int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<char>(stream >> shift));
  return bytes.append(payload);
}
std::string times(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

}  // namespace

TEST(floods_of_frames_that_ask_nothing_end_their_connection) {
  const std::string window_update = raw_frame(8, 0, 0, std::string("\0\0\0\1", 4));
  const std::string priority = raw_frame(2, 0, 1, std::string("\0\0\0\0\20", 5));
  const std::string settings = raw_frame(4, 0, 0, "");
  const std::string pong = raw_frame(6, 1, 0, "12345678");
  const std::string empty_data = raw_frame(0, 0, 1, "");
  const std::string padded_data = raw_frame(0, 8, 1, std::string("\3\0\0\0", 4));
  const std::string no_increment = raw_frame(8, 0, 1, std::string("\0\0\0\0", 4));  // a stream error each, or the connection's
  for (const std::string& flood : {window_update, priority, settings, pong, empty_data, padded_data, no_increment}) {
    TurnHouse house;
    auto client = house.connect();
    client->call(kScore, "", false);
    house.settle(*client);
    const int steps = steps_until_over(house, *client, 200, [&](int) { push(*client, times(100, flood)); });
    if (steps >= 200) std::fprintf(stderr, "  frames of type %d\n", flood[3]);
    CHECK(steps < 200);  // 20,000 frames
    CHECK(house.is_empty());
  }
}

TEST(an_honest_client_earns_its_window_updates) {
  TurnHouse house;
  auto client = house.connect();
  for (int i = 0; i < 3000; ++i) {
    const int32_t id = client->call(kScore, methods()[0].message);
    push(*client, times(5, raw_frame(8, 0, 0, std::string("\0\0\0\1", 4))));
    house.settle(*client);
    house.step();
    house.settle(*client);
    CHECK_EQ(client->calls[id].grpc_status(), 0);
    client->calls.clear();
  }
  CHECK(!client->is_over);
}

// CVE-2023-44487. A whole request was its own reward: eight frames earned by each that was reset.
TEST(calls_that_are_reset_at_once_end_their_connection_in_the_end) {
  TurnHouse house;
  auto client = house.connect();
  const int steps = steps_until_over(house, *client, 200, [&](int) {
    for (int i = 0; i < 100; ++i) {
      const int32_t id = client->call(kScore, methods()[0].message);
      client->write();
      client->cancel(id);
      client->write();
    }
  });
  CHECK(steps >= 90 && steps < 200);
  CHECK(house.is_empty());
  CHECK(house.house.engine.stats().accepted_rows < 100);  // hardly any came so far
}

TEST(calls_that_are_reset_at_once_earn_nothing) {
  TurnHouse house;
  auto client = house.connect();
  const int steps = steps_until_over(house, *client, 90, [&](int) {
    for (int i = 0; i < 100; ++i) {
      const int32_t id = client->call(kScore, methods()[0].message);
      client->write();
      client->cancel(id);
      client->write();
    }
    push(*client, times(700, raw_frame(8, 0, 0, std::string("\0\0\0\1", 4))));
  });
  CHECK(steps < 30);
}

// The server resets each by itself: a flood of resets that the client does not send.
TEST(requests_that_are_none_end_their_connection) {
  TurnHouse house;
  auto client = house.connect();
  client->become_raw();
  uint32_t stream = 1;
  const int steps = steps_until_over(house, *client, 200, [&](int) {
    std::string frames;
    for (int i = 0; i < 100; ++i, stream += 2) frames += raw_frame(1, 5, stream, std::string("\0\1x\1y", 5));
    push(*client, frames);
  });
  CHECK(steps >= 90 && steps < 200);
  CHECK_EQ(client->goaway_error, uint32_t{NGHTTP2_ENHANCE_YOUR_CALM});
  CHECK(house.is_empty());
}

// What does not fit one read comes with a bill: 4 KiB that are 4 MiB, and nothing in them.
TEST(gzip_bombs_end_their_connection) {
  TurnHouse house;
  auto client = house.connect();
  const std::string bomb = framed(compressed(std::string(4 << 20, 'a'), kGzipBits), 1);
  const int steps =
      steps_until_over(house, *client, 400, [&](int) { client->call(kScoreBatch, bomb, true, {{"grpc-encoding", "gzip"}}); });
  CHECK(steps >= 5 && steps < 40);
  CHECK_EQ(client->goaway_error, uint32_t{NGHTTP2_ENHANCE_YOUR_CALM});
  CHECK(house.is_empty());
}

TEST(an_honest_client_compresses_all_day) {
  TurnHouse house;
  auto client = house.connect();
  std::vector<std::string> rows;
  for (int i = 0; i < 16; ++i) rows.push_back(score_request(i * 7919));
  const std::string message = framed(compressed(batch_request(rows), kGzipBits), 1);
  for (int i = 0; i < 500; ++i) {
    const int32_t id = client->call(kScoreBatch, message, true, {{"grpc-encoding", "gzip"}});
    house.settle(*client);
    house.step();
    house.settle(*client);
    CHECK_EQ(client->calls[id].grpc_status(), 0);
    client->calls.clear();
  }
}

// A header that stands in the table is named by one byte: 256 bytes are a megabyte to look at.
TEST(header_bombs_end_their_connection) {
  for (const bool is_huge : {false, true}) {
    TurnHouse house;
    auto client = house.connect();
    client->become_raw();
    std::string block = "\x40\x01x";  // a literal that is kept
    const std::string value(4000, 'v');
    block += "\x7f";
    block += std::string("\xa1\x1e", 2);  // 127 + 3873 = 4000
    block += value;
    push(*client, raw_frame(1, 5, 1, block));
    house.settle(*client);
    CHECK(!client->is_over);
    const std::string bomb = std::string(is_huge ? 16'000 : 200, '\xbe');  // the newest entry, over and over
    const int steps = steps_until_over(house, *client, 300,
                                       [&](int i) { push(*client, raw_frame(1, 5, 3 + 2 * static_cast<uint32_t>(i), bomb)); });
    CHECK(is_huge ? steps < 2 : steps < 200);
    CHECK_EQ(client->goaway_error, uint32_t{NGHTTP2_ENHANCE_YOUR_CALM});
    CHECK(house.is_empty());
  }
}

TEST(metadata_over_the_limit_is_refused_and_the_connection_goes_on) {
  TurnHouse house;
  auto client = house.connect();
  const int32_t large = client->call(kScore, methods()[0].message, true, {{"x-large", std::string(20'000, 'x')}});
  house.settle(*client);
  CHECK_EQ(client->calls[large].grpc_status(), kResourceExhausted);
  const int32_t next = client->call(kScore, methods()[0].message);
  house.settle(*client);
  house.step();
  house.settle(*client);
  CHECK_EQ(client->calls[next].grpc_status(), 0);
}

// --- the server behind

namespace {

struct Behind {
  explicit Behind(std::string name) : path("/tmp/assay-transport-" + std::to_string(::getpid()) + name), server({}, path) {}
  TransportOptions options() const {
    TransportOptions given;
    given.forward_path = path;
    for (const char* how : {"Ok", "Late", "Reset", "Silent", "Unavailable"}) given.test_only_methods.push_back(method(how));
    return given;
  }
  static std::string method(const std::string& how) { return "/test.Behind/" + how; }
  void settle(TurnHouse& house, Client& client) {
    for (int i = 0; i < 6; ++i) {
      house.settle(client);
      server.step(0);
    }
  }
  const std::string path;
  stub::Server server;
};

}  // namespace

TEST(calls_go_through_to_the_server_behind) {
  Behind behind("a");
  TurnHouse house(behind.options());
  auto client = house.connect();
  const int32_t ok = client->call(Behind::method("Ok"), message_of("x"));
  const int32_t late = client->call(Behind::method("Late"), message_of("x"));
  const int32_t away = client->call(Behind::method("Unavailable"), message_of("x"));
  const int32_t reset = client->call(Behind::method("Reset"), message_of("x"));
  behind.settle(house, *client);
  CHECK_EQ(client->calls[ok].grpc_status(), 0);
  CHECK_EQ(client->calls[ok].messages().size(), 1u);
  CHECK_EQ(client->calls[late].grpc_status(), 13);
  CHECK_EQ(client->calls[away].grpc_status(), kUnavailable);
  CHECK_EQ(client->calls[reset].error_code, uint32_t{NGHTTP2_INTERNAL_ERROR});
  CHECK(house.is_clean());
}

TEST(forwarded_calls_that_end_at_any_stage_leave_nothing) {
  for (const bool leaves : {false, true}) {
    for (int stage = 0; stage < 4; ++stage) {
      Behind behind("b");
      TurnHouse house(behind.options());
      auto client = house.connect({stage == 3 ? 0u : 65'535u, true});
      const int32_t id =
          client->call(Behind::method(stage == 3 ? "Ok" : "Silent"), stage == 0 ? "" : message_of("x"), stage >= 2);
      if (stage > 0) behind.settle(house, *client);
      if (leaves) {
        client->leave();
      } else {
        client->cancel(id);
        behind.settle(house, *client);
      }
      house.turn();
      CHECK(house.is_clean());
      if (leaves) CHECK(house.is_empty());
    }
  }
}

TEST(a_server_behind_that_goes_is_told_of_and_found_again) {
  Behind behind("c");
  TurnHouse house(behind.options());
  auto client = house.connect();
  std::vector<int32_t> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(client->call(Behind::method("Silent"), message_of("x"), i % 2 == 0));
  behind.settle(house, *client);
  behind.server.leave();
  behind.settle(house, *client);
  for (const int32_t id : ids) CHECK_EQ(client->calls[id].grpc_status(), kUnavailable);
  const int32_t next = client->call(Behind::method("Ok"), message_of("x"));
  behind.settle(house, *client);
  CHECK_EQ(client->calls[next].grpc_status(), kUnavailable);
  const int32_t score = client->call(kScore, methods()[0].message);
  house.settle(*client);
  house.step();
  house.settle(*client);
  CHECK_EQ(client->calls[score].grpc_status(), 0);
  CHECK(house.is_clean());
}

// Each costs the server behind far more than it costs here, so far fewer are allowed.
TEST(forwarded_calls_that_are_reset_end_their_connection_soon) {
  Behind behind("d");
  TurnHouse house(behind.options());
  auto client = house.connect();
  int count = 0;
  const int steps = steps_until_over(house, *client, 200, [&](int) {
    for (int i = 0; i < 10; ++i, ++count) {
      const int32_t id = client->call(Behind::method("Silent"), message_of("x"));
      client->write();
      client->cancel(id);
      client->write();
    }
    behind.server.step(0);
  });
  CHECK(steps < 30);
  CHECK(count >= 128);  // those that a client may have open at once may all be late at once
  CHECK_EQ(client->goaway_error, uint32_t{NGHTTP2_ENHANCE_YOUR_CALM});
  CHECK(house.is_empty());
}

ASSAY_TEST_MAIN
