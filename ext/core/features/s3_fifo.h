// S3Fifo: row records by key, within a limit of bytes. The one table of a near-cache's shard; knows no ages and no locks.
//
// What leaves is chosen as by S3-FIFO (Yang, Zhang, Qiu, Yue and Vinayak, "FIFO queues are all you need for cache eviction",
// SOSP 2023):
//
//   a new key ---> small, a tenth of the bytes -- its turn to leave: found twice or more ---> main -- found since: another round
//                                              '- else: gone, its hash stays as a ghost         ^  '- else: gone
//   a new key whose ghost is there -------------------------------------------------------------'
//
// Keys that are asked for once, such as a nightly batch over all customers brings, pass through `small` and push nothing out of
// `main`; CLOCK and SIEVE lose what is popular to a long enough scan. A hit changes a counter and moves nothing.
//
// THREADS. One at a time: the shard's lock. Allocates in put(); frees in put() and erase(). No GIL.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/hash.h"

namespace assay {

// What a remote store said of a key, and when. Shared: who has it may read it after it has left the cache.
struct NearRecord {
  std::shared_ptr<const std::string> bytes;  // null: the store has no such record
  int64_t fetched_ns = 0;                    // when it was asked for, of the engine's clock
};

class S3Fifo {
 public:
  // Memory of an entry beside its key and its record's bytes: the entry, its place in the index, what the heap adds.
  static constexpr uint64_t kEntryBytes = 288;
  static uint64_t bytes_of(std::string_view key, const NearRecord& record) noexcept;

  // `bytes_max` bounds the entries and the ghosts together; it is never passed.
  explicit S3Fifo(uint64_t bytes_max);
  S3Fifo(const S3Fifo&) = delete;
  S3Fifo& operator=(const S3Fifo&) = delete;

  // False: the key is not there, or its record was fetched before `since_ns`; then it does not count as asked for.
  bool find(std::string_view key, int64_t since_ns, NearRecord* out) noexcept;
  // Puts a record in the place of what is there. False: it is larger than everything may be; then the key is not there. Throws
  // std::bad_alloc, and the key is not there.
  bool put(std::string_view key, NearRecord record);
  bool erase(std::string_view key) noexcept;

  uint64_t bytes() const noexcept { return ghosts_.size() * sizeof(Ghost) + small_.bytes + main_.bytes; }
  uint64_t entry_count() const noexcept { return entries_.size(); }
  uint64_t evicted_count() const noexcept { return evicted_count_; }

 private:
  struct Entry {
    std::string key;
    NearRecord record;
    uint64_t bytes = 0;
    Entry* older = nullptr;
    Entry* newer = nullptr;
    uint8_t found_count = 0;  // at most kFoundMax
    bool is_main = false;
  };
  struct Queue {
    Entry* oldest = nullptr;
    Entry* newest = nullptr;
    uint64_t bytes = 0;
  };
  // A key that left `small`: half of its hash, and which eviction that was.
  struct Ghost {
    uint32_t tag = 0;
    uint32_t number = 0;
  };
  struct KeyHash {
    size_t operator()(std::string_view key) const noexcept { return xxh64(key); }
  };

  Queue& queue_of(const Entry& entry) noexcept { return entry.is_main ? main_ : small_; }
  void link(Entry& entry) noexcept;
  void unlink(Entry& entry) noexcept;
  void drop(Entry& entry) noexcept;
  void make_room(uint64_t bytes) noexcept;
  void evict_from_small() noexcept;
  void evict_from_main() noexcept;
  void add_ghost(std::string_view key) noexcept;
  bool take_ghost(std::string_view key) noexcept;

  std::vector<Ghost> ghosts_;                                                      // by hash; a power of two of them
  const uint64_t bytes_max_;                                                       // of the entries
  std::unordered_map<std::string_view, std::unique_ptr<Entry>, KeyHash> entries_;  // keys are the entries' own
  Queue small_, main_;
  uint32_t ghost_number_ = 0;
  uint64_t evicted_count_ = 0;
};

}  // namespace assay
