// EventLoop: waits for descriptors and timers of one I/O thread, and calls whoever they belong to.
//
// A TURN: everything that is ready is told (Pollable::on_ready), timers that are due fire, posted tasks run, then whoever asked
// for it ends its turn (TurnEnd::on_turn_end): so what one turn gives a connection to write leaves with one system call.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/transport/timer_heap.h"

namespace assay {

// An owner of a descriptor.
class Pollable {
 public:
  // `events`: of epoll(7). The owner may remove itself; after that it may be destroyed.
  virtual void on_ready(uint32_t events) noexcept = 0;

 protected:
  ~Pollable() = default;
};

class TurnEnd {
 public:
  virtual void on_turn_end() noexcept = 0;

 protected:
  virtual ~TurnEnd() = default;

 private:
  friend class EventLoop;
  bool is_waiting_ = false;
};

class EventLoop {
 public:
  explicit EventLoop(const Clock& clock) : clock_(clock) {}
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  Status open();  // kIo: the kernel gives no descriptors
  // Turns until stop(). The calling thread is the loop's: everything below is for it alone, but for post() and stop().
  void run() noexcept;
  void turn(int64_t wait_ns_max) noexcept;  // one turn. Tests

  Status add(int fd, uint32_t events, Pollable& owner) noexcept;
  void change(int fd, uint32_t events, Pollable& owner) noexcept;
  void remove(int fd, const Pollable& owner) noexcept;  // nothing of this turn reaches the owner any more

  TimerHeap& timers() noexcept { return timers_; }
  // The time at the start of what is now called: one clock read for all events of a turn.
  int64_t now_ns() const noexcept { return now_ns_; }
  // Descriptors that are still to be told in this turn, the present one left out.
  size_t still_ready() const noexcept { return still_ready_; }

  // Asks for on_turn_end() at the end of this turn, once however often it is asked.
  void at_turn_end(TurnEnd& owner);
  void forget_turn_end(TurnEnd& owner) noexcept;

  // Runs `task` on the loop's thread in a coming turn. Any thread.
  void post(std::function<void()> task);
  void stop() noexcept;  // any thread
  void run_tasks();      // what was posted and did not run: for after run()

 private:
  void wait(int64_t wait_ns_max) noexcept;
  void tell() noexcept;
  void end_turn() noexcept;

  const Clock& clock_;
  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  std::atomic<bool> is_stopping_{false};
  int64_t now_ns_ = 0;
  TimerHeap timers_;
  struct Ready {
    Pollable* owner;
    uint32_t events;
  };
  std::vector<Ready> ready_;
  size_t still_ready_ = 0;
  std::vector<TurnEnd*> turn_ends_;
  std::vector<TurnEnd*> ending_;  // those that are being told
  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;  // guarded by mutex_
};

}  // namespace assay
