#include "core/features/near_cache.h"

#include <algorithm>
#include <new>
#include <string>

#include "core/base/hash.h"

namespace assay {
namespace {

constexpr size_t kNearViewsMax = limits::kViewsMax * limits::kLanesMax;

}  // namespace

NearCache::NearCache(uint64_t bytes_max) : bytes_max_(bytes_max) {
  if (bytes_max == 0) return;
  ASSAY_ASSERT(bytes_max >= kBytesMin);
  for (size_t i = 0; i < kShards; ++i) shards_.push_back(std::make_unique<Shard>(bytes_max / kShards - sizeof(Shard)));
}

Status NearCache::add_view(const ViewSchema& schema) {
  const std::lock_guard<std::mutex> lock(views_mutex_);
  const auto known = std::find_if(views_.begin(), views_.end(), [&](const ViewSchema& view) {
    return view.hash64() == schema.hash64();  // the part that readers compare
  });
  if (known != views_.end()) {
    if (known->has_layout_of(schema)) return Status();
    return Status(Code::kPlanInvalid,
                  "view \"" + printable(schema.spec().name) +
                      "\": its hash is that of a view with other columns, windows or limits; the hash must cover them");
  }
  if (views_.size() == kNearViewsMax) {
    return Status(Code::kPlanInvalid, "the near-cache knows " + std::to_string(kNearViewsMax) + " views already");
  }
  views_.push_back(schema);
  return Status();
}

// The table of a shard takes the low bits of the hash.
NearCache::Place NearCache::place_of(std::string_view key) const noexcept {
  const uint64_t hash = xxh64(key);
  Shard& shard = *shards_[(hash >> 60) % kShards];
  return {shard, shard.leases[(hash >> 48) % kLeases]};
}

bool NearCache::find(std::string_view key, int64_t since_ns, NearRecord* out) const noexcept {
  const Place place = place_of(key);
  const std::lock_guard<std::mutex> lock(place.shard.mutex);
  return place.shard.records.find(key, since_ns, out);
}

uint64_t NearCache::lease(std::string_view key) const noexcept { return place_of(key).lease.load(std::memory_order_acquire); }

void NearCache::keep(std::string_view key, uint64_t lease, std::string_view record, int64_t fetched_ns) noexcept {
  const Place place = place_of(key);
  try {
    NearRecord copy{record.data() != nullptr ? std::make_shared<const std::string>(record) : nullptr, fetched_ns};
    const std::lock_guard<std::mutex> lock(place.shard.mutex);
    if (place.lease.load(std::memory_order_relaxed) == lease) place.shard.records.put(key, std::move(copy));
  } catch (const std::bad_alloc&) {  // the row has its record; the next one asks the store
  }
}

void NearCache::forget(std::string_view key) noexcept {
  if (!is_on()) return;
  const Place place = place_of(key);
  const std::lock_guard<std::mutex> lock(place.shard.mutex);
  place.lease.fetch_add(1, std::memory_order_release);
  place.shard.records.erase(key);
}

NearCacheStats NearCache::stats() const noexcept {
  NearCacheStats stats;
  stats.bytes_max = bytes_max_;
  for (const std::unique_ptr<Shard>& shard : shards_) {
    const std::lock_guard<std::mutex> lock(shard->mutex);
    stats.record_count += shard->records.entry_count();
    stats.bytes += sizeof(Shard) + shard->records.bytes();
    stats.evicted_count += shard->records.evicted_count();
  }
  return stats;
}

}  // namespace assay
