#include "core/features/record.h"

#include <cmath>
#include <cstring>

#include "core/base/hash.h"
#include "core/features/cells.h"
#include "core/features/record_layout.h"
#include "core/features/tiles.h"

namespace assay {
namespace {

bool is_before(int64_t a_us, uint64_t a_fingerprint, int64_t b_us, uint64_t b_fingerprint) noexcept {
  return a_us < b_us || (a_us == b_us && a_fingerprint < b_fingerprint);
}

int64_t time_at(const uint8_t* entry_at) noexcept { return load_le<int64_t>(entry_at + entry::kTime); }
uint64_t fingerprint_at(const uint8_t* entry_at) noexcept { return load_le<uint64_t>(entry_at + entry::kFingerprint); }

// First entry that does not come before (time, fingerprint). Most events are the newest of their entity: those are found at once.
uint32_t place_of(const WindowParts& parts, uint32_t stride, const EventEntry& event) noexcept {
  uint32_t low = 0, high = parts.entry_count;
  if (high > 0) {
    const uint8_t* newest = parts.entries + size_t{high - 1} * stride;
    if (is_before(time_at(newest), fingerprint_at(newest), event.event_time_us, event.fingerprint)) return high;
  }
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const uint8_t* at = parts.entries + size_t{middle} * stride;
    if (is_before(time_at(at), fingerprint_at(at), event.event_time_us, event.fingerprint)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

bool has_fingerprint(const WindowParts& parts, uint32_t stride, uint64_t fingerprint) noexcept {
  const uint8_t* at = parts.entries + entry::kFingerprint;
  for (uint32_t i = 0; i < parts.entry_count; ++i, at += stride) {
    if (load_le<uint64_t>(at) == fingerprint) return true;
  }
  return false;
}

LabelState label_state_of(const EventEntry& event) noexcept {
  if (event.is_fraud < 0) return kUnlabelled;
  return event.is_fraud == 0 ? kGenuine : kFraud;
}

// The newest label wins; of two at the same time, fraud. So the outcome does not depend on the order in which labels come.
bool brings_label(const ViewSchema& schema, const uint8_t* entry_at, const EventEntry& event) noexcept {
  if (!schema.spec().uses_labels || event.is_fraud < 0) return false;
  const uint8_t known = entry_at[entry::kLabel];
  if (known == kUnlabelled) return true;
  const int64_t known_us = load_le<int64_t>(entry_at + entry::kLabelTime);
  return event.label_time_us > known_us || (event.label_time_us == known_us && label_state_of(event) > known);
}

Code check_event(const ViewSchema& schema, const EventEntry& event) noexcept {
  if (event.event_time_us < limits::kTimeUsMin || event.event_time_us > limits::kTimeUsMax) return Code::kBadTimestamp;
  const std::vector<ColumnSpec>& columns = schema.spec().columns;
  for (size_t c = 0; c < columns.size(); ++c) {
    uint64_t cell = 0;
    if (Code code = cell_of(columns[c].dtype, event.columns[c], &cell); code != Code::kOk) return code;
  }
  return Code::kOk;
}

void write_label(uint8_t* entry_at, const EventEntry& event) noexcept {
  entry_at[entry::kLabel] = label_state_of(event);
  store_le<int64_t>(entry_at + entry::kLabelTime, event.is_fraud < 0 ? 0 : event.label_time_us);
}

void write_entry(const ViewSchema& schema, uint8_t* entry_at, const EventEntry& event) noexcept {
  std::memset(entry_at, 0, schema.entry_bytes());
  store_le(entry_at + entry::kTime, event.event_time_us);
  store_le(entry_at + entry::kFingerprint, event.fingerprint);
  const std::vector<ColumnSpec>& columns = schema.spec().columns;
  uint8_t nulls = 0;
  for (size_t c = 0; c < columns.size(); ++c) {
    uint64_t cell = 0;
    (void)cell_of(columns[c].dtype, event.columns[c], &cell);  // checked by plan_insert
    if (event.columns[c].is_null()) nulls = static_cast<uint8_t>(nulls | (1u << c));
    store_le(entry_at + schema.entry_cells_offset() + 8 * c, cell);
  }
  entry_at[entry::kNulls] = nulls;
  if (schema.spec().uses_labels) write_label(entry_at, event);
}

void write_counts(const ViewSchema& schema, uint8_t* record, uint32_t entry_count, uint32_t tile_count) noexcept {
  store_le(record + header::kEntryCount, entry_count);
  store_le(record + header::kTileCount, tile_count);
  store_le(record + header::kRecordBytes, static_cast<uint32_t>(kRecordHeaderBytes + size_t{entry_count} * schema.entry_bytes() +
                                                                size_t{tile_count} * schema.tile_bytes()));
}

size_t fence_offset(FenceKind kind) noexcept { return header::kFences + size_t{kFenceBytes} * static_cast<size_t>(kind); }

// The label of an event that is in a tile.
void plan_tile_label(const ViewSchema& schema, const WindowParts& parts, const EventEntry& event, InsertPlan& plan) noexcept {
  const int32_t found = find_tile(schema, parts.tiles, parts.tile_count, event.event_time_us);
  if (event.was_fraud < 0) {
    plan.code = Code::kEventTooLate;
  } else if (found < 0) {
    plan.code = Code::kEventUnknown;
  } else if (event.was_fraud == event.is_fraud) {
    plan.code = Code::kEventDuplicate;
  } else if (!can_relabel(parts.tiles + static_cast<size_t>(found) * schema.tile_bytes(), event.is_fraud > 0)) {
    plan.code = Code::kEventTooLate;  // it was taken for something else
  } else {
    plan.action = InsertPlan::Action::kTileLabel;
    plan.index = static_cast<uint32_t>(found);
  }
}

// An event that has expired or is older than the ring of a record with tiles, or its label. The ring cannot tell whether it has been
// there; a fence can.
void plan_beyond_ring(const ViewSchema& schema, const uint8_t* record, const EventEntry& event, bool is_expired,
                      InsertPlan& plan) noexcept {
  const FenceKind kind = event.is_label ? FenceKind::kLabels : FenceKind::kEvents;
  const Passage passage = passage_of(event.place, fence_of(record, kind));
  plan.bytes_needed = record_bytes(record) + (event.is_label ? 0 : schema.tile_bytes());
  if (passage == Passage::kPassed) {
    plan.code = Code::kEventDuplicate;
  } else if (is_expired) {
    plan.code = Code::kEventTooLate;
  } else if (event.is_label && passage != Passage::kUnknown) {
    plan_tile_label(schema, WindowParts(schema, record), event, plan);
  } else if (passage == Passage::kNew && event.late == LateEvents::kApply) {
    plan.action = InsertPlan::Action::kTile;
  } else {
    plan.code = Code::kEventTooLate;
  }
}

// Moves the record's newest time to `newest_us`: tiles merge or expire, entries expire. Returns how many entries went.
uint32_t advance_record(const ViewSchema& schema, uint8_t* record, int64_t newest_us) noexcept {
  WindowPartsOut parts(schema, record);
  const uint32_t stride = schema.entry_bytes();
  parts.tile_count = advance_tiles(schema, parts.tiles, parts.tile_count, newest_us);
  const int64_t cut_us = expiry_cut_us(schema, newest_us);
  uint32_t gone = 0;
  while (gone < parts.entry_count && time_at(parts.entries + size_t{gone} * stride) < cut_us) ++gone;
  if (gone > 0) {
    ASSAY_ASSERT(parts.tile_count == 0);  // tiles are older than entries and the cut is at a tile's edge
    std::memmove(parts.entries, parts.entries + size_t{gone} * stride, size_t{parts.entry_count - gone} * stride);
  }
  write_counts(schema, record, parts.entry_count - gone, parts.tile_count);
  store_le(record + header::kNewestTime, newest_us);
  return gone;
}

// Puts the event into the ring. Returns how many events went from there into a tile.
uint32_t insert_entry(const ViewSchema& schema, uint8_t* record, uint32_t index, const EventEntry& event) noexcept {
  const uint32_t stride = schema.entry_bytes();
  int64_t newest_us = load_le<int64_t>(record + header::kNewestTime);
  if (event.event_time_us > newest_us) {
    newest_us = event.event_time_us;
    index -= advance_record(schema, record, newest_us);
  }
  WindowPartsOut parts(schema, record);
  if (parts.entry_count < schema.spec().exact_events_max) {
    uint8_t* at = parts.entries + size_t{index} * stride;
    std::memmove(at + stride, at, size_t{parts.entry_count - index} * stride + size_t{parts.tile_count} * schema.tile_bytes());
    write_entry(schema, at, event);
    write_counts(schema, record, parts.entry_count + 1, parts.tile_count);
    return 0;
  }
  // The ring is full: its oldest entry makes room. index > 0, or the event would have been too late.
  const uint32_t tile_count = absorb_entry(schema, parts.tiles, parts.tile_count, parts.entries, newest_us);
  std::memmove(parts.entries, parts.entries + stride, size_t{index - 1} * stride);
  write_entry(schema, parts.entries + size_t{index - 1} * stride, event);
  write_counts(schema, record, parts.entry_count, tile_count);
  return 1;
}

// Puts an event older than the ring among the tiles, where it would be had it come in time.
uint32_t insert_into_tile(const ViewSchema& schema, uint8_t* record, const EventEntry& event) noexcept {
  uint8_t made[kEntryBytesMax];
  write_entry(schema, made, event);
  const WindowPartsOut parts(schema, record);
  const int64_t newest_us = load_le<int64_t>(record + header::kNewestTime);
  write_counts(schema, record, parts.entry_count, absorb_entry(schema, parts.tiles, parts.tile_count, made, newest_us));
  return 1;
}

}  // namespace

uint64_t entity_digest(std::string_view kind, std::string_view id) noexcept {
  char text[limits::kNameBytesMax + 1 + limits::kIdBytesMax];
  ASSAY_ASSERT(kind.size() <= limits::kNameBytesMax && id.size() <= limits::kIdBytesMax);
  std::memcpy(text, kind.data(), kind.size());
  text[kind.size()] = '\0';
  if (!id.empty()) std::memcpy(text + kind.size() + 1, id.data(), id.size());
  return xxh64({text, kind.size() + 1 + id.size()});
}

uint32_t record_bytes(const uint8_t* record) noexcept { return load_le<uint32_t>(record + header::kRecordBytes); }

InsertPlan plan_insert(const ViewSchema& schema, const uint8_t* record, const EventEntry& event) noexcept {
  InsertPlan plan;
  plan.code = check_event(schema, event);
  if (plan.code != Code::kOk) return plan;
  const uint32_t stride = schema.entry_bytes();
  if (record == nullptr && event.is_label) {
    plan.code = Code::kEventUnknown;
    return plan;
  }
  if (record == nullptr) {
    plan.action = InsertPlan::Action::kInsert;
    plan.bytes_needed = kRecordHeaderBytes + stride;
    return plan;
  }
  const WindowParts parts(schema, record);
  const uint32_t index = place_of(parts, stride, event);
  const uint8_t* at = parts.entries + size_t{index} * stride;
  if (index < parts.entry_count && time_at(at) == event.event_time_us && fingerprint_at(at) == event.fingerprint) {
    if (!brings_label(schema, at, event)) {
      const bool is_other = event.is_label && at[entry::kLabel] != label_state_of(event);
      plan.code = is_other ? Code::kEventTooLate : Code::kEventDuplicate;
      return plan;
    }
    plan.action = InsertPlan::Action::kLabel;
    plan.index = index;
    plan.bytes_needed = record_bytes(record);
    return plan;
  }
  if (!event.is_label && has_fingerprint(parts, stride, event.fingerprint)) {
    plan.code = Code::kEventDuplicate;
    return plan;
  }
  const bool is_full = parts.entry_count >= schema.spec().exact_events_max;
  const bool is_expired = event.event_time_us < expiry_cut_us(schema, load_le<int64_t>(record + header::kNewestTime));
  if (is_expired || (index == 0 && (is_full || parts.tile_count > 0))) {
    plan_beyond_ring(schema, record, event, is_expired, plan);
    return plan;
  }
  if (event.is_label) {
    plan.code = Code::kEventUnknown;
    return plan;
  }
  plan.action = InsertPlan::Action::kInsert;
  plan.index = index;
  plan.bytes_needed = record_bytes(record) + (is_full ? schema.tile_bytes() : stride);
  return plan;
}

void init_window_record(const ViewSchema& schema, uint64_t digest, uint8_t* record) noexcept {
  std::memset(record, 0, kRecordHeaderBytes);
  store_le(record + header::kMagic, kRecordMagicWord);
  store_le(record + header::kFormat, kRecordFormat);
  store_le(record + header::kHeaderBytes, static_cast<uint16_t>(kRecordHeaderBytes));
  store_le(record + header::kRecordBytes, kRecordHeaderBytes);
  store_le(record + header::kViewHash, schema.hash64());
  store_le(record + header::kEntityDigest, digest);
  store_le(record + header::kNewestTime, limits::kTimeUsMin);
  record[header::kValidation] = kRecordValid;
  record[header::kKind] = static_cast<uint8_t>(ViewKind::kWindow);
}

uint32_t commit_insert(const ViewSchema& schema, uint8_t* record, const InsertPlan& plan, const EventEntry& event) noexcept {
  switch (plan.action) {
    case InsertPlan::Action::kInsert: return insert_entry(schema, record, plan.index, event);
    case InsertPlan::Action::kTile: return insert_into_tile(schema, record, event);
    case InsertPlan::Action::kLabel:
      write_label(record + kRecordHeaderBytes + size_t{plan.index} * schema.entry_bytes(), event);
      return 0;
    case InsertPlan::Action::kTileLabel: {
      const WindowPartsOut parts(schema, record);
      relabel_tile(parts.tiles + size_t{plan.index} * schema.tile_bytes(), event.is_fraud > 0, event.label_time_us);
      return 0;
    }
    case InsertPlan::Action::kNone: break;
  }
  ASSAY_ASSERT(false && "a plan that does nothing");
  return 0;
}

Fence fence_of(const uint8_t* record, FenceKind kind) noexcept {
  const uint8_t* const at = record + fence_offset(kind);
  return {load_le<uint32_t>(at), load_le<uint32_t>(at + 4), load_le<int64_t>(at + 8)};
}

void move_fence(uint8_t* record, FenceKind kind, const Fence& place) noexcept {
  const Passage passage = passage_of(place, fence_of(record, kind));
  if (passage != Passage::kFirst && passage != Passage::kNew) return;
  uint8_t* const at = record + fence_offset(kind);
  store_le(at, place.source);
  store_le(at + 4, place.epoch);
  store_le(at + 8, place.offset);
}

}  // namespace assay
