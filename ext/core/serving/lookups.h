// Lookups: rows whose records are fetched from a remote store, between decoding and their lane's queue.
//
//                                .--- near: all it asks for has come into the near-cache: read, then queued in the lane
//   park() -> WAITING -- take() -+--> FETCHING -- give() --> read, then queued
//                ^     (TAKING)  '--> JOINED: another batch fetches all that it lacks
//                '------ that batch has ended -------'
//   WAITING, FETCHING, JOINED -- give_up_due() --> read with what can be had without the store, flagged, then queued
//
// The core asks nobody: look-up threads of the process take() a batch of keys, fetch them however they like and give() the
// records back; the row is read and queued on that thread. A key that several rows of a batch want is in it once. Each row has a
// time of its own, a share of what is left of its deadline, after which it makes do (NearLookup::make_do): stale records of the
// near-cache, else none (FoldResult::rejected = kStoreUnavailable). So a store that hangs costs a row that share and nothing
// more. Whoever claims a row first, give() or give_up_due(), settles it; the other finds it gone.
//
// SINGLE FLIGHT. A row waits for another batch only where that may spare it a fetch of its own, once, and only for views that may
// be as old as that fetch. When the batch has ended, well or not, the row is taken again: it finds its records near, or fetches
// them.
//
// LOCK. One mutex guards the lists, the rows' states and the flights. Rows are read, queued and answered without it, and the
// near-cache is asked without it. THREADS. No function takes the GIL; take() and stop() may block: call them without it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/features/kept_transaction.h"
#include "core/features/near_cache.h"
#include "core/serving/calls.h"
#include "core/serving/flights.h"
#include "core/serving/lane.h"
#include "core/serving/near_lookup.h"
#include "core/serving/served_rows.h"

namespace assay {

// What a look-up thread has taken: keys to fetch, each once. Owned by who took it, until it is given or failed. The rows of one
// that is dropped give up, and so do those that have joined it.
struct LookupBatch {
  struct Row {
    uint32_t slot = 0;
    uint64_t serial = 0;        // of the parking: a slot that was freed and parked again is another row
    uint32_t first_source = 0;  // one source for each view of its lane
  };
  // Where a row's record comes from.
  struct Source {
    static constexpr uint32_t kNear = UINT32_MAX;
    uint32_t key = kNear;  // one of `keys`
    NearRecord near;       // with kNear
  };
  // What its record must pass, and whether it is kept.
  struct Key {
    std::shared_ptr<const FeatureReader> reader;
    uint32_t view = 0;
    uint64_t digest = 0;
    uint64_t hash = 0;
    uint64_t lease = 0;  // of the near-cache
  };
  uint64_t id = 0;
  int64_t started_ns = 0;
  mutable std::shared_ptr<const char> under_way;  // a share of Lookups' own, until it is given or failed
  std::vector<Row> rows;
  std::vector<Source> sources;
  std::vector<std::string> keys;
  std::vector<Key> about;  // one a key
};

class Lookups {
 public:
  // A row gives up after `timeout_ns_max`, or after two fifths of what is left to its deadline if that is sooner. What is passed
  // by reference must outlive it.
  Lookups(int64_t timeout_ns_max, bool has_thread, NearCache& cache, const NearLookup& near, ServedRows& served_rows,
          Calls& calls, const Clock& clock);
  ~Lookups();  // REQUIRES: stop() came before, if anything was parked
  Lookups(const Lookups&) = delete;
  Lookups& operator=(const Lookups&) = delete;

  // Makes room for every slot and starts the thread that gives up rows. Idempotent. kIo. Before the first lane with a remote
  // store.
  Status enable();

  // Keeps what the look-up of this row needs. The submitting thread, before park().
  void keep(uint32_t slot, const Transaction& transaction, const FeaturePlan& plan) {
    parked_[slot].transaction.keep(transaction, plan);
  }
  // Parks rows of one open call; their slots are kLookup. Uses up the ticket. kOk, or kDraining (stopped): nothing is parked.
  Code park(LaneTicket ticket, const QueuedRow* rows, uint32_t count, Priority priority) noexcept;

  // Waits for rows that must be fetched and takes at most `rows_max` of them, oldest first; those that need no fetch any more are
  // settled on the way. While another batch is under way (taken, neither given, failed nor dropped) rows are left to its thread
  // until one of them has waited for a millisecond, or a quarter of its time. Null: stopped (or, if `waits` is false, nothing is
  // to be fetched). Several threads may do this at once.
  std::unique_ptr<LookupBatch> take(size_t rows_max, bool waits);
  // Checks each record once, keeps those of views that the near-cache keeps, and reads and queues the rows of a batch that have
  // not given up meanwhile. `records`: one per key, borrowed for the call.
  void give(const LookupBatch& batch, const FetchedRecord* records) noexcept;
  // The same where the store gave nothing: the rows make do.
  void fail(const LookupBatch& batch) noexcept;

  // Settles every row whose time has come: it makes do. Returns how many. The thread calls it; tests without one do.
  size_t give_up_due() noexcept;

  // Ends the thread, wakes take(), and answers all parked rows CANCELLED. May block. Idempotent.
  void stop() noexcept;

 private:
  enum class State : uint8_t { kIdle, kWaiting, kTaking, kFetching, kJoined, kClaimed };

  // One a slot.
  struct Parked {
    State state = State::kIdle;
    bool has_joined = false;
    Priority priority = Priority::kInteractive;
    uint64_t serial = 0;
    uint32_t previous = kNoSlot, next = kNoSlot;  // in the list of its state
    uint64_t flight = 0;                          // kJoined: the batch it waits for
    int64_t parked_ns = 0;
    int64_t give_up_ns = 0;
    QueuedRow row;
    LaneTicket ticket;
    KeptTransaction transaction;
  };

  // Oldest first; linked through the rows, so that any of them can leave.
  struct List {
    uint32_t first = kNoSlot, last = kNoSlot;
  };

  struct Asked;  // lookups_settling.h
  struct Settling;

  void link(List& list, uint32_t slot) noexcept;
  void link_first(List& list, uint32_t slot) noexcept;
  void unlink(List& list, uint32_t slot) noexcept;
  List& list_of(State state) noexcept;

  // --- lookup_batches.cc
  int64_t due_ns(const Parked& parked) const noexcept;
  int64_t next_due_ns(int64_t now_ns) const noexcept;
  void wait_for_rows(std::unique_lock<std::mutex>& lock);
  size_t take_waiting(size_t rows_max, bool waits, Settling& mine);
  void look_near(Settling& mine);
  void part(LookupBatch& batch, Settling& mine);
  uint64_t flight_to_join(const Asked* asked, size_t count, int64_t now_ns) const noexcept;
  void list_keys(LookupBatch& batch, Settling& mine);

  void check_and_keep(const LookupBatch& batch, const FetchedRecord* records, Settling& mine) noexcept;
  void land(const LookupBatch& batch, Settling& mine) noexcept;
  const FetchedRecord* gather(const LookupBatch& batch, const LookupBatch::Row& row, Settling& mine) const noexcept;

  // --- lookups.cc
  void claim(uint32_t slot) noexcept;
  int64_t next_give_up_ns() const noexcept;
  void run_thread() noexcept;

  static Settling& settling() noexcept;
  void settle(uint32_t slot, const FetchedRecord* records, Settling& mine) noexcept;
  Status read_row(const Parked& parked, Slot& slot, const FetchedRecord* records, Settling& mine) noexcept;
  void queue_settled(Settling& mine) noexcept;
  Code queue_rows(size_t begin, size_t end, Settling& mine) noexcept;  // rows [begin, end) of `mine`, all or none

  const int64_t timeout_ns_max_;
  const bool has_thread_;
  NearCache& cache_;
  const NearLookup& near_;
  ServedRows& served_rows_;
  Calls& calls_;
  const Clock& clock_;

  std::mutex mutex_;
  std::condition_variable waiting_changed_;  // for take()
  std::condition_variable give_up_changed_;  // for the thread
  std::vector<Parked> parked_;               // by slot; a row's transaction is its claimant's, the rest is guarded by mutex_
  List waiting_, fetching_, joined_;         // guarded by mutex_; fetching_ has those being taken, too
  Flights flights_;                          // guarded by mutex_
  uint64_t serial_ = 0;                      // guarded by mutex_; of parkings and batches
  // Batches under way have a share each, so that one that is dropped is under way no longer.
  const std::shared_ptr<const char> under_way_ = std::make_shared<const char>();
  int64_t awaited_ns_ = INT64_MAX;  // when one of the threads that wait in take() looks again; guarded by mutex_
  int64_t armed_ns_ = INT64_MAX;    // when the thread looks again; guarded by mutex_
  bool is_stopped_ = false;         // guarded by mutex_
  std::thread thread_;
};

}  // namespace assay
