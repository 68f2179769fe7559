#include "core/features/view.h"

#include <algorithm>

#include "core/features/record_layout.h"

namespace assay {
namespace {

// A tile is at most this part of the shortest window that still has to cut through it.
constexpr int64_t kTilesPerWindow = 24;

Status invalid(const ViewSpec& spec, const std::string& what) {
  return Status(Code::kPlanInvalid, "view \"" + printable(spec.name) + "\": " + what);
}

const char* op_name(AggregateOp op) {
  switch (op) {
    case AggregateOp::kCount: return "count";
    case AggregateOp::kSum: return "sum";
    case AggregateOp::kAvg: return "avg";
    case AggregateOp::kMin: return "min";
    case AggregateOp::kMax: return "max";
    case AggregateOp::kLast: return "last";
    case AggregateOp::kRateTrue: return "rate_true";
    case AggregateOp::kDistinct: return "distinct";
  }
  return "?";
}

bool is_span(int64_t us) { return us >= 0 && us <= limits::kWindowUsMax; }

Status check_column(const ViewSpec& spec, const ColumnSpec& column, size_t index) {
  const std::string name = "column " + std::to_string(index);
  switch (column.source) {
    case ColumnSource::kEventTime:
      if (column.dtype != Dtype::kInt64) return invalid(spec, name + " is the event time and must be int64");
      return Status();
    case ColumnSource::kEntity:
      if (column.dtype != Dtype::kString && column.dtype != Dtype::kInt64) {
        return invalid(spec, name + " is an entity and must be string");
      }
      if (column.source_index >= limits::kEntitiesMax) return invalid(spec, name + " names no entity");
      return Status();
    case ColumnSource::kRequestFeature:
      if (column.dtype < Dtype::kFloat64 || column.dtype > Dtype::kString) return invalid(spec, name + " has no dtype");
      return Status();
  }
  return invalid(spec, name + " has an unknown source");
}

// Whether `op` can be computed of a column of this dtype; hashes serve distinct counts only.
bool is_allowed(AggregateOp op, const ColumnSpec& column) {
  const bool is_hash = column.dtype == Dtype::kString || column.source == ColumnSource::kEntity;
  switch (op) {
    case AggregateOp::kCount: return false;
    case AggregateOp::kSum:
    case AggregateOp::kAvg: return !is_hash && column.dtype == Dtype::kInt64;
    case AggregateOp::kMin:
    case AggregateOp::kMax: return !is_hash && column.dtype != Dtype::kBool;
    case AggregateOp::kLast: return !is_hash;
    case AggregateOp::kRateTrue: return column.dtype == Dtype::kBool;
    case AggregateOp::kDistinct: return true;
  }
  return false;
}

Status check_aggregate(const ViewSpec& spec, const AggregateSpec& aggregate, size_t index) {
  const std::string name = "aggregate " + std::to_string(index) + " (" + op_name(aggregate.op) + ")";
  if (aggregate.op < AggregateOp::kCount || aggregate.op > AggregateOp::kDistinct)
    return invalid(spec, name + ": unknown operation");
  if (aggregate.window_us <= 0 || !is_span(aggregate.window_us)) {
    return invalid(spec, name + ": its window must be over 0 and at most ten years");
  }
  if (aggregate.op == AggregateOp::kCount) {
    return aggregate.column == kNoColumn ? Status() : invalid(spec, name + ": counts events and takes no column");
  }
  if (aggregate.column == kLabelColumn) {
    if (aggregate.op != AggregateOp::kRateTrue) return invalid(spec, name + ": only rate_true can be taken of the label");
    return spec.uses_labels ? Status() : invalid(spec, name + ": reads the label, so the view must say that it uses labels");
  }
  if (aggregate.column < 0 || static_cast<size_t>(aggregate.column) >= spec.columns.size()) {
    return invalid(spec, name + ": needs a column of the view");
  }
  const ColumnSpec& column = spec.columns[static_cast<size_t>(aggregate.column)];
  if (is_allowed(aggregate.op, column)) return Status();
  return invalid(spec, name + ": cannot be taken of a " + dtype_name(column.dtype) + " column" +
                           (column.dtype == Dtype::kFloat64 ? "; store money as integer minor units" : ""));
}

Status check_window_view(const ViewSpec& spec) {
  if (spec.columns.size() > limits::kColumnsMax) {
    return invalid(spec, "has more than " + std::to_string(limits::kColumnsMax) + " columns");
  }
  if (spec.aggregates.empty() || spec.aggregates.size() > limits::kAggregatesMax) {
    return invalid(spec, "needs 1 to " + std::to_string(limits::kAggregatesMax) + " aggregates");
  }
  if (!spec.attributes.empty()) return invalid(spec, "is a window view and cannot have attributes");
  if (!is_span(spec.delay_us)) return invalid(spec, "its delay must be 0 to ten years");
  if (!is_span(spec.lateness_us)) return invalid(spec, "its lateness must be 0 to ten years");
  if (spec.uses_labels && spec.delay_us == 0) {
    return invalid(spec, "uses labels without a label delay; a label known only later would leak into the score. Set the delay");
  }
  if (spec.exact_events_max < limits::kExactEventsMin || spec.exact_events_max > limits::kExactEventsMax) {
    return invalid(spec, "exact_events_max must be " + std::to_string(limits::kExactEventsMin) + " to " +
                             std::to_string(limits::kExactEventsMax));
  }
  for (size_t i = 0; i < spec.columns.size(); ++i) {
    if (Status status = check_column(spec, spec.columns[i], i); !status.ok()) return status;
  }
  for (size_t i = 0; i < spec.aggregates.size(); ++i) {
    if (Status status = check_aggregate(spec, spec.aggregates[i], i); !status.ok()) return status;
  }
  return Status();
}

Status check_attribute_view(const ViewSpec& spec) {
  if (spec.attributes.empty() || spec.attributes.size() > limits::kAttributesMax) {
    return invalid(spec, "needs 1 to " + std::to_string(limits::kAttributesMax) + " attributes");
  }
  if (!spec.columns.empty() || !spec.aggregates.empty()) {
    return invalid(spec, "is an attribute view and cannot have columns or aggregates");
  }
  if (!is_span(spec.max_age_us)) return invalid(spec, "its max_age must be 0 (never stale) to ten years");
  for (size_t i = 0; i < spec.attributes.size(); ++i) {
    const AttributeSpec& attribute = spec.attributes[i];
    const std::string name = "attribute \"" + printable(attribute.name) + "\"";
    if (attribute.name.empty() || attribute.name.size() > limits::kNameBytesMax)
      return invalid(spec, name + " needs a name of 1 to 64 bytes");
    if (attribute.dtype < Dtype::kFloat64 || attribute.dtype > Dtype::kString) return invalid(spec, name + " has no dtype");
    for (size_t j = 0; j < i; ++j) {
      if (spec.attributes[j].name == attribute.name) return invalid(spec, name + " stands there twice");
    }
  }
  return Status();
}

std::vector<int64_t> distinct_windows(const ViewSpec& spec) {
  std::vector<int64_t> windows_us;
  for (const AggregateSpec& aggregate : spec.aggregates) windows_us.push_back(aggregate.window_us);
  std::sort(windows_us.begin(), windows_us.end());
  windows_us.erase(std::unique(windows_us.begin(), windows_us.end()), windows_us.end());
  return windows_us;
}

// docs/row-record.md, "Tiles". Until the tail of window i has passed (age delay + window + lateness), a tile must stay within a
// 24th of it.
std::vector<TileTier> make_tiers(const ViewSpec& spec, const std::vector<int64_t>& windows_us) {
  std::vector<TileTier> tiers;
  int64_t age_us = 0;
  for (int64_t window_us : windows_us) {
    int64_t width_us = std::max<int64_t>(window_us / kTilesPerWindow, 1);
    if (!tiers.empty()) width_us -= width_us % tiers.back().width_us;  // nests; never 0, as windows ascend
    if (tiers.empty() || width_us > tiers.back().width_us) tiers.push_back({width_us, age_us});
    age_us = spec.delay_us + window_us + spec.lateness_us;
  }
  return tiers;
}

// The most tiles a record can have: those of tier i lie between its own age and the next tier's, and reach one tile of the next
// tier further back because that one is taken only whole.
uint64_t count_tiles_max(const std::vector<TileTier>& tiers, int64_t horizon_us) {
  uint64_t count = 0;
  for (size_t i = 0; i < tiers.size(); ++i) {
    const bool is_last = i + 1 == tiers.size();
    const int64_t until_us = is_last ? horizon_us : tiers[i + 1].age_us_min;
    const int64_t slack_us = is_last ? tiers[i].width_us : tiers[i + 1].width_us;
    count += static_cast<uint64_t>((until_us - tiers[i].age_us_min + slack_us) / tiers[i].width_us) + 2;
  }
  return count;
}

uint8_t need_of(AggregateOp op) {
  switch (op) {
    case AggregateOp::kCount: return 0;
    case AggregateOp::kSum:
    case AggregateOp::kAvg:
    case AggregateOp::kRateTrue: return kNeedSum;
    case AggregateOp::kMin:
    case AggregateOp::kMax: return kNeedExtremes;
    case AggregateOp::kLast: return kNeedLast;
    case AggregateOp::kDistinct: return kNeedDistinct;
  }
  return 0;
}

bool is_same_column(const ColumnSpec& a, const ColumnSpec& b) { return a.source == b.source && a.dtype == b.dtype; }
bool is_same_tier(const TileTier& a, const TileTier& b) { return a.width_us == b.width_us && a.age_us_min == b.age_us_min; }
bool is_same_attribute(const AttributeSpec& a, const AttributeSpec& b) { return a.name == b.name && a.dtype == b.dtype; }

template <typename T, typename Same>
bool is_same_list(const std::vector<T>& a, const std::vector<T>& b, Same same) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

}  // namespace

Status ViewSchema::compile(ViewSpec spec, ViewSchema* out) {
  if (spec.name.empty() || spec.name.size() > limits::kNameBytesMax) return invalid(spec, "needs a name of 1 to 64 bytes");
  if (spec.entity_index >= limits::kEntitiesMax) return invalid(spec, "names no entity");
  ViewSchema schema;
  std::memcpy(&schema.hash64_, spec.view_hash.data(), sizeof schema.hash64_);
  if (spec.kind == ViewKind::kAttributes) {
    if (Status status = check_attribute_view(spec); !status.ok()) return status;
    schema.entry_bytes_ = 8;  // one cell; the null bitmap stands before them
    schema.record_bytes_max_ = kRecordHeaderBytes + 8 + spec.attributes.size() * (8 + limits::kStringValueBytesMax);
  } else if (spec.kind == ViewKind::kWindow) {
    if (Status status = check_window_view(spec); !status.ok()) return status;
    schema.windows_us_ = distinct_windows(spec);
    if (schema.windows_us_.size() > limits::kWindowsMax) {
      return invalid(spec, "has more than " + std::to_string(limits::kWindowsMax) + " different windows");
    }
    schema.horizon_us_ = schema.windows_us_.back() + spec.delay_us + spec.lateness_us;
    schema.tiers_ = make_tiers(spec, schema.windows_us_);
    const uint64_t tiles_max = count_tiles_max(schema.tiers_, schema.horizon_us_);
    if (tiles_max > limits::kTilesMax) {
      return invalid(
          spec, "would need up to " + std::to_string(tiles_max) + " tiles a record, over the limit of " +
                    std::to_string(limits::kTilesMax) +
                    ": its shortest window is too short for its delay and lateness. Put short windows in a view of their own");
    }
    schema.tiles_max_ = static_cast<uint32_t>(tiles_max);

    schema.window_begins_.assign(schema.windows_us_.size() + 1, 0);
    for (size_t w = 0; w < schema.windows_us_.size(); ++w) {
      for (size_t i = 0; i < spec.aggregates.size(); ++i) {
        if (spec.aggregates[i].window_us == schema.windows_us_[w])
          schema.aggregates_by_window_.push_back(static_cast<uint8_t>(i));
      }
      schema.window_begins_[w + 1] = static_cast<uint8_t>(schema.aggregates_by_window_.size());
    }
    schema.column_needs_.assign(spec.columns.size(), 0);
    for (const AggregateSpec& aggregate : spec.aggregates) {
      const auto window = std::lower_bound(schema.windows_us_.begin(), schema.windows_us_.end(), aggregate.window_us);
      schema.window_of_aggregate_.push_back(static_cast<uint8_t>(window - schema.windows_us_.begin()));
      if (aggregate.column >= 0) schema.column_needs_[static_cast<size_t>(aggregate.column)] |= need_of(aggregate.op);
    }

    schema.entry_bytes_ = (spec.uses_labels ? 32 : 24) + 8 * static_cast<uint32_t>(spec.columns.size());
    schema.tile_bytes_ = spec.uses_labels ? tile::kBytesWithLabels : tile::kBytes;
    for (const ColumnSpec& column : spec.columns) {
      schema.tile_column_offsets_.push_back(schema.tile_bytes_);
      schema.tile_bytes_ += tile_part_bytes(column);
    }
    schema.record_bytes_max_ = kRecordHeaderBytes + uint64_t{spec.exact_events_max} * schema.entry_bytes_ +
                               uint64_t{schema.tiles_max_} * schema.tile_bytes_;
  } else {
    return invalid(spec, "has an unknown kind");
  }
  schema.spec_ = std::move(spec);
  *out = std::move(schema);
  return Status();
}

bool ViewSchema::has_layout_of(const ViewSchema& other) const noexcept {
  return spec_.kind == other.spec_.kind && spec_.uses_labels == other.spec_.uses_labels &&
         spec_.exact_events_max == other.spec_.exact_events_max && horizon_us_ == other.horizon_us_ &&
         is_same_list(spec_.columns, other.spec_.columns, is_same_column) && is_same_list(tiers_, other.tiers_, is_same_tier) &&
         is_same_list(spec_.attributes, other.spec_.attributes, is_same_attribute);
}

}  // namespace assay
