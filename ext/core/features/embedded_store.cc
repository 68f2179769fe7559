#include "core/features/embedded_store.h"

#include <algorithm>
#include <cstring>

#include "core/features/attribute_record.h"
#include "core/features/fold.h"
#include "core/features/record_layout.h"
#include "core/features/store_impl.h"

namespace assay {
namespace {

// How much of a record is asked for ahead of its use; the processor follows a longer one by itself.
constexpr size_t kPrefetchBytes = 1024;

bool is_same_aggregate(const AggregateSpec& a, const AggregateSpec& b) {
  return a.op == b.op && a.column == b.column && a.window_us == b.window_us;
}

// Whether two views of one state give the same values.
bool is_same_fold(const ViewSpec& a, const ViewSpec& b) {
  return a.delay_us == b.delay_us && a.lateness_us == b.lateness_us && a.includes_current == b.includes_current &&
         a.max_age_us == b.max_age_us &&
         std::equal(a.aggregates.begin(), a.aggregates.end(), b.aggregates.begin(), b.aggregates.end(), is_same_aggregate);
}

}  // namespace

EmbeddedStore::EmbeddedStore(uint64_t bytes_max) : impl_(std::make_unique<Impl>(bytes_max)) {}
EmbeddedStore::~EmbeddedStore() = default;

// --- views

// Records that came with a snapshot before anyone knew their view: checked now, to the last entry, before they are served.
Status EmbeddedStore::Impl::adopt_state(uint32_t state, const ViewSchema& schema) {
  for (const std::unique_ptr<StoreShard>& shard : shards) {
    const std::lock_guard<std::mutex> lock(shard->mutex);
    for (uint32_t i = 0; i < shard->table.size(); ++i) {
      const RecordBlock* block = shard->table.at(i);
      if (block->state != state) continue;
      if (const Code code = check_layout(block->record(), record_bytes(block->record()), schema); code != Code::kOk) {
        return Status(code, "view \"" + printable(schema.spec().name) +
                                "\": the snapshot holds a record of this view that cannot be trusted");
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
    const StoreView& known = *impl_->views[i];
    if (known.state != static_cast<uint32_t>(state)) continue;
    if (!known.schema.has_layout_of(schema)) {
      return Status(Code::kPlanInvalid,
                    "view \"" + printable(schema.spec().name) +
                        "\": its hash is that of a view with other columns, windows or limits; the hash must cover them");
    }
    if (is_same_fold(known.schema.spec(), schema.spec())) {
      *view_id = static_cast<uint32_t>(i);
      return Status();
    }
  }
  if (impl_->view_count == kStoreViewsMax || (state < 0 && impl_->state_count == kStoreViewsMax)) {
    return Status(Code::kPlanInvalid, "the store knows " + std::to_string(kStoreViewsMax) + " views already");
  }
  if (state < 0) {
    state = static_cast<int>(impl_->state_count++);
    impl_->states[static_cast<size_t>(state)] = {schema.spec().view_hash, std::string(entity_kind), true};
  } else if (!impl_->states[static_cast<size_t>(state)].has_view) {
    if (Status status = impl_->adopt_state(static_cast<uint32_t>(state), schema); !status.ok()) return status;
    impl_->states[static_cast<size_t>(state)].has_view = true;
  }
  *view_id = static_cast<uint32_t>(impl_->view_count);
  impl_->views[*view_id] = std::make_unique<StoreView>(StoreView{schema, static_cast<uint32_t>(state), std::string(entity_kind)});
  ++impl_->view_count;
  return Status();
}

// --- events and attributes in

Code EmbeddedStore::apply(uint32_t view_id, std::string_view entity_id, const EventEntry& event) noexcept {
  const StoreView& view = impl_->view_of(view_id, ViewKind::kWindow);
  if (entity_id.size() > limits::kIdBytesMax) return Code::kTooLong;
  const RecordKey key = record_key_of(view.entity_kind, view.state, entity_id);
  StoreShard& shard = impl_->shard_of(key.hash);
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

void EmbeddedStore::move_fence(uint32_t view_id, std::string_view entity_id, FenceKind kind, const Fence& place) noexcept {
  const StoreView& view = impl_->view_of(view_id, ViewKind::kWindow);
  const RecordKey key = record_key_of(view.entity_kind, view.state, entity_id);
  StoreShard& shard = impl_->shard_of(key.hash);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  RecordBlock* const block = shard.table.find(key.hash, view.state, entity_id);
  if (block != nullptr) assay::move_fence(block->record(), kind, place);
}

Code EmbeddedStore::put_attributes(uint32_t view_id, std::string_view entity_id, int64_t time_us, const Value* values) noexcept {
  const StoreView& view = impl_->view_of(view_id, ViewKind::kAttributes);
  if (entity_id.size() > limits::kIdBytesMax) return Code::kTooLong;
  const RecordKey key = record_key_of(view.entity_kind, view.state, entity_id);
  alignas(8) uint8_t offered[kAttributeRecordBytesMax];
  if (Code code = build_attribute_record(view.schema, key.digest, time_us, values, offered); code != Code::kOk) return code;
  const uint32_t bytes = record_bytes(offered);

  StoreShard& shard = impl_->shard_of(key.hash);
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

void EmbeddedStore::fold(uint32_t view_id, std::string_view entity_id, const FoldRequest& request, Value* values,
                         FoldResult* result, char* arena) const noexcept {
  ASSAY_ASSERT(view_id < kStoreViewsMax && impl_->views[view_id] != nullptr);
  const StoreView& view = *impl_->views[view_id];
  if (entity_id.size() > limits::kIdBytesMax) return fold_view(view.schema, nullptr, request, values, result, arena);
  const RecordKey key = record_key_of(view.entity_kind, view.state, entity_id);
  const StoreShard& shard = impl_->shard_of(key.hash);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  const RecordBlock* block = shard.table.find(key.hash, view.state, entity_id);
  if (block != nullptr) {
    if (const Code code = check_header(block->record(), view.schema.hash64(), key.digest); code != Code::kOk) {
      ++shard.counters.rejected;
      return fold_unknown(view.schema, code, values, result);
    }
  }
  fold_view(view.schema, block == nullptr ? nullptr : block->record(), request, values, result, arena);
}

// --- records across the border

Code EmbeddedStore::put_record(uint32_t view_id, std::string_view entity_id, std::string_view sealed) noexcept {
  ASSAY_ASSERT(view_id < kStoreViewsMax && impl_->views[view_id] != nullptr);
  const StoreView& view = *impl_->views[view_id];
  if (entity_id.size() > limits::kIdBytesMax) return Code::kTooLong;
  const RecordKey key = record_key_of(view.entity_kind, view.state, entity_id);
  const auto* const bytes = reinterpret_cast<const uint8_t*>(sealed.data());
  if (Code code = validate_record(bytes, sealed.size(), view.schema, key.digest); code != Code::kOk) return code;
  const auto size = static_cast<uint32_t>(sealed.size());
  StoreShard& shard = impl_->shard_of(key.hash);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  if (shard.is_loading) return Code::kStoreUnavailable;
  RecordBlock* block = shard.table.find(key.hash, view.state, entity_id);
  if (block == nullptr) {
    block = shard.table.add(key.hash, view.state, entity_id, size);
  } else if (block->capacity() < size) {
    block = shard.table.resize(block, size);
  }
  if (block == nullptr) {
    ++shard.counters.full;
    return Code::kStoreFull;
  }
  std::memcpy(block->record(), bytes, size);
  store_le<uint32_t>(block->record() + header::kCrc, 0);
  shard.table.trim(block, size);
  return Code::kOk;
}

bool EmbeddedStore::copy_record(uint32_t view_id, std::string_view entity_id, std::string* sealed) const {
  ASSAY_ASSERT(view_id < kStoreViewsMax && impl_->views[view_id] != nullptr);
  const StoreView& view = *impl_->views[view_id];
  if (entity_id.size() > limits::kIdBytesMax) return false;
  const RecordKey key = record_key_of(view.entity_kind, view.state, entity_id);
  {
    const StoreShard& shard = impl_->shard_of(key.hash);
    const std::lock_guard<std::mutex> lock(shard.mutex);
    const RecordBlock* block = shard.table.find(key.hash, view.state, entity_id);
    if (block == nullptr) return false;
    sealed->assign(reinterpret_cast<const char*>(block->record()), record_bytes(block->record()));
  }
  seal_record(reinterpret_cast<uint8_t*>(sealed->data()));
  return true;
}

void EmbeddedStore::prefetch(uint32_t view_id, std::string_view entity_id) const noexcept {
  if (view_id >= kStoreViewsMax || impl_->views[view_id] == nullptr || entity_id.size() > limits::kIdBytesMax) return;
  const StoreView& view = *impl_->views[view_id];
  const RecordKey key = record_key_of(view.entity_kind, view.state, entity_id);
  const StoreShard& shard = impl_->shard_of(key.hash);
  const std::unique_lock<std::mutex> lock(shard.mutex, std::try_to_lock);
  if (!lock.owns_lock()) return;
  // The block is not touched here: to wait for its first line would be what this is to spare.
  const char* block = static_cast<const char*>(shard.table.likely_block(key.hash));
  if (block == nullptr) return;
  for (size_t offset = 0; offset < kPrefetchBytes; offset += 64) __builtin_prefetch(block + offset);
}

StoreStats EmbeddedStore::stats() const noexcept {
  StoreStats total;
  total.bytes = impl_->budget.used();
  total.bytes_max = impl_->budget.bytes_max();
  for (const std::unique_ptr<StoreShard>& shard : impl_->shards) {
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
