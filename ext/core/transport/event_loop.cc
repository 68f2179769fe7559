#include "core/transport/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace assay {
namespace {

constexpr int kReadyMax = 256;  // told in one turn; the others in the next
constexpr int64_t kWaitNsMax = 60'000'000'000;

Status io_error(const char* what) { return Status(Code::kIo, std::string(what) + ": " + std::strerror(errno)); }

}  // namespace

EventLoop::~EventLoop() {
  if (wake_fd_ >= 0) ::close(wake_fd_);
  if (epoll_fd_ >= 0) ::close(epoll_fd_);
}

Status EventLoop::open() {
  epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd_ < 0) return io_error("epoll_create1");
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return io_error("eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;  // nobody: a wake
  if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) return io_error("epoll_ctl");
  ready_.reserve(kReadyMax);
  now_ns_ = clock_.now_ns();
  return Status();
}

void EventLoop::run() noexcept {
  while (!is_stopping_.load(std::memory_order_acquire)) turn(kWaitNsMax);
}

void EventLoop::turn(int64_t wait_ns_max) noexcept {
  wait(wait_ns_max);
  tell();
  timers_.fire_due(now_ns_);
  run_tasks();
  end_turn();
}

Status EventLoop::add(int fd, uint32_t events, Pollable& owner) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &owner;
  return ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0 ? Status() : io_error("epoll_ctl");
}

void EventLoop::change(int fd, uint32_t events, Pollable& owner) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &owner;
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::remove(int fd, const Pollable& owner) noexcept {
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
  for (Ready& ready : ready_) {
    if (ready.owner == &owner) ready.owner = nullptr;
  }
}

void EventLoop::at_turn_end(TurnEnd& owner) {
  if (owner.is_waiting_) return;
  owner.is_waiting_ = true;
  turn_ends_.push_back(&owner);
}

void EventLoop::forget_turn_end(TurnEnd& owner) noexcept {
  if (!owner.is_waiting_) return;
  owner.is_waiting_ = false;
  for (std::vector<TurnEnd*>* list : {&turn_ends_, &ending_}) {
    std::replace(list->begin(), list->end(), &owner, static_cast<TurnEnd*>(nullptr));
  }
}

void EventLoop::post(std::function<void()> task) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  const uint64_t one = 1;
  // Fails only when it is full of wakes already.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void EventLoop::stop() noexcept {
  is_stopping_.store(true, std::memory_order_release);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

// --- one turn

void EventLoop::wait(int64_t wait_ns_max) noexcept {
  int64_t wait_ns = turn_ends_.empty() ? wait_ns_max : 0;
  if (timers_.next_due_ns() != INT64_MAX) wait_ns = std::min(wait_ns, timers_.next_due_ns() - clock_.now_ns());
  // Rounded up: a wait that ends before the timer would turn again for nothing.
  const auto wait_ms = static_cast<int>(std::max<int64_t>(0, (wait_ns + 999'999) / 1'000'000));
  std::array<epoll_event, kReadyMax> events;
  const int count = ::epoll_wait(epoll_fd_, events.data(), kReadyMax, wait_ms);
  now_ns_ = clock_.now_ns();
  ready_.clear();
  for (int i = 0; i < count; ++i) {
    auto* owner = static_cast<Pollable*>(events[static_cast<size_t>(i)].data.ptr);
    if (owner != nullptr) {
      ready_.push_back({owner, events[static_cast<size_t>(i)].events});
      continue;
    }
    uint64_t wakes;
    [[maybe_unused]] const ssize_t got = ::read(wake_fd_, &wakes, sizeof wakes);
  }
}

void EventLoop::tell() noexcept {
  still_ready_ = ready_.size();
  for (size_t i = 0; i < ready_.size(); ++i) {
    --still_ready_;
    const Ready ready = ready_[i];
    if (ready.owner != nullptr) ready.owner->on_ready(ready.events);
  }
  ready_.clear();
}

void EventLoop::run_tasks() {
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const std::function<void()>& task : tasks) task();
}

void EventLoop::end_turn() noexcept {
  // An owner that asks again while it is told has its turn end in the next turn, which does not wait.
  ending_.swap(turn_ends_);
  for (size_t i = 0; i < ending_.size(); ++i) {
    TurnEnd* owner = ending_[i];
    if (owner == nullptr) continue;
    owner->is_waiting_ = false;
    owner->on_turn_end();
  }
  ending_.clear();
}

}  // namespace assay
