#include "core/serving/trace_sampler.h"

#include <cmath>

#include "core/base/random.h"
#include "core/wire/traceparent.h"

namespace assay {
namespace {

// round(ratio * 2^64), half to even, as OpenTelemetry's Python does it. 2^64 itself does not fit: takes_all_.
uint64_t sampling_bound(double ratio) noexcept {
  return ratio > 0.0 && ratio < 1.0 ? static_cast<uint64_t>(std::nearbyint(std::ldexp(ratio, 64))) : 0;
}

}  // namespace

TraceSampler::TraceSampler(const TracingOptions& options) noexcept
    : is_on_(options.is_on),
      follows_parent_(options.follows_parent),
      takes_all_(options.sample_ratio >= 1.0),
      bound_(sampling_bound(options.sample_ratio)) {}

CallTrace TraceSampler::begin(std::string_view traceparent) noexcept {
  if (!is_on_) return {};
  TraceParent parent;
  if (!traceparent.empty()) {
    if (parse_traceparent(traceparent, &parent)) {
      const bool is_sampled = follows_parent_ ? parent.is_sampled : takes(parent.trace_id_low);
      return {parent.trace_id_high, parent.trace_id_low, parent.span_id, is_sampled};
    }
    refused_traceparents_.add(1);
  }
  const uint64_t low = random_id();
  if (!takes(low)) return {};
  return {random_id(), low, 0, true};
}

}  // namespace assay
