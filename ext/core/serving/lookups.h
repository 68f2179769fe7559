// Lookups: rows whose records are fetched from a remote store, between decoding and their lane's queue.
//
//   park() -> WAITING -- take() --> TAKING -> FETCHING -- give() --> read, then queued in the lane
//                |                               |
//                '------- give_up_due() ---------'---> read without records, flagged, then queued in the lane
//
// The core asks nobody: look-up threads of the process take() a batch of keys, fetch them however they like and give() the records
// back; the row is read and queued on that thread. Each row has a time of its own, a share of what is left of its deadline, after
// which it goes on without records (FoldResult::rejected = kStoreUnavailable). So a store that hangs costs a row that share and
// nothing more. Whoever claims a row first, give() or give_up_due(), settles it; the other finds it gone.
//
// LOCK. One mutex guards the lists and the rows' states. Rows are read, queued and answered without it.
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
#include "core/serving/calls.h"
#include "core/serving/lane.h"

namespace assay {

// What a look-up thread has taken: keys to fetch, in order, one per view of each row.
struct LookupBatch {
  struct Row {
    uint32_t slot = 0;
    uint64_t serial = 0;     // of the parking: a slot that was freed and parked again is another row
    uint32_t first_key = 0;  // its keys are [first_key, first_key + views of its lane)
  };
  std::vector<Row> rows;
  std::vector<std::string> keys;
};

class Lookups {
 public:
  // A row gives up after `timeout_ns_max`, or after two fifths of what is left to its deadline if that is sooner.
  Lookups(int64_t timeout_ns_max, bool has_thread, Calls& calls, const Clock& clock);
  ~Lookups();  // REQUIRES: stop() came before, if anything was parked
  Lookups(const Lookups&) = delete;
  Lookups& operator=(const Lookups&) = delete;

  // Makes room for every slot and starts the thread that gives up rows. Idempotent. kIo. Before the first lane with a remote store.
  Status enable();

  // Keeps what the look-up of this row needs. The submitting thread, before park().
  void keep(uint32_t slot, const Transaction& transaction, const FeaturePlan& plan) {
    parked_[slot].transaction.keep(transaction, plan);
  }
  // Parks the rows of one open call; their slots are kLookup. Uses up the ticket. kOk, or kDraining (stopped): nothing is parked.
  Code park(LaneTicket ticket, const QueuedRow* rows, uint32_t count, Priority priority) noexcept;

  // Waits for rows and takes at most `rows_max` of them, oldest first. Null: stopped (or, if `waits` is false, nothing is there).
  // Several threads may do this at once.
  std::unique_ptr<LookupBatch> take(size_t rows_max, bool waits);
  // Reads and queues the rows of a batch that have not given up meanwhile. `records`: one per key, borrowed for the call.
  void give(const LookupBatch& batch, const FetchedRecord* records) noexcept;
  // The same where the store gave nothing.
  void fail(const LookupBatch& batch) noexcept;

  // Settles every row whose time has come, without records. Returns how many. The thread calls it; tests without one do.
  size_t give_up_due() noexcept;

  // Ends the thread, wakes take(), and answers all parked rows CANCELLED. May block. Idempotent.
  void stop() noexcept;

 private:
  enum class State : uint8_t { kIdle, kWaiting, kTaking, kFetching, kClaimed };

  // One a slot.
  struct Parked {
    State state = State::kIdle;
    Priority priority = Priority::kInteractive;
    uint64_t serial = 0;
    uint32_t previous = kNoSlot, next = kNoSlot;  // in the list of its state
    int64_t give_up_ns = 0;
    QueuedRow row;
    LaneTicket ticket;
    KeptTransaction transaction;
  };

  // Oldest first; linked through the rows, so that any of them can leave.
  struct List {
    uint32_t first = kNoSlot, last = kNoSlot;
  };

  struct Settling;  // working memory of one thread that settles rows

  void link(List& list, uint32_t slot) noexcept;
  void unlink(List& list, uint32_t slot) noexcept;
  size_t take_waiting(size_t rows_max, bool waits, LookupBatch& batch);
  void begin_fetching(const LookupBatch& batch) noexcept;
  void claim(uint32_t slot) noexcept;
  int64_t next_give_up_ns() const noexcept;
  void run_thread() noexcept;

  static Settling& settling() noexcept;
  void settle(uint32_t slot, const FetchedRecord* records, Settling& mine) noexcept;
  Status read_row(const Parked& parked, Slot& slot, const FetchedRecord* records, Settling& mine) noexcept;
  void queue_settled(Settling& mine) noexcept;

  const int64_t timeout_ns_max_;
  const bool has_thread_;
  Calls& calls_;
  const Clock& clock_;

  std::mutex mutex_;
  std::condition_variable waiting_changed_;  // for take()
  std::condition_variable give_up_changed_;  // for the thread
  std::vector<Parked> parked_;               // by slot; a row's transaction is its claimant's, the rest is guarded by mutex_
  List waiting_, fetching_;                  // guarded by mutex_; fetching_ has those being taken, too
  uint64_t serial_ = 0;                      // guarded by mutex_
  int64_t armed_ns_ = INT64_MAX;             // when the thread looks again; guarded by mutex_
  bool is_stopped_ = false;                  // guarded by mutex_
  std::thread thread_;
};

}  // namespace assay
