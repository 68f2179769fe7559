// Inside the embedded store: its shards, states and views. Included by embedded_store*.cc alone.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/features/embedded_store.h"
#include "core/features/record.h"
#include "core/features/record_table.h"
#include "core/features/snapshot.h"

namespace assay {

inline constexpr uint32_t kStoreShardCount = 64;
inline constexpr size_t kStoreViewsMax = limits::kViewsMax * limits::kLanesMax;

struct StoreCounters {
  uint64_t events = 0, duplicates = 0, late = 0, rejected = 0, tiled = 0, full = 0;
};

// alignas: two shards' locks must not share a cache line.
struct alignas(128) StoreShard {
  explicit StoreShard(ByteBudget* budget) noexcept : table(budget) {}
  mutable std::mutex mutex;
  RecordTable table;
  mutable StoreCounters counters;  // reading counts too
  bool is_loading = false;         // writes wait outside until a snapshot is in
};

// What records belong to: one view hash and entity kind. Views that fold the same records in different ways share one.
struct StoreState {
  std::array<uint8_t, 32> view_hash{};
  std::string entity_kind;
  bool has_view = false;  // false: known from a snapshot only; its records have not been checked to the last entry
};

struct StoreView {
  ViewSchema schema;
  uint32_t state = 0;
  std::string entity_kind;
};

struct RecordKey {
  uint64_t digest;
  uint64_t hash;
};

inline RecordKey record_key_of(std::string_view entity_kind, uint32_t state, std::string_view id) noexcept {
  const uint64_t digest = entity_digest(entity_kind, id);
  uint64_t hash = (digest ^ (uint64_t{state} * 0x9E37'79B9'7F4A'7C15)) * 0xD6E8'FEB8'6659'FD93;
  return {digest, hash ^ (hash >> 32)};
}

// One save() on its way.
struct SaveRun {
  SnapshotWriter writer;
  std::vector<int64_t> numbers;  // of states in the file; -1: not in it yet
  uint32_t written_views = 0;
  uint64_t done = 0, total = 0;
  const std::function<void(uint64_t, uint64_t)>& progress;
};

struct EmbeddedStore::Impl {
  explicit Impl(uint64_t bytes_max) : budget(bytes_max) {
    shards.reserve(kStoreShardCount);
    for (uint32_t i = 0; i < kStoreShardCount; ++i) shards.push_back(std::make_unique<StoreShard>(&budget));
  }

  StoreShard& shard_of(uint64_t hash) const noexcept { return *shards[hash >> 58]; }
  static_assert(kStoreShardCount == 64);

  const StoreView& view_of(uint32_t view_id, ViewKind kind) const noexcept {
    ASSAY_ASSERT(view_id < kStoreViewsMax && views[view_id] != nullptr && views[view_id]->schema.spec().kind == kind);
    return *views[view_id];
  }

  int find_state(const std::array<uint8_t, 32>& view_hash, std::string_view entity_kind) const noexcept {
    for (size_t i = 0; i < state_count; ++i) {
      if (states[i].view_hash == view_hash && states[i].entity_kind == entity_kind) return static_cast<int>(i);
    }
    return -1;
  }

  Status adopt_state(uint32_t state, const ViewSchema& schema);
  Status read_snapshot(SnapshotReader& reader, std::vector<std::unique_ptr<StoreShard>>& loaded, std::vector<StoreState>& added,
                       const std::function<void(uint64_t, uint64_t)>& progress);
  Status take_record(const SnapshotReader& reader, const SnapshotItem& item, uint32_t state, const StoreState& facts,
                     std::vector<std::unique_ptr<StoreShard>>& loaded);
  const ViewSchema* schema_of(uint32_t state) const noexcept;
  bool close_for_load() noexcept;
  void open_after_load() noexcept;
  Status save_shard(const StoreShard& shard, SaveRun& run) const;

  ByteBudget budget;  // outlives the shards
  std::vector<std::unique_ptr<StoreShard>> shards;
  // States and views are only ever added, under the lock; an id is handed out after what it names is in place.
  mutable std::mutex registry_mutex;
  std::array<StoreState, kStoreViewsMax> states;
  size_t state_count = 0;
  std::array<std::unique_ptr<StoreView>, kStoreViewsMax> views;
  size_t view_count = 0;
};

}  // namespace assay
