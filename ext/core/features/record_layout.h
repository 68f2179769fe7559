// Where things lie in a row record. docs/row-record.md is the table; this is the same in code.
//
// Little-endian, every field at a multiple of its size, every part a multiple of 8 bytes. Fields are read with memcpy, so bytes
// need no alignment.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/features/view.h"

namespace assay {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "row records are read in place");

template <typename T>
inline T load_le(const uint8_t* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename T>
inline void store_le(uint8_t* at, T value) noexcept {
  std::memcpy(at, &value, sizeof(T));
}

inline constexpr uint32_t kRecordMagicWord = 0x31'57'52'41;  // "ARW1"
inline constexpr uint16_t kRecordFormat = 1;
inline constexpr uint32_t kRecordHeaderBytes = 128;
inline constexpr uint32_t kFenceBytes = 16;
inline constexpr uint8_t kRecordValid = 1;  // validation status: 1 valid, everything else is not

// --- the header
namespace header {
inline constexpr uint32_t kMagic = 0;          // u32
inline constexpr uint32_t kFormat = 4;         // u16
inline constexpr uint32_t kHeaderBytes = 6;    // u16
inline constexpr uint32_t kRecordBytes = 8;    // u32
inline constexpr uint32_t kCrc = 12;           // u32, over the record with this field 0
inline constexpr uint32_t kViewHash = 16;      // u64
inline constexpr uint32_t kEntityDigest = 24;  // u64
inline constexpr uint32_t kNewestTime = 32;    // i64
inline constexpr uint32_t kComputedTime = 40;  // i64, 0 in the embedded store: state is a function of the events alone
inline constexpr uint32_t kValidation = 48;    // u8
inline constexpr uint32_t kKind = 49;          // u8, ViewKind
inline constexpr uint32_t kFlags = 50;         // u16, 0
inline constexpr uint32_t kEntryCount = 52;    // u32; attribute views: number of attributes
inline constexpr uint32_t kTileCount = 56;     // u32
inline constexpr uint32_t kHeapBytes = 60;     // u32, attribute views: bytes of text, padded to 8
inline constexpr uint32_t kFences = 64;        // 4 x {source u32, epoch u32, offset i64}, by FenceKind; two are spare
}  // namespace header

// --- an exact entry: then [label_time i64 where the view uses labels], then one 8-byte cell per column
namespace entry {
inline constexpr uint32_t kTime = 0;         // i64
inline constexpr uint32_t kFingerprint = 8;  // u64
inline constexpr uint32_t kNulls = 16;       // u8, bit per column; a null column's cell is 0
inline constexpr uint32_t kLabel = 17;       // u8, LabelState
inline constexpr uint32_t kReserved = 18;    // 6 bytes, 0
inline constexpr uint32_t kLabelTime = 24;   // i64, where the view uses labels; 0 while unlabelled
}  // namespace entry
static_assert(limits::kColumnsMax <= 8, "nulls are one byte");
inline constexpr uint32_t kEntryBytesMax = entry::kLabelTime + 8 + 8 * limits::kColumnsMax;

enum LabelState : uint8_t { kUnlabelled = 0, kGenuine = 1, kFraud = 2 };

// --- a tile: then [fraud u64, label_time_max i64 where the view uses labels], then one part per column
namespace tile {
inline constexpr uint32_t kFirst = 0;          // i64, time of its oldest event
inline constexpr uint32_t kLast = 8;           // i64, time of its newest event
inline constexpr uint32_t kTier = 16;          // u32, index into ViewSchema::tiers()
inline constexpr uint32_t kReserved = 20;      // u32, 0
inline constexpr uint32_t kCount = 24;         // u64, events
inline constexpr uint32_t kFraudCount = 32;    // u64
inline constexpr uint32_t kLabelTimeMax = 40;  // i64, newest label time of its frauds; 0 without
inline constexpr uint32_t kBytes = 32;
inline constexpr uint32_t kBytesWithLabels = 48;
}  // namespace tile

// --- a column's part of a tile; columns that only serve distinct counts have none
namespace part {
inline constexpr uint32_t kPresent = 0;           // u64, events whose value is not null
inline constexpr uint32_t kLastTime = 8;          // i64 } the newest non-null value by (time, fingerprint);
inline constexpr uint32_t kLastFingerprint = 16;  // u64 } all 0 while none is present
inline constexpr uint32_t kLastValue = 24;        // cell
inline constexpr uint32_t kBytes = 32;
inline constexpr uint32_t kMin = 32;     // int64 and float64: cell
inline constexpr uint32_t kMax = 40;     // cell
inline constexpr uint32_t kSumLow = 48;  // int64: the sum as 128 bits, so that neither insertion nor merging can overflow
inline constexpr uint32_t kSumHigh = 56;
inline constexpr uint32_t kTrueCount = 32;  // bool: u64
}  // namespace part

// Bytes of a column's part in a tile.
constexpr uint32_t tile_part_bytes(const ColumnSpec& column) noexcept {
  if (column.source == ColumnSource::kEntity) return 0;
  switch (column.dtype) {
    case Dtype::kInt64: return 64;
    case Dtype::kFloat64: return 48;
    case Dtype::kBool: return 40;
    default: return 0;
  }
}

inline __int128 load_sum(const uint8_t* part_at) noexcept {
  const unsigned __int128 high = load_le<uint64_t>(part_at + part::kSumHigh);
  return static_cast<__int128>((high << 64) | load_le<uint64_t>(part_at + part::kSumLow));
}

inline void store_sum(uint8_t* part_at, __int128 sum) noexcept {
  store_le<uint64_t>(part_at + part::kSumLow, static_cast<uint64_t>(sum));
  store_le<int64_t>(part_at + part::kSumHigh, static_cast<int64_t>(sum >> 64));
}

// A window record's parts. `record` must have passed validate_record, or be ours.
struct WindowParts {
  uint32_t entry_count = 0;
  uint32_t tile_count = 0;
  const uint8_t* entries = nullptr;
  const uint8_t* tiles = nullptr;

  WindowParts() = default;
  WindowParts(const ViewSchema& schema, const uint8_t* record) noexcept
      : entry_count(load_le<uint32_t>(record + header::kEntryCount)),
        tile_count(load_le<uint32_t>(record + header::kTileCount)),
        entries(record + kRecordHeaderBytes),
        tiles(entries + size_t{entry_count} * schema.entry_bytes()) {}
};

// The same, of a record that may be written.
struct WindowPartsOut {
  uint32_t entry_count = 0;
  uint32_t tile_count = 0;
  uint8_t* entries = nullptr;
  uint8_t* tiles = nullptr;

  WindowPartsOut(const ViewSchema& schema, uint8_t* record) noexcept
      : entry_count(load_le<uint32_t>(record + header::kEntryCount)),
        tile_count(load_le<uint32_t>(record + header::kTileCount)),
        entries(record + kRecordHeaderBytes),
        tiles(entries + size_t{entry_count} * schema.entry_bytes()) {}
};

}  // namespace assay
