// Calls: who frees a call, exactly once. Knows slots, phases and reply queues; knows nothing of queues, batches or models.
//
//   open() ---- rows end: finish_row() ----> last row: kOpen -> kCompleted, pushed ----> claim() + release()    by finish()
//      \                                     or abandoned: released at once, nothing is pushed
//       `------ cancel(): kOpen -> kCancelled; expire(): kOpen -> kExpired
//
// One compare-and-swap on the head's call_word (generation and phase) settles every race between the last row, cancel(), expire() and
// finish(), and turns away handles of earlier calls. Thread-safe; takes no lock but the slab's and the reply queue's, one at a
// time.
#pragma once

#include <cstdint>

#include "core/serving/call_recorder.h"
#include "core/serving/completion_list.h"
#include "core/serving/counters.h"
#include "core/serving/shadow.h"
#include "core/serving/slab.h"

namespace assay {

class Calls {
 public:
  // `recorder` must outlive it: it is told of calls that end when nobody waits any more.
  Calls(uint32_t slots, CallRecorder& recorder) : slab_(slots), copies_(slots), recorder_(recorder) {}

  Slab& slab() noexcept { return slab_; }
  const Slab& slab() const noexcept { return slab_; }
  Counters& counters() noexcept { return counters_; }
  const Counters& counters() const noexcept { return counters_; }
  const Counters& shadow_counters() const noexcept { return shadow_counters_; }
  const Counters& probe_counters() const noexcept { return probe_counters_; }

  // Takes `count` slots and chains them in order as one closed call. False: not so many are free.
  bool allocate(uint32_t count, uint32_t* slots) noexcept;
  // Gives back a call that was refused: none of its rows was queued. Counts no row.
  void discard(uint32_t head) noexcept;

  // Makes the call known: from here on cancel() finds it. `rows_left`: rows that finish_row() will end. 0: all have failed
  // already and the call goes to `completions` at once.
  void open(uint32_t head, uint32_t rows_left, CompletionList& completions) noexcept;
  // The same for a call of one row that its submitter runs itself, and unless `is_replied` finish()es too: then it completes without
  // its reply queue.
  void open_one(uint32_t head, bool is_replied) noexcept;
  bool is_open(uint32_t head) const noexcept {
    return phase_of(slab_[head].call_word.load(std::memory_order_relaxed)) != CallPhase::kClosed;
  }
  // The call's name outside. REQUIRES: allocated by the caller and not yet open.
  CallId id(uint32_t head) const noexcept;

  // What is compared with a shadow once this call is answered. Goes with the call, if nobody takes it. REQUIRES: the caller owns the
  // call's slots.
  void keep_copy(uint32_t head, std::unique_ptr<ShadowCopy> copy) noexcept { copies_[head] = std::move(copy); }
  std::unique_ptr<ShadowCopy> take_copy(uint32_t head) noexcept { return std::move(copies_[head]); }

  // Ends a row: kDone with this outcome. With the last row the call goes to `completions`, or is freed if nobody waits.
  void finish_row(uint32_t slot, Code outcome, CompletionList& completions) noexcept;
  void expire_row(uint32_t slot, DeadlineCheck check, CompletionList& completions) noexcept;

  // Nobody waits any more: the client left, or its transport has answered DEADLINE_EXCEEDED. False: there was nothing to end.
  bool cancel(CallId call) noexcept { return abandon(call, CallPhase::kCancelled); }
  bool expire(CallId call) noexcept { return abandon(call, CallPhase::kExpired); }
  // True: the caller has the call now, reads its slots and must release() it.
  bool claim(CallId call) noexcept;
  // Frees a claimed call and counts its rows by outcome.
  void release(uint32_t head) noexcept;

 private:
  bool abandon(CallId call, CallPhase phase) noexcept;
  void complete(uint32_t head, CompletionList& completions) noexcept;
  void expire_rows(uint32_t head) noexcept;
  void count_rows(uint32_t head) noexcept;
  void note_slots(uint32_t head) const noexcept;
  void free_chain(uint32_t head) noexcept;

  // Rows of a shadow, and those that an explanation asks about, are no client's: they are counted apart.
  static bool is_clients(const Slot& head) noexcept {
    return __builtin_expect(head.priority != Priority::kShadow && head.kind != CallKind::kProbe, 1);
  }
  Counters& counters_of(const Slot& head) noexcept {
    if (is_clients(head)) return counters_;
    return head.kind == CallKind::kProbe ? probe_counters_ : shadow_counters_;
  }

  Slab slab_;
  std::vector<std::unique_ptr<ShadowCopy>> copies_;  // by head
  Counters counters_;
  Counters shadow_counters_;
  Counters probe_counters_;
  CallRecorder& recorder_;
};

}  // namespace assay
