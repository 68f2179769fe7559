// What stands between bytes from outside and code that trusts them.
#include "core/base/hash.h"
#include "core/features/attribute_record.h"
#include "core/features/cells.h"
#include "core/features/record.h"
#include "core/features/record_layout.h"
#include "core/features/tiles.h"

namespace assay {
namespace {

bool is_time(int64_t time_us) noexcept { return time_us >= limits::kTimeUsMin && time_us <= limits::kTimeUsMax; }

uint32_t crc_of(const uint8_t* record, size_t bytes) noexcept {
  const uint32_t zero = 0;
  const uint32_t crc = crc32c(&zero, sizeof zero, crc32c(record, header::kCrc));
  return crc32c(record + header::kViewHash, bytes - header::kViewHash, crc);
}

bool is_entry(const ViewSchema& schema, const uint8_t* at) noexcept {
  const ViewSpec& spec = schema.spec();
  if (!is_time(load_le<int64_t>(at + entry::kTime))) return false;
  for (uint32_t i = 0; i < 6; ++i) {
    if (at[entry::kReserved + i] != 0) return false;
  }
  if (at[entry::kLabel] > (spec.uses_labels ? kFraud : kUnlabelled)) return false;
  if (spec.uses_labels && at[entry::kLabel] == kUnlabelled && load_le<int64_t>(at + entry::kLabelTime) != 0) return false;
  if ((at[entry::kNulls] >> spec.columns.size()) != 0) return false;
  for (size_t c = 0; c < spec.columns.size(); ++c) {
    const bool is_null = (at[entry::kNulls] >> c) & 1;
    if (!is_cell(spec.columns[c].dtype, is_null, load_le<uint64_t>(at + schema.entry_cells_offset() + 8 * c))) return false;
  }
  return true;
}

bool is_in_order(const uint8_t* older, const uint8_t* newer) noexcept {
  const int64_t a_us = load_le<int64_t>(older + entry::kTime), b_us = load_le<int64_t>(newer + entry::kTime);
  return a_us < b_us ||
         (a_us == b_us && load_le<uint64_t>(older + entry::kFingerprint) < load_le<uint64_t>(newer + entry::kFingerprint));
}

// A column's part of a tile of `count` events between first and last.
bool is_part(const ColumnSpec& column, const uint8_t* at, uint32_t bytes, uint64_t count, int64_t first_us,
             int64_t last_us) noexcept {
  const uint64_t present = load_le<uint64_t>(at + part::kPresent);
  if (present > count) return false;
  if (present == 0) {
    for (uint32_t i = 0; i < bytes; ++i) {
      if (at[i] != 0) return false;
    }
    return true;
  }
  const int64_t newest_us = load_le<int64_t>(at + part::kLastTime);
  if (newest_us < first_us || newest_us > last_us) return false;
  if (!is_cell(column.dtype, false, load_le<uint64_t>(at + part::kLastValue))) return false;
  if (column.dtype == Dtype::kBool) return load_le<uint64_t>(at + part::kTrueCount) <= present;
  const uint64_t low = load_le<uint64_t>(at + part::kMin), high = load_le<uint64_t>(at + part::kMax);
  if (!is_cell(column.dtype, false, low) || !is_cell(column.dtype, false, high)) return false;
  if (column.dtype == Dtype::kFloat64) return value_of(column.dtype, low).float64 <= value_of(column.dtype, high).float64;
  // The sum lies between count times the extremes; so 64 + 64 bits hold it and folding cannot overflow 128.
  const __int128 sum = load_sum(at), n = static_cast<__int128>(present);
  const int64_t minimum = static_cast<int64_t>(low), maximum = static_cast<int64_t>(high);
  return minimum <= maximum && sum >= n * minimum && sum <= n * maximum;
}

bool is_tile(const ViewSchema& schema, const uint8_t* at, int64_t newest_us) noexcept {
  const int64_t first_us = load_le<int64_t>(at + tile::kFirst), last_us = load_le<int64_t>(at + tile::kLast);
  const uint32_t tier = load_le<uint32_t>(at + tile::kTier);
  const uint64_t count = load_le<uint64_t>(at + tile::kCount);
  if (!is_time(first_us) || !is_time(last_us) || first_us > last_us || load_le<uint32_t>(at + tile::kReserved) != 0) return false;
  if (tier >= schema.tiers().size() || tier != tier_of(schema, last_us, newest_us)) return false;
  const int64_t width_us = schema.tiers()[tier].width_us;
  if (floor_to(first_us, width_us) != floor_to(last_us, width_us)) return false;
  if (count == 0 || count > limits::kTileEventsMax || (count == 1 && first_us != last_us)) return false;
  if (schema.spec().uses_labels) {
    const uint64_t frauds = load_le<uint64_t>(at + tile::kFraudCount);
    if (frauds > count || (frauds == 0 && load_le<int64_t>(at + tile::kLabelTimeMax) != 0)) return false;
  }
  const std::vector<ColumnSpec>& columns = schema.spec().columns;
  for (size_t c = 0; c < columns.size(); ++c) {
    const uint32_t bytes = tile_part_bytes(columns[c]);
    if (bytes != 0 && !is_part(columns[c], at + schema.tile_column_offsets()[c], bytes, count, first_us, last_us)) return false;
  }
  return true;
}

bool is_window_layout(const ViewSchema& schema, const uint8_t* bytes, size_t size) noexcept {
  const WindowParts parts(schema, bytes);
  const uint32_t entry_bytes = schema.entry_bytes(), tile_bytes = schema.tile_bytes(), ring_max = schema.spec().exact_events_max;
  if (parts.entry_count == 0 || parts.entry_count > ring_max || parts.tile_count > schema.tiles_max()) return false;
  if (size != kRecordHeaderBytes + size_t{parts.entry_count} * entry_bytes + size_t{parts.tile_count} * tile_bytes) return false;
  if (parts.tile_count > 0 && parts.entry_count != ring_max) return false;
  for (uint32_t i = 0; i < parts.entry_count; ++i) {
    const uint8_t* at = parts.entries + size_t{i} * entry_bytes;
    if (!is_entry(schema, at) || (i > 0 && !is_in_order(at - entry_bytes, at))) return false;
  }
  const int64_t newest_us = load_le<int64_t>(bytes + header::kNewestTime);
  const int64_t oldest_entry_us = load_le<int64_t>(parts.entries + entry::kTime);
  if (newest_us != load_le<int64_t>(parts.entries + size_t{parts.entry_count - 1} * entry_bytes + entry::kTime)) return false;
  const int64_t cut_us = expiry_cut_us(schema, newest_us);
  if (oldest_entry_us < cut_us) return false;
  for (uint32_t i = 0; i < parts.tile_count; ++i) {
    const uint8_t* at = parts.tiles + size_t{i} * tile_bytes;
    if (!is_tile(schema, at, newest_us)) return false;
    const int64_t first_us = load_le<int64_t>(at + tile::kFirst);
    if (i == 0 ? first_us < cut_us : first_us <= load_le<int64_t>(at - tile_bytes + tile::kLast)) return false;
    if (i > 0) {  // two tiles of one tier never share a place, and a finer one never lies inside an older coarser one
      const uint8_t* older = at - tile_bytes;
      const int64_t width_us = schema.tiers()[load_le<uint32_t>(older + tile::kTier)].width_us;
      if (floor_to(first_us, width_us) == floor_to(load_le<int64_t>(older + tile::kLast), width_us)) return false;
    }
    if (load_le<int64_t>(at + tile::kLast) > oldest_entry_us) return false;
  }
  return true;
}

}  // namespace

void seal_record(uint8_t* record) noexcept { store_le(record + header::kCrc, crc_of(record, record_bytes(record))); }

void seal_record(uint8_t* record, int64_t computed_time_us) noexcept {
  store_le(record + header::kComputedTime, computed_time_us);
  seal_record(record);
}

bool is_same_state(std::string_view a, std::string_view b) noexcept {
  ASSAY_ASSERT(a.size() >= kRecordHeaderBytes && b.size() >= kRecordHeaderBytes);
  const auto part = [](std::string_view bytes, size_t begin, size_t end) { return bytes.substr(begin, end - begin); };
  return a.size() == b.size() && part(a, 0, header::kCrc) == part(b, 0, header::kCrc) &&
         part(a, header::kViewHash, header::kComputedTime) == part(b, header::kViewHash, header::kComputedTime) &&
         part(a, header::kValidation, a.size()) == part(b, header::kValidation, b.size());
}

Code check_header(const uint8_t* record, uint64_t view_hash64, uint64_t digest) noexcept {
  if (load_le<uint32_t>(record + header::kMagic) != kRecordMagicWord) return Code::kRecordMagic;
  if (load_le<uint16_t>(record + header::kFormat) != kRecordFormat) return Code::kRecordVersion;
  if (load_le<uint64_t>(record + header::kViewHash) != view_hash64) return Code::kRecordView;
  if (load_le<uint64_t>(record + header::kEntityDigest) != digest) return Code::kRecordEntity;
  return record[header::kValidation] == kRecordValid ? Code::kOk : Code::kRecordLayout;
}

Code check_record(const uint8_t* bytes, size_t size, uint64_t view_hash64, uint64_t digest) noexcept {
  if (size < 4) return Code::kRecordLength;
  if (load_le<uint32_t>(bytes + header::kMagic) != kRecordMagicWord) return Code::kRecordMagic;
  if (size < kRecordHeaderBytes) return Code::kRecordLength;
  if (load_le<uint16_t>(bytes + header::kFormat) != kRecordFormat) return Code::kRecordVersion;
  if (load_le<uint16_t>(bytes + header::kHeaderBytes) != kRecordHeaderBytes || record_bytes(bytes) != size || size % 8 != 0) {
    return Code::kRecordLength;
  }
  if (load_le<uint32_t>(bytes + header::kCrc) != crc_of(bytes, size)) return Code::kRecordChecksum;
  return check_header(bytes, view_hash64, digest);
}

Code check_layout(const uint8_t* bytes, size_t size, const ViewSchema& schema) noexcept {
  const bool is_plain = bytes[header::kKind] == static_cast<uint8_t>(schema.spec().kind) &&
                        load_le<uint16_t>(bytes + header::kFlags) == 0 && is_time(load_le<int64_t>(bytes + header::kNewestTime));
  if (!is_plain) return Code::kRecordLayout;
  if (schema.spec().kind == ViewKind::kAttributes) {
    return is_attribute_layout(schema, bytes, size) ? Code::kOk : Code::kRecordLayout;
  }
  if (load_le<uint32_t>(bytes + header::kHeapBytes) != 0) return Code::kRecordLayout;
  return is_window_layout(schema, bytes, size) ? Code::kOk : Code::kRecordLayout;
}

Code validate_record(const uint8_t* bytes, size_t size, const ViewSchema& schema, uint64_t digest) noexcept {
  const Code code = check_record(bytes, size, schema.hash64(), digest);
  return code == Code::kOk ? check_layout(bytes, size, schema) : code;
}

}  // namespace assay
