#include "core/serving/latency_histogram.h"

#include <algorithm>
#include <numeric>

namespace assay {
namespace {

// What becomes of the values of one log-linear bucket: up to `cut_ns` they are in the fine bucket `fine`, above it in the next
// one.
struct Place {
  int64_t cut_ns = INT64_MAX;
  uint16_t fine = 0;
};
struct Scale {
  std::array<Place, LatencyScale::kBuckets> places{};
  std::array<int64_t, kFineBuckets> upper_ns{};
  size_t fine_buckets = 0;
};

constexpr Scale make_scale() noexcept {
  Scale scale;
  size_t bound = 0;
  for (size_t index = 0; index < LatencyScale::kBuckets; ++index) {
    const auto last = static_cast<int64_t>(LatencyScale::low_of(index) + LatencyScale::width_of(index) - 1);
    Place& place = scale.places[index];
    place.fine = static_cast<uint16_t>(scale.fine_buckets);
    if (bound < kLatencyBoundsNs.size() && kLatencyBoundsNs[bound] <= last) {
      place.cut_ns = kLatencyBoundsNs[bound++];
      scale.upper_ns[scale.fine_buckets++] = place.cut_ns;
    }
    scale.upper_ns[scale.fine_buckets++] = last;
  }
  return scale;
}

constexpr Scale kScale = make_scale();
// Fails if two bounds share a bucket or one is past the scale.
static_assert(kScale.fine_buckets == kFineBuckets, "each bound cuts one bucket");

}  // namespace

const std::array<int64_t, kFineBuckets> kFineUpperNs = kScale.upper_ns;

size_t fine_bucket(int64_t ns) noexcept {
  const int64_t value = std::clamp<int64_t>(ns, 0, static_cast<int64_t>(LatencyScale::kValueMax));
  const Place& place = kScale.places[LatencyScale::index_of(static_cast<uint64_t>(value))];
  return size_t{place.fine} + (value > place.cut_ns ? 1 : 0);
}

uint64_t LatencyHistogram::count() const noexcept { return std::accumulate(counts_.begin(), counts_.end(), uint64_t{0}); }

Histogram<kLatencyBoundsNs.size()> LatencyHistogram::by_bounds() const noexcept {
  Histogram<kLatencyBoundsNs.size()> found;
  found.sum = sum_;
  size_t bound = 0;
  for (size_t fine = 0; fine < kFineBuckets; ++fine) {
    found.counts[bound] += counts_[fine];
    if (bound < kLatencyBoundsNs.size() && kFineUpperNs[fine] == kLatencyBoundsNs[bound]) ++bound;
  }
  return found;
}

}  // namespace assay
