// Engine: requests in, answers out. Owns the slab of slots and the lanes; the only class of this room that transports use.
//
// LIFE OF A CALL. submit_*() decodes, looks up and queues (on the caller's thread; a few microseconds a row), or refuses. A
// runner takes rows, runs them and pushes the call to the reply queue when its last row is done. The transport drains the queue and
// calls finish(), which encodes the answer and frees the slots. A row of a quick model that nothing waits before is run by submit
// itself (inline_run.h); its call is complete at once and never passes the reply queue. Exactly one of finish() or the engine
// itself (after cancel()) frees a call. docs: ext/README.md has the states, locks and memory.
//
// THREADS. submit, cancel, finish, stats: any thread. Bytes are not kept after submit returns.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/explain/explained_model.h"
#include "core/features/feature_reader.h"
#include "core/features/near_cache.h"
#include "core/serving/audit_policy.h"
#include "core/serving/call_record.h"
#include "core/serving/card.h"
#include "core/serving/completion_queue.h"
#include "core/serving/drift_counts.h"
#include "core/serving/explain_options.h"
#include "core/serving/lane_metrics.h"
#include "core/serving/route.h"
#include "core/serving/row_explanation.h"
#include "core/serving/runner.h"
#include "core/serving/served_rows.h"
#include "core/serving/shadow.h"
#include "core/wire/infer_schema.h"
#include "core/wire/response.h"
#include "core/wire/score_request.h"

namespace assay {

struct EngineOptions {
  uint32_t slots = 8192;                       // rows in flight, all lanes together
  uint32_t batch_call_rows_max = 1024;         // rows of one ScoreBatch or ModelInfer; slots / 4 holds if that is less
  uint64_t answer_bytes_max = UINT64_MAX;      // of ModelInfer: a call whose outputs are larger is not run
  int64_t timeout_ns_max = 60'000'000'000;     // cap on any deadline; at most a day
  int64_t lookup_timeout_ns_max = 50'000'000;  // how long a row waits for a remote store, if its deadline allows (lookups.h)
  bool has_lookup_thread = true;               // false (tests): rows give up in step_lookups() alone
  uint64_t near_cache_bytes_max = 0;           // records of a remote store that are kept (near_cache.h). 0: none
  int64_t near_cache_stale_ns_max = 600'000'000'000;  // how old they may be where the store gives nothing
  TracingOptions tracing = {};
  RequestLogOptions request_log = {};
  uint32_t call_records_max = 2048;  // records of calls that wait to be drained
  ServedRowsOptions served_rows = {};
  ExplainOptions explain = {};
  EngineAudit audit = {};  // its log is started, and closed after the engine has stopped
};

// Scores at or above `minimum` get `decision`; the highest such threshold holds. Below all: kApprove.
struct Threshold {
  double minimum = 0.0;
  Decision decision = Decision::kApprove;
};

struct LaneOptions {
  uint32_t batch_rows_max = 256;
  uint32_t queue_rows_max = 4096;  // all priorities together
  int64_t queue_delay_ns_max = 0;  // 0: a free runner takes what is there at once. Below timeout_ns_default.
  int64_t ageing_ns = 50'000'000;  // a priority whose oldest row waited longer gets a place in every batch (batch_former.h)
  int64_t timeout_ns_default = 1'000'000'000;  // longest a call of this lane may take, and what one without a deadline gets
  int64_t inline_overrun_ns = 0;               // an inline run that takes longer is an overrun. Positive with an inline runner
};

// One loaded model version. Owned by the engine from add_lane() on.
struct LaneSpec {
  std::string model;  // [a-z0-9][a-z0-9._-]{0,63}
  std::string version;
  std::string model_sha256;
  std::shared_ptr<const FeatureReader> reader;
  std::vector<std::unique_ptr<Runner>> runners;  // a thread each. Without threads (tests): run by step()
  std::shared_ptr<Card> card;                    // where `runners` run, if that is a card; null: the CPU
  // With a card: the same model on the CPU, one for each of `runners` (card_run.h).
  std::vector<std::unique_ptr<Runner>> standbys;
  std::unique_ptr<Runner> inline_runner;  // for rows that their submitter runs; null: none. REQUIRES: a quick model
  bool has_threads = true;
  bool is_background = false;  // its runners take what processor time nobody else wants (SCHED_IDLE): for a shadow
  uint32_t score_output = 0;   // which ONNX output holds the score
  uint32_t score_column = 0;   // and which element of its row
  std::vector<Threshold> thresholds;
  std::shared_ptr<const explain::ExplainedModel> explained;  // who says why; null: nobody
  std::string runtime;                                       // what runs it, for the audit log: versions, device
  std::string standby_runtime;                               // likewise, of the standbys
  DriftSpec drift;
  LaneOptions options;
  // What ModelInfer may ask for (InferSchema::make). REQUIRES: the runners give every output that stands here. Empty: nothing.
  std::vector<TensorShape> infer_inputs;
  std::vector<TensorShape> infer_outputs;
};

struct LookupBatch;  // lookups.h
struct HopLimits;    // lookup_hops.h
struct HopsResult;

struct CallContext {
  int64_t received_ns = 0;            // when the transport had the whole message
  int64_t deadline_ns = 0;            // the RPC's own, 0: none
  std::string_view traceparent = {};  // the RPC's header, as it came. Read if tracing is on
  bool may_run_inline = true;         // false: more calls are about to be submitted, which a runner takes together
};

// The answer to submit. Accepted: `call`. Complete: finish() the call now, nothing will come through the reply queue. Refused:
// code != kOk and rpc_status has the encoded google.rpc.Status.
struct Submission {
  Code code = Code::kOk;
  bool is_complete = false;
  CallId call = 0;
  int64_t deadline_ns = 0;  // the one deadline of the call; the transport's timer answers at it
  std::string message;      // grpc-message when refused
  std::string rpc_status;   // when refused
};

// The outcome of finish(). kOk: `payload` is the response message. Else `rpc_status` is the encoded google.rpc.Status.
struct Answer {
  Code code = Code::kOk;
  std::string payload;
  std::string message;
  std::string rpc_status;
};

// Rows are counted as accepted when they come and by their outcome when their call is freed. Rows of refused calls are not
// accepted; the first two checks of expired_rows count theirs too.
struct EngineStats {
  uint64_t accepted_rows = 0, answered_rows = 0, failed_rows = 0, cancelled_rows = 0, shed_rows = 0, refused_calls = 0;
  uint64_t expired_rows[5] = {};     // at admission, after look-up, at batch forming, before the run, before encoding
  uint64_t defaulted_deadlines = 0;  // calls that came without a deadline
  uint64_t batch_count = 0, batched_rows = 0, retried_batches = 0;  // inline runs are batches of one
  uint64_t inline_rows = 0, inline_overruns = 0;
  uint64_t degraded_rows = 0;
  uint64_t sampled_rows = 0, dropped_sampled_rows = 0;    // kept to be compared; of those, dropped (served_rows.h)
  uint64_t lookup_batches = 0, lookup_given_up_rows = 0;  // remote store: hops to it; rows that stopped waiting for it
  uint64_t lookup_unavailable_records = 0, lookup_rejected_records = 0;
  uint64_t near_cache_hits = 0, near_cache_misses = 0, near_cache_stale_records = 0, near_cache_joined_rows = 0;
  NearCacheStats near_cache;
  uint32_t looking_up_rows = 0;
  uint32_t slots = 0, slots_used = 0, slots_used_max = 0, queued_rows = 0;
  ExplainStats explain;
};

// What metrics are made of, beside EngineStats. Lanes that were removed are gone from it.
struct LaneSnapshot {
  std::string model;
  std::string version;
  int64_t oldest_queued_ns = 0;  // how long the row that waits longest for a runner has waited; 0: none waits
  uint64_t failed_rows = 0;      // of calls that named no version: that the model failed
  uint64_t missed_rows = 0;      // the same: that its feature set refused, or that were late
  LaneHistograms histograms;
  bool can_explain = false;
  bool is_explaining_suspended = false;                       // its explanations did not add up
  std::array<uint64_t, kExplanationStatuses> explanations{};  // by ExplanationStatus
};
struct EngineMetrics {
  std::vector<LaneSnapshot> lanes;
  std::array<uint64_t, static_cast<size_t>(Code::kCount_)> refused_calls{};  // by code
  std::array<uint64_t, static_cast<size_t>(Code::kCount_)> failed_rows{};
  // Answered rows by what was wrong with their features, a row once for each cause: by Degradation, and by the reason why a
  // record was left out.
  std::array<uint64_t, 4> degradations{};
  std::array<uint64_t, static_cast<size_t>(Code::kCount_)> left_out_records{};
  uint64_t expired_rows = 0;          // accepted ones alone, so that outcomes add up to accepted_rows
  uint64_t dropped_records = 0;       // of calls worth telling, found nobody to take them in time
  uint64_t refused_traceparents = 0;  // headers that were no W3C trace context
};

// Of a lane with a DriftSpec.
struct LaneDrift {
  std::string model;
  std::string version;
  std::vector<Decision> decisions;  // of DriftTotals::alert_counts
  DriftTotals totals;
};

class Engine {
 public:
  // `clock` must outlive the engine.
  Engine(const EngineOptions& options, const Clock& clock);
  ~Engine();  // stop()s
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Starts serving the lane. The model of the first lane, or of the last one added with is_default, answers requests that name no
  // model; without a route (set_route) the newest lane of a model answers requests that name no version. A model that is taken out stays the default: no
  // other answers in its place. kPlanInvalid, kModelUnsupported, kIo (memory, threads), kDraining (stopped).
  Status add_lane(LaneSpec spec, bool is_default);
  // Takes the lane out at once; requests that hold it finish. Returns when its threads have ended. May block: not on a hot
  // thread. A lane without threads is run to its end on this one. kUnknownModel, kUnknownVersion, kRolloutRefused (its model's route
  // names it).
  Status remove_lane(std::string_view model, std::string_view version);

  // --- rolling out: which lane answers requests that name no version (route.h), and what is scored beside them (shadow.h)
  // As LaneTable::set_route(). Of the calls that are admitted from now on; those before keep their lane.
  Status set_route(std::string_view model, Route route);
  // Scores what the champion has answered once more in this lane, which is the shadow's alone; it replaces the model's former shadow.
  // May block, as remove_lane(). As add_lane(); kUnknownModel, kRolloutRefused (the share, its entity, too many shadows).
  Status start_shadow(LaneSpec spec, const ShadowShare& share);
  // Nothing where there is none. May block, as remove_lane(). kUnknownModel.
  Status stop_shadow(const std::string& model);
  // Of the shadows that there are.
  std::vector<ShadowStats> shadow_stats() const;

  Submission submit_score(std::string_view bytes, const CallContext& context, CompletionQueue* queue, uint64_t token) noexcept;
  Submission submit_batch(std::string_view bytes, const CallContext& context, CompletionQueue* queue, uint64_t token) noexcept;
  // Answers by a ScoreStreamResponse, refusals of one message included. Refused here: a malformed message, and any message while
  // no slot is left to carry its answer (kSlotsExhausted).
  Submission submit_stream(std::string_view bytes, const CallContext& context, CompletionQueue* queue, uint64_t token) noexcept;

  // An inference.ModelInferRequest: whole tensors for a model, with or without a feature set. Its n rows are queued as a batch's are;
  // all of them are answered or none. What the model gave is given, NaN too. Rows are counted, recorded and limited as scores are.
  Submission submit_infer(std::string_view bytes, const CallContext& context, CompletionQueue* queue, uint64_t token) noexcept;

  // --- remote store: the look-up threads' side (lookups.h has the contracts)
  // Null: the engine has stopped.
  std::unique_ptr<LookupBatch> take_lookups(size_t rows_max, bool waits);
  HopsResult run_hops(int socket, const HopLimits& limits);
  void give_lookups(const LookupBatch& batch, const FetchedRecord* records) noexcept;
  void fail_lookups(const LookupBatch& batch) noexcept;
  // The record under this key was written, or may have been: the near-cache forgets it. Before the writer is told.
  void forget_record(std::string_view key) noexcept;
  // Without a thread of its own: settles the rows whose time has come. Returns how many.
  size_t step_lookups() noexcept;

  // Without threads of its own: explains what waits. Returns how many rows.
  size_t step_explanations() noexcept;

  // Counts a call that the transport refused by itself.
  void count_refused_call(Code code) noexcept;

  // Encodes the answer of a completed call and frees its slots. A handle that is gone: kInternal.
  Answer finish(CallId call) noexcept;
  // Nobody waits any more: the client left, or (expire) the transport has answered DEADLINE_EXCEEDED. Rows not yet running are
  // never run. False: gone already, or already in its completion queue (then finish() must still be called).
  bool cancel(CallId call) noexcept;
  bool expire(CallId call) noexcept;

  // Refuses new calls (DRAINING) and lets the accepted ones end.
  void drain() noexcept;
  // Waits until no slot is in use, at most `timeout_ns` of real time. May block.
  bool wait_idle(int64_t timeout_ns) noexcept;
  // Drains, ends all threads; rows still queued are answered CANCELLED. May block.
  void stop() noexcept;

  // Forms and runs one batch of a lane without threads, on this thread, at the clock's present time. Returns its rows (0: nothing
  // to run).
  size_t step(std::string_view model, std::string_view version) noexcept;

  EngineStats stats() const noexcept;
  EngineMetrics metrics() const;
  // Of the lanes that count it. Apart from metrics(): it is more, and is wanted less often.
  std::vector<LaneDrift> drift() const;
  // Takes the records of calls that ended since the last time (call_record.h); `out` is overwritten.
  void drain_records(std::vector<CallRecord>& out);
  bool is_tracing() const noexcept;
  // What part of the calls is traced where nobody decided, and what part gets a line of the log. 0..1, from now on; any thread.
  void set_sample_ratio(double ratio) noexcept;
  void set_log_ratio(double ratio) noexcept;
  // Finished rows that were kept to be compared with a replay.
  const ServedRows& served_rows() const noexcept;
  // Asserts that all slots are free and that created = freed for every counter. Tests call it.
  void check_idle() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace assay
