// Shadow: scores what the champion has scored once more, with another version, and compares. Nobody waits for it or is given it.
//
//   submit -> copy of the request's bytes, with the call -> the champion's answer is encoded -> queue (kQueueMax) -> this thread:
//   decode, look up, queue in the shadow's own lane -> its runner (SCHED_IDLE, small batches) -> compared with the champion's answer
//
// A champion pays for the copy and one push, and the thread rests after each batch, the longer the busier the machine is. Everything
// else has room of its own: copies have a limit of bytes, the queue one of calls, at most kBatch rows are in flight, and while half of
// the slots are in use none is begun. What finds no room is shed and counted; calls that were refused, failed, cancelled or late are
// not compared.
//
// LIFE. Made around a lane that serves nobody else; start(); the lane table gives it to admission; stop() ends it before its lane is
// ended. Copies hold it, so it may live longer: then it only counts. One for each model: what hangs in one holds up no other.
//
// THREADS. The runner is idle by the kernel's book and takes no lock that a champion waits for (but the slab's, once for each row that
// stop() gave up): who holds a lock and gets no processor would hold up others. So decoding and look-up, which take such locks, are
// done by this thread at normal priority. With a remote store look-up threads queue rows of all lanes, so there the runner has normal
// priority too.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/serving/call_record.h"
#include "core/serving/completion_queue.h"
#include "core/serving/counters.h"

namespace assay {

class Admission;
class Calls;
class Lane;
class Shadow;

inline constexpr size_t kShadowDecisions = 5;  // Decision's values
// Upper bounds of |score of the shadow - score of the champion|; one bucket more than bounds.
inline constexpr std::array<double, 10> kShadowDifferenceBounds = {1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5};

// What came of one model's shadow since it was set.
struct ShadowStats {
  std::string model;
  std::string version;  // of the shadow
  double share = 0.0;
  uint64_t compared_rows = 0;
  uint64_t failed_rows = 0;     // the shadow refused them, or its model failed
  uint64_t shed_rows = 0;       // there was no room, or no processor time, for them
  uint64_t held_bytes = 0;      // copies of requests that wait for their champion or for the shadow, now
  double difference_sum = 0.0;  // shadow - champion
  std::array<uint64_t, kShadowDifferenceBounds.size() + 1> differences{};
  // Compared rows by the champion's decision, then by the shadow's.
  std::array<std::array<uint64_t, kShadowDecisions>, kShadowDecisions> decisions{};
};

// Which entities a shadow scores.
struct ShadowShare {
  std::string entity;  // whose id decides; may be empty where the share is 1
  double share = 1.0;  // of the entities, above 0
};

// A call that may be compared, from its submission on.
class ShadowCopy {
 public:
  // The shadow has counted the bytes as held; it is told when they are not any more.
  ShadowCopy(std::shared_ptr<Shadow> its_shadow, CallKind its_kind, std::string_view request)
      : shadow(std::move(its_shadow)), kind(its_kind), bytes(request) {}
  ~ShadowCopy();
  ShadowCopy(const ShadowCopy&) = delete;
  ShadowCopy& operator=(const ShadowCopy&) = delete;

  const std::shared_ptr<Shadow> shadow;
  const CallKind kind;
  const std::string bytes;
  double score = 0.0;  // the champion's
  Decision decision = Decision::kUnspecified;
};

class Shadow : public std::enable_shared_from_this<Shadow> {
 public:
  static constexpr size_t kHeldBytesMax = 16 << 20;
  static constexpr size_t kQueueMax = 1024;
  static constexpr size_t kBatch = 32;

  // `replies`: for its thread alone until stop() has returned; kBatch + 1 fit. They, `admission` and `calls` outlive its lane.
  Shadow(std::shared_ptr<Lane> lane, ShadowShare share, CompletionQueue& replies, Admission& admission, Calls& calls);
  // REQUIRES: stop(), if it was started.
  ~Shadow();
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  const std::shared_ptr<Lane>& lane() const noexcept { return lane_; }
  const std::string& entity() const noexcept { return share_.entity; }

  // Starts the thread. Once. kIo.
  Status start();
  // Whether this entity is shadowed: by the hash of its id, as the canary (route.h), in an order of its own.
  bool is_wanted(std::string_view id) const noexcept;
  // Null: no room (counted), or no memory. While its queue is full no champion pays for a copy. Any thread.
  std::unique_ptr<ShadowCopy> copy(CallKind kind, std::string_view bytes) noexcept;
  // The champion has answered: the copy goes to the queue of its shadow. Any thread; never waits for a model.
  static void offer(std::unique_ptr<ShadowCopy> copy, double score, Decision decision) noexcept;
  // Begins nothing new, drops what waits. Any thread.
  void drain() noexcept;
  // Ends the thread. Rows in flight are left to their lane; nothing is pushed to `replies` from then on. Idempotent.
  void stop() noexcept;

  // What came of it so far. Any thread.
  ShadowStats stats() const;

 private:
  friend class ShadowCopy;
  struct Begun {
    CallId call = 0;
    std::unique_ptr<ShadowCopy> copy;  // null: ended
  };

  bool enqueue(std::unique_ptr<ShadowCopy>& copy) noexcept;
  void note_room() noexcept;
  void serve() noexcept;
  bool take(std::vector<std::unique_ptr<ShadowCopy>>& copies);
  void begin(std::unique_ptr<ShadowCopy> copy);
  void await_begun() noexcept;
  void leave_begun() noexcept;
  void rest(std::chrono::nanoseconds worked);
  void settle(const Completion& completion) noexcept;
  void compare(const ShadowCopy& copy, double score, Decision decision) noexcept;

  const std::shared_ptr<Lane> lane_;
  const ShadowShare share_;
  CompletionQueue& replies_;
  Admission& admission_;
  Calls& calls_;

  std::atomic<size_t> held_bytes_{0};
  Counter failed_rows_;
  Counter shed_rows_;
  mutable std::mutex compared_mutex_;
  ShadowStats compared_;  // guarded by compared_mutex_: by one thread an added row, by a scrape a copy

  std::vector<Begun> begun_;  // the thread's; by token
  size_t left_ = 0;           // the thread's: of begun_, not yet ended
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<std::unique_ptr<ShadowCopy>> queue_;  // guarded by mutex_
  std::atomic<bool> has_room_{true};               // the queue has, and takes any; written under mutex_
  bool is_draining_ = false;                       // guarded by mutex_
  bool is_resting_ = false;                        // guarded by mutex_: the thread looks by itself
  std::atomic<bool> is_stopping_{false};           // written under mutex_
  std::thread thread_;
};

}  // namespace assay
