// ViewSchema: what one view's row records hold and which windows are folded from them.
//
// A view is the stored state of one kind of entity. A window view holds events (exact entries, then tiles); an attribute
// view holds the newest typed values. See record.h for the bytes and docs/features.md for the mathematics.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/base/value.h"

namespace assay {

enum class ViewKind : uint8_t { kWindow = 1, kAttributes = 2 };

// Where a column's value comes from in an event.
enum class ColumnSource : uint8_t {
  kRequestFeature = 1,  // source_index: request feature
  kEntity = 2,          // source_index: entity; stored as the xxh64 of the id, for distinct counts
  kEventTime = 3,       // int64 microseconds, for "last seen at"
};

struct ColumnSpec {
  ColumnSource source = ColumnSource::kRequestFeature;
  uint16_t source_index = 0;
  // kInt64, kFloat64, kBool; kString is stored as its xxh64 and serves distinct counts only.
  Dtype dtype = Dtype::kNull;
};

enum class AggregateOp : uint8_t {
  kCount = 1,  // int64; events in the window, 0 when empty. No column.
  kSum = 2,    // int64 column only (float sums depend on order); checked; 0 when empty
  kAvg = 3,    // int64 column only; float64 sum/count over non-null values; null when empty
  kMin = 4,    // int64 or float64 column; null when empty
  kMax = 5,
  kLast = 6,      // newest non-null value by (event_time, fingerprint); null when empty
  kRateTrue = 7,  // bool column: true / non-null; label: fraud / events. float64; null when empty
  kDistinct = 8,  // int64; exact in the ring, saturates (a flagged lower bound) past it; 0 when empty
};

inline constexpr int16_t kNoColumn = -1;
inline constexpr int16_t kLabelColumn = -2;

struct AggregateSpec {
  AggregateOp op = AggregateOp::kCount;
  int16_t column = kNoColumn;
  int64_t window_us = 0;  // > 0; the window is (t - delay - window, t - delay]
};

struct AttributeSpec {
  std::string name;
  Dtype dtype = Dtype::kNull;
};

// What a feature set says of a view. view_hash is SHA-256 of the canonical form, made by Python (features/hashes.py): equal
// hash means equal record bytes.
struct ViewSpec {
  std::string name;
  uint16_t entity_index = 0;
  ViewKind kind = ViewKind::kWindow;
  std::array<uint8_t, 32> view_hash{};
  // --- window views
  std::vector<ColumnSpec> columns;
  std::vector<AggregateSpec> aggregates;
  int64_t delay_us = 0;           // all windows of the view end at t - delay
  bool uses_labels = false;       // then delay_us > 0: a label younger than its delay is leakage
  bool includes_current = false;  // the transaction being scored counts, once, if delay_us == 0
  uint32_t exact_events_max = limits::kExactEventsMin;
  int64_t lateness_us = 0;  // how far behind the newest event a late one may come before its state has expired
  // --- attribute views
  std::vector<AttributeSpec> attributes;
  int64_t max_age_us = 0;  // 0: never stale
};

// One width of tiles: a tile whose end is at least `age_us_min` older than the record's newest event has this width.
struct TileTier {
  int64_t width_us = 0;
  int64_t age_us_min = 0;
};

// What a fold must gather of a column.
enum ColumnNeed : uint8_t {
  kNeedSum = 1,       // sum, avg, rate_true
  kNeedExtremes = 2,  // min, max
  kNeedLast = 4,
  kNeedDistinct = 8,
};

// The compiled view. Immutable after compile(); shared by plans and stores; thread-safe.
class ViewSchema {
 public:
  // Checks every limit and rule above. On failure `status` names the view and what to change.
  static Status compile(ViewSpec spec, ViewSchema* out);

  const ViewSpec& spec() const noexcept { return spec_; }
  uint64_t hash64() const noexcept { return hash64_; }                             // first 8 bytes of view_hash, little-endian
  uint32_t entry_bytes() const noexcept { return entry_bytes_; }                   // one exact event
  uint32_t tile_bytes() const noexcept { return tile_bytes_; }                     // one tile
  int64_t horizon_us() const noexcept { return horizon_us_; }                      // longest window + delay + lateness
  const std::vector<int64_t>& windows_us() const noexcept { return windows_us_; }  // distinct, ascending
  const std::vector<TileTier>& tiers() const noexcept { return tiers_; }           // ascending age; widths nest
  size_t output_count() const noexcept {
    return spec_.kind == ViewKind::kWindow ? spec_.aggregates.size() : spec_.attributes.size();
  }
  // Index into windows_us() of each aggregate's window.
  const std::vector<uint8_t>& window_of_aggregate() const noexcept { return window_of_aggregate_; }

  // --- for the record code
  // Aggregates in the order of their windows: those of window i are [window_begins()[i], window_begins()[i + 1]).
  const std::vector<uint8_t>& aggregates_by_window() const noexcept { return aggregates_by_window_; }
  const std::vector<uint8_t>& window_begins() const noexcept { return window_begins_; }
  // What the aggregates want of each column: bits of ColumnNeed.
  const std::vector<uint8_t>& column_needs() const noexcept { return column_needs_; }
  uint32_t entry_cells_offset() const noexcept { return spec_.uses_labels ? 32 : 24; }  // of column 0 in an entry
  const std::vector<uint32_t>& tile_column_offsets() const noexcept { return tile_column_offsets_; }
  uint32_t tiles_max() const noexcept { return tiles_max_; }  // a record never has more
  uint64_t record_bytes_max() const noexcept { return record_bytes_max_; }
  // True if the two views keep the same bytes: what equal view hashes promise.
  bool has_layout_of(const ViewSchema& other) const noexcept;

 private:
  ViewSpec spec_;
  uint64_t hash64_ = 0;
  uint32_t entry_bytes_ = 0;
  uint32_t tile_bytes_ = 0;
  int64_t horizon_us_ = 0;
  std::vector<int64_t> windows_us_;
  std::vector<TileTier> tiers_;
  std::vector<uint8_t> window_of_aggregate_;
  std::vector<uint8_t> aggregates_by_window_;
  std::vector<uint8_t> window_begins_;
  std::vector<uint8_t> column_needs_;
  std::vector<uint32_t> tile_column_offsets_;
  uint32_t tiles_max_ = 0;
  uint64_t record_bytes_max_ = 0;
};

}  // namespace assay
