#include "core/features/embedded_store.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <new>
#include <vector>

#include "core/features/attribute_record.h"
#include "core/features/fold.h"
#include "core/features/record.h"
#include "core/features/record_layout.h"
#include "core/features/record_table.h"
#include "core/features/snapshot.h"

namespace assay {
namespace {

constexpr uint32_t kShardCount = 64;
constexpr size_t kViewIdsMax = limits::kViewsMax * limits::kLanesMax;
constexpr size_t kSaveChunkBytes = 1 << 18;   // copied under a shard's lock at a time; about 50 µs

struct Counters {
  uint64_t events = 0, duplicates = 0, late = 0, rejected = 0, tiled = 0, full = 0;
};

// alignas: two shards' locks must not share a cache line.
struct alignas(128) Shard {
  explicit Shard(ByteBudget* budget) noexcept : table(budget) {}
  mutable std::mutex mutex;
  RecordTable table;
  mutable Counters counters;      // reading counts too
  bool is_loading = false;        // writes wait outside until a snapshot is in
};

// What records belong to: one view hash and entity kind. Views that fold the same records in different ways share one.
struct State {
  std::array<uint8_t, 32> view_hash{};
  std::string entity_kind;
  bool has_view = false;          // false: known from a snapshot only; its records have not been checked to the last entry
};

struct View {
  ViewSchema schema;
  uint32_t state = 0;
  std::string entity_kind;
};

struct Key {
  uint64_t digest;
  uint64_t hash;
};

Key key_of(std::string_view entity_kind, uint32_t state, std::string_view id) noexcept {
  const uint64_t digest = entity_digest(entity_kind, id);
  uint64_t hash = (digest ^ (uint64_t{state} * 0x9E37'79B9'7F4A'7C15)) * 0xD6E8'FEB8'6659'FD93;
  return {digest, hash ^ (hash >> 32)};
}

bool is_same_aggregate(const AggregateSpec& a, const AggregateSpec& b) {
  return a.op == b.op && a.column == b.column && a.window_us == b.window_us;
}

// Whether two views of one state give the same values.
bool is_same_fold(const ViewSpec& a, const ViewSpec& b) {
  return a.delay_us == b.delay_us && a.lateness_us == b.lateness_us && a.includes_current == b.includes_current &&
         a.max_age_us == b.max_age_us &&
         std::equal(a.aggregates.begin(), a.aggregates.end(), b.aggregates.begin(), b.aggregates.end(), is_same_aggregate);
}

// One record copied out of its shard.
struct Copied {
  uint32_t state, id_bytes, record_bytes;
  size_t offset;   // of the id; the record follows at a multiple of 8
};

}  // namespace

struct EmbeddedStore::Impl {
  explicit Impl(uint64_t bytes_max) : budget(bytes_max) {
    shards.reserve(kShardCount);
    for (uint32_t i = 0; i < kShardCount; ++i) shards.push_back(std::make_unique<Shard>(&budget));
  }

  Shard& shard_of(uint64_t hash) const noexcept { return *shards[hash >> 58]; }
  static_assert(kShardCount == 64);

  const View& view_of(uint32_t view_id, ViewKind kind) const noexcept {
    ASSAY_ASSERT(view_id < kViewIdsMax && views[view_id] != nullptr && views[view_id]->schema.spec().kind == kind);
    return *views[view_id];
  }

  int find_state(const std::array<uint8_t, 32>& view_hash, std::string_view entity_kind) const noexcept {
    for (size_t i = 0; i < state_count; ++i) {
      if (states[i].view_hash == view_hash && states[i].entity_kind == entity_kind) return static_cast<int>(i);
    }
    return -1;
  }

  Status adopt_state(uint32_t state, const ViewSchema& schema);
  Status read_snapshot(SnapshotReader& reader, std::vector<std::unique_ptr<Shard>>& loaded, std::vector<State>& added,
                       const std::function<void(uint64_t, uint64_t)>& progress);
  Status take_record(const SnapshotReader& reader, const SnapshotItem& item, uint32_t state, const State& facts,
                     std::vector<std::unique_ptr<Shard>>& loaded);
  const ViewSchema* schema_of(uint32_t state) const noexcept;
  bool close_for_load() noexcept;
  void open_after_load() noexcept;
  Status save_shard(const Shard& shard, SnapshotWriter& writer, std::vector<int64_t>& numbers, uint32_t& view_count, uint64_t& done,
                    uint64_t total, const std::function<void(uint64_t, uint64_t)>& progress) const;

  ByteBudget budget;                                // outlives the shards
  std::vector<std::unique_ptr<Shard>> shards;
  // States and views are only ever added, under the lock; an id is handed out after what it names is in place.
  mutable std::mutex registry_mutex;
  std::array<State, kViewIdsMax> states;
  size_t state_count = 0;
  std::array<std::unique_ptr<View>, kViewIdsMax> views;
  size_t view_count = 0;
};

EmbeddedStore::EmbeddedStore(uint64_t bytes_max) : impl_(std::make_unique<Impl>(bytes_max)) {}
EmbeddedStore::~EmbeddedStore() = default;

// --- views

// Records that came with a snapshot before anyone knew their view: checked now, to the last entry, before they are served.
Status EmbeddedStore::Impl::adopt_state(uint32_t state, const ViewSchema& schema) {
  for (const std::unique_ptr<Shard>& shard : shards) {
    const std::lock_guard<std::mutex> lock(shard->mutex);
    for (uint32_t i = 0; i < shard->table.size(); ++i) {
      const RecordBlock* block = shard->table.at(i);
      if (block->state != state) continue;
      if (const Code code = check_layout(block->record(), record_bytes(block->record()), schema); code != Code::kOk) {
        return Status(code, "view \"" + printable(schema.spec().name) + "\": the snapshot holds a record of this view that cannot be trusted");
      }
    }
  }
  return Status();
}

Status EmbeddedStore::add_view(const ViewSchema& schema, std::string_view entity_kind, uint32_t* view_id) {
  if (entity_kind.empty() || entity_kind.size() > limits::kNameBytesMax) {
    return Status(Code::kPlanInvalid, "an entity kind needs 1 to " + std::to_string(limits::kNameBytesMax) + " bytes");
  }
  const std::lock_guard<std::mutex> lock(impl_->registry_mutex);
  int state = impl_->find_state(schema.spec().view_hash, entity_kind);
  for (size_t i = 0; i < impl_->view_count && state >= 0; ++i) {
    const View& known = *impl_->views[i];
    if (known.state != static_cast<uint32_t>(state)) continue;
    if (!known.schema.has_layout_of(schema)) {
      return Status(Code::kPlanInvalid, "view \"" + printable(schema.spec().name) +
                                            "\": its hash is that of a view with other columns, windows or limits; the hash must cover them");
    }
    if (is_same_fold(known.schema.spec(), schema.spec())) {
      *view_id = static_cast<uint32_t>(i);
      return Status();
    }
  }
  if (impl_->view_count == kViewIdsMax || (state < 0 && impl_->state_count == kViewIdsMax)) {
    return Status(Code::kPlanInvalid, "the store knows " + std::to_string(kViewIdsMax) + " views already");
  }
  if (state < 0) {
    state = static_cast<int>(impl_->state_count++);
    impl_->states[static_cast<size_t>(state)] = {schema.spec().view_hash, std::string(entity_kind), true};
  } else if (!impl_->states[static_cast<size_t>(state)].has_view) {
    if (Status status = impl_->adopt_state(static_cast<uint32_t>(state), schema); !status.ok()) return status;
    impl_->states[static_cast<size_t>(state)].has_view = true;
  }
  *view_id = static_cast<uint32_t>(impl_->view_count);
  impl_->views[*view_id] = std::make_unique<View>(View{schema, static_cast<uint32_t>(state), std::string(entity_kind)});
  ++impl_->view_count;
  return Status();
}

// --- events and attributes in

Code EmbeddedStore::apply(uint32_t view_id, std::string_view entity_id, const EventEntry& event) noexcept {
  const View& view = impl_->view_of(view_id, ViewKind::kWindow);
  if (entity_id.size() > limits::kIdBytesMax) return Code::kTooLong;
  const Key key = key_of(view.entity_kind, view.state, entity_id);
  Shard& shard = impl_->shard_of(key.hash);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  if (shard.is_loading) return Code::kStoreUnavailable;
  RecordBlock* block = shard.table.find(key.hash, view.state, entity_id);
  const InsertPlan plan = plan_insert(view.schema, block == nullptr ? nullptr : block->record(), event);
  if (plan.code != Code::kOk) {
    shard.counters.duplicates += plan.code == Code::kEventDuplicate;
    shard.counters.late += plan.code == Code::kEventTooLate;
    return plan.code;
  }
  const bool is_new = block == nullptr;
  if (is_new) {
    block = shard.table.add(key.hash, view.state, entity_id, plan.bytes_needed);
  } else if (block->capacity() < plan.bytes_needed) {
    block = shard.table.resize(block, plan.bytes_needed);
  }
  if (block == nullptr) {
    ++shard.counters.full;
    return Code::kStoreFull;
  }
  if (is_new) init_window_record(view.schema, key.digest, block->record());
  shard.counters.tiled += commit_insert(view.schema, block->record(), plan, event);
  ++shard.counters.events;
  shard.table.trim(block, record_bytes(block->record()));
  return Code::kOk;
}

Code EmbeddedStore::put_attributes(uint32_t view_id, std::string_view entity_id, int64_t time_us, const Value* values) noexcept {
  const View& view = impl_->view_of(view_id, ViewKind::kAttributes);
  if (entity_id.size() > limits::kIdBytesMax) return Code::kTooLong;
  const Key key = key_of(view.entity_kind, view.state, entity_id);
  alignas(8) uint8_t offered[kAttributeRecordBytesMax];
  if (Code code = build_attribute_record(view.schema, key.digest, time_us, values, offered); code != Code::kOk) return code;
  const uint32_t bytes = record_bytes(offered);

  Shard& shard = impl_->shard_of(key.hash);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  if (shard.is_loading) return Code::kStoreUnavailable;
  RecordBlock* block = shard.table.find(key.hash, view.state, entity_id);
  if (block != nullptr) {
    const Code code = compare_attribute_records(block->record(), offered);
    shard.counters.duplicates += code == Code::kEventDuplicate;
    shard.counters.late += code == Code::kEventTooLate;
    if (code != Code::kOk) return code;
    if (block->capacity() < bytes) block = shard.table.resize(block, bytes);
  } else {
    block = shard.table.add(key.hash, view.state, entity_id, bytes);
  }
  if (block == nullptr) {
    ++shard.counters.full;
    return Code::kStoreFull;
  }
  std::memcpy(block->record(), offered, bytes);
  ++shard.counters.events;
  shard.table.trim(block, bytes);
  return Code::kOk;
}

// --- features out

void EmbeddedStore::fold(uint32_t view_id, std::string_view entity_id, const FoldRequest& request, Value* values, FoldResult* result,
                         char* arena) const noexcept {
  ASSAY_ASSERT(view_id < kViewIdsMax && impl_->views[view_id] != nullptr);
  const View& view = *impl_->views[view_id];
  const bool is_window = view.schema.spec().kind == ViewKind::kWindow;
  *result = FoldResult();
  if (!is_window) std::fill_n(values, view.schema.output_count(), Value());
  if (entity_id.size() > limits::kIdBytesMax) {
    if (is_window) fold_record(view.schema, nullptr, request, values, result);
    return;
  }
  const Key key = key_of(view.entity_kind, view.state, entity_id);
  const Shard& shard = impl_->shard_of(key.hash);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  const RecordBlock* block = shard.table.find(key.hash, view.state, entity_id);
  if (block != nullptr) {
    if (const Code code = check_header(block->record(), view.schema.hash64(), key.digest); code != Code::kOk) {
      ++shard.counters.rejected;   // nulls, not zeros: nothing is known of this entity
      result->rejected = code;
      std::fill_n(values, view.schema.output_count(), Value());
      return;
    }
  }
  if (is_window) {
    fold_record(view.schema, block == nullptr ? nullptr : block->record(), request, values, result);
  } else if (block != nullptr) {
    const int64_t t_us = std::clamp(request.event_time_us, limits::kTimeUsMin, limits::kTimeUsMax);
    read_attributes(view.schema, block->record(), t_us, values, result, arena);
  }
}

void EmbeddedStore::prefetch(uint32_t view_id, std::string_view entity_id) const noexcept {
  if (view_id >= kViewIdsMax || impl_->views[view_id] == nullptr || entity_id.size() > limits::kIdBytesMax) return;
  const View& view = *impl_->views[view_id];
  const Key key = key_of(view.entity_kind, view.state, entity_id);
  const Shard& shard = impl_->shard_of(key.hash);
  const std::unique_lock<std::mutex> lock(shard.mutex, std::try_to_lock);
  if (!lock.owns_lock()) return;
  if (const RecordBlock* block = shard.table.find(key.hash, view.state, entity_id)) {
    const uint8_t* record = block->record();
    for (uint32_t offset = 64; offset < std::min<uint32_t>(block->capacity(), 1024); offset += 64) __builtin_prefetch(record + offset);
  }
}

// --- snapshot out

// Writes a shard's records, a chunk at a time: copied under the lock, written outside it. Records that come meanwhile are at the end.
Status EmbeddedStore::Impl::save_shard(const Shard& shard, SnapshotWriter& writer, std::vector<int64_t>& numbers, uint32_t& view_count,
                                       uint64_t& done, uint64_t total,
                                       const std::function<void(uint64_t, uint64_t)>& progress) const {
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
      if (numbers[copied.state] < 0) {
        numbers[copied.state] = view_count++;
        const State& state = states[copied.state];
        if (Status status = writer.add_view(state.view_hash, state.entity_kind); !status.ok()) return status;
      }
      uint8_t* record = bytes.data() + copied.offset + ((copied.id_bytes + 7) & ~7u);
      seal_record(record);
      const std::string_view id(reinterpret_cast<const char*>(bytes.data() + copied.offset), copied.id_bytes);
      Status status = writer.add_record(static_cast<uint32_t>(numbers[copied.state]), id, record, copied.record_bytes);
      if (!status.ok()) return status;
    }
    done += copies.size();
    if (progress) progress(done, std::max(done, total));
  }
}

Status EmbeddedStore::save(const std::string& path, const std::function<void(uint64_t, uint64_t)>& progress) const {
  try {
    const uint64_t total = stats().record_count;
    SnapshotWriter writer;
    if (Status status = writer.open(path); !status.ok()) return status;
    std::vector<int64_t> numbers(kViewIdsMax, -1);   // of states in the file
    uint32_t view_count = 0;
    uint64_t done = 0;
    for (const std::unique_ptr<Shard>& shard : impl_->shards) {
      Status status = impl_->save_shard(*shard, writer, numbers, view_count, done, total, progress);
      if (!status.ok()) return status;
    }
    return writer.finish();
  } catch (const std::bad_alloc&) {
    return Status(Code::kIo, "snapshot " + path + ": out of memory");
  }
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
  for (const std::unique_ptr<Shard>& shard : shards) {
    const std::lock_guard<std::mutex> lock(shard->mutex);
    shard->is_loading = false;
  }
}

Status EmbeddedStore::Impl::take_record(const SnapshotReader& reader, const SnapshotItem& item, uint32_t state, const State& facts,
                                        std::vector<std::unique_ptr<Shard>>& loaded) {
  const Key key = key_of(facts.entity_kind, state, item.id);
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

Status EmbeddedStore::Impl::read_snapshot(SnapshotReader& reader, std::vector<std::unique_ptr<Shard>>& loaded,
                                          std::vector<State>& added, const std::function<void(uint64_t, uint64_t)>& progress) {
  std::vector<uint32_t> state_of_view;   // of the file's views
  uint64_t reported = 0;
  for (SnapshotItem item;;) {
    if (Status status = reader.next(&item); !status.ok()) return status;
    if (item.type == SnapshotItem::Type::kEnd) break;
    if (item.type == SnapshotItem::Type::kView) {
      int state = find_state(item.view_hash, item.entity_kind);
      for (size_t i = 0; i < added.size(); ++i) {
        if (added[i].view_hash == item.view_hash && added[i].entity_kind == item.entity_kind) {
          return reader.failure(Code::kSnapshotView, "describes a view twice");
        }
      }
      if (state < 0) {
        if (state_count + added.size() == kViewIdsMax) return reader.failure(Code::kSnapshotView, "holds too many views");
        state = static_cast<int>(state_count + added.size());
        added.push_back({item.view_hash, std::string(item.entity_kind), false});
      }
      state_of_view.push_back(static_cast<uint32_t>(state));
      continue;
    }
    const uint32_t state = state_of_view[item.view];
    const State& facts = state < state_count ? states[state] : added[state - state_count];
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
    std::vector<std::unique_ptr<Shard>> loaded;
    for (uint32_t i = 0; i < kShardCount; ++i) loaded.push_back(std::make_unique<Shard>(&impl_->budget));
    std::vector<State> added;
    SnapshotReader reader;
    status = reader.open(path);
    if (status.ok()) status = impl_->read_snapshot(reader, loaded, added, progress);
    if (status.ok()) {
      for (State& state : added) impl_->states[impl_->state_count++] = std::move(state);
      for (uint32_t i = 0; i < kShardCount; ++i) {
        const std::lock_guard<std::mutex> shard_lock(impl_->shards[i]->mutex);
        impl_->shards[i]->table.swap(loaded[i]->table);
      }
    }
  } catch (const std::bad_alloc&) {
    status = Status(Code::kIo, "snapshot " + path + ": out of memory");
  }
  impl_->open_after_load();
  return status;
}

StoreStats EmbeddedStore::stats() const noexcept {
  StoreStats total;
  total.bytes = impl_->budget.used();
  total.bytes_max = impl_->budget.bytes_max();
  for (const std::unique_ptr<Shard>& shard : impl_->shards) {
    const std::lock_guard<std::mutex> lock(shard->mutex);
    total.record_count += shard->table.size();
    total.event_count += shard->counters.events;
    total.duplicate_count += shard->counters.duplicates;
    total.late_count += shard->counters.late;
    total.rejected_record_count += shard->counters.rejected;
    total.tiled_event_count += shard->counters.tiled;
    total.full_count += shard->counters.full;
  }
  return total;
}

}  // namespace assay
