#include "core/serving/lookups.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <system_error>
#include <unordered_map>

#include "core/base/hash.h"
#include "core/serving/failure.h"
#include "core/serving/signals_blocked.h"

namespace assay {
namespace {

// Of what is left to the deadline a look-up may take two fifths: the rest is for the queue and the run.
constexpr int64_t kDeadlineShareOver = 2, kDeadlineShareUnder = 5;

// Whether a view of the row has no record because the store is away.
bool is_store_away(const FoldResult* views, size_t count) noexcept {
  return std::any_of(views, views + count, [](const FoldResult& view) { return view.rejected == Code::kStoreUnavailable; });
}

}  // namespace

struct Lookups::Asked {
  std::string key;
  uint64_t hash = 0;
  uint64_t digest = 0;
  uint64_t lease = 0;
  int64_t age_ns_max = 0;  // 0: not kept
  bool is_near = false;
  NearRecord near;
};

struct Lookups::Settling {
  struct Taken {
    uint32_t slot = 0;
    uint64_t serial = 0;
    uint32_t first_asked = 0;
    uint32_t view_count = 0;
    std::shared_ptr<const FeatureReader> reader;
  };
  // A row that was read and goes to its lane.
  struct Ready {
    LaneTicket ticket;
    Priority priority;
  };

  // --- rows being taken
  std::vector<Taken> taken;
  std::vector<Asked> asked;     // of all of them, one a view
  std::vector<Taken> near;      // those that need no fetch...
  std::vector<Taken> fetching;  // ...and those that do
  std::unordered_map<uint64_t, uint32_t> key_of_hash;
  // --- rows being settled
  std::vector<LookupBatch::Row> landed;
  std::vector<uint32_t> given_up;
  std::vector<FetchedRecord> checked;   // one a key of the batch
  std::vector<FetchedRecord> gathered;  // one a view of the row
  NearRow near_row;
  std::vector<QueuedRow> rows;  // to queue...
  std::vector<Ready> ready;     // ...and where
  Transaction transaction;
  ReadScratch read;
  Violations violations;
  CompletionList completions;
};

Lookups::Lookups(int64_t timeout_ns_max, bool has_thread, NearCache& cache, const NearLookup& near, Calls& calls,
                 const Clock& clock)
    : timeout_ns_max_(timeout_ns_max), has_thread_(has_thread), cache_(cache), near_(near), calls_(calls), clock_(clock) {}

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
    thread_ = std::thread([this] { run_thread(); });
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
  bool is_sooner = false;
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
      parked.give_up_ns = now_ns + std::min(timeout_ns_max_, share_ns);
      is_sooner |= parked.give_up_ns < armed_ns_;
      link(waiting_, rows[i].slot);
    }
    calls_.counters().looking_up_rows.add(count);
  }
  waiting_changed_.notify_one();
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

// --- out to a look-up thread

std::unique_ptr<LookupBatch> Lookups::take(size_t rows_max, bool waits) {
  Settling& mine = settling();
  while (take_waiting(rows_max, waits, mine) > 0) {
    auto batch = std::make_unique<LookupBatch>();
    look_near(mine);
    part(*batch, mine);
    list_keys(*batch, mine);
    for (const Settling::Taken& row : mine.near) {
      mine.gathered.clear();
      const int64_t now_ns = clock_.now_ns();
      for (uint32_t v = 0; v < row.view_count; ++v) {
        mine.gathered.push_back(fetched_record(mine.asked[row.first_asked + v].near, now_ns));
      }
      settle(row.slot, mine.gathered.data(), mine);
    }
    queue_settled(mine);
    if (!batch->rows.empty()) return batch;
  }
  return nullptr;
}

size_t Lookups::take_waiting(size_t rows_max, bool waits, Settling& mine) {
  bool wake_another = false;
  mine.taken.clear();
  mine.taken.reserve(rows_max);
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (waits) waiting_changed_.wait(lock, [this] { return waiting_.first != kNoSlot || is_stopped_; });
    while (waiting_.first != kNoSlot && mine.taken.size() < rows_max) {
      const uint32_t slot = waiting_.first;
      unlink(waiting_, slot);
      link(fetching_, slot);
      parked_[slot].state = State::kTaking;
      mine.taken.push_back({slot, parked_[slot].serial, 0, 0, nullptr});
    }
    wake_another = waiting_.first != kNoSlot;
  }
  if (wake_another) waiting_changed_.notify_one();
  return mine.taken.size();
}

// Which keys the taken rows want, and which of their records are near. Outside the lock: while a row is kTaking nobody else touches it.
void Lookups::look_near(Settling& mine) {
  const int64_t now_ns = clock_.now_ns();
  uint32_t asked_count = 0;
  for (Settling::Taken& row : mine.taken) {
    const Parked& parked = parked_[row.slot];
    row.reader = parked.ticket.lane()->shared_reader();
    row.first_asked = asked_count;
    row.view_count = static_cast<uint32_t>(row.reader->plan().views().size());
    asked_count += row.view_count;
    if (mine.asked.size() < asked_count) mine.asked.resize(asked_count);
    parked.transaction.load(mine.transaction);
    mine.near_row.keys.resize(row.view_count);
    row.reader->record_keys(mine.transaction, mine.near_row.keys.data());
    for (uint32_t v = 0; v < row.view_count; ++v) {
      Asked& asked = mine.asked[row.first_asked + v];
      asked.key.swap(mine.near_row.keys[v]);
      asked.hash = xxh64(asked.key);
      asked.digest = row.reader->digest(v, mine.transaction);
      asked.age_ns_max = cache_.is_on() ? row.reader->near_age_ns(v) : 0;
      asked.lease = asked.age_ns_max > 0 ? cache_.lease(asked.key) : 0;  // before the look: what is written after it ends it
      asked.is_near = near_.find(*row.reader, v, asked.key, now_ns, &asked.near);
    }
  }
}

// Parts the taken rows into those that need no fetch (claimed), those that join another batch's, and those of this batch.
void Lookups::part(LookupBatch& batch, Settling& mine) {
  mine.near.clear();
  mine.near.reserve(mine.taken.size());
  mine.fetching.clear();
  mine.fetching.reserve(mine.taken.size());
  size_t joined_count = 0;
  bool is_sooner = false;  // than the thread knows: it left these rows out while they were being taken
  batch.started_ns = clock_.now_ns();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    batch.id = ++serial_;
    for (Settling::Taken& row : mine.taken) {
      Parked& parked = parked_[row.slot];
      const Asked* const asked = &mine.asked[row.first_asked];
      if (std::all_of(asked, asked + row.view_count, [](const Asked& one) { return one.is_near; })) {
        claim(row.slot);
        mine.near.push_back(std::move(row));
        continue;
      }
      is_sooner |= parked.give_up_ns < armed_ns_;
      parked.flight = parked.has_joined ? 0 : flight_to_join(asked, row.view_count, batch.started_ns);
      if (parked.flight != 0) {
        unlink(fetching_, row.slot);
        link(joined_, row.slot);
        parked.state = State::kJoined;
        parked.has_joined = true;
        ++joined_count;
        continue;
      }
      parked.state = State::kFetching;
      mine.fetching.push_back(std::move(row));
    }
    // Only now: a row does not join its own batch.
    for (const Settling::Taken& row : mine.fetching) {
      for (uint32_t v = 0; v < row.view_count; ++v) {
        const Asked& one = mine.asked[row.first_asked + v];
        if (!one.is_near && one.age_ns_max > 0) flights_.begin({one.hash, batch.id, one.lease, batch.started_ns});
      }
    }
    is_sooner |= is_stopped_;  // stop() waits for rows that were being taken
  }
  calls_.counters().near_cache_joined_rows.add(joined_count);
  if (is_sooner) give_up_changed_.notify_all();
}

// The batch that fetches a record which this row lacks, if all that it lacks are being fetched and will be young enough; else 0. A fetch
// that takes longer than any row waits is not worth joining.
uint64_t Lookups::flight_to_join(const Asked* asked, size_t count, int64_t now_ns) const noexcept {
  uint64_t batch = 0;
  for (size_t v = 0; v < count; ++v) {
    if (asked[v].is_near) continue;
    const Flight* const flight = asked[v].age_ns_max > 0 ? flights_.find(asked[v].hash) : nullptr;
    if (flight == nullptr || flight->lease != asked[v].lease) return 0;
    if (now_ns - flight->started_ns > std::min(asked[v].age_ns_max, timeout_ns_max_)) return 0;
    batch = flight->batch;
  }
  return batch;
}

// The keys of the rows that are fetched, each once, and where each row's records come from.
void Lookups::list_keys(LookupBatch& batch, Settling& mine) {
  uint64_t hit_count = 0, miss_count = 0;
  mine.key_of_hash.clear();
  for (const Settling::Taken& row : mine.fetching) {
    batch.rows.push_back({row.slot, row.serial, static_cast<uint32_t>(batch.sources.size())});
    for (uint32_t v = 0; v < row.view_count; ++v) {
      Asked& one = mine.asked[row.first_asked + v];
      if (one.is_near) {
        batch.sources.push_back({LookupBatch::Source::kNear, std::move(one.near)});
        ++hit_count;
        continue;
      }
      if (one.age_ns_max > 0) ++miss_count;
      const auto next = static_cast<uint32_t>(batch.keys.size());
      const auto [known, is_new] = mine.key_of_hash.emplace(one.hash, next);
      const bool is_same = !is_new && batch.keys[known->second] == one.key;
      batch.sources.push_back({is_same ? known->second : next, {}});
      if (is_same) continue;
      batch.keys.push_back(std::move(one.key));
      batch.about.push_back({row.reader, v, one.digest, one.hash, one.lease});
    }
  }
  for (const Settling::Taken& row : mine.near) hit_count += row.view_count;
  calls_.counters().near_cache_hits.add(hit_count);
  calls_.counters().near_cache_misses.add(miss_count);
  if (!batch.rows.empty()) calls_.counters().lookup_batches.add(1);
}

// --- back from it

void Lookups::give(const LookupBatch& batch, const FetchedRecord* records) noexcept {
  Settling& mine = settling();
  check_and_keep(batch, records, mine);
  land(batch, mine);
  for (const LookupBatch::Row& row : mine.landed) settle(row.slot, gather(batch, row, mine), mine);
  queue_settled(mine);
}

void Lookups::fail(const LookupBatch& batch) noexcept {
  Settling& mine = settling();
  land(batch, mine);
  for (const LookupBatch::Row& row : mine.landed) settle(row.slot, nullptr, mine);
  queue_settled(mine);
}

// Also where all rows have given up: the next ones find what has come.
void Lookups::check_and_keep(const LookupBatch& batch, const FetchedRecord* records, Settling& mine) noexcept {
  mine.checked.assign(records, records + batch.keys.size());
  for (size_t i = 0; i < mine.checked.size(); ++i) {
    FetchedRecord& record = mine.checked[i];
    const LookupBatch::Key& key = batch.about[i];
    if (record.why == Code::kOk && record.bytes.data() != nullptr) {
      record.why = key.reader->check(key.view, key.digest, record.bytes);
    }
    const bool is_kept = record.why == Code::kOk && cache_.is_on() && key.reader->near_age_ns(key.view) > 0;
    if (is_kept) cache_.keep(batch.keys[i], key.lease, record.bytes, batch.started_ns);
  }
}

// Claims the rows that still wait, ends the flights and sends rows that have joined them to the front, in their order.
void Lookups::land(const LookupBatch& batch, Settling& mine) noexcept {
  mine.landed.clear();
  mine.landed.reserve(batch.rows.size());
  bool has_joined_rows = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const LookupBatch::Row& row : batch.rows) {
      const Parked& parked = parked_[row.slot];
      if (parked.serial != row.serial || parked.state != State::kFetching) continue;  // it has given up
      claim(row.slot);
      mine.landed.push_back(row);
    }
    for (const LookupBatch::Key& key : batch.about) flights_.end(key.hash, batch.id);
    for (uint32_t slot = joined_.last, previous = kNoSlot; slot != kNoSlot; slot = previous) {
      previous = parked_[slot].previous;
      if (parked_[slot].flight != batch.id) continue;
      unlink(joined_, slot);
      link_first(waiting_, slot);
      parked_[slot].state = State::kWaiting;
      has_joined_rows = true;
    }
  }
  if (has_joined_rows) waiting_changed_.notify_one();
}

const FetchedRecord* Lookups::gather(const LookupBatch& batch, const LookupBatch::Row& row, Settling& mine) const noexcept {
  const size_t view_count = parked_[row.slot].ticket.lane()->reader().plan().views().size();
  const int64_t now_ns = clock_.now_ns();
  mine.gathered.clear();
  for (size_t v = 0; v < view_count; ++v) {
    const LookupBatch::Source& source = batch.sources[row.first_source + v];
    const bool is_near = source.key == LookupBatch::Source::kNear;
    mine.gathered.push_back(is_near ? fetched_record(source.near, now_ns) : mine.checked[source.key]);
  }
  return mine.gathered.data();
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
  if (records == nullptr) {
    near_.make_do(lane.reader(), mine.transaction, clock_.now_ns(), mine.near_row);
    records = mine.near_row.records.data();
  }
  mine.violations.clear();
  const RowOut out = lane.memory().out(parked.row.slot);
  const bool is_read = lane.reader().read(mine.transaction, records, mine.read, out, mine.violations);
  for (size_t v = 0; v < view_count; ++v) {
    const Code rejected = out.views[v].rejected;
    if (rejected == Code::kStoreUnavailable) {
      calls_.counters().lookup_unavailable_records.add(1);
    } else if (rejected != Code::kOk && rejected != Code::kIntegerOverflow) {
      calls_.counters().lookup_rejected_records.add(1);
    }
  }
  if (is_read) return Status();
  // An input without a default, because the store is away, is not the client's fault.
  const bool is_away = is_store_away(out.views, view_count);
  Status status = is_away ? Status(Code::kStoreUnavailable, "the feature set declares no default for some of the inputs")
                          : Status(Code::kInvalidRequest);
  slot.failure = make_failure(status, is_away ? nullptr : &mine.violations);
  return status;
}

// Queues what settle() has noted: rows of one lane and priority that follow one another go under one lock.
void Lookups::queue_settled(Settling& mine) noexcept {
  for (size_t begin = 0, end = 0; begin < mine.rows.size(); begin = end) {
    Lane* const lane = mine.ready[begin].ticket.lane().get();
    const Priority priority = mine.ready[begin].priority;
    for (end = begin; end < mine.rows.size(); ++end) {
      if (mine.ready[end].ticket.lane().get() != lane || mine.ready[end].priority != priority) break;
      move_slot(calls_.slab()[mine.rows[end].slot], SlotState::kQueued);
    }
    const auto count = static_cast<uint32_t>(end - begin);
    LaneTicket ticket = std::move(mine.ready[begin].ticket);
    const Code code = lane->enqueue(std::move(ticket), &mine.rows[begin], count, priority, mine.completions);
    if (code == Code::kOk) continue;
    for (size_t i = begin; i < end; ++i) calls_.finish_row(mine.rows[i].slot, code, mine.completions);
  }
  mine.rows.clear();
  mine.ready.clear();  // gives the other tickets back
  mine.completions.flush();
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
