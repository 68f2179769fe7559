// Row records: one packed blob per entity and view. docs/row-record.md is the table of bytes.
//
// A window record's bytes are a function of the *set* of its events: the newest exact_events_max of them by (event_time,
// fingerprint) stand in it one by one, the rest in tiles (tiles.h), and what no window can reach any more is gone. Functions here
// work on caller-owned memory, allocate nothing and take no locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/status.h"
#include "core/features/embedded_store.h"
#include "core/features/fence.h"
#include "core/features/view.h"

namespace assay {

// What a record says of whose it is: xxh64 of the entity kind, a zero byte and the id. Both within limits::kNameBytesMax and
// kIdBytesMax.
uint64_t entity_digest(std::string_view kind, std::string_view id) noexcept;

// Record length in bytes, as its own header says. REQUIRES a validated record, or one of ours.
uint32_t record_bytes(const uint8_t* record) noexcept;

// --- writing window records

// What one event would do to a record.
struct InsertPlan {
  enum class Action : uint8_t {
    kNone,
    kInsert,     // a new entry in the ring
    kLabel,      // another label of an entry
    kTile,       // a new event in a tile
    kTileLabel,  // one fraud more or less in a tile
  };
  Code code = Code::kOk;          // kOk, kEventDuplicate, kEventTooLate, kEventUnknown, kWrongType, kNotFinite, kBadTimestamp
  Action action = Action::kNone;  // kNone unless code is kOk
  uint32_t index = 0;             // of the entry, or of the tile whose label it is
  uint32_t bytes_needed = 0;      // capacity that commit_insert needs
};

// `record` null: there is none yet. Changes nothing.
//   kEventDuplicate  the fingerprint is in the ring already, at this or another time, and the event brings no newer label; or older
//                    than the ring, and the record's fence has passed it
//   kEventTooLate    older than the ring of a record that has lost events to tiles or is about to, where no fence tells a repeat
//                    from a new event, or where late events are refused; or expired
//   kEventUnknown    the label of an event that is not there
// A repeat with the same event time that brings a label newer (by label time; at the same time, fraud) than the stored one, in a
// view that uses labels, changes the label and nothing else. The label of an event in a tile changes the tile's count of frauds if
// it says what the event was taken for so far (was_fraud) and no fence has passed it.
InsertPlan plan_insert(const ViewSchema& schema, const uint8_t* record, const EventEntry& event) noexcept;

// An empty window record with kRecordHeaderBytes bytes. Not valid until an event is in it.
void init_window_record(const ViewSchema& schema, uint64_t digest, uint8_t* record) noexcept;

// Does what the plan says. REQUIRES plan.bytes_needed bytes at `record`. Returns how many events went into a tile (0 or 1). Moves no
// fence: events that came together may be applied in any order, and those of one partition are told apart by the fence that stood
// before them all.
uint32_t commit_insert(const ViewSchema& schema, uint8_t* record, const InsertPlan& plan, const EventEntry& event) noexcept;

// How far the record has come.
Fence fence_of(const uint8_t* record, FenceKind kind) noexcept;

// Moves the fence on to `place`, if that is beyond it in the same source or the record has none yet. A record keeps its first
// source: with two in turn, a fence that goes back would let through what it has passed before.
void move_fence(uint8_t* record, FenceKind kind, const Fence& place) noexcept;

// --- crossing a border (snapshot, remote store)

// Writes the record's CRC. In the embedded store's memory the field is 0: reads there do not check it.
void seal_record(uint8_t* record) noexcept;
// The same with the time of this write in it.
void seal_record(uint8_t* record, int64_t computed_time_us) noexcept;
// Whether two records say the same: all but checksum and computed time. REQUIRES records of at least a header's length.
bool is_same_state(std::string_view a, std::string_view b) noexcept;

// The checks that need no schema: magic, version, length, checksum, view hash, entity. Each has its own code.
Code check_record(const uint8_t* bytes, size_t size, uint64_t view_hash64, uint64_t digest) noexcept;

// All checks, down to every entry and tile (kRecordLayout). After kOk, folding and inserting are safe whatever wrote the bytes.
Code validate_record(const uint8_t* bytes, size_t size, const ViewSchema& schema, uint64_t digest) noexcept;

// The last part of validate_record alone, for bytes that have passed check_record.
Code check_layout(const uint8_t* bytes, size_t size, const ViewSchema& schema) noexcept;

// The cheap part for every read of memory that is ours: magic, version, validation status, view hash, entity.
Code check_header(const uint8_t* record, uint64_t view_hash64, uint64_t digest) noexcept;

}  // namespace assay
