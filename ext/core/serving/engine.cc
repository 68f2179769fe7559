#include "core/serving/engine.h"

#include <algorithm>
#include <array>

#include "core/base/black_box.h"
#include "core/serving/admission.h"
#include "core/serving/answer.h"
#include "core/serving/calls.h"
#include "core/serving/explanations.h"
#include "core/serving/lane.h"
#include "core/serving/lane_table.h"
#include "core/serving/lookup_hops.h"
#include "core/serving/lookups.h"
#include "core/serving/shadows.h"

namespace assay {

struct Engine::Impl {
  Impl(const EngineOptions& options, const Clock& engine_clock)
      : clock(engine_clock),
        recorder(options.tracing, options.call_records_max, engine_clock, options.request_log),
        calls(options.slots, recorder),
        audit(options.audit),
        commits(calls, engine_clock),
        explanations(options.explain, calls, engine_clock),
        served_rows(options.served_rows),
        near_cache(options.near_cache_bytes_max),
        near(near_cache, options.near_cache_stale_ns_max, calls.counters()),
        lookups(options.lookup_timeout_ns_max, options.has_lookup_thread, near_cache, near, served_rows, calls, engine_clock),
        admission(options, engine_clock, calls, recorder, lanes, lookups, near, served_rows),
        shadows(lanes, admission, calls) {}

  const EngineAudit* used_audit() const noexcept { return audit.log != nullptr ? &audit : nullptr; }

  // What a lane with a remote store needs.
  Status prepare_remote(const FeatureReader& reader) {
    // Views that are not kept, too: rows of several lanes share fetches by key.
    for (size_t v = 0; v < reader.plan().views().size(); ++v) {
      if (Status known = near_cache.add_view(reader.plan().views()[v]); !known.ok()) return known;
    }
    return lookups.enable();
  }

  // Makes and starts one that nobody knows yet. `lane_audit`: where its scores are recorded; null: nowhere.
  Status make_lane(LaneSpec spec, const EngineAudit* lane_audit, std::shared_ptr<Lane>* lane) {
    if (spec.reader != nullptr && spec.reader->is_remote()) {
      if (Status prepared = prepare_remote(*spec.reader); !prepared.ok()) return prepared;
    }
    if (spec.explained != nullptr) {
      if (Status enabled = explanations.enable(); !enabled.ok()) return enabled;
    }
    Status status = Lane::create(std::move(spec), {lane_audit, &commits, explanations, calls, clock}, lane);
    return status.ok() ? (*lane)->start() : status;
  }

  // What a crash is told with.
  struct NamedCounter {
    const char* name;
    const Counter& counter;
  };
  std::array<NamedCounter, 8> black_box_counters() const noexcept {
    const Counters& counters = calls.counters();
    return {{{"accepted_rows", counters.accepted_rows},
             {"answered_rows", counters.answered_rows},
             {"cancelled_rows", counters.cancelled_rows},
             {"degraded_rows", counters.degraded_rows},
             {"queued_rows", counters.queued_rows},
             {"looking_up_rows", counters.looking_up_rows},
             {"batches", counters.batch_count},
             {"retried_batches", counters.retried_batches}}};
  }

  const Clock& clock;
  CallRecorder recorder;
  Calls calls;  // before the lanes, which use it; slots that outlive them are only pins on row memory
  const EngineAudit audit;
  Commits commits;
  Explanations explanations;
  LaneTable lanes;
  ServedRows served_rows;
  NearCache near_cache;
  NearLookup near;
  Lookups lookups;
  Admission admission;
  Shadows shadows;
};

Engine::Engine(const EngineOptions& options, const Clock& clock) : impl_(std::make_unique<Impl>(options, clock)) {
  for (const auto& [name, counter] : impl_->black_box_counters()) black_box::add_counter(name, counter.value());
}

Engine::~Engine() {
  stop();
  for (const auto& [_, counter] : impl_->black_box_counters()) black_box::remove_counter(counter.value());
}

Status Engine::add_lane(LaneSpec spec, bool is_default) {
  std::shared_ptr<Lane> lane;
  Status status = impl_->make_lane(std::move(spec), impl_->used_audit(), &lane);
  if (!status.ok()) return status;
  status = impl_->lanes.add(lane, is_default);
  if (!status.ok()) {
    lane->abort();
    lane->join();
  }
  return status;
}

Status Engine::remove_lane(std::string_view model, std::string_view version) {
  Code code = Code::kOk;
  const std::shared_ptr<Lane> lane = impl_->lanes.remove(model, version, &code);
  if (lane == nullptr && code == Code::kRolloutRefused) {
    return Status(code, "version \"" + printable(version) + "\" is its model's champion or challenger: promote another first");
  }
  if (lane == nullptr) return Status(code, "model \"" + printable(model) + "\", version \"" + printable(version) + "\"");
  lane->close();
  return Status();
}

Status Engine::set_route(std::string_view model, Route route) { return impl_->lanes.set_route(model, std::move(route)); }

Status Engine::start_shadow(LaneSpec spec, const ShadowShare& share) {
  if (!(share.share > 0.0 && share.share <= 1.0))
    return Status(Code::kRolloutRefused, "shadow: expected a share above 0, at most 1");
  if (share.entity.empty() && share.share < 1.0) {
    return Status(Code::kRolloutRefused, "shadow: a share needs the entity that decides");
  }
  spec.is_background = true;
  spec.explained = nullptr;  // nobody asks
  std::shared_ptr<Lane> lane;
  Status status = impl_->make_lane(std::move(spec), nullptr, &lane);
  return status.ok() ? impl_->shadows.start(std::move(lane), share) : status;
}

Status Engine::stop_shadow(const std::string& model) { return impl_->shadows.stop(model); }

std::vector<ShadowStats> Engine::shadow_stats() const { return impl_->shadows.stats(); }

Submission Engine::submit_score(std::string_view bytes, const CallContext& context, CompletionQueue* queue,
                                uint64_t token) noexcept {
  return impl_->admission.submit_score(bytes, context, queue, token);
}

Submission Engine::submit_batch(std::string_view bytes, const CallContext& context, CompletionQueue* queue,
                                uint64_t token) noexcept {
  return impl_->admission.submit_batch(bytes, context, queue, token);
}

Submission Engine::submit_stream(std::string_view bytes, const CallContext& context, CompletionQueue* queue,
                                 uint64_t token) noexcept {
  return impl_->admission.submit_stream(bytes, context, queue, token);
}

Submission Engine::submit_infer(std::string_view bytes, const CallContext& context, CompletionQueue* queue,
                                uint64_t token) noexcept {
  return impl_->admission.submit_infer(bytes, context, queue, token);
}

Answer Engine::finish(CallId call) noexcept {
  if (!impl_->calls.claim(call)) {
    Answer gone;
    const Status status(Code::kInternal, "this call is not finished, or its answer was given already");
    gone.code = status.code;
    gone.message = rpc_message(status);
    gone.rpc_status = encode_rpc_status(status);
    return gone;
  }
  const uint32_t head = slot_of(call);
  const Slab& slab = impl_->calls.slab();
  const int64_t now_ns = impl_->clock.now_ns();
  Answer answer = encode_answer(impl_->calls, head, now_ns);
  if (slab[head].lane != nullptr) slab[head].lane->metrics().add_call(slab, head);
  impl_->recorder.ended(slab, head, answer.code, now_ns);
  if (auto copy = impl_->calls.take_copy(head); copy != nullptr && slab[head].outcome == Code::kOk) {
    Shadow::offer(std::move(copy), slab[head].score, slab[head].decision);
  }
  impl_->calls.release(head);
  return answer;
}

bool Engine::cancel(CallId call) noexcept { return impl_->calls.cancel(call); }
bool Engine::expire(CallId call) noexcept { return impl_->calls.expire(call); }

void Engine::drain() noexcept {
  impl_->admission.drain();
  impl_->shadows.drain();
  impl_->explanations.drain();
}

bool Engine::wait_idle(int64_t timeout_ns) noexcept { return impl_->calls.slab().wait_idle(timeout_ns); }

void Engine::stop() noexcept {
  drain();
  const std::vector<std::shared_ptr<Lane>> shadow_lanes = impl_->shadows.take_all();
  impl_->lookups.stop();
  std::vector<std::shared_ptr<Lane>> lanes = impl_->lanes.take_all();
  lanes.insert(lanes.end(), shadow_lanes.begin(), shadow_lanes.end());
  for (const auto& lane : lanes) lane->abort();  // all first: a run that hangs in one must not keep the others' rows waiting
  for (const auto& lane : lanes) lane->join();
  impl_->explanations.stop();                                  // after the runners: no more rows come
  if (impl_->audit.log != nullptr) impl_->audit.log->flush();  // rows that wait for their records
}

HopsResult Engine::run_hops(int socket, const HopLimits& limits) {
  return assay::run_hops(impl_->lookups, socket, limits, impl_->clock);
}
std::unique_ptr<LookupBatch> Engine::take_lookups(size_t rows_max, bool waits) { return impl_->lookups.take(rows_max, waits); }

void Engine::give_lookups(const LookupBatch& batch, const FetchedRecord* records) noexcept {
  impl_->lookups.give(batch, records);
}

void Engine::fail_lookups(const LookupBatch& batch) noexcept { impl_->lookups.fail(batch); }

void Engine::forget_record(std::string_view key) noexcept { impl_->near_cache.forget(key); }

void Engine::count_refused_call(Code code) noexcept { impl_->calls.counters().refused_calls.add(code, 1); }

size_t Engine::step_lookups() noexcept { return impl_->lookups.give_up_due(); }

size_t Engine::step_explanations() noexcept { return impl_->explanations.step(); }

size_t Engine::step(std::string_view model, std::string_view version) noexcept {
  const std::shared_ptr<Lane> lane = impl_->lanes.get(model, version);
  return lane == nullptr ? 0 : lane->step();
}

EngineStats Engine::stats() const noexcept {
  const Counters& counters = impl_->calls.counters();
  const SlabUse use = impl_->calls.slab().use();
  EngineStats stats;
  stats.accepted_rows = counters.accepted_rows.get();
  stats.answered_rows = counters.answered_rows.get();
  stats.failed_rows = counters.failed_rows.total();
  stats.cancelled_rows = counters.cancelled_rows.get();
  stats.shed_rows = counters.shed_rows.get();
  stats.refused_calls = counters.refused_calls.total();
  for (size_t i = 0; i < counters.expired_rows.size(); ++i) stats.expired_rows[i] = counters.expired_rows[i].get();
  for (size_t i = 0; i < counters.expired_refused_rows.size(); ++i)
    stats.expired_rows[i] += counters.expired_refused_rows[i].get();
  stats.defaulted_deadlines = counters.defaulted_deadlines.get();
  stats.batch_count = counters.batch_count.get();
  stats.batched_rows = counters.batched_rows.get();
  stats.retried_batches = counters.retried_batches.get();
  stats.inline_rows = counters.inline_rows.get();
  stats.inline_overruns = counters.inline_overruns.get();
  stats.degraded_rows = counters.degraded_rows.get();
  stats.sampled_rows = impl_->served_rows.sampled_rows();
  stats.dropped_sampled_rows = impl_->served_rows.dropped_rows();
  stats.lookup_batches = counters.lookup_batches.get();
  stats.lookup_given_up_rows = counters.lookup_given_up_rows.get();
  stats.lookup_unavailable_records = counters.lookup_unavailable_records.get();
  stats.lookup_rejected_records = counters.lookup_rejected_records.get();
  stats.near_cache_hits = counters.near_cache_hits.get();
  stats.near_cache_misses = counters.near_cache_misses.get();
  stats.near_cache_stale_records = counters.near_cache_stale_records.get();
  stats.near_cache_joined_rows = counters.near_cache_joined_rows.get();
  stats.near_cache = impl_->near_cache.stats();
  stats.looking_up_rows = static_cast<uint32_t>(counters.looking_up_rows.get());
  stats.explain = impl_->explanations.stats();
  stats.explain.asked_rows = impl_->calls.probe_counters().answered_rows.get();
  stats.slots = impl_->calls.slab().size();
  stats.slots_used = use.used;
  stats.slots_used_max = use.used_max;
  stats.queued_rows = static_cast<uint32_t>(counters.queued_rows.get());
  return stats;
}

EngineMetrics Engine::metrics() const {
  const Counters& counters = impl_->calls.counters();
  EngineMetrics metrics;
  const int64_t now_ns = impl_->clock.now_ns();
  const auto lanes = impl_->lanes.all();
  metrics.lanes.reserve(lanes.size());
  for (const auto& lane : lanes) {
    metrics.lanes.emplace_back();
    LaneSnapshot& snapshot = metrics.lanes.back();
    snapshot.model = lane->model();
    snapshot.version = lane->version();
    snapshot.oldest_queued_ns = lane->oldest_queued_ns(now_ns);
    snapshot.failed_rows = lane->metrics().failed_rows();
    snapshot.missed_rows = lane->metrics().missed_rows();
    lane->metrics().add_to(snapshot.histograms);
    if (const LaneExplanations* const explained = lane->explained(); explained != nullptr) {
      snapshot.can_explain = true;
      snapshot.is_explaining_suspended = explained->breaker.is_open();
      for (size_t i = 0; i < kExplanationStatuses; ++i) snapshot.explanations[i] = explained->counts[i].get();
    }
  }
  for (size_t i = 0; i < metrics.refused_calls.size(); ++i) {
    metrics.refused_calls[i] = counters.refused_calls.get(static_cast<Code>(i));
    metrics.failed_rows[i] = counters.failed_rows.get(static_cast<Code>(i));
    metrics.left_out_records[i] = counters.left_out_records.get(static_cast<Code>(i));
  }
  static_assert(std::tuple_size_v<decltype(metrics.degradations)> == kDegradationNames.size());
  for (size_t i = 0; i < metrics.degradations.size(); ++i) metrics.degradations[i] = counters.degradations[i].get();
  for (const Counter& expired : counters.expired_rows) metrics.expired_rows += expired.get();
  metrics.dropped_records = impl_->recorder.dropped_records();
  metrics.refused_traceparents = impl_->recorder.sampler().refused_traceparents();
  return metrics;
}

std::vector<LaneDrift> Engine::drift() const {
  std::vector<LaneDrift> lanes;
  for (const auto& lane : impl_->lanes.all()) {
    if (lane->drift() != nullptr) lanes.push_back({lane->model(), lane->version(), lane->decisions(), lane->drift()->totals()});
  }
  return lanes;
}

void Engine::drain_records(std::vector<CallRecord>& out) { impl_->recorder.drain(out); }

bool Engine::is_tracing() const noexcept { return impl_->recorder.is_tracing(); }

void Engine::set_sample_ratio(double ratio) noexcept { impl_->recorder.sampler().set_sample_ratio(ratio); }

void Engine::set_log_ratio(double ratio) noexcept { impl_->recorder.set_log_ratio(ratio); }

const ServedRows& Engine::served_rows() const noexcept { return impl_->served_rows; }

void Engine::check_idle() const noexcept {
  const Counters& counters = impl_->calls.counters();
  const SlabUse use = impl_->calls.slab().use();
  ASSAY_ASSERT(use.used == 0 && use.allocated_count == use.freed_count);
  ASSAY_ASSERT(counters.queued_rows.get() == 0 && counters.looking_up_rows.get() == 0);
  for (const Counters* const each : {&counters, &impl_->calls.shadow_counters(), &impl_->calls.probe_counters()}) {
    ASSAY_ASSERT(each->accepted_rows.get() == each->ended_rows());
  }
}

}  // namespace assay
