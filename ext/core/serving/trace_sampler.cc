#include "core/serving/trace_sampler.h"

#include "core/base/random.h"
#include "core/wire/traceparent.h"

namespace assay {

TraceSampler::TraceSampler(const TracingOptions& options) noexcept
    : is_on_(options.is_on), follows_parent_(options.follows_parent), ratio_(options.sample_ratio) {}

CallTrace TraceSampler::begin(std::string_view traceparent) noexcept {
  if (!is_on_) return {};
  TraceParent parent;
  if (!traceparent.empty()) {
    if (parse_traceparent(traceparent, &parent)) {
      const bool is_sampled = follows_parent_ ? parent.is_sampled : ratio_.takes(parent.trace_id_low);
      return {parent.trace_id_high, parent.trace_id_low, parent.span_id, is_sampled};
    }
    refused_traceparents_.add(1);
  }
  const uint64_t low = random_id();
  if (!ratio_.takes(low)) return {};
  return {random_id(), low, 0, true};
}

}  // namespace assay
