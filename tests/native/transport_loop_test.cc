// The parts of the transport's loop, each by itself: timers against a multimap, turns, tokens, what a client may do, and when a
// connection goes. Clocks stand still unless told.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/base/clock.h"
#include "core/transport/connection_watch.h"
#include "core/transport/engine_calls.h"
#include "core/transport/event_loop.h"
#include "core/transport/nuisance_budget.h"
#include "core/transport/timer_heap.h"

using namespace assay;

namespace {

constexpr int64_t kSecond = 1'000'000'000;

struct Probe final : Timer {
  explicit Probe(std::vector<Probe*>& list) : fired(list) {}
  void fire(int64_t) noexcept override { fired.push_back(this); }
  std::vector<Probe*>& fired;
};

}  // namespace

// --- timers

TEST(timers_fire_as_a_multimap_would_have_them) {
  auto random = check::random_engine();
  for (int round = 0; round < check::scaled(50); ++round) {
    std::vector<Probe*> fired;
    TimerHeap heap;
    std::vector<std::unique_ptr<Probe>> probes;
    for (int i = 0; i < 40; ++i) probes.push_back(std::make_unique<Probe>(fired));
    std::multimap<int64_t, Probe*> model;
    const auto forget = [&](Probe* probe) {
      for (auto entry = model.begin(); entry != model.end(); ++entry) {
        if (entry->second == probe) return static_cast<void>(model.erase(entry));
      }
    };
    int64_t now_ns = 0;
    for (int step = 0; step < 400; ++step) {
      Probe* const probe = probes[random() % probes.size()].get();
      switch (random() % 4) {
        case 0:
        case 1: {
          const int64_t due_ns = now_ns + static_cast<int64_t>(random() % 100);
          forget(probe);
          model.emplace(due_ns, probe);
          heap.set(*probe, due_ns);
          CHECK_EQ(probe->due_ns(), due_ns);
          break;
        }
        case 2:
          forget(probe);
          heap.cancel(*probe);
          CHECK(!probe->is_set());
          break;
        default: {
          now_ns += static_cast<int64_t>(random() % 40);
          std::vector<int64_t> expected;
          while (!model.empty() && model.begin()->first <= now_ns) {
            expected.push_back(model.begin()->first);
            model.erase(model.begin());
          }
          fired.clear();
          heap.fire_due(now_ns);
          std::vector<int64_t> found;
          for (const Probe* one : fired) found.push_back(one->due_ns());
          CHECK(found == expected);  // of the same time in any order
        }
      }
      CHECK_EQ(heap.size(), model.size());
      CHECK_EQ(heap.next_due_ns(), model.empty() ? INT64_MAX : model.begin()->first);
    }
    for (const auto& probe : probes) heap.cancel(*probe);
  }
}

TEST(a_timer_that_fires_may_set_itself_and_cancel_and_destroy_others) {
  struct Owner {
    explicit Owner(TimerHeap& made_in) : heap(made_in) {}
    void on_first(int64_t now_ns) noexcept {
      heap.cancel(second);
      other.reset();
      if (++count < 3) heap.set(first, now_ns + 1);
    }
    void on_second(int64_t) noexcept { count += 100; }
    struct Other {
      explicit Other(TimerHeap& made_in) : heap(made_in) {}
      ~Other() { heap.cancel(timer); }
      void on_time(int64_t) noexcept {}
      TimerHeap& heap;
      MemberTimer<Other, &Other::on_time> timer{*this};
    };
    TimerHeap& heap;
    int count = 0;
    std::unique_ptr<Other> other = std::make_unique<Other>(heap);
    MemberTimer<Owner, &Owner::on_first> first{*this};
    MemberTimer<Owner, &Owner::on_second> second{*this};
  };
  TimerHeap heap;
  Owner owner(heap);
  heap.set(owner.first, 10);
  heap.set(owner.second, 10);
  heap.set(owner.other->timer, 10);
  heap.fire_due(10);
  heap.fire_due(20);
  heap.fire_due(30);
  CHECK(owner.count == 3 || owner.count == 103);  // of the same time, either may be the first
  CHECK_EQ(heap.size(), 0u);
}

// --- the loop

namespace {

// An eventfd of a loop.
class Source : public Pollable, public TurnEnd {
 public:
  explicit Source(EventLoop& loop) : loop_(loop), fd_(::eventfd(0, EFD_NONBLOCK)) { CHECK(loop.add(fd_, EPOLLIN, *this).ok()); }
  virtual ~Source() {
    loop_.remove(fd_, *this);
    loop_.forget_turn_end(*this);
    ::close(fd_);
  }
  void raise() {
    const uint64_t one = 1;
    CHECK(::write(fd_, &one, sizeof one) == sizeof one);
  }
  void on_ready(uint32_t events) noexcept override {
    ++ready_count;
    last_events = events;
    uint64_t count;
    if ((events & EPOLLIN) != 0 && ::read(fd_, &count, sizeof count) < 0) return;
    if (on_told) on_told();
  }
  void on_turn_end() noexcept override {
    ++end_count;
    if (on_ended) on_ended();
  }
  int fd() const { return fd_; }

  int ready_count = 0, end_count = 0;
  uint32_t last_events = 0;
  std::function<void()> on_told, on_ended;

 private:
  EventLoop& loop_;
  const int fd_;
};

}  // namespace

TEST(a_turn_tells_what_is_ready_then_timers_then_tasks_then_ends) {
  ManualClock clock;
  EventLoop loop(clock);
  REQUIRE(loop.open().ok());
  std::string order;
  struct Ticker final : Timer {
    explicit Ticker(std::string& log) : order(log) {}
    void fire(int64_t) noexcept override { order += 't'; }
    std::string& order;
  } ticker(order);
  Source source(loop);
  source.on_told = [&] {
    order += 'r';
    loop.at_turn_end(source);
    loop.at_turn_end(source);  // once
  };
  source.on_ended = [&] { order += 'e'; };
  loop.timers().set(ticker, clock.now_ns() + 5);
  clock.advance_ns(5);
  loop.post([&] { order += 'p'; });
  source.raise();
  loop.turn(0);
  CHECK_EQ(order, "rtpe");
  loop.turn(0);
  CHECK_EQ(order, "rtpe");
  CHECK_EQ(source.ready_count, 1);
}

TEST(an_end_that_is_asked_for_while_turns_end_comes_in_the_next) {
  ManualClock clock;
  EventLoop loop(clock);
  REQUIRE(loop.open().ok());
  Source first(loop), second(loop);
  first.on_ended = [&] {
    if (first.end_count == 1) loop.at_turn_end(first);
    loop.forget_turn_end(second);  // was to be told after it
  };
  loop.at_turn_end(first);
  loop.at_turn_end(second);
  loop.turn(60 * kSecond);
  CHECK_EQ(first.end_count, 1);
  loop.turn(60 * kSecond);  // does not wait
  CHECK_EQ(first.end_count, 2);
  CHECK_EQ(second.end_count, 0);
}

TEST(an_owner_may_remove_and_destroy_others_that_are_ready) {
  ManualClock clock;
  EventLoop loop(clock);
  REQUIRE(loop.open().ok());
  std::vector<std::unique_ptr<Source>> sources;
  for (int i = 0; i < 8; ++i) sources.push_back(std::make_unique<Source>(loop));
  int told = 0;
  for (auto& source : sources) {
    Source* const self = source.get();
    source->on_told = [&, self] {
      ++told;
      for (auto& other : sources) {
        if (other != nullptr && other.get() != self) other.reset();
      }
      sources.push_back(std::make_unique<Source>(loop));  // with a descriptor that was theirs
    };
  }
  for (auto& source : sources) source->raise();
  loop.turn(0);
  CHECK_EQ(told, 1);
  loop.turn(0);
  CHECK_EQ(told, 1);
}

TEST(a_posted_task_wakes_a_loop_that_waits_and_stop_ends_it) {
  EventLoop loop(SystemClock::instance());
  REQUIRE(loop.open().ok());
  std::atomic<int> count{0};
  std::thread thread([&] { loop.run(); });
  for (int i = 0; i < 100; ++i) loop.post([&] { ++count; });
  while (count < 100) std::this_thread::yield();
  loop.stop();
  thread.join();
  loop.post([&] { ++count; });
  CHECK_EQ(count.load(), 100);
  loop.run_tasks();
  CHECK_EQ(count.load(), 101);
}

// --- tokens

namespace {

struct Waiter final : EngineCaller {
  void on_answer(const Answer&) noexcept override {}
};

}  // namespace

TEST(a_token_finds_its_caller_once_and_never_a_later_one) {
  auto random = check::random_engine();
  EngineCalls calls;
  std::vector<Waiter> waiters(64);
  std::map<uint64_t, Waiter*> open;
  std::vector<uint64_t> gone;
  for (int step = 0; step < check::scaled(20'000); ++step) {
    if (open.empty() || (random() % 2 == 0 && open.size() < 50)) {
      Waiter& waiter = waiters[random() % waiters.size()];
      const uint64_t token = calls.add(waiter);
      CHECK(open.emplace(token, &waiter).second);
    } else {
      auto chosen = open.begin();
      std::advance(chosen, static_cast<ptrdiff_t>(random() % open.size()));
      CHECK(calls.take(chosen->first) == chosen->second);
      gone.push_back(chosen->first);
      open.erase(chosen);
    }
    if (!gone.empty()) CHECK(calls.take(gone[random() % gone.size()]) == nullptr);
    CHECK_EQ(calls.size(), open.size());
  }
  CHECK(calls.take(UINT64_MAX) == nullptr);
  CHECK(calls.take(1'000'000) == nullptr);
}

// --- what a client may do without asking anything

TEST(a_budget_is_spent_fills_with_time_and_with_answers_and_no_further) {
  ManualClock clock;
  NuisanceBudget budget(clock.now_ns());
  for (int i = 0; i < NuisanceBudget::kStockMax; ++i) CHECK(budget.spend(clock.now_ns()));
  CHECK(!budget.spend(clock.now_ns()));

  clock.advance_ns(kSecond);
  int count = 0;
  while (budget.spend(clock.now_ns())) ++count;
  CHECK(count >= NuisanceBudget::kPerSecond - 2 && count <= NuisanceBudget::kPerSecond);

  for (int i = 0; i < 100; ++i) budget.earn_request();
  count = 0;
  while (budget.spend(clock.now_ns())) ++count;
  CHECK(count >= 100 * NuisanceBudget::kPerRequest - 2 && count <= 100 * NuisanceBudget::kPerRequest);

  clock.advance_ns(int64_t{30 * 365 * 86'400} * kSecond);  // thirty years: no overflow
  for (int i = 0; i < 10; ++i) budget.earn_request();
  CHECK(budget.spend(clock.now_ns(), NuisanceBudget::kStockMax));
  CHECK(!budget.spend(clock.now_ns()));
}

TEST(a_budget_lets_the_steady_rate_through_for_ever) {
  ManualClock clock;
  NuisanceBudget budget(clock.now_ns());
  for (int i = 0; i < 100'000; ++i) {
    clock.advance_ns(kSecond / NuisanceBudget::kPerSecond);
    CHECK(budget.spend(clock.now_ns()));
  }
}

// --- when a connection goes

namespace {

struct Watch final : Watched {
  explicit Watch(TransportOptions wanted = {}) : options(std::move(wanted)), watch(*this, timers, options, clock.now_ns(), 0.5) {}
  void send_ping() noexcept override { said += "ping "; }
  void send_notice() noexcept override { said += "notice "; }
  void send_goaway(const char* why) noexcept override { said += std::string("goaway:") + why + " "; }
  void kill(CloseReason why) noexcept override {
    said += std::string("kill:") + kCloseReasonNames[static_cast<size_t>(why)] + " ";
  }
  // What it said while so many seconds passed, one at a time.
  std::string pass(int64_t seconds) {
    said.clear();
    for (int64_t i = 0; i < seconds && said.find("kill") == std::string::npos; ++i) {
      clock.advance_ns(kSecond);
      timers.fire_due(clock.now_ns());
    }
    return said;
  }

  TransportOptions options;
  ManualClock clock;
  TimerHeap timers;
  std::string said;
  ConnectionWatch watch;
};

}  // namespace

TEST(a_connection_that_never_greets_is_closed) {
  Watch house;
  house.watch.on_bytes(house.clock.now_ns());
  CHECK_EQ(house.pass(9), "");
  CHECK_EQ(house.pass(1), "kill:handshake ");
}

TEST(a_silent_connection_is_pinged_and_then_closed) {
  TransportOptions options;
  options.idle_ns_max = options.age_ns_max = 0;
  Watch house(options);
  house.watch.on_settings(house.clock.now_ns());
  CHECK_EQ(house.pass(59), "");
  CHECK_EQ(house.pass(1), "ping ");
  CHECK_EQ(house.pass(10), "");
  house.watch.on_bytes(house.clock.now_ns());  // the answer
  CHECK_EQ(house.pass(49), "");                // so it is well
  CHECK_EQ(house.pass(11), "ping ");
  CHECK_EQ(house.pass(25), "kill:keepalive ");
}

TEST(an_idle_connection_is_sent_away_and_one_with_calls_is_not) {
  TransportOptions options;
  options.age_ns_max = 0;
  options.keepalive_ns = 100'000 * kSecond;
  Watch house(options);
  house.watch.on_settings(house.clock.now_ns());
  house.watch.on_streams(1, house.clock.now_ns());
  CHECK_EQ(house.pass(1000), "");
  house.watch.on_streams(0, house.clock.now_ns());
  CHECK_EQ(house.pass(299), "");
  CHECK_EQ(house.pass(1), "notice ");
  CHECK(house.watch.is_leaving());
  house.watch.on_notice_answered(house.clock.now_ns());
  CHECK_EQ(house.said, "notice goaway:connection idle ");
  house.watch.on_notice_answered(house.clock.now_ns());  // once
  CHECK_EQ(house.pass(599), "");
  CHECK_EQ(house.pass(1), "kill:grace ");
}

TEST(an_old_connection_is_sent_away_though_it_does_not_answer) {
  TransportOptions options;
  options.keepalive_ns = 100'000 * kSecond;
  Watch house(options);
  house.watch.on_settings(house.clock.now_ns());
  house.watch.on_streams(3, house.clock.now_ns());
  CHECK_EQ(house.pass(599), "");
  CHECK_EQ(house.pass(1), "notice ");
  CHECK_EQ(house.pass(1), "goaway:max_age ");
  house.watch.send_away(house.clock.now_ns(), 5 * kSecond, "draining");  // in more of a hurry
  CHECK_EQ(house.pass(5), "kill:grace ");
}

TEST(a_drain_closes_at_once_who_never_greeted) {
  Watch house;
  house.watch.send_away(house.clock.now_ns(), kSecond, "draining");
  CHECK_EQ(house.said, "kill:drained ");
}

TEST(pings_are_counted_unless_the_server_sends_meanwhile) {
  Watch house;
  house.watch.on_settings(house.clock.now_ns());
  for (int i = 0; i < 100; ++i) {  // one beside each answer
    CHECK(house.watch.on_client_ping(house.clock.now_ns()));
    house.watch.on_answer_sent();
  }
  CHECK(house.watch.on_client_ping(house.clock.now_ns()));
  CHECK(house.watch.on_client_ping(house.clock.now_ns()));
  CHECK(house.watch.on_client_ping(house.clock.now_ns()));
  CHECK(!house.watch.on_client_ping(house.clock.now_ns()));
  house.clock.advance_ns(11 * kSecond);
  CHECK(house.watch.on_client_ping(house.clock.now_ns()));
}

TEST(a_watch_that_goes_takes_its_timers_along) {
  TimerHeap timers;
  TransportOptions options;
  ManualClock clock;
  struct Mute final : Watched {
    void send_ping() noexcept override {}
    void send_notice() noexcept override {}
    void send_goaway(const char*) noexcept override {}
    void kill(CloseReason) noexcept override {}
  } mute;
  {
    ConnectionWatch watch(mute, timers, options, clock.now_ns(), 0.0);
    watch.on_settings(clock.now_ns());
    watch.send_away(clock.now_ns(), kSecond, "draining");
    CHECK(timers.size() > 0);
  }
  CHECK_EQ(timers.size(), 0u);
}

ASSAY_TEST_MAIN
