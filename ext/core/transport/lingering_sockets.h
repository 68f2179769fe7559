// LingeringSockets: connections that are over for the server, while their clients still read the end.
//
// A socket that is closed with bytes unread resets the connection, and what its client has not received by then is lost: the last
// answers, or the GOAWAY that says why. So the writing side is closed, and what still comes is thrown away until the client closes
// too, or a limit is passed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>

#include "core/serving/counters.h"
#include "core/transport/event_loop.h"
#include "core/transport/timer_heap.h"

namespace assay {

// One thread's, that of its loop.
class LingeringSockets {
 public:
  static constexpr size_t kSocketsMax = 256;  // one more: the oldest is closed
  static constexpr size_t kBytesMax = 1u << 20;
  static constexpr int64_t kNsMax = 1'000'000'000;

  // All outlive it. `lingering` is how many there are, of all threads; `cut` counts those that the server closed, not the client.
  LingeringSockets(EventLoop& loop, Counter& lingering, Counter& cut) : loop_(loop), lingering_(lingering), cut_(cut) {}
  ~LingeringSockets() { close_all(); }

  // A socket that does not block, whose writing side is shut: owned from now on.
  void add(int fd);
  void close_all() noexcept;

 private:
  class Socket final : public Pollable {
   public:
    Socket(LingeringSockets& owner, int fd) : owner_(owner), fd_(fd) {}
    ~Socket();
    bool watch(int64_t due_ns) noexcept;
    void on_ready(uint32_t events) noexcept override;

   private:
    void on_time(int64_t) noexcept { owner_.close(*this, true); }

    LingeringSockets& owner_;
    const int fd_;
    size_t thrown_bytes_ = 0;
    MemberTimer<Socket, &Socket::on_time> timer_{*this};
  };

  void close(Socket& socket, bool is_cut) noexcept;

  EventLoop& loop_;
  Counter& lingering_;
  Counter& cut_;
  std::list<Socket> sockets_;  // the oldest first
};

}  // namespace assay
