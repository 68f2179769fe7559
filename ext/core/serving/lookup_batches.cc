// Batches of look-ups: which keys a look-up thread is given, and what becomes of the records that it brings.
#include <algorithm>
#include <chrono>

#include "core/base/hash.h"
#include "core/serving/lookups.h"
#include "core/serving/lookups_settling.h"

namespace assay {
namespace {

// While a batch is under way, what waits goes with the next one of its thread: many keys cost hardly more than few. Once a row
// has waited this long, or a quarter of its time, all go by another thread: the store is slow, and two batches on their way halve
// the wait.
constexpr int64_t kCompanyNs = 1'000'000, kCompanyShareUnder = 4;

}  // namespace

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
    for (Asked& one : mine.asked) one.near = {};  // what the near-cache drops is not kept here
    if (!batch->rows.empty()) return batch;
  }
  return nullptr;
}

// When a row that waits is no longer left to the thread of a batch under way.
int64_t Lookups::due_ns(const Parked& parked) const noexcept {
  if (under_way_.use_count() == 1) return parked.parked_ns;  // nothing is under way
  return parked.parked_ns + std::min(kCompanyNs, (parked.give_up_ns - parked.parked_ns) / kCompanyShareUnder);
}

// REQUIRES: mutex_ is held. Of all rows that wait, the oldest is not always due first. Not above `now_ns`: one of them is due.
int64_t Lookups::next_due_ns(int64_t now_ns) const noexcept {
  int64_t next_ns = INT64_MAX;
  for (uint32_t slot = waiting_.first; slot != kNoSlot && next_ns > now_ns; slot = parked_[slot].next) {
    next_ns = std::min(next_ns, due_ns(parked_[slot]));
  }
  return next_ns;
}

// Until there are rows that this thread should take, or the end.
void Lookups::wait_for_rows(std::unique_lock<std::mutex>& lock) {
  while (!is_stopped_) {
    const int64_t now_ns = clock_.now_ns();
    awaited_ns_ = next_due_ns(now_ns);
    if (awaited_ns_ <= now_ns) return;
    if (awaited_ns_ == INT64_MAX) {
      waiting_changed_.wait(lock);
    } else {
      waiting_changed_.wait_for(lock, std::chrono::nanoseconds(awaited_ns_ - now_ns));
    }
  }
}

size_t Lookups::take_waiting(size_t rows_max, bool waits, Settling& mine) {
  bool wake_another = false;
  mine.taken.clear();
  mine.taken.reserve(std::min<size_t>(rows_max, calls_.slab().size()));
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (waits) wait_for_rows(lock);
    while (waiting_.first != kNoSlot && mine.taken.size() < rows_max) {
      const uint32_t slot = waiting_.first;
      unlink(waiting_, slot);
      link(fetching_, slot);
      parked_[slot].state = State::kTaking;
      mine.taken.push_back({slot, parked_[slot].serial, 0, 0, nullptr});
    }
    awaited_ns_ = INT64_MAX;  // what the threads that still wait know is of rows that are gone
    wake_another = waiting_.first != kNoSlot;
  }
  if (wake_another) waiting_changed_.notify_one();
  return mine.taken.size();
}

// Which keys the taken rows want, and which of their records are near. Outside the lock: while a row is kTaking nobody else
// touches it.
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
    if (!mine.fetching.empty()) batch.under_way = under_way_;
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

// The batch that fetches a record which this row lacks, if all that it lacks are being fetched and will be young enough; else 0.
// A fetch that takes longer than any row waits is not worth joining.
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
    batch.under_way = nullptr;
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

}  // namespace assay
