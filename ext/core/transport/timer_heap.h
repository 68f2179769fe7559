// TimerHeap: the timers of one I/O thread: deadlines of calls, keepalive, age and idleness of connections.
//
// An intrusive binary heap: a timer knows its place, so that one that is no longer wanted leaves at once and the heap never holds
// more than what is really waited for. Nearly every deadline is later than all before it, and goes in with one comparison.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace assay {

// Something that wants to be called at a time. REQUIRES: cancelled, or fired, before it is destroyed.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  bool is_set() const noexcept { return place_ != kNowhere; }
  int64_t due_ns() const noexcept { return due_ns_; }

 protected:
  virtual ~Timer() = default;
  // Called once, with the timer no longer set: it may be set again. It may destroy itself and change any other timer.
  virtual void fire(int64_t now_ns) noexcept = 0;

 private:
  friend class TimerHeap;
  static constexpr size_t kNowhere = SIZE_MAX;
  int64_t due_ns_ = 0;
  size_t place_ = kNowhere;
};

// A timer that calls a member function of its owner.
template <typename Owner, void (Owner::*kMethod)(int64_t) noexcept>
class MemberTimer final : public Timer {
 public:
  explicit MemberTimer(Owner& owner) : owner_(owner) {}

 private:
  void fire(int64_t now_ns) noexcept override { (owner_.*kMethod)(now_ns); }
  Owner& owner_;
};

// One thread's.
class TimerHeap {
 public:
  // Sets a timer, or moves one that is set.
  void set(Timer& timer, int64_t due_ns);
  void cancel(Timer& timer) noexcept;  // one that is not set: nothing happens
  // INT64_MAX: there is none.
  int64_t next_due_ns() const noexcept { return heap_.empty() ? INT64_MAX : heap_.front()->due_ns_; }
  // Fires everything due at `now_ns`, earliest first.
  void fire_due(int64_t now_ns) noexcept;
  size_t size() const noexcept { return heap_.size(); }

 private:
  void rise(size_t place) noexcept;
  void sink(size_t place) noexcept;
  void put(size_t place, Timer* timer) noexcept;

  std::vector<Timer*> heap_;
};

}  // namespace assay
