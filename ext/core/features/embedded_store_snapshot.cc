// The embedded store's way to and from a snapshot file.
#include <algorithm>
#include <cstring>
#include <new>

#include "core/features/record_layout.h"
#include "core/features/store_impl.h"

namespace assay {
namespace {

constexpr size_t kSaveChunkBytes = 1 << 18;  // copied under a shard's lock at a time; about 50 µs

// One record copied out of its shard.
struct Copied {
  uint32_t state, id_bytes, record_bytes;
  size_t offset;  // of the id; the record follows at a multiple of 8
};

}  // namespace

// --- snapshot out

// Writes a shard's records, a chunk at a time: copied under the lock, written outside it. Records that come meanwhile are at the
// end.
Status EmbeddedStore::Impl::save_shard(const StoreShard& shard, SaveRun& run) const {
  std::vector<uint8_t> bytes;
  std::vector<Copied> copies;
  for (uint32_t next = 0;;) {
    bytes.clear();
    copies.clear();
    {
      const std::lock_guard<std::mutex> lock(shard.mutex);
      for (; next < shard.table.size() && bytes.size() < kSaveChunkBytes; ++next) {
        const RecordBlock* block = shard.table.at(next);
        const uint32_t size = record_bytes(block->record());
        copies.push_back({block->state, block->id_bytes, size, bytes.size()});
        const uint8_t* from = reinterpret_cast<const uint8_t*>(block + 1);
        bytes.insert(bytes.end(), from, block->record() + size);
      }
    }
    if (copies.empty()) return Status();
    for (const Copied& copied : copies) {
      int64_t& number = run.numbers[copied.state];
      if (number < 0) {
        number = run.written_views++;
        const StoreState& state = states[copied.state];
        if (Status status = run.writer.add_view(state.view_hash, state.entity_kind); !status.ok()) return status;
      }
      uint8_t* record = bytes.data() + copied.offset + ((copied.id_bytes + 7) & ~7u);
      seal_record(record);
      const std::string_view id(reinterpret_cast<const char*>(bytes.data() + copied.offset), copied.id_bytes);
      Status status = run.writer.add_record(static_cast<uint32_t>(number), id, record, copied.record_bytes);
      if (!status.ok()) return status;
    }
    run.done += copies.size();
    if (run.progress) run.progress(run.done, std::max(run.done, run.total));
  }
}

Status EmbeddedStore::save(const std::string& path, const std::function<void(uint64_t, uint64_t)>& progress) const {
  try {
    SaveRun run{{}, std::vector<int64_t>(kStoreViewsMax, -1), 0, 0, stats().record_count, progress};
    if (Status status = run.writer.open(path); !status.ok()) return status;
    for (const std::unique_ptr<StoreShard>& shard : impl_->shards) {
      if (Status status = impl_->save_shard(*shard, run); !status.ok()) return status;
    }
    return run.writer.finish();
  } catch (const std::bad_alloc&) { return Status(Code::kIo, "snapshot " + path + ": out of memory"); }
}

// --- snapshot in

const ViewSchema* EmbeddedStore::Impl::schema_of(uint32_t state) const noexcept {
  for (size_t i = 0; i < view_count; ++i) {
    if (views[i]->state == state) return &views[i]->schema;
  }
  return nullptr;
}

// Refuses writes to all shards until open_after_load(). False: there is something in one of them, or another load is on.
bool EmbeddedStore::Impl::close_for_load() noexcept {
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::lock_guard<std::mutex> lock(shards[i]->mutex);
    if (shards[i]->table.size() == 0) {
      shards[i]->is_loading = true;
      continue;
    }
    for (size_t j = 0; j < i; ++j) {
      const std::lock_guard<std::mutex> other(shards[j]->mutex);
      shards[j]->is_loading = false;
    }
    return false;
  }
  return true;
}

void EmbeddedStore::Impl::open_after_load() noexcept {
  for (const std::unique_ptr<StoreShard>& shard : shards) {
    const std::lock_guard<std::mutex> lock(shard->mutex);
    shard->is_loading = false;
  }
}

Status EmbeddedStore::Impl::take_record(const SnapshotReader& reader, const SnapshotItem& item, uint32_t state,
                                        const StoreState& facts, std::vector<std::unique_ptr<StoreShard>>& loaded) {
  const RecordKey key = record_key_of(facts.entity_kind, state, item.id);
  uint64_t hash64;
  std::memcpy(&hash64, facts.view_hash.data(), sizeof hash64);
  Code code = check_record(item.record, item.record_bytes, hash64, key.digest);
  const ViewSchema* schema = schema_of(state);
  if (code == Code::kOk && schema != nullptr) code = check_layout(item.record, item.record_bytes, *schema);
  if (code != Code::kOk) return reader.failure(code, "a record cannot be trusted: " + std::string(code_info(code).message));
  RecordTable& table = loaded[key.hash >> 58]->table;
  if (table.find(key.hash, state, item.id) != nullptr) return reader.failure(Code::kSnapshotView, "holds an entity twice");
  RecordBlock* block = table.add(key.hash, state, item.id, item.record_bytes);
  if (block == nullptr) return reader.failure(Code::kStoreFull, "does not fit into the store; raise its memory limit");
  std::memcpy(block->record(), item.record, item.record_bytes);
  store_le<uint32_t>(block->record() + header::kCrc, 0);
  return Status();
}

Status EmbeddedStore::Impl::read_snapshot(SnapshotReader& reader, std::vector<std::unique_ptr<StoreShard>>& loaded,
                                          std::vector<StoreState>& added,
                                          const std::function<void(uint64_t, uint64_t)>& progress) {
  std::vector<uint32_t> state_of_view;  // of the file's views
  uint64_t reported = 0;
  for (SnapshotItem item;;) {
    if (Status status = reader.next(&item); !status.ok()) return status;
    if (item.type == SnapshotItem::Type::kEnd) break;
    if (item.type == SnapshotItem::Type::kView) {
      int state = find_state(item.view_hash, item.entity_kind);
      if (state < 0) {
        if (state_count + added.size() == kStoreViewsMax) return reader.failure(Code::kSnapshotView, "holds too many views");
        state = static_cast<int>(state_count + added.size());
        added.push_back({item.view_hash, std::string(item.entity_kind), false});
      }
      state_of_view.push_back(static_cast<uint32_t>(state));
      continue;
    }
    const uint32_t state = state_of_view[item.view];
    const StoreState& facts = state < state_count ? states[state] : added[state - state_count];
    if (Status status = take_record(reader, item, state, facts, loaded); !status.ok()) return status;
    if (progress && reader.bytes_read() - reported >= kSaveChunkBytes * 4) {
      reported = reader.bytes_read();
      progress(reported, reader.bytes());
    }
  }
  if (progress) progress(reader.bytes(), reader.bytes());
  return Status();
}

Status EmbeddedStore::load(const std::string& path, const std::function<void(uint64_t, uint64_t)>& progress) {
  const std::lock_guard<std::mutex> lock(impl_->registry_mutex);
  if (!impl_->close_for_load()) {
    return Status(Code::kInvalidRequest, "snapshot " + path + ": the store already holds records; load into an empty one");
  }
  Status status;
  try {
    std::vector<std::unique_ptr<StoreShard>> loaded;
    for (uint32_t i = 0; i < kStoreShardCount; ++i) loaded.push_back(std::make_unique<StoreShard>(&impl_->budget));
    std::vector<StoreState> added;
    SnapshotReader reader;
    status = reader.open(path);
    if (status.ok()) status = impl_->read_snapshot(reader, loaded, added, progress);
    if (status.ok()) {
      for (StoreState& state : added) impl_->states[impl_->state_count++] = std::move(state);
      for (uint32_t i = 0; i < kStoreShardCount; ++i) {
        const std::lock_guard<std::mutex> shard_lock(impl_->shards[i]->mutex);
        impl_->shards[i]->table.swap(loaded[i]->table);
      }
    }
  } catch (const std::bad_alloc&) { status = Status(Code::kIo, "snapshot " + path + ": out of memory"); }
  impl_->open_after_load();
  return status;
}

}  // namespace assay
