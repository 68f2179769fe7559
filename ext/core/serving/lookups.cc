#include "core/serving/lookups.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <system_error>

#include "core/base/alt_stack.h"
#include "core/base/signals_blocked.h"
#include "core/serving/failure.h"
#include "core/serving/lookups_settling.h"

namespace assay {
namespace {

// Of what is left to the deadline a look-up may take two fifths: the rest is for the queue and the run.
constexpr int64_t kDeadlineShareOver = 2, kDeadlineShareUnder = 5;

// Whether a view of the row has no record because the store is away.
bool is_store_away(const FoldResult* views, size_t count) noexcept {
  return std::any_of(views, views + count, [](const FoldResult& view) { return view.rejected == Code::kStoreUnavailable; });
}

// Whether the store gave nothing for one of them: a server of several may be down.
bool is_any_away(const FetchedRecord* records, size_t count) noexcept {
  return std::any_of(records, records + count, [](const FetchedRecord& one) { return one.why == Code::kStoreUnavailable; });
}

}  // namespace

Lookups::Lookups(int64_t timeout_ns_max, bool has_thread, NearCache& cache, const NearLookup& near, ServedRows& served_rows,
                 Calls& calls, const Clock& clock)
    : timeout_ns_max_(timeout_ns_max),
      has_thread_(has_thread),
      cache_(cache),
      near_(near),
      served_rows_(served_rows),
      calls_(calls),
      clock_(clock) {}

Lookups::~Lookups() {
  ASSAY_ASSERT(!thread_.joinable() && waiting_.first == kNoSlot && fetching_.first == kNoSlot && joined_.first == kNoSlot);
}

Status Lookups::enable() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!parked_.empty() || is_stopped_) return Status();
  try {
    parked_ = std::vector<Parked>(calls_.slab().size());
    if (!has_thread_) return Status();
    const SignalsBlocked blocked;
    thread_ = std::thread([this] {
      const AltStack stack;
      run_thread();
    });
    pthread_setname_np(thread_.native_handle(), "assay-lookups");
  } catch (const std::bad_alloc&) {
    return Status(Code::kIo, "no memory for rows that wait for a remote store: lower `slots`");
  } catch (const std::system_error& error) {
    return Status(Code::kIo, std::string("the thread that watches look-ups could not be started: ") + error.what());
  }
  return Status();
}

// --- in: parked rows

Code Lookups::park(LaneTicket ticket, const QueuedRow* rows, uint32_t count, Priority priority) noexcept {
  const int64_t now_ns = clock_.now_ns();
  bool is_sooner = false, is_due_sooner = false;  // than a thread knows
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_stopped_) return Code::kDraining;
    for (uint32_t i = 0; i < count; ++i) {
      Parked& parked = parked_[rows[i].slot];
      ASSAY_ASSERT(parked.state == State::kIdle);
      parked.state = State::kWaiting;
      parked.has_joined = false;
      parked.serial = ++serial_;
      parked.priority = priority;
      parked.row = rows[i];
      parked.ticket = i + 1 < count ? ticket.another() : std::move(ticket);
      const int64_t share_ns = (rows[i].deadline_ns - now_ns) / kDeadlineShareUnder * kDeadlineShareOver;
      parked.parked_ns = now_ns;
      parked.give_up_ns = now_ns + std::min(timeout_ns_max_, share_ns);
      is_sooner |= parked.give_up_ns < armed_ns_;
      is_due_sooner |= due_ns(parked) < awaited_ns_;
      awaited_ns_ = std::min(awaited_ns_, due_ns(parked));
      link(waiting_, rows[i].slot);
    }
    calls_.counters().looking_up_rows.add(count);
  }
  if (is_due_sooner) waiting_changed_.notify_one();
  if (is_sooner) give_up_changed_.notify_one();
  return Code::kOk;
}

void Lookups::link(List& list, uint32_t slot) noexcept {
  parked_[slot].previous = list.last;
  parked_[slot].next = kNoSlot;
  (list.last == kNoSlot ? list.first : parked_[list.last].next) = slot;
  list.last = slot;
}

void Lookups::link_first(List& list, uint32_t slot) noexcept {
  parked_[slot].previous = kNoSlot;
  parked_[slot].next = list.first;
  (list.first == kNoSlot ? list.last : parked_[list.first].previous) = slot;
  list.first = slot;
}

void Lookups::unlink(List& list, uint32_t slot) noexcept {
  const Parked& parked = parked_[slot];
  (parked.previous == kNoSlot ? list.first : parked_[parked.previous].next) = parked.next;
  (parked.next == kNoSlot ? list.last : parked_[parked.next].previous) = parked.previous;
}

Lookups::List& Lookups::list_of(State state) noexcept {
  if (state == State::kWaiting) return waiting_;
  return state == State::kJoined ? joined_ : fetching_;
}

// REQUIRES: mutex_ is held. The row is this thread's from here on.
void Lookups::claim(uint32_t slot) noexcept {
  unlink(list_of(parked_[slot].state), slot);
  parked_[slot].state = State::kClaimed;
}

// --- giving up

size_t Lookups::give_up_due() noexcept {
  Settling& mine = settling();
  mine.given_up.clear();
  const int64_t now_ns = clock_.now_ns();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const List* list : {&waiting_, &fetching_, &joined_}) {
      for (uint32_t slot = list->first; slot != kNoSlot; slot = parked_[slot].next) {
        const Parked& parked = parked_[slot];
        if (parked.give_up_ns <= now_ns && parked.state != State::kTaking) mine.given_up.push_back(slot);
      }
    }
    for (const uint32_t slot : mine.given_up) claim(slot);
  }
  calls_.counters().lookup_given_up_rows.add(mine.given_up.size());
  for (const uint32_t slot : mine.given_up) settle(slot, nullptr, mine);
  queue_settled(mine);
  return mine.given_up.size();
}

// REQUIRES: mutex_ is held. Rows being taken are left out: part() wakes the thread for them.
int64_t Lookups::next_give_up_ns() const noexcept {
  int64_t next_ns = INT64_MAX;
  for (const List* list : {&waiting_, &fetching_, &joined_}) {
    for (uint32_t slot = list->first; slot != kNoSlot; slot = parked_[slot].next) {
      if (parked_[slot].state != State::kTaking) next_ns = std::min(next_ns, parked_[slot].give_up_ns);
    }
  }
  return next_ns;
}

void Lookups::run_thread() noexcept {
  for (;;) {
    give_up_due();
    std::unique_lock<std::mutex> lock(mutex_);
    if (is_stopped_) return;
    armed_ns_ = next_give_up_ns();
    const int64_t wait_ns = armed_ns_ - clock_.now_ns();
    if (armed_ns_ == INT64_MAX) {
      give_up_changed_.wait(lock);
    } else if (wait_ns > 0) {
      give_up_changed_.wait_for(lock, std::chrono::nanoseconds(wait_ns));
    }
    armed_ns_ = INT64_MIN;  // awake: nobody need wake it
  }
}

// --- settling claimed rows

Lookups::Settling& Lookups::settling() noexcept {
  thread_local const std::unique_ptr<Settling> mine = std::make_unique<Settling>();
  return *mine;
}

// Reads the row and notes it for its lane, or ends it. `records` null: the store gave nothing, and the row makes do.
void Lookups::settle(uint32_t index, const FetchedRecord* records, Settling& mine) noexcept {
  Parked& parked = parked_[index];
  Slot& slot = calls_.slab()[index];
  const bool is_cancelled = calls_.slab().is_abandoned(parked.row.head);
  const bool is_late = clock_.now_ns() >= parked.row.deadline_ns;
  const Status status = is_cancelled || is_late ? Status() : read_row(parked, slot, records, mine);
  QueuedRow row = parked.row;
  Settling::Ready ready{std::move(parked.ticket), parked.priority};
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    parked.state = State::kIdle;  // once the row has ended, its slot may be parked again
  }
  calls_.counters().looking_up_rows.subtract(1);
  if (is_cancelled) return calls_.finish_row(index, Code::kCancelled, mine.completions);
  if (is_late) return calls_.expire_row(index, DeadlineCheck::kAfterLookup, mine.completions);
  if (!status.ok()) return calls_.finish_row(index, status.code, mine.completions);
  row.queued_ns = clock_.now_ns();
  slot.stamp(Stamp::kQueued) = row.queued_ns;
  mine.rows.push_back(row);
  mine.ready.push_back(std::move(ready));
}

Status Lookups::read_row(const Parked& parked, Slot& slot, const FetchedRecord* records, Settling& mine) noexcept {
  const Lane& lane = *parked.ticket.lane();
  const size_t view_count = lane.reader().plan().views().size();
  parked.transaction.load(mine.transaction);
  if (records == nullptr || is_any_away(records, view_count)) {
    near_.make_do(lane.reader(), mine.transaction, records, clock_.now_ns(), mine.near_row);
    records = mine.near_row.records.data();
  }
  mine.violations.clear();
  const RowOut out = lane.memory().out(parked.row.slot);
  const bool is_read = lane.reader().read(mine.transaction, records, mine.read, out, mine.violations);
  mine.near_row.held.clear();
  for (size_t v = 0; v < view_count; ++v) {
    const Code rejected = out.views[v].rejected;
    if (rejected == Code::kStoreUnavailable) {
      calls_.counters().lookup_unavailable_records.add(1);
    } else if (rejected != Code::kOk && rejected != Code::kIntegerOverflow) {
      calls_.counters().lookup_rejected_records.add(1);
    }
  }
  if (is_read) {
    if (slot.priority != Priority::kShadow) served_rows_.offer(lane.name(), lane.reader().plan(), mine.transaction, out);
    return Status();
  }
  // An input without a default, because the store is away, is not the client's fault.
  const bool is_away = is_store_away(out.views, view_count);
  Status status = is_away ? Status(Code::kStoreUnavailable, "the feature set declares no default for some of the inputs")
                          : Status(Code::kInvalidRequest);
  slot.failure = make_failure(status, is_away ? nullptr : &mine.violations);
  return status;
}

// Queues what settle() has noted: rows of one lane and priority that follow one another go under one lock. The lane takes all of
// them or none, so where it takes none of several calls each is asked for by itself: no call is refused for its neighbours.
void Lookups::queue_settled(Settling& mine) noexcept {
  for (size_t begin = 0, end = 0; begin < mine.rows.size(); begin = end) {
    const Settling::Ready& first = mine.ready[begin];
    for (end = begin; end < mine.rows.size(); ++end) {
      if (mine.ready[end].ticket.lane() != first.ticket.lane() || mine.ready[end].priority != first.priority) break;
      move_slot(calls_.slab()[mine.rows[end].slot], SlotState::kQueued);
    }
    const Code code_of_all = queue_rows(begin, end, mine);
    if (code_of_all == Code::kOk) continue;
    for (size_t call = begin, next = begin; call < end; call = next) {
      while (next < end && mine.rows[next].head == mine.rows[call].head) ++next;
      const bool is_all = call == begin && next == end;
      const Code code = is_all ? code_of_all : queue_rows(call, next, mine);
      for (size_t i = call; code != Code::kOk && i < next; ++i) calls_.finish_row(mine.rows[i].slot, code, mine.completions);
    }
  }
  mine.rows.clear();
  mine.ready.clear();  // gives the other tickets back
  mine.completions.flush();
}

Code Lookups::queue_rows(size_t begin, size_t end, Settling& mine) noexcept {
  const Settling::Ready& first = mine.ready[begin];
  Lane& lane = *first.ticket.lane();
  const auto count = static_cast<uint32_t>(end - begin);
  return lane.enqueue(first.ticket.another(), &mine.rows[begin], count, first.priority, mine.completions);
}

// --- the end

void Lookups::stop() noexcept {
  std::vector<uint32_t> left;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    is_stopped_ = true;
    waiting_changed_.notify_all();
    give_up_changed_.notify_all();
    left.reserve(parked_.size());
    const auto is_taking = [this] {
      for (uint32_t slot = fetching_.first; slot != kNoSlot; slot = parked_[slot].next) {
        if (parked_[slot].state == State::kTaking) return true;
      }
      return false;
    };
    give_up_changed_.wait(lock, [&] { return !is_taking(); });
    for (const List* list : {&waiting_, &fetching_, &joined_}) {
      while (list->first != kNoSlot) left.push_back(list->first), claim(list->first);
    }
  }
  if (thread_.joinable()) thread_.join();
  CompletionList completions;
  for (const uint32_t slot : left) {
    LaneTicket ticket = std::move(parked_[slot].ticket);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      parked_[slot].state = State::kIdle;
    }
    calls_.counters().looking_up_rows.subtract(1);
    calls_.finish_row(slot, Code::kCancelled, completions);
  }
  completions.flush();
}

}  // namespace assay
