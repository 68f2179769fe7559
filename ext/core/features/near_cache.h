// NearCache: records of a remote store that this server has fetched a moment ago, and keys that have none. Bounded in bytes.
//
// It keeps what the store said and when, and judges nothing: who asks knows how old a record may be. What is kept has passed
// validate_record; a reader still compares view hash and entity (check_header), so a record never reaches another entity's row.
//
// LEASES. Who fetches takes a lease of the key first and shows it with the record. forget(), which comes with each write of this
// server, ends the leases that are out: what was read before the write is not kept after it.
//
// THREADS. Any, without the GIL. A lock for each of kShards; under it one look, one put with its evictions, or one erasure.
// OWNS copies of keys and records. A found record lives as long as who found it holds it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/features/s3_fifo.h"
#include "core/features/view.h"

namespace assay {

struct NearCacheStats {
  uint64_t record_count = 0;  // absences included
  uint64_t bytes = 0;         // of keys, records and all that is kept of them
  uint64_t bytes_max = 0;
  uint64_t evicted_count = 0;
};

class NearCache {
 public:
  static constexpr uint64_t kBytesMin = 1 << 20;  // below it a shard would hold next to nothing

  // 0: it keeps nothing. Else REQUIRES at least kBytesMin.
  explicit NearCache(uint64_t bytes_max);

  bool is_on() const noexcept { return !shards_.empty(); }

  // Makes a view known, before records of it are fetched; also one whose records are not kept, for rows of several lanes share
  // fetches by key, and a key tells views apart by their hash. kPlanInvalid: another view has its hash and other bytes, or there
  // are kViewsMax * kLanesMax already. Control threads.
  Status add_view(const ViewSchema& schema);

  // False: nothing is known of the key, or only a record that was fetched before `since_ns`: it does not count as asked for.
  bool find(std::string_view key, int64_t since_ns, NearRecord* out) const noexcept;

  uint64_t lease(std::string_view key) const noexcept;
  // Keeps a copy of what the store said; `record` with a null view: that there is none. Not if the lease has ended, or there is
  // no room or no memory for it.
  void keep(std::string_view key, uint64_t lease, std::string_view record, int64_t fetched_ns) noexcept;
  // The key's record is about to change, or has: it is fetched anew.
  void forget(std::string_view key) noexcept;

  NearCacheStats stats() const noexcept;

 private:
  static constexpr size_t kShards = 16;
  static constexpr size_t kLeases = 256;  // of a shard: keys that share one lose a record now and then, never more

  struct Shard {
    explicit Shard(uint64_t bytes_max) : records(bytes_max) {}
    mutable std::mutex mutex;
    S3Fifo records;                                       // guarded by mutex
    std::array<std::atomic<uint64_t>, kLeases> leases{};  // changed under mutex
  };
  struct Place {
    Shard& shard;
    std::atomic<uint64_t>& lease;
  };

  Place place_of(std::string_view key) const noexcept;

  const uint64_t bytes_max_;
  std::vector<std::unique_ptr<Shard>> shards_;  // empty: off
  std::mutex views_mutex_;
  std::vector<ViewSchema> views_;  // one a hash; guarded by views_mutex_
};

}  // namespace assay
