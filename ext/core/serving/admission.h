// Admission: from a request's bytes to rows in a lane's queue, on the caller's thread; or the refusal.
//
// In this order: draining, wire format, model, the call's own fields, deadline, slots, the row (types, look-up), deadline again,
// queue; or, where the store is remote, parked for a look-up thread (lookups.h). A unary or batch call that fails is refused as a value. A row of a batch that fails is an answered row. A stream message
// that fails is a completed call, so that its refusal travels in the stream.
#pragma once

#include <atomic>
#include <memory>

#include "core/base/clock.h"
#include "core/serving/calls.h"
#include "core/serving/engine.h"
#include "core/serving/lane_table.h"
#include "core/serving/lookups.h"
#include "core/serving/served_rows.h"
#include "core/serving/shadow.h"

namespace assay {

class Admission {
 public:
  Admission(const EngineOptions& options, const Clock& clock, Calls& calls, CallRecorder& recorder, LaneTable& lanes,
            Lookups& lookups, const NearLookup& near, ServedRows& served_rows);

  Submission submit_score(std::string_view bytes, const CallContext& context, CompletionQueue* queue, uint64_t token) noexcept;
  Submission submit_batch(std::string_view bytes, const CallContext& context, CompletionQueue* queue, uint64_t token) noexcept;
  Submission submit_stream(std::string_view bytes, const CallContext& context, CompletionQueue* queue, uint64_t token) noexcept;

  Submission submit_infer(std::string_view bytes, const CallContext& context, CompletionQueue* queue, uint64_t token) noexcept;
  // A copy of a request that the champion has answered, into its shadow's lane: kShadow, its own deadline, never inline. How it
  // ends is counted apart (Calls::shadow_counters()) and recorded nowhere; queue, batches and look-ups count it with all others.
  // Not accepted: the code says why, and nothing else is made.
  Submission submit_shadow(const ShadowCopy& copy, CompletionQueue* queue, uint64_t token) noexcept;

  void drain() noexcept { is_draining_.store(true); }

 private:
  struct Scratch;
  struct Call;
  struct CallFields;

  static Scratch& scratch() noexcept;
  Call make_call(CallKind kind, const CallContext& context, CompletionQueue* queue, uint64_t token) const noexcept;

  Submission admit_one(Call& call, Scratch& scratch) noexcept;
  Status decode_one(Call& call, Scratch& scratch);
  void keep_copy(Call& call, uint32_t index, const TransactionScan& scan) noexcept;
  Status queue_one(Call& call, Slot& slot, uint32_t index, Scratch& scratch);
  Status begin_shadow(Call& call);
  Status begin_call(Call& call, const CallFields& fields, Violations& violations);
  ExplainRequest read_explain(const Call& call, const ExplainFields& fields, Violations& violations) const;
  void set_deadline(Call& call, int64_t timeout_ns) noexcept;
  Status check_deadline(Call& call, int64_t now_ns, DeadlineCheck check) noexcept;
  Status claim_slots(Call& call, uint32_t count, uint32_t* slots) noexcept;

  void fill_batch(Call& call, std::string_view bytes, Scratch& scratch);
  Status fill_row(Call& call, Slot& slot, uint32_t index, std::string_view bytes, std::string_view row, Scratch& scratch,
                  bool* is_finished);
  Status look_up(const Call& call, Slot& slot, uint32_t index, Scratch& scratch, bool* is_finished);
  Status queue_rows(Call& call, uint32_t head, Scratch& scratch) noexcept;

  Status decode_infer(Call& call, std::string_view bytes, Scratch& scratch);
  Status queue_infer(Call& call, Scratch& scratch);
  bool run_inline(Call& call, const QueuedRow& row) noexcept;

  Submission accepted(const Call& call, CallId id) const noexcept;
  Submission refused(const Call& call, const Status& status, const Violations* violations = nullptr) noexcept;

  const uint32_t batch_rows_max_;
  const uint64_t answer_bytes_max_;
  const int64_t timeout_ns_max_;
  const Clock& clock_;
  Calls& calls_;
  CallRecorder& recorder_;
  LaneTable& lanes_;
  Lookups& lookups_;
  const NearLookup& near_;
  ServedRows& served_rows_;
  const std::shared_ptr<audit::AuditLog> audit_;  // null: scores are not recorded
  std::atomic<bool> is_draining_{false};
};

}  // namespace assay
