// What Cython cannot say in C++: overloads on value types, std::function around a C callback, compile-time facts of the build.
// Nothing here decides anything; it is only included by _core.pyx.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/value.h"
#include "core/features/view.h"
#include "core/serving/counters.h"
#include "core/serving/engine.h"
#include "core/serving/lane_metrics.h"

namespace assay::bindings {

inline Value value_of_float64(double v) noexcept { return Value::of(v); }
inline Value value_of_int64(int64_t v) noexcept { return Value::of(v); }
inline Value value_of_bool(bool v) noexcept { return Value::of(v); }
inline Value value_of_text(std::string_view v) noexcept { return Value::of(v); }

inline void set_view_hash(ViewSpec& spec, const char* hash) noexcept {
  std::memcpy(spec.view_hash.data(), hash, spec.view_hash.size());
}

// A std::function that calls `report(context, done, total)`. `context` must outlive it.
using ReportProgress = void (*)(void* context, uint64_t done, uint64_t total);
inline std::function<void(uint64_t, uint64_t)> progress_function(ReportProgress report, void* context) {
  if (report == nullptr) return {};
  return [report, context](uint64_t done, uint64_t total) { report(context, done, total); };
}

// The core's fixed arrays, whose sizes are its own affair.
inline std::vector<int64_t> latency_bounds_ns() { return {kLatencyBoundsNs.begin(), kLatencyBoundsNs.end()}; }
inline std::vector<double> shadow_difference_bounds() { return {kShadowDifferenceBounds.begin(), kShadowDifferenceBounds.end()}; }
inline std::vector<uint64_t> differences_of(const ShadowStats& stats) {
  return {stats.differences.begin(), stats.differences.end()};
}
inline std::vector<std::vector<uint64_t>> decisions_of(const ShadowStats& stats) {
  std::vector<std::vector<uint64_t>> rows;
  for (const auto& row : stats.decisions) rows.emplace_back(row.begin(), row.end());
  return rows;
}
inline std::vector<int64_t> batch_rows_bounds() { return {kBatchRowsBounds.begin(), kBatchRowsBounds.end()}; }
inline std::vector<Stage> stages() { return {kStages.begin(), kStages.end()}; }
inline std::vector<int64_t> fine_upper_ns() { return {kFineUpperNs.begin(), kFineUpperNs.end()}; }
inline std::vector<std::string> degradation_names() { return {kDegradationNames.begin(), kDegradationNames.end()}; }
inline std::vector<std::string> card_fault_names() { return {kCardFaultNames.begin(), kCardFaultNames.end()}; }
inline std::vector<std::string> cpu_cause_names() { return {kCpuCauseNames.begin(), kCpuCauseNames.end()}; }
inline std::vector<uint64_t> card_faults(const CardStats& stats) { return {stats.faults.begin(), stats.faults.end()}; }
inline std::vector<uint64_t> card_cpu_rows(const CardStats& stats) { return {stats.cpu_rows.begin(), stats.cpu_rows.end()}; }
// Static methods of const classes.
inline Status make_sampled(const explain::ExplainerSpec& spec, explain::BackgroundScores background,
                           explain::ExplainedModel* model) {
  return explain::SampledModel::create(spec, std::move(background), &model->sampled);
}
inline Status make_explainer(const explain::ExplainerSpec& spec, explain::ExplainedModel* model) {
  return explain::Explainer::create(spec, &model->explainer);
}
inline std::vector<std::string> explanation_status_names() {
  return {kExplanationStatusNames.begin(), kExplanationStatusNames.end()};
}
inline std::vector<uint64_t> explanations_of(const LaneSnapshot& lane) {
  return {lane.explanations.begin(), lane.explanations.end()};
}
template <size_t kBounds>
std::vector<uint64_t> counts_of(const Histogram<kBounds>& histogram) {
  return {histogram.counts.begin(), histogram.counts.end()};
}
inline std::vector<uint64_t> counts_of(const LatencyHistogram& histogram) { return counts_of(histogram.by_bounds()); }
// Those that are not empty, in order.
inline std::vector<std::pair<uint32_t, uint64_t>> fine_counts_of(const LatencyHistogram& histogram) {
  std::vector<std::pair<uint32_t, uint64_t>> found;
  for (size_t i = 0; i < histogram.counts().size(); ++i) {
    if (histogram.counts()[i] > 0) found.emplace_back(static_cast<uint32_t>(i), histogram.counts()[i]);
  }
  return found;
}

// Of a std::array of bytes.
template <typename Array>
std::string bytes_of_array(const Array& array) {
  return {reinterpret_cast<const char*>(array.data()), sizeof(Array)};
}

inline std::string build_flags() {
  std::string flags;
#if !defined(__OPTIMIZE__)
  flags += "debug";
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  flags += flags.empty() ? "sanitize" : ",sanitize";
#endif
  return flags;
}

// What the code of this build may use, and what this processor has beyond it: scores are bit-equal per build and CPU class.
inline std::string cpu_class() {
#if defined(__x86_64__)
  std::string name = "x86-64";
  if (__builtin_cpu_supports("sse4.2")) name += " sse4.2";
  if (__builtin_cpu_supports("avx2")) name += " avx2";
  if (__builtin_cpu_supports("avx512f")) name += " avx512f";
  if (__builtin_cpu_supports("avx512vnni")) name += " avx512vnni";
  return name;
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "unknown";
#endif
}

}  // namespace assay::bindings
