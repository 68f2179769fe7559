// libFuzzer on a client's connection: `make fuzz`. The input is a list of orders: frames made of prepared parts and raw bytes, raw
// bytes alone, and what else happens meanwhile: the model runs, time passes, answers are read or not, the server behind answers, the
// listener drains.
//
// Beside what the sanitizers see, it holds: once the client has left nothing of it is left: no call in the engine, no bytes held, no
// timer, no level that stays up.
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "load_stub_server.h"
#include "message_fixture.h"
#include "transport_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr char kBehind[] = "/test.Behind/";
constexpr const char* kHows[] = {"Ok", "Late", "Reset", "Silent", "Unavailable", "Http503", "NoStatus", "NoMessage"};

// HPACK of literals that are not kept, so that blocks do not depend on one another; `kept`: the last is.
std::string header_block(const Client::Fields& fields, bool is_kept = false) {
  std::string block;
  for (size_t i = 0; i < fields.size(); ++i) {
    block.push_back(is_kept && i + 1 == fields.size() ? '\x40' : '\0');
    for (const std::string* text : {&fields[i].first, &fields[i].second}) {
      ASSAY_ASSERT(text->size() < 127);
      block.push_back(static_cast<char>(text->size()));
      block += *text;
    }
  }
  return block;
}

Client::Fields head(const std::string& path) {
  return {{":method", "POST"}, {":scheme", "http"}, {":path", path}, {"te", "trailers"}, {"content-type", "application/grpc"}};
}

std::vector<std::string> make_blocks() {
  std::vector<std::string> blocks;
  for (const char* path : {kScore, kScoreBatch, kScoreStream}) {
    blocks.push_back(header_block(head(path)));
    for (const auto& [name, value] : Client::Fields{{"grpc-timeout", "1S"},
                                                    {"grpc-timeout", "0n"},
                                                    {"grpc-timeout", "9"},
                                                    {"grpc-encoding", "gzip"},
                                                    {"grpc-encoding", "br"}}) {
      Client::Fields fields = head(path);
      fields.emplace_back(name, value);
      blocks.push_back(header_block(fields));
    }
  }
  for (const char* how : kHows) blocks.push_back(header_block(head(std::string(kBehind) + how)));
  blocks.push_back(header_block(head("/no.Such/Method")));
  blocks.push_back(header_block({{":method", "GET"}, {":scheme", "http"}, {":path", "/"}}));
  Client::Fields kept = head(kScore);
  kept.emplace_back("x-kept", std::string(120, 'k'));
  blocks.push_back(header_block(kept, true));
  blocks.push_back(header_block(head(kScore)) + std::string(300, '\xbe'));  // the newest of the table, over and over
  blocks.push_back(header_block({{"x-trailer", "t"}}));
  return blocks;
}

std::vector<std::string> make_messages() {
  const std::string score = score_request(100), batch = batch_request({score, score_request(1), without_ratio(2)});
  return {message_of(score),
          message_of(batch),
          message_of(delimited(1, score)),
          message_of(delimited(1, score)) + message_of(delimited(1, score_request(2))),
          message_of(""),
          message_of("no message"),
          framed(compressed(score, kGzipBits), 1),
          framed(compressed(std::string(200'000, 'a'), kGzipBits), 1),
          prefix(0, 4 << 20),
          prefix(0, 5 << 20),
          prefix(2, 1),
          std::string(3, '\0'),
          message_of(std::string(9'000, 'x'))};
}

struct Orders {
  const uint8_t* data;
  size_t size;

  bool is_empty() const { return size == 0; }
  uint8_t byte() {
    if (size == 0) return 0;
    --size;
    return *data++;
  }
  std::string_view bytes(size_t count) {
    count = std::min(count, size);
    const std::string_view taken(reinterpret_cast<const char*>(data), count);
    data += count;
    size -= count;
    return taken;
  }
};

std::string frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string bytes;
  for (const int shift : {16, 8, 0}) bytes.push_back(static_cast<char>(payload.size() >> shift));
  bytes.push_back(static_cast<char>(type));
  bytes.push_back(static_cast<char>(flags));
  for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<char>(stream >> shift));
  return bytes.append(payload);
}

// One for all inputs: an engine that each must leave as it found it.
House& house() {
  static House* const made = [] {
    auto* const one = new House;
    ASSAY_ASSERT(one->add(one->lane_spec(), true).ok());
    return one;
  }();
  return *made;
}

stub::Server& server_behind() {
  static auto* const made = new stub::Server({}, "/tmp/assay-fuzz-" + std::to_string(::getpid()));
  return *made;
}

TransportOptions make_options() {
  TransportOptions options;
  options.forward_path = "/tmp/assay-fuzz-" + std::to_string(::getpid());
  options.connection_streams_max = 20;
  options.forwarded_streams_max = 4;
  options.streams_max = 3;
  options.stream_messages_max = 3;
  options.metadata_bytes_max = 1024;
  options.send_message_bytes_max = 600;
  options.held_bytes_max = 128 << 10;
  for (const char* how : kHows) options.test_only_methods.push_back(std::string(kBehind) + how);
  return options;
}

class Session {
 public:
  Session() {
    server_behind();
    ASSAY_ASSERT(thread_.open().ok());
    const auto [server, client] = make_pair_of_sockets();
    fd_ = client;
    thread_.adopt(server);
    turn();
  }
  ~Session() {
    if (fd_ >= 0) ::close(fd_);
    step();
    turn();
    while (counters_.lingering_sockets.get() > 0) turn();  // to the end of what was sent
    ASSAY_ASSERT(thread_.connection_count() == 0 && thread_.loop().timers().size() == 0);
    ASSAY_ASSERT(thread_.calls().size() == 0 && thread_.held_bytes() == 0);
    ASSAY_ASSERT(counters_.waiting_calls.get() == 0 && counters_.open_streams.get() == 0);
    ASSAY_ASSERT(house().engine.stats().slots_used == 0);
    thread_.stop();
    server_behind().step(0);
  }

  void obey(Orders& orders) {
    static const std::vector<std::string> blocks = make_blocks(), messages = make_messages();
    const uint8_t order = orders.byte();
    const uint8_t detail = orders.byte();
    switch (order % 20) {
      case 0:
      case 1: return send_headers(blocks[detail % blocks.size()], order / 20);
      case 2: return send_headers(orders.bytes(detail), order / 20);
      case 3:
      case 4: return put(frame(NGHTTP2_DATA, order >= 128 ? 1 : 0, stream(order / 20), messages[detail % messages.size()]));
      case 5: return put(frame(NGHTTP2_DATA, order / 20, stream(detail), orders.bytes(orders.byte())));
      case 6: return put(frame(NGHTTP2_RST_STREAM, 0, stream(order / 20), {"\0\0\0\10", 4}));
      case 7: return put(frame(NGHTTP2_SETTINGS, order >= 240 ? 1 : 0, 0, orders.bytes(6 * size_t{detail % 4u})));
      case 8: return put(frame(NGHTTP2_PING, order >= 128 ? 1 : 0, 0, "leave\0\0\0"));
      case 9: return put(frame(NGHTTP2_WINDOW_UPDATE, 0, order >= 128 ? 0 : stream(order / 20), orders.bytes(4)));
      case 10: return put(frame(NGHTTP2_CONTINUATION, order / 20, stream(0), blocks[detail % blocks.size()]));
      case 11: return put(frame(detail, orders.byte(), stream(order / 20), orders.bytes(orders.byte())));
      case 12: return put(std::string(orders.bytes(detail)));
      case 13: return step();
      case 14: return house().clock.advance_ns(int64_t{1} << (20 + detail % 20));  // 1 ms to 9 minutes
      case 15: return turn();
      case 16: return read();
      case 17: return behind();
      case 18:
        if (detail < 32) thread_.drain(kSecond * detail);
        return turn();
      default: return run_whole_call(blocks[detail % blocks.size()], messages[order / 20]);
    }
  }
  void put(const std::string& bytes) {
    if (fd_ < 0) return;
    size_t at = 0;
    while (at < bytes.size()) {
      const ssize_t sent = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent <= 0 && at_most_once_) return;
      if (sent <= 0) turn(), at_most_once_ = true;
      if (sent > 0) at += static_cast<size_t>(sent), at_most_once_ = false;
    }
  }

 private:
  uint32_t stream(uint8_t back) const { return next_ - 2 * std::min<uint32_t>(back, (next_ - 1) / 2); }
  void send_headers(std::string_view block, uint8_t bits) {
    next_ += (bits & 8) != 0 ? 0 : 2;
    // END_HEADERS nearly always, END_STREAM at times.
    put(frame(NGHTTP2_HEADERS, static_cast<uint8_t>((bits & 7) == 7 ? 0 : 4 | (bits & 1)), next_, block));
  }
  void run_whole_call(const std::string& block, const std::string& message) {
    send_headers(block, 2);
    put(frame(NGHTTP2_DATA, 1, next_, message));
    turn();
  }
  void turn() {
    for (int i = 0; i < 3; ++i) thread_.loop().turn(0);
  }
  void step() {
    turn();
    while (house().step() > 0) continue;
    turn();
  }
  void behind() {
    turn();
    server_behind().step(0);
    server_behind().step(0);
    turn();
  }
  void read() {
    char buffer[65'536];
    while (fd_ >= 0 && ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT) > 0) continue;
    turn();
  }

  const TransportOptions options_ = make_options();
  TransportCounters counters_;
  Denials denials_;
  IoThread thread_{house().engine, house().clock, options_, counters_, denials_};
  int fd_ = -1;
  uint32_t next_ = static_cast<uint32_t>(-1);
  bool at_most_once_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 || size > 4096) return 0;
  Orders orders{data, size};
  Session session;
  if (orders.byte() % 8 != 0) session.put("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(NGHTTP2_SETTINGS, 0, 0, {}));
  while (!orders.is_empty()) session.obey(orders);
  return 0;
}
