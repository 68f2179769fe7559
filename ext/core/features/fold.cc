#include "core/features/fold.h"

#include <algorithm>
#include <limits>

#include "core/features/attribute_record.h"
#include "core/features/cells.h"
#include "core/features/distinct.h"
#include "core/features/record_layout.h"
#include "core/features/tiles.h"

namespace assay {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

// First of `count` items of `stride` bytes whose leading int64 at `at` is after `time_us`. Without branches on data: the
// processor cannot guess them.
uint32_t first_after(const uint8_t* at, uint32_t count, uint32_t stride, int64_t time_us) noexcept {
  uint32_t base = 0;
  while (count > 0) {
    const uint32_t half = (count + 1) / 2;
    const bool is_after = load_le<int64_t>(at + size_t{base + half - 1} * stride) > time_us;
    base += is_after ? 0 : half;
    count = is_after ? half - 1 : count - half;
  }
  return base;
}

// What has been gathered of one column. The windows all end at the same moment, so each is the one before it plus what lies
// further back, and one set of these serves them all.
struct ColumnGathered {
  __int128 sum;  // int64: sum; bool: number of trues
  uint64_t present;
  int64_t minimum, maximum;
  double real_minimum, real_maximum;
  uint64_t last;
  bool has_last;
  bool has_extremes;
};

class WindowFold {
 public:
  WindowFold(const ViewSchema& schema, const uint8_t* record, const FoldRequest& request) noexcept
      : schema_(schema),
        spec_(schema.spec()),
        stride_(schema.entry_bytes()),
        t_us_(request.event_time_us),
        head_us_(request.event_time_us - schema.spec().delay_us) {
    std::fill_n(columns_, spec_.columns.size(), ColumnGathered{});
    if (record != nullptr) parts_ = WindowParts(schema, record);
    if (request.current != nullptr && spec_.includes_current && spec_.delay_us == 0) current_ = request.current;
    locate(request.current);
  }

  void run(Value* values, FoldResult* result) noexcept {
    const std::vector<uint8_t>& begins = schema_.window_begins();
    uint32_t to = end_, tile_to = tile_end_;
    if (current_ != nullptr) {
      // Where the current transaction stands among events of the same microsecond matters to `last` alone.
      const uint32_t place = place_of_current(starts_[0], to);
      gather_entries(place, to);
      gather_current();
      to = place;
    }
    for (size_t w = 0; w < schema_.windows_us().size(); ++w) {
      gather_entries(starts_[w], to);
      to = starts_[w];
      if (tile_to > tile_starts_[w]) {
        gather_tiles(tile_starts_[w], tile_to);
        tile_to = tile_starts_[w];
      }
      for (uint32_t i = begins[w]; i < begins[w + 1]; ++i) {
        const uint8_t index = schema_.aggregates_by_window()[i];
        values[index] = result_of(spec_.aggregates[index], result);
      }
    }
    if (has_tiles_in_reach()) flag_tiles(result);
    for (size_t c = 0; c < spec_.columns.size(); ++c) {
      if (schema_.column_needs()[c] & kNeedDistinct) count_distinct(c, values, result);
    }
  }

 private:
  // Finds the range of entries and tiles of every window, and the entry that is the transaction being scored.
  void locate(const EventEntry* current) noexcept {
    const std::vector<int64_t>& windows_us = schema_.windows_us();
    end_ = parts_.entry_count;
    if (end_ > 0 && load_le<int64_t>(entry_at(end_ - 1) + entry::kTime) > head_us_)
      end_ = first_after(parts_.entries, end_, stride_, head_us_);
    tile_end_ =
        parts_.tile_count == 0 ? 0 : first_after(parts_.tiles + tile::kLast, parts_.tile_count, schema_.tile_bytes(), head_us_);
    for (size_t w = windows_us.size(); w-- > 0;) {
      const int64_t tail_us = head_us_ - windows_us[w];
      const uint32_t from = w + 1 < windows_us.size() ? starts_[w + 1] : 0;  // a shorter window starts later
      starts_[w] = from + first_after(parts_.entries + size_t{from} * stride_, end_ - from, stride_, tail_us);
      tile_starts_[w] =
          parts_.tile_count == 0 ? 0 : first_after(parts_.tiles + tile::kLast, tile_end_, schema_.tile_bytes(), tail_us);
    }
    if (current != nullptr) find_fingerprint(current->fingerprint, starts_[windows_us.size() - 1]);
  }

  // It is seldom there, so four are compared at a time.
  void find_fingerprint(uint64_t fingerprint, uint32_t from) noexcept {
    const size_t stride = stride_;
    const uint8_t* at = parts_.entries + entry::kFingerprint + from * stride;
    const auto is_at = [&](size_t n) -> uint32_t { return load_le<uint64_t>(at + n * stride) == fingerprint; };
    for (; from + 4 <= end_ && (is_at(0) | is_at(1) | is_at(2) | is_at(3)) == 0; from += 4) at += 4 * stride;
    for (; from < end_; ++from, at += stride) {
      if (is_at(0) != 0) {
        skip_ = from;
        return;
      }
    }
  }

  const uint8_t* entry_at(uint32_t index) const noexcept { return parts_.entries + size_t{index} * stride_; }
  const uint8_t* tile_at(uint32_t index) const noexcept { return parts_.tiles + size_t{index} * schema_.tile_bytes(); }

  uint32_t place_of_current(uint32_t from, uint32_t to) const noexcept {
    while (to > from) {
      const uint8_t* at = entry_at(to - 1);
      if (load_le<int64_t>(at + entry::kTime) != t_us_ || load_le<uint64_t>(at + entry::kFingerprint) < current_->fingerprint)
        break;
      --to;
    }
    return to;
  }

  // Adds entries [from, to), newest part first, without the one to skip.
  void gather_entries(uint32_t from, uint32_t to) noexcept {
    if (skip_ >= from && skip_ < to) {
      gather_range(skip_ + 1, to);
      gather_range(from, skip_);
    } else {
      gather_range(from, to);
    }
  }

  void gather_range(uint32_t from, uint32_t to) noexcept {
    if (from >= to) return;
    event_count_ += to - from;
    if (spec_.uses_labels) gather_labels(from, to);
    for (size_t c = 0; c < spec_.columns.size(); ++c) {
      const uint8_t needs = schema_.column_needs()[c];
      if (needs & kNeedSum) gather_sum(c, from, to);
      if (needs & kNeedExtremes) gather_extremes(c, from, to);
      if ((needs & kNeedLast) && !columns_[c].has_last) gather_last(c, from, to);
    }
  }

  void gather_labels(uint32_t from, uint32_t to) noexcept {
    uint64_t frauds = 0;
    const uint8_t* at = entry_at(from);
    const int64_t t_us = t_us_;
    const uint32_t stride = stride_;
    for (uint32_t i = from; i < to; ++i, at += stride) {
      frauds += static_cast<uint64_t>((at[entry::kLabel] == kFraud) & (load_le<int64_t>(at + entry::kLabelTime) <= t_us));
    }
    fraud_count_ += frauds;
  }

  // A null's cell is 0 and adds nothing.
  // Upper and lower halves are summed apart: a ring of 4096 cannot carry one into the other, and there is no chain of carries.
  void gather_sum(size_t c, uint32_t from, uint32_t to) noexcept {
    int64_t high = 0;
    uint64_t low = 0;
    uint32_t null_count = 0;
    const uint8_t* at = entry_at(from);
    const size_t cell = schema_.entry_cells_offset() + 8 * c;
    const uint32_t stride = stride_;
    for (uint32_t i = from; i < to; ++i, at += stride) {
      const int64_t value = load_le<int64_t>(at + cell);
      high += value >> 32;
      low += static_cast<uint32_t>(value);
      null_count += (uint32_t{at[entry::kNulls]} >> c) & 1;
    }
    columns_[c].sum += static_cast<__int128>(high) * (int64_t{1} << 32) + low;
    columns_[c].present += to - from - null_count;
  }

  void gather_extremes(size_t c, uint32_t from, uint32_t to) noexcept {
    const uint8_t* at = entry_at(from);
    for (uint32_t i = from; i < to; ++i, at += stride_) {
      if ((at[entry::kNulls] >> c) & 1) continue;
      const uint64_t cell = load_le<uint64_t>(at + schema_.entry_cells_offset() + 8 * c);
      offer_extremes(c, cell, cell);
    }
  }

  void gather_last(size_t c, uint32_t from, uint32_t to) noexcept {
    for (uint32_t i = to; i-- > from;) {
      const uint8_t* at = entry_at(i);
      if ((at[entry::kNulls] >> c) & 1) continue;
      offer_last(c, load_le<uint64_t>(at + schema_.entry_cells_offset() + 8 * c));
      return;
    }
  }

  void offer_last(size_t c, uint64_t cell) noexcept {
    if (columns_[c].has_last) return;
    columns_[c].last = cell;
    columns_[c].has_last = true;
  }

  void offer_extremes(size_t c, uint64_t low, uint64_t high) noexcept {
    ColumnGathered& column = columns_[c];
    if (spec_.columns[c].dtype == Dtype::kFloat64) {
      const double minimum = value_of(Dtype::kFloat64, low).float64, maximum = value_of(Dtype::kFloat64, high).float64;
      column.real_minimum = column.has_extremes ? std::min(column.real_minimum, minimum) : minimum;
      column.real_maximum = column.has_extremes ? std::max(column.real_maximum, maximum) : maximum;
    } else {
      const int64_t minimum = static_cast<int64_t>(low), maximum = static_cast<int64_t>(high);
      column.minimum = column.has_extremes ? std::min(column.minimum, minimum) : minimum;
      column.maximum = column.has_extremes ? std::max(column.maximum, maximum) : maximum;
    }
    column.has_extremes = true;
  }

  void gather_current() noexcept {
    ++event_count_;
    for (size_t c = 0; c < spec_.columns.size(); ++c) {
      const Value& value = current_->columns[c];
      uint64_t cell = 0;
      if (value.is_null() || cell_of(spec_.columns[c].dtype, value, &cell) != Code::kOk) continue;
      const uint8_t needs = schema_.column_needs()[c];
      columns_[c].sum += static_cast<int64_t>(cell);
      ++columns_[c].present;
      if (needs & kNeedExtremes) offer_extremes(c, cell, cell);
      if (needs & kNeedLast) offer_last(c, cell);
    }
  }

  // Adds tiles [from, to) whole. Frauds whose labels were not all known at t are left out: late rather than leaked.
  void gather_tiles(uint32_t from, uint32_t to) noexcept {
    for (uint32_t i = to; i-- > from;) {
      const uint8_t* at = tile_at(i);
      event_count_ += load_le<uint64_t>(at + tile::kCount);
      if (spec_.uses_labels && load_le<uint64_t>(at + tile::kFraudCount) > 0) {
        if (load_le<int64_t>(at + tile::kLabelTimeMax) <= t_us_) {
          fraud_count_ += load_le<uint64_t>(at + tile::kFraudCount);
        } else {
          has_withheld_labels_ = true;
        }
      }
      for (size_t c = 0; c < spec_.columns.size(); ++c) {
        if (tile_part_bytes(spec_.columns[c]) != 0) gather_part(c, at + schema_.tile_column_offsets()[c]);
      }
    }
  }

  void gather_part(size_t c, const uint8_t* at) noexcept {
    const uint64_t present = load_le<uint64_t>(at + part::kPresent);
    if (present == 0) return;
    const uint8_t needs = schema_.column_needs()[c];
    const Dtype dtype = spec_.columns[c].dtype;
    columns_[c].present += present;
    if (dtype == Dtype::kInt64) columns_[c].sum += load_sum(at);
    if (dtype == Dtype::kBool) columns_[c].sum += load_le<uint64_t>(at + part::kTrueCount);
    if (needs & kNeedExtremes) offer_extremes(c, load_le<uint64_t>(at + part::kMin), load_le<uint64_t>(at + part::kMax));
    if (needs & kNeedLast) offer_last(c, load_le<uint64_t>(at + part::kLastValue));
  }

  bool has_tiles_in_reach() const noexcept { return parts_.tile_count > 0; }

  // Approximate: a window's end lies within a tile, which was then taken or left whole.
  void flag_tiles(FoldResult* result) const noexcept {
    const bool is_head_cut = tile_end_ < parts_.tile_count && load_le<int64_t>(tile_at(tile_end_) + tile::kFirst) <= head_us_;
    bool is_tail_cut = false;
    for (size_t w = 0; w < schema_.windows_us().size(); ++w) {
      const int64_t tail_us = head_us_ - schema_.windows_us()[w];
      is_tail_cut |= tile_starts_[w] < tile_end_ && load_le<int64_t>(tile_at(tile_starts_[w]) + tile::kFirst) <= tail_us;
    }
    result->is_approximate |= is_head_cut || is_tail_cut || has_withheld_labels_;
  }

  // Whether a tile holds events of window w, in part or whole.
  bool has_tiles(size_t w) const noexcept {
    const bool is_head_cut = tile_end_ < parts_.tile_count && load_le<int64_t>(tile_at(tile_end_) + tile::kFirst) <= head_us_;
    return is_head_cut || tile_end_ > tile_starts_[w];
  }

  void count_distinct(size_t c, Value* values, FoldResult* result) noexcept {
    DistinctSet seen(end_ - starts_[schema_.windows_us().size() - 1] + 1);
    const Dtype dtype = spec_.columns[c].dtype;
    uint64_t cell = 0;
    if (current_ != nullptr && !current_->columns[c].is_null() && cell_of(dtype, current_->columns[c], &cell) == Code::kOk) {
      seen.add(cell);
    }
    uint32_t to = end_;
    for (size_t w = 0; w < schema_.windows_us().size(); ++w) {
      for (uint32_t i = starts_[w]; i < to; ++i) {
        const uint8_t* at = entry_at(i);
        if (i == skip_ || ((at[entry::kNulls] >> c) & 1)) continue;
        seen.add(load_le<uint64_t>(at + schema_.entry_cells_offset() + 8 * c));
      }
      to = starts_[w];
      for (uint32_t i = schema_.window_begins()[w]; i < schema_.window_begins()[w + 1]; ++i) {
        const uint8_t index = schema_.aggregates_by_window()[i];
        const AggregateSpec& aggregate = spec_.aggregates[index];
        if (aggregate.op != AggregateOp::kDistinct || static_cast<size_t>(aggregate.column) != c) continue;
        values[index] = Value::of(static_cast<int64_t>(seen.count()));
        result->is_saturated |= has_tiles(w);
      }
    }
  }

  Value sum_of(const ColumnGathered& column, FoldResult* result) const noexcept {
    if (column.sum < std::numeric_limits<int64_t>::min() || column.sum > std::numeric_limits<int64_t>::max()) {
      result->rejected = Code::kIntegerOverflow;
      return Value();
    }
    return Value::of(static_cast<int64_t>(column.sum));
  }

  static Value ratio_of(__int128 a, uint64_t b) noexcept {
    if (b == 0) return Value();
    const int64_t small = static_cast<int64_t>(a);  // the same double either way; the short way is faster
    return Value::of((small == a ? static_cast<double>(small) : static_cast<double>(a)) / static_cast<double>(b));
  }

  Value extreme_of(size_t c, bool is_minimum) const noexcept {
    const ColumnGathered& column = columns_[c];
    if (!column.has_extremes) return Value();
    if (spec_.columns[c].dtype == Dtype::kFloat64) return Value::of(is_minimum ? column.real_minimum : column.real_maximum);
    return Value::of(is_minimum ? column.minimum : column.maximum);
  }

  // Of what has been gathered so far. Distinct counts come later, in a pass of their own.
  Value result_of(const AggregateSpec& aggregate, FoldResult* result) const noexcept {
    const size_t c = static_cast<size_t>(aggregate.column);
    switch (aggregate.op) {
      case AggregateOp::kCount: return Value::of(static_cast<int64_t>(event_count_));
      case AggregateOp::kSum: return sum_of(columns_[c], result);
      case AggregateOp::kAvg: return ratio_of(columns_[c].sum, columns_[c].present);
      case AggregateOp::kMin: return extreme_of(c, true);
      case AggregateOp::kMax: return extreme_of(c, false);
      case AggregateOp::kLast: return columns_[c].has_last ? value_of(spec_.columns[c].dtype, columns_[c].last) : Value();
      case AggregateOp::kRateTrue:
        if (aggregate.column == kLabelColumn) return ratio_of(fraud_count_, event_count_);
        return ratio_of(columns_[c].sum, columns_[c].present);
      case AggregateOp::kDistinct: return Value();
    }
    return Value();
  }

  const ViewSchema& schema_;
  const ViewSpec& spec_;
  const uint32_t stride_;
  const int64_t t_us_;
  const int64_t head_us_;  // every window ends here, inclusive
  WindowParts parts_;
  const EventEntry* current_ = nullptr;   // to be added once; null: not
  uint32_t skip_ = kNone;                 // its entry, if it is stored already
  uint32_t end_ = 0, tile_end_ = 0;       // first entry and tile after the head
  uint32_t starts_[limits::kWindowsMax];  // first entry of each window; set by locate()
  uint32_t tile_starts_[limits::kWindowsMax];
  uint64_t event_count_ = 0;
  uint64_t fraud_count_ = 0;
  bool has_withheld_labels_ = false;
  ColumnGathered columns_[limits::kColumnsMax];  // those of the view are set; the rest costs nothing
};

}  // namespace

void fold_record(const ViewSchema& schema, const uint8_t* record, const FoldRequest& request, Value* values,
                 FoldResult* result) noexcept {
  *result = FoldResult();
  FoldRequest bounded = request;
  bounded.event_time_us = std::clamp(request.event_time_us, limits::kTimeUsMin, limits::kTimeUsMax);
  WindowFold(schema, record, bounded).run(values, result);
  if (record == nullptr) return;
  const int64_t newest_us = load_le<int64_t>(record + header::kNewestTime);
  result->is_found = true;
  result->age_us = bounded.event_time_us - newest_us;
  // Asked further back than the record reaches: what has expired cannot be counted.
  result->is_approximate |=
      bounded.event_time_us < newest_us - schema.spec().lateness_us &&
      bounded.event_time_us - schema.horizon_us() + schema.spec().lateness_us < expiry_cut_us(schema, newest_us);
}

void fold_view(const ViewSchema& schema, const uint8_t* record, const FoldRequest& request, Value* values, FoldResult* result,
               char* arena) noexcept {
  if (schema.spec().kind == ViewKind::kWindow) return fold_record(schema, record, request, values, result);
  *result = FoldResult();
  std::fill_n(values, schema.output_count(), Value());
  if (record == nullptr) return;
  const int64_t t_us = std::clamp(request.event_time_us, limits::kTimeUsMin, limits::kTimeUsMax);
  read_attributes(schema, record, t_us, values, result, arena);
}

void fold_unknown(const ViewSchema& schema, Code why, Value* values, FoldResult* result) noexcept {
  *result = FoldResult();
  result->rejected = why;
  std::fill_n(values, schema.output_count(), Value());
}

}  // namespace assay
