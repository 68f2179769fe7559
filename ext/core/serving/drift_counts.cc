#include "core/serving/drift_counts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace assay {
namespace {

// Lanes that are compared side by side: four SSE registers of float32. All edges of a block are tried: sixteen lanes at once beat
// sixteen searches, whose branches follow the data.
constexpr uint32_t kBlock = 16;

uint32_t padded(uint32_t lanes) noexcept { return (lanes + kBlock - 1) / kBlock * kBlock; }

// The smallest float32 that is not below the edge: a float32 is at or above the one exactly where it is at or above the other.
float float32_edge(double edge) noexcept {
  if (edge > std::numeric_limits<float>::max()) return std::numeric_limits<float>::infinity();
  if (edge < std::numeric_limits<float>::lowest()) return std::numeric_limits<float>::lowest();
  const auto near = static_cast<float>(edge);
  return near < edge ? std::nextafter(near, std::numeric_limits<float>::infinity()) : near;
}

bool is_ascending(const std::vector<double>& edges) noexcept {
  for (size_t i = 0; i < edges.size(); ++i) {
    if (!std::isfinite(edges[i]) || (i > 0 && edges[i - 1] >= edges[i])) return false;
  }
  return true;
}

// How many of the edges, which ascend, are not above the value. Two chains: one waits for itself.
size_t edges_passed(const std::vector<double>& edges, double value) noexcept {
  uint64_t even = 0, odd = 0;
  size_t i = 0;
  for (; i + 1 < edges.size(); i += 2) {
    even += value >= edges[i] ? 1 : 0;
    odd += value >= edges[i + 1] ? 1 : 0;
  }
  return even + odd + (i < edges.size() && value >= edges[i] ? 1 : 0);
}

}  // namespace

Status check_drift_spec(const DriftSpec& spec, const FeaturePlan& plan) {
  if (!spec.is_on) return Status();
  const std::vector<InputSpec>& inputs = plan.spec().inputs;
  if (spec.input_edges.size() != inputs.size()) {
    return Status(Code::kModelUnsupported, "drift: expected the edges of " + std::to_string(inputs.size()) + " inputs, not of " +
                                               std::to_string(spec.input_edges.size()));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!is_ascending(spec.input_edges[i]))
      return Status(Code::kModelUnsupported, "drift: edges of \"" + inputs[i].name + "\": must be finite and ascend");
  }
  if (!is_ascending(spec.score_edges))
    return Status(Code::kModelUnsupported, "drift: edges of the score: must be finite and ascend");
  return Status();
}

DriftCounts::DriftCounts(const DriftSpec& spec, const FeaturePlan& plan, std::vector<double> thresholds)
    : score_edges_(spec.score_edges), thresholds_(std::move(thresholds)) {
  for (const std::vector<double>& edges : spec.input_edges) {
    input_firsts_.push_back(counter_count_);
    counter_count_ += static_cast<uint32_t>(edges.size()) + 2;
  }
  input_firsts_.push_back(counter_count_);
  score_first_ = counter_count_;
  alert_first_ = score_first_ + static_cast<uint32_t>(score_edges_.size()) + 1;
  imputed_first_ = alert_first_ + static_cast<uint32_t>(thresholds_.size()) + 1;
  counter_count_ = imputed_first_ + static_cast<uint32_t>(spec.input_edges.size());

  const PlanSpec& laid_out = plan.spec();
  for (size_t t = 0; t < laid_out.tensors.size(); ++t) {
    Segment segment;
    segment.type = laid_out.tensors[t].type;
    segment.offset_bytes = plan.segments()[t].offset_bytes;
    segment.lanes = laid_out.tensors[t].element_count;
    segment.padded_lanes = padded(segment.lanes);
    segment.is_read_in_place = segment.offset_bytes + segment.padded_lanes * sizeof(float) <= plan.row_bytes();
    segment.first_counters.resize(segment.padded_lanes);
    segment.null_counters.resize(segment.padded_lanes);
    lanes_max_ = std::max(lanes_max_, segment.padded_lanes);
    segments_.push_back(std::move(segment));
  }
  for (size_t i = 0; i < laid_out.inputs.size(); ++i) {
    Segment& segment = segments_[laid_out.inputs[i].tensor];
    segment.levels = std::max(segment.levels, static_cast<uint32_t>(spec.input_edges[i].size()));
  }
  for (Segment& segment : segments_) {
    const size_t size = static_cast<size_t>(segment.levels) * segment.padded_lanes;
    if (segment.type == TensorType::kFloat32) {
      segment.float32_edges.assign(size, std::numeric_limits<float>::infinity());  // no finite value is at or above it
    } else {
      segment.float64_edges.assign(size, std::numeric_limits<double>::infinity());
    }
  }
  for (size_t i = 0; i < laid_out.inputs.size(); ++i) {
    Segment& segment = segments_[laid_out.inputs[i].tensor];
    const uint32_t lane = laid_out.inputs[i].element;
    const std::vector<double>& edges = spec.input_edges[i];
    segment.first_counters[lane] = input_firsts_[i];
    segment.null_counters[lane] = input_firsts_[i + 1] - 1;
    for (size_t level = 0; level < edges.size(); ++level) {
      const size_t at = level * segment.padded_lanes + lane;
      if (segment.type == TensorType::kFloat32) {
        segment.float32_edges[at] = float32_edge(edges[level]);
      } else {
        segment.float64_edges[at] = edges[level];
      }
    }
  }
}

DriftCounts::~DriftCounts() = default;

DriftShard* DriftCounts::add_shard() {
  shards_.push_back(std::make_unique<DriftShard>(*this));
  return shards_.back().get();
}

DriftTotals DriftCounts::totals() const {
  std::vector<uint64_t> all(counter_count_, 0);
  for (const auto& shard : shards_) shard->add_to(all);
  const auto copy = [&](uint32_t first, uint32_t end) { return std::vector<uint64_t>(all.begin() + first, all.begin() + end); };
  DriftTotals totals;
  totals.score_counts = copy(score_first_, alert_first_);
  for (const uint64_t count : totals.score_counts) totals.scores += count;
  totals.alert_counts.resize(thresholds_.size());
  uint64_t above = 0;  // counters are of the highest threshold that was passed
  for (size_t i = thresholds_.size(); i > 0; --i) totals.alert_counts[i - 1] = above += all[alert_first_ + i];
  for (size_t i = 0; i + 1 < input_firsts_.size(); ++i) {
    totals.input_counts.push_back(copy(input_firsts_[i], input_firsts_[i + 1] - 1));
    totals.null_counts.push_back(all[input_firsts_[i + 1] - 1]);
  }
  totals.imputed_counts = copy(imputed_first_, counter_count_);
  return totals;
}

DriftShard::DriftShard(const DriftCounts& counts)
    : counts_(counts),
      counters_(counts.counter_count_, 0),
      float32_values_(counts.lanes_max_),
      float64_values_(counts.lanes_max_) {}

// REQUIRES: `values` has the segment's padded lanes.
template <typename T>
void DriftShard::count_bins(const DriftCounts::Segment& segment, const T* values, const std::vector<T>& edges) noexcept {
  using Bin = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;  // as wide as the values: one register has as many of both
  for (uint32_t first = 0; first < segment.lanes; first += kBlock) {
    Bin bins[kBlock] = {};
    for (uint32_t level = 0; level < segment.levels; ++level) {
      const T* const row = edges.data() + static_cast<size_t>(level) * segment.padded_lanes + first;
      for (uint32_t i = 0; i < kBlock; ++i) bins[i] += values[first + i] >= row[i] ? 1 : 0;
    }
    uint32_t counters[kBlock];
    for (uint32_t i = 0; i < kBlock; ++i) {
      const bool is_finite = std::abs(values[first + i]) <= std::numeric_limits<T>::max();
      counters[i] =
          is_finite ? segment.first_counters[first + i] + static_cast<uint32_t>(bins[i]) : segment.null_counters[first + i];
    }
    const uint32_t count = std::min(kBlock, segment.lanes - first);
    for (uint32_t i = 0; i < count; ++i) ++counters_[counters[i]];
  }
}

template <typename T>
void DriftShard::count_converted(const DriftCounts::Segment& segment, const uint8_t* bytes) noexcept {
  for (uint32_t lane = 0; lane < segment.lanes; ++lane) {
    T value;
    std::memcpy(&value, bytes + lane * sizeof value, sizeof value);
    float64_values_[lane] = static_cast<double>(value);
  }
  count_bins(segment, float64_values_.data(), segment.float64_edges);
}

// A copy costs as much as the comparing of half the edges: short stores, which wide loads then wait for.
const float* DriftShard::float32_values(const DriftCounts::Segment& segment, const uint8_t* bytes) noexcept {
  if (segment.is_read_in_place) return reinterpret_cast<const float*>(bytes);
  std::memcpy(float32_values_.data(), bytes, segment.lanes * sizeof(float));
  return float32_values_.data();
}

void DriftShard::add(const RowOut& out, double score) noexcept {
  for (const DriftCounts::Segment& segment : counts_.segments_) {
    const uint8_t* const bytes = out.row + segment.offset_bytes;
    switch (segment.type) {
      case TensorType::kFloat32: count_bins(segment, float32_values(segment, bytes), segment.float32_edges); break;
      case TensorType::kFloat64: count_converted<double>(segment, bytes); break;
      case TensorType::kInt32: count_converted<int32_t>(segment, bytes); break;
      case TensorType::kInt64: count_converted<int64_t>(segment, bytes); break;
      case TensorType::kBool: count_converted<uint8_t>(segment, bytes); break;
    }
  }
  const size_t inputs = counts_.input_firsts_.size() - 1;
  for (size_t word = 0; word < (inputs + 63) / 64; ++word) {
    for (uint64_t bits = out.imputed[word]; bits != 0; bits &= bits - 1)
      ++counters_[counts_.imputed_first_ + word * 64 + static_cast<size_t>(__builtin_ctzll(bits))];
  }
  ++counters_[counts_.score_first_ + edges_passed(counts_.score_edges_, score)];
  ++counters_[counts_.alert_first_ + edges_passed(counts_.thresholds_, score)];
}

void DriftShard::add_to(std::vector<uint64_t>& counters) const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < counters.size(); ++i) counters[i] += counters_[i];
}

}  // namespace assay
