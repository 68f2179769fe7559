#include "core/features/tiles.h"

#include <algorithm>
#include <cstring>

#include "core/base/status.h"
#include "core/features/record_layout.h"

namespace assay {
namespace {

double real_of(uint64_t bits) noexcept {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

bool is_less(Dtype dtype, uint64_t a, uint64_t b) noexcept {
  return dtype == Dtype::kFloat64 ? real_of(a) < real_of(b) : static_cast<int64_t>(a) < static_cast<int64_t>(b);
}

// Takes the value as the newest if (time, fingerprint) says so.
void offer_last(uint8_t* at, int64_t time_us, uint64_t fingerprint, uint64_t cell) noexcept {
  const int64_t known_us = load_le<int64_t>(at + part::kLastTime);
  if (load_le<uint64_t>(at + part::kPresent) != 0 &&
      (time_us < known_us || (time_us == known_us && fingerprint < load_le<uint64_t>(at + part::kLastFingerprint)))) {
    return;
  }
  store_le(at + part::kLastTime, time_us);
  store_le(at + part::kLastFingerprint, fingerprint);
  store_le(at + part::kLastValue, cell);
}

void offer_extremes(uint8_t* at, Dtype dtype, uint64_t low, uint64_t high) noexcept {
  const bool is_first = load_le<uint64_t>(at + part::kPresent) == 0;
  if (is_first || is_less(dtype, low, load_le<uint64_t>(at + part::kMin))) store_le(at + part::kMin, low);
  if (is_first || is_less(dtype, load_le<uint64_t>(at + part::kMax), high)) store_le(at + part::kMax, high);
}

void add_present(uint8_t* at, uint64_t count) noexcept {
  store_le(at + part::kPresent, load_le<uint64_t>(at + part::kPresent) + count);
}

void add_value(uint8_t* at, Dtype dtype, int64_t time_us, uint64_t fingerprint, uint64_t cell) noexcept {
  offer_last(at, time_us, fingerprint, cell);
  if (dtype == Dtype::kBool) {
    store_le(at + part::kTrueCount, load_le<uint64_t>(at + part::kTrueCount) + cell);
  } else {
    offer_extremes(at, dtype, cell, cell);
    if (dtype == Dtype::kInt64) store_sum(at, load_sum(at) + static_cast<int64_t>(cell));
  }
  add_present(at, 1);
}

void merge_part(uint8_t* into, const uint8_t* from, Dtype dtype) noexcept {
  const uint64_t present = load_le<uint64_t>(from + part::kPresent);
  if (present == 0) return;
  offer_last(into, load_le<int64_t>(from + part::kLastTime), load_le<uint64_t>(from + part::kLastFingerprint),
             load_le<uint64_t>(from + part::kLastValue));
  if (dtype == Dtype::kBool) {
    store_le(into + part::kTrueCount, load_le<uint64_t>(into + part::kTrueCount) + load_le<uint64_t>(from + part::kTrueCount));
  } else {
    offer_extremes(into, dtype, load_le<uint64_t>(from + part::kMin), load_le<uint64_t>(from + part::kMax));
    if (dtype == Dtype::kInt64) store_sum(into, load_sum(into) + load_sum(from));
  }
  add_present(into, present);
}

void add_fraud(uint8_t* tile_at, uint64_t count, int64_t label_time_us) noexcept {
  if (count == 0) return;
  const uint64_t known = load_le<uint64_t>(tile_at + tile::kFraudCount);
  const int64_t newest_us = load_le<int64_t>(tile_at + tile::kLabelTimeMax);
  store_le(tile_at + tile::kLabelTimeMax, known == 0 ? label_time_us : std::max(newest_us, label_time_us));
  store_le(tile_at + tile::kFraudCount, known + count);
}

void add_entry(const ViewSchema& schema, uint8_t* tile_at, const uint8_t* entry_at) noexcept {
  const int64_t time_us = load_le<int64_t>(entry_at + entry::kTime);
  const uint64_t fingerprint = load_le<uint64_t>(entry_at + entry::kFingerprint);
  store_le(tile_at + tile::kFirst, std::min(load_le<int64_t>(tile_at + tile::kFirst), time_us));
  store_le(tile_at + tile::kLast, std::max(load_le<int64_t>(tile_at + tile::kLast), time_us));
  store_le(tile_at + tile::kCount, load_le<uint64_t>(tile_at + tile::kCount) + 1);
  if (schema.spec().uses_labels && entry_at[entry::kLabel] == kFraud) {
    add_fraud(tile_at, 1, load_le<int64_t>(entry_at + entry::kLabelTime));
  }
  const std::vector<ColumnSpec>& columns = schema.spec().columns;
  for (size_t c = 0; c < columns.size(); ++c) {
    const bool is_null = (entry_at[entry::kNulls] >> c) & 1;
    if (is_null || tile_part_bytes(columns[c]) == 0) continue;
    add_value(tile_at + schema.tile_column_offsets()[c], columns[c].dtype, time_us, fingerprint,
              load_le<uint64_t>(entry_at + schema.entry_cells_offset() + 8 * c));
  }
}

void merge_tile(const ViewSchema& schema, uint8_t* into, const uint8_t* from) noexcept {
  store_le(into + tile::kFirst, std::min(load_le<int64_t>(into + tile::kFirst), load_le<int64_t>(from + tile::kFirst)));
  store_le(into + tile::kLast, std::max(load_le<int64_t>(into + tile::kLast), load_le<int64_t>(from + tile::kLast)));
  store_le(into + tile::kCount, load_le<uint64_t>(into + tile::kCount) + load_le<uint64_t>(from + tile::kCount));
  if (schema.spec().uses_labels) {
    add_fraud(into, load_le<uint64_t>(from + tile::kFraudCount), load_le<int64_t>(from + tile::kLabelTimeMax));
  }
  const std::vector<ColumnSpec>& columns = schema.spec().columns;
  for (size_t c = 0; c < columns.size(); ++c) {
    if (tile_part_bytes(columns[c]) == 0) continue;
    const uint32_t offset = schema.tile_column_offsets()[c];
    merge_part(into + offset, from + offset, columns[c].dtype);
  }
}

uint32_t tier_at(const uint8_t* tile_at) noexcept { return load_le<uint32_t>(tile_at + tile::kTier); }

bool is_same_tile(const ViewSchema& schema, uint32_t tier, int64_t a_us, int64_t b_us) noexcept {
  const int64_t width_us = schema.tiers()[tier].width_us;
  return floor_to(a_us, width_us) == floor_to(b_us, width_us);
}

// Tiers fall with time, so the oldest tile of each tier is the first to become coarser.
bool needs_advance(const ViewSchema& schema, const uint8_t* tiles, uint32_t tile_count, int64_t newest_us) noexcept {
  if (load_le<int64_t>(tiles + tile::kLast) < expiry_cut_us(schema, newest_us)) return true;
  const uint32_t stride = schema.tile_bytes();
  uint32_t index = 0;
  while (index < tile_count) {
    const uint8_t* oldest = tiles + size_t{index} * stride;
    const uint32_t tier = tier_at(oldest);
    if (tier_of(schema, load_le<int64_t>(oldest + tile::kLast), newest_us) != tier) return true;
    uint32_t low = index + 1, high = tile_count;  // first tile of a finer tier
    while (low < high) {
      const uint32_t middle = low + (high - low) / 2;
      if (tier_at(tiles + size_t{middle} * stride) == tier) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    index = low;
  }
  return false;
}

}  // namespace

int64_t expiry_cut_us(const ViewSchema& schema, int64_t newest_us) noexcept {
  return floor_to(newest_us - schema.horizon_us(), schema.tiers().back().width_us);
}

uint32_t tier_of(const ViewSchema& schema, int64_t time_us, int64_t newest_us) noexcept {
  const std::vector<TileTier>& tiers = schema.tiers();
  for (uint32_t tier = static_cast<uint32_t>(tiers.size()) - 1; tier > 0; --tier) {
    const int64_t end_us = floor_to(time_us, tiers[tier].width_us) + tiers[tier].width_us;
    if (end_us <= newest_us - tiers[tier].age_us_min) return tier;
  }
  return 0;
}

uint32_t advance_tiles(const ViewSchema& schema, uint8_t* tiles, uint32_t tile_count, int64_t newest_us) noexcept {
  if (tile_count == 0 || !needs_advance(schema, tiles, tile_count, newest_us)) return tile_count;
  const uint32_t stride = schema.tile_bytes();
  const int64_t cut_us = expiry_cut_us(schema, newest_us);
  uint8_t* out = tiles;
  for (uint32_t i = 0; i < tile_count; ++i) {
    uint8_t* from = tiles + size_t{i} * stride;
    const int64_t last_us = load_le<int64_t>(from + tile::kLast);
    if (last_us < cut_us) continue;
    const uint32_t tier = tier_of(schema, last_us, newest_us);
    uint8_t* previous = out - stride;
    if (out != tiles && tier_at(previous) == tier &&
        is_same_tile(schema, tier, load_le<int64_t>(previous + tile::kLast), last_us)) {
      merge_tile(schema, previous, from);
      continue;
    }
    if (out != from) std::memcpy(out, from, stride);
    store_le(out + tile::kTier, tier);
    out += stride;
  }
  return static_cast<uint32_t>((out - tiles) / stride);
}

uint32_t absorb_entry(const ViewSchema& schema, uint8_t* tiles, uint32_t tile_count, const uint8_t* entry_at,
                      int64_t newest_us) noexcept {
  const uint32_t stride = schema.tile_bytes();
  const int64_t time_us = load_le<int64_t>(entry_at + entry::kTime);
  const uint32_t tier = tier_of(schema, time_us, newest_us);
  const auto last_at = [&](uint32_t i) { return load_le<int64_t>(tiles + size_t{i} * stride + tile::kLast); };
  uint32_t place = tile_count;  // of the first tile that does not end before the event; nearly always there is none
  while (place > 0 && last_at(place - 1) >= time_us) --place;
  for (const uint32_t i : {place, place - 1}) {  // tiles are known by their events: the event's may end before it
    uint8_t* const at = tiles + size_t{i} * stride;
    if (i < tile_count && tier_at(at) == tier && is_same_tile(schema, tier, last_at(i), time_us)) {
      add_entry(schema, at, entry_at);
      return tile_count;
    }
  }
  ASSAY_ASSERT(tile_count < schema.tiles_max());
  uint8_t* const added = tiles + size_t{place} * stride;
  std::memmove(added + stride, added, size_t{tile_count - place} * stride);
  std::memset(added, 0, stride);
  store_le(added + tile::kFirst, time_us);
  store_le(added + tile::kLast, time_us);
  store_le(added + tile::kTier, tier);
  add_entry(schema, added, entry_at);
  return tile_count + 1;
}

int32_t find_tile(const ViewSchema& schema, const uint8_t* tiles, uint32_t tile_count, int64_t time_us) noexcept {
  for (uint32_t i = tile_count; i > 0; --i) {
    const uint8_t* const at = tiles + size_t{i - 1} * schema.tile_bytes();
    if (load_le<int64_t>(at + tile::kFirst) > time_us) continue;
    return load_le<int64_t>(at + tile::kLast) < time_us ? -1 : static_cast<int32_t>(i - 1);
  }
  return -1;
}

bool can_relabel(const uint8_t* tile_at, bool is_fraud) noexcept {
  const uint64_t frauds = load_le<uint64_t>(tile_at + tile::kFraudCount);
  return is_fraud ? frauds < load_le<uint64_t>(tile_at + tile::kCount) : frauds > 0;
}

void relabel_tile(uint8_t* tile_at, bool is_fraud, int64_t label_time_us) noexcept {
  ASSAY_ASSERT(can_relabel(tile_at, is_fraud));
  if (is_fraud) return add_fraud(tile_at, 1, label_time_us);
  const uint64_t frauds = load_le<uint64_t>(tile_at + tile::kFraudCount) - 1;
  store_le(tile_at + tile::kFraudCount, frauds);
  if (frauds == 0) store_le<int64_t>(tile_at + tile::kLabelTimeMax, 0);
}

}  // namespace assay
