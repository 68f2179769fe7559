// EmbeddedStore: row records in this process. The zero-install default, and the reference that remote stores must equal.
//
// Records are the packed bytes of record.h, one per (view, entity), in shards with a lock each. Memory is bounded by
// bytes_max; a record that would pass it is refused (STORE_FULL) and nothing changes. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/base/value.h"
#include "core/features/fence.h"
#include "core/features/view.h"

namespace assay {

// One event as one view sees it.
struct EventEntry {
  int64_t event_time_us = 0;
  uint64_t fingerprint = 0;   // xxh64 of the transaction_id
  int8_t is_fraud = -1;       // -1 unlabelled, 0, 1
  int64_t label_time_us = 0;  // when the label became known; meaningful with is_fraud >= 0
  bool is_label = false;      // the label of an event that is there: an unknown one is not added
  int8_t was_fraud = -1;      // of a label: what it was taken for so far; -1: not said
  Fence place;                // where the event (or the label) came from
  LateEvents late = LateEvents::kRefuse;
  std::array<Value, limits::kColumnsMax> columns;  // strings and entities already as int64 hashes; null: absent
};

// What is asked of a view at one moment.
struct FoldRequest {
  int64_t event_time_us = 0;
  // The transaction being scored: left out of the stored events by its fingerprint, then, where the view includes it, added
  // once from here. Null: fold the store alone.
  const EventEntry* current = nullptr;
};

// What was found, beside the values.
struct FoldResult {
  bool is_found = false;        // a record exists and was used
  bool is_stale = false;        // attribute view past max_age; values are given all the same
  bool is_saturated = false;    // a distinct count is a lower bound
  bool is_approximate = false;  // a window's end lies within a tile, or further back than the record reaches
  bool is_cache_stale = false;  // the store gave nothing; a record of the near-cache past its view's max age was used
  Code rejected = Code::kOk;    // why a record (kRecord...) or a sum (kIntegerOverflow) was left out: its values are null
  int64_t age_us = 0;           // event_time of the request minus the newest event's (or attributes' time)
  int64_t cache_age_us = -1;    // since the record was fetched, where the near-cache had it; -1: it was read for this row
};

struct StoreStats {
  uint64_t record_count = 0;
  uint64_t bytes = 0;  // of all records, with their keys and table cells
  uint64_t bytes_max = 0;
  uint64_t event_count = 0;  // applied
  uint64_t duplicate_count = 0;
  uint64_t late_count = 0;
  uint64_t rejected_record_count = 0;  // reads that found a record they could not trust
  uint64_t tiled_event_count = 0;      // events that went into a tile, most of them from a ring
  uint64_t full_count = 0;             // refused with STORE_FULL
};

class EmbeddedStore {
 public:
  explicit EmbeddedStore(uint64_t bytes_max);
  ~EmbeddedStore();
  EmbeddedStore(const EmbeddedStore&) = delete;
  EmbeddedStore& operator=(const EmbeddedStore&) = delete;

  // Makes the view known and returns its id: the same id for the same schema and entity kind. Views of one view_hash and kind
  // share their records; if their bytes would differ the hash lies, and the view is refused (kPlanInvalid). At most
  // kViewsMax * kLanesMax views.
  Status add_view(const ViewSchema& schema, std::string_view entity_kind, uint32_t* view_id);

  // Adds one event to one record, or a newer label to an event that is there. kOk, kEventDuplicate, kEventTooLate, kEventUnknown,
  // kStoreFull, kStoreUnavailable (a snapshot is being loaded), or what no decoder lets through: kTooLong, kWrongType, kNotFinite,
  // kBadTimestamp. Only kOk changes anything; fences stay where they are.
  Code apply(uint32_t view_id, std::string_view entity_id, const EventEntry& event) noexcept;

  // Moves a fence of one record on (record.h). Does nothing where there is no record.
  void move_fence(uint32_t view_id, std::string_view entity_id, FenceKind kind, const Fence& place) noexcept;

  // Replaces the attributes of one entity unless the stored ones are newer (kEventTooLate) or the same (kEventDuplicate).
  // values has one entry per attribute of the view, typed as declared or null.
  Code put_attributes(uint32_t view_id, std::string_view entity_id, int64_t time_us, const Value* values) noexcept;

  // Folds one record into `values` (output_count of the view). Under the shard's lock; `values` holds no pointers into the
  // record except strings of attributes, which are copied into `arena` (the caller's, at least kAttributesMax *
  // kStringValueBytesMax bytes; unused for window views).
  void fold(uint32_t view_id, std::string_view entity_id, const FoldRequest& request, Value* values, FoldResult* result,
            char* arena) const noexcept;

  // A record from outside, with its checksum, takes the place of what is there. All checks of record.h are made first: kOk, kRecord...,
  // kTooLong, kStoreFull, kStoreUnavailable. For tools that work on records of a remote store.
  Code put_record(uint32_t view_id, std::string_view entity_id, std::string_view sealed) noexcept;
  // Copies the record out and seals it. False: there is none.
  bool copy_record(uint32_t view_id, std::string_view entity_id, std::string* sealed) const;

  // Brings the record towards the cache. A hint.
  void prefetch(uint32_t view_id, std::string_view entity_id) const noexcept;

  // Writes every record to `path`: a temporary file beside it, fsync, rename, fsync of the directory. Writers go on meanwhile;
  // each record is consistent in itself. `progress(done, total)` is called now and then; may be empty.
  Status save(const std::string& path, const std::function<void(uint64_t, uint64_t)>& progress) const;

  // Reads a snapshot into this store, which must be empty (else kInvalidRequest), and checks magic, version, lengths, checksums
  // and counts before anything of it is served: all or nothing. Views are matched by hash when add_view() makes them known,
  // before or after; records of views never added are kept and saved again.
  Status load(const std::string& path, const std::function<void(uint64_t, uint64_t)>& progress);

  StoreStats stats() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace assay
