#include "core/features/s3_fifo.h"

#include <algorithm>

namespace assay {
namespace {

constexpr uint64_t kSmallShareUnder = 10;  // `small` gives way to `main` below a tenth of the bytes
constexpr uint8_t kFoundMax = 3;
constexpr uint8_t kPopularMin = 2;  // found so often in `small`: on to `main`
constexpr uint64_t kBytesPerGhost = 1024;
constexpr size_t kGhostsMin = 64;

size_t ghost_count(uint64_t bytes_max) noexcept {
  size_t count = kGhostsMin;
  while (count * kBytesPerGhost * 2 <= bytes_max) count *= 2;
  return count;
}

}  // namespace

uint64_t S3Fifo::bytes_of(std::string_view key, const NearRecord& record) noexcept {
  return kEntryBytes + key.size() + (record.bytes != nullptr ? record.bytes->size() : 0);
}

S3Fifo::S3Fifo(uint64_t bytes_max)
    : ghosts_(ghost_count(bytes_max)), bytes_max_(bytes_max - std::min(bytes_max, ghosts_.size() * sizeof(Ghost))) {
  constexpr uint64_t kNodeBytes = 40, kBucketBytes = 16, kSharedBytes = 16 + sizeof(std::string), kHeapBytes = 16;
  static_assert(sizeof(Entry) + kNodeBytes + kBucketBytes + kSharedBytes + 5 * kHeapBytes <= kEntryBytes, "the header counts it");
}

bool S3Fifo::find(std::string_view key, int64_t since_ns, NearRecord* out) noexcept {
  const auto at = entries_.find(key);
  if (at == entries_.end() || at->second->record.fetched_ns < since_ns) return false;
  Entry& entry = *at->second;
  if (entry.found_count < kFoundMax) ++entry.found_count;
  *out = entry.record;
  return true;
}

bool S3Fifo::put(std::string_view key, NearRecord record) {
  auto entry = std::make_unique<Entry>();
  entry->key = key;
  entry->bytes = bytes_of(key, record);
  entry->record = std::move(record);
  // What is fetched anew begins its queue anew, as popular as it was.
  if (const auto known = entries_.find(key); known != entries_.end()) {
    entry->is_main = known->second->is_main;
    entry->found_count = known->second->found_count;
    drop(*known->second);
  } else {
    entry->is_main = take_ghost(key);
  }
  if (entry->bytes > bytes_max_) return false;
  make_room(entry->bytes);
  Entry& added = *entry;
  entries_.emplace(added.key, std::move(entry));
  link(added);
  return true;
}

bool S3Fifo::erase(std::string_view key) noexcept {
  const auto at = entries_.find(key);
  if (at == entries_.end()) return false;
  drop(*at->second);
  return true;
}

void S3Fifo::link(Entry& entry) noexcept {
  Queue& queue = queue_of(entry);
  entry.older = queue.newest;
  entry.newer = nullptr;
  (queue.newest == nullptr ? queue.oldest : queue.newest->newer) = &entry;
  queue.newest = &entry;
  queue.bytes += entry.bytes;
}

void S3Fifo::unlink(Entry& entry) noexcept {
  Queue& queue = queue_of(entry);
  (entry.older == nullptr ? queue.oldest : entry.older->newer) = entry.newer;
  (entry.newer == nullptr ? queue.newest : entry.newer->older) = entry.older;
  queue.bytes -= entry.bytes;
}

void S3Fifo::drop(Entry& entry) noexcept {
  unlink(entry);
  entries_.erase(entries_.find(entry.key));
}

// --- who leaves

// Each step drops an entry, moves one to `main`, or takes one of the at most kFoundMax counts of one there: it ends.
void S3Fifo::make_room(uint64_t bytes) noexcept {
  while (small_.bytes + main_.bytes > bytes_max_ - bytes) {
    const bool is_smalls_turn = small_.bytes >= bytes_max_ / kSmallShareUnder;
    if (main_.oldest == nullptr || (is_smalls_turn && small_.oldest != nullptr)) {
      evict_from_small();
    } else {
      evict_from_main();
    }
  }
}

void S3Fifo::evict_from_small() noexcept {
  Entry& entry = *small_.oldest;
  if (entry.found_count >= kPopularMin) {
    unlink(entry);
    entry.is_main = true;
    entry.found_count = 0;
    return link(entry);
  }
  add_ghost(entry.key);
  ++evicted_count_;
  drop(entry);
}

void S3Fifo::evict_from_main() noexcept {
  Entry& entry = *main_.oldest;
  if (entry.found_count > 0) {
    unlink(entry);
    --entry.found_count;
    return link(entry);
  }
  ++evicted_count_;
  drop(entry);
}

// --- ghosts: as many of the last that left `small` as there are entries, less those that met in one cell

void S3Fifo::add_ghost(std::string_view key) noexcept {
  const uint64_t hash = xxh64(key);
  ghosts_[hash & (ghosts_.size() - 1)] = {static_cast<uint32_t>(hash >> 32), ++ghost_number_};
}

bool S3Fifo::take_ghost(std::string_view key) noexcept {
  const uint64_t hash = xxh64(key);
  Ghost& ghost = ghosts_[hash & (ghosts_.size() - 1)];
  const bool is_there = ghost.number != 0 && ghost.tag == static_cast<uint32_t>(hash >> 32) &&
                        ghost_number_ - ghost.number < std::max<uint64_t>(entries_.size(), 1);
  if (is_there) ghost = {};
  return is_there;
}

}  // namespace assay
