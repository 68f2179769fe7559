// A connection that is over for the server: its client still gets the end, whatever it sends meanwhile, and nothing lingers for ever.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>

#include "check.h"
#include "core/transport/lingering_sockets.h"
#include "message_fixture.h"
#include "transport_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

// Two ends of a TCP connection that do not block; the client's kernel takes about so many bytes ahead.
std::pair<int, int> make_tcp_pair(int client_buffer_bytes) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  ASSAY_ASSERT(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && ::listen(listener, 1) == 0);
  socklen_t size = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ::setsockopt(client, SOL_SOCKET, SO_RCVBUF, &client_buffer_bytes, sizeof client_buffer_bytes);
  ASSAY_ASSERT(::connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const int on = 1;
  ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::fcntl(client, F_SETFL, O_NONBLOCK);
  const int server = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  ::close(listener);
  return {server, client};
}

struct Linger {
  Linger() { ASSAY_ASSERT(loop.open().ok()); }
  // A socket that lingers; what is given back is its client's.
  int add() {
    const auto [server, client] = make_pair_of_sockets();
    ::shutdown(server, SHUT_WR);
    sockets.add(server);
    return client;
  }

  ManualClock clock;
  EventLoop loop{clock};
  Counter lingering, cut;
  LingeringSockets sockets{loop, lingering, cut};
};

}  // namespace

// The kernel still holds answers for the client when the server is done with it. A socket that is closed while the client sends
// something would drop them.
TEST(a_client_that_goes_on_writing_still_gets_its_last_answers) {
  TurnHouse house;
  const auto [server, client_fd] = make_tcp_pair(4096);
  house.thread.adopt(server);
  Client client(client_fd, {1 << 20, true});
  house.settle(client);
  std::vector<std::string> rows;
  for (int i = 0; i < 16; ++i) rows.push_back(score_request(i));
  std::vector<int32_t> ids;
  for (int i = 0; i < 40; ++i) {
    ids.push_back(client.call(kScoreBatch, message_of(batch_request(rows))));
    house.settle(client, /*reads=*/false);
    house.step();
  }
  house.thread.drain(10 * kSecond);
  house.turn();
  house.house.clock.advance_ns(1500 * kMs);  // nobody answers the notice
  house.turn();
  CHECK_EQ(house.thread.connection_count(), 0u);
  CHECK_EQ(house.counters.lingering_sockets.get(), 1u);
  for (int turns = 0; turns < 5000 && !client.is_over; ++turns) {
    client.call(kScore, message_of(score_request(1)));  // has not read that it must go
    client.write();
    client.read(512);
    house.turn(1);
  }
  for (const int32_t id : ids) CHECK_EQ(client.calls[id].grpc_status(), 0);
  house.turn();
  CHECK_EQ(house.counters.lingering_sockets.get(), 0u);
  CHECK_EQ(house.counters.cut_sockets.get(), 0u);
  CHECK(house.is_empty());
}

TEST(a_client_that_is_calmed_is_told_so_whatever_it_sends) {
  TurnHouse house;
  const auto [server, client_fd] = make_tcp_pair(64 << 10);
  house.thread.adopt(server);
  Client client(client_fd);
  house.settle(client);
  client.become_raw();
  const std::string ping = std::string("\0\0\x08\x06\0\0\0\0\0", 9) + std::string(8, 'p');
  std::string pings;
  for (int i = 0; i < 4000; ++i) pings += ping;
  for (int turns = 0; turns < 100; ++turns) {
    if (::send(client.fd(), pings.data(), pings.size(), MSG_NOSIGNAL) < 0 && errno != EAGAIN) break;
    house.turn(1);
  }
  house.turn();
  client.read();
  CHECK_EQ(client.goaway_count, 1);
  CHECK_EQ(client.goaway_error, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
}

TEST(a_socket_lingers_until_its_client_closes_it) {
  Linger house;
  const int client = house.add();
  CHECK_EQ(::send(client, "late", 4, MSG_NOSIGNAL), 4);
  house.loop.turn(0);
  CHECK_EQ(house.lingering.get(), 1u);
  ::close(client);
  house.loop.turn(0);
  CHECK_EQ(house.lingering.get(), 0u);
  CHECK_EQ(house.cut.get(), 0u);
  CHECK_EQ(house.loop.timers().size(), 0u);
}

TEST(a_socket_lingers_so_long_at_most) {
  Linger house;
  const int client = house.add();
  house.clock.advance_ns(LingeringSockets::kNsMax - 1);
  house.loop.turn(0);
  CHECK_EQ(house.lingering.get(), 1u);
  house.clock.advance_ns(1);
  house.loop.turn(0);
  CHECK_EQ(house.lingering.get(), 0u);
  CHECK_EQ(house.cut.get(), 1u);
  ::close(client);
}

TEST(a_socket_that_is_written_to_without_end_is_cut) {
  Linger house;
  const int client = house.add();
  const std::string bytes(16 << 10, 'x');
  size_t sent = 0;
  while (house.lingering.get() == 1 && sent <= 2 * LingeringSockets::kBytesMax) {
    const ssize_t taken = ::send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (taken > 0) sent += static_cast<size_t>(taken);
    house.loop.turn(0);
  }
  CHECK(sent > LingeringSockets::kBytesMax && sent < LingeringSockets::kBytesMax + (256u << 10));
  CHECK_EQ(house.cut.get(), 1u);
  ::close(client);
}

TEST(of_too_many_sockets_the_oldest_is_cut) {
  const size_t descriptors = descriptor_count();
  std::vector<int> clients;
  {
    Linger house;
    for (size_t i = 0; i < LingeringSockets::kSocketsMax + 3; ++i) clients.push_back(house.add());
    CHECK_EQ(house.lingering.get(), LingeringSockets::kSocketsMax);
    CHECK_EQ(house.cut.get(), 3u);
    const auto is_open = [&](size_t i) { return ::send(clients[i], "x", 1, MSG_NOSIGNAL) == 1; };
    CHECK(!is_open(0) && !is_open(2) && is_open(3));
    house.loop.turn(0);
  }
  for (const int client : clients) ::close(client);
  CHECK_EQ(descriptor_count(), descriptors);
}

ASSAY_TEST_MAIN
