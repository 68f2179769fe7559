// Tiles: where events go that no longer fit in a record's ring of exact entries.
//
// Which tile an event lies in is a pure function of (event time, newest event time of the record), so the bytes of a record
// depend on the set of its events and not on their order. The mathematics stand in docs/row-record.md.
#pragma once

#include <cstdint>

#include "core/features/view.h"

namespace assay {

// Largest multiple of `width` that is not after `time`, before 1970 too. width > 0.
inline int64_t floor_to(int64_t time_us, int64_t width_us) noexcept {
  const int64_t rest = time_us % width_us;
  return time_us - rest - (rest < 0 ? width_us : 0);
}

// Everything before this has expired from a record whose newest event is at `newest_us`: no fold at newest - lateness or later
// can see it. A multiple of the widest tile, so that no tile lies on both sides.
int64_t expiry_cut_us(const ViewSchema& schema, int64_t newest_us) noexcept;

// The tier of an event that lies in a tile: the coarsest one whose tile around the event ended at least age_us_min before
// `newest_us`; tier 0 takes the rest.
uint32_t tier_of(const ViewSchema& schema, int64_t time_us, int64_t newest_us) noexcept;

// Brings `tile_count` tiles from an older newest time to `newest_us`: drops what has expired, merges what has become coarser.
// Returns the new count. Costs a few comparisons when nothing changes.
uint32_t advance_tiles(const ViewSchema& schema, uint8_t* tiles, uint32_t tile_count, int64_t newest_us) noexcept;

// Puts one entry into the tiles. There is room for one more tile behind them. Returns the new count.
uint32_t absorb_entry(const ViewSchema& schema, uint8_t* tiles, uint32_t tile_count, const uint8_t* entry_at,
                      int64_t newest_us) noexcept;

// The tile whose first and last event have `time_us` between them; -1: none.
int32_t find_tile(const ViewSchema& schema, const uint8_t* tiles, uint32_t tile_count, int64_t time_us) noexcept;

// Whether the tile has an event that can become a fraud, or a fraud that can become none.
bool can_relabel(const uint8_t* tile_at, bool is_fraud) noexcept;

// One fraud more, known since `label_time_us`, or one less; then the others are known no later than before. REQUIRES can_relabel().
void relabel_tile(uint8_t* tile_at, bool is_fraud, int64_t label_time_us) noexcept;

}  // namespace assay
