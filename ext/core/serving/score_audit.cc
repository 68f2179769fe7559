#include "core/serving/score_audit.h"

#include <algorithm>
#include <atomic>

#include "core/base/card_numbers.h"
#include "core/base/hash.h"
#include "core/explain/explanation_message.h"
#include "core/features/row_program.h"
#include "core/serving/engine.h"
#include "core/serving/failure.h"
#include "core/wire/flat_writer.h"
#include "core/wire/wire_writer.h"

namespace assay {
namespace {

std::string_view bytes_of(const uint8_t* data, size_t bytes) noexcept { return {reinterpret_cast<const char*>(data), bytes}; }

size_t bitmap_bytes(const FeaturePlan& plan) noexcept { return (plan.spec().inputs.size() + 63) / 64 * 8; }

void append_input(WireWriter& out, const FeaturePlan& plan, const InputSpec& input) {
  const TensorType type = plan.spec().tensors[input.tensor].type;
  out.message(3, [&] {
    out.text(1, input.name);
    out.text(2, tensor_type_name(type));
    out.varint(3, plan.segments()[input.tensor].offset_bytes + input.element * tensor_type_bytes(type));
  });
}

void append_explained(WireWriter& out, const explain::ExplainedModel& explained) {
  for (const std::string& name : explained.group_names) out.put_delimited(8, name);
  out.text(9, explained.background_sha256);
  out.text(10, explained.reasons_version);
}

// assay.v1.LineageRecord, as an AuditRecord.
std::string encode_lineage(uint32_t number, const LaneSpec& spec, std::string_view runtime) {
  const FeaturePlan& plan = spec.reader->plan();
  std::string bytes;
  WireWriter out(bytes);
  out.message(1, [&] {
    out.varint(1, number);
    out.put_delimited(2, encode_provenance(spec.model, spec.version, spec.model_sha256, plan));
    for (const InputSpec& input : plan.spec().inputs) append_input(out, plan, input);
    for (const ViewSchema& view : plan.views()) out.put_delimited(4, view.spec().name);
    for (const Threshold& threshold : spec.thresholds) {
      out.message(5, [&] {
        out.varint(1, static_cast<uint64_t>(threshold.decision));
        out.put_double(2, threshold.minimum);
      });
    }
    out.varint(6, plan.row_bytes());
    out.text(7, runtime);
    if (spec.explained != nullptr) append_explained(out, *spec.explained);
  });
  return bytes;
}

std::shared_ptr<const audit::Lineage> make_lineage(const LaneSpec& spec, std::string_view runtime) {
  static std::atomic<uint32_t> lineages{0};
  const uint32_t number = lineages.fetch_add(1, std::memory_order_relaxed) + 1;
  return std::make_shared<const audit::Lineage>(audit::Lineage{number, encode_lineage(number, spec, runtime)});
}

// The bits of `missing` or `imputed`; none set: left out.
void append_bits(FlatWriter& out, uint32_t field, const uint64_t* bits, size_t bytes) noexcept {
  for (size_t word = 0; word < bytes / 8; ++word) {
    if (bits[word] == 0) continue;
    out.put_delimited(field, bytes_of(reinterpret_cast<const uint8_t*>(bits), bytes));
    return;
  }
}

void append_degradation(FlatWriter& out, size_t view, DegradationKind kind, const char* reason, int64_t cache_age_us) noexcept {
  out.message(11, [&] {
    out.varint(1, view);
    out.varint(2, static_cast<uint64_t>(kind));
    out.text(3, reason);
    out.varint(4, static_cast<uint64_t>(cache_age_us));
  });
}

void append_degradations(FlatWriter& out, const FeaturePlan& plan, const FoldResult* views) noexcept {
  for (size_t i = 0; i < plan.views().size(); ++i) {
    const FoldResult& view = views[i];
    if (view.rejected != Code::kOk) append_degradation(out, i, rejection_kind(view.rejected), reason_of(view.rejected), 0);
    if (view.is_cache_stale) append_degradation(out, i, DegradationKind::kCacheStale, "", view.cache_age_us);
    if (view.is_stale) append_degradation(out, i, DegradationKind::kViewStale, "", 0);
    if (view.is_saturated) append_degradation(out, i, DegradationKind::kDistinctSaturated, "", 0);
    if (view.is_approximate) append_degradation(out, i, DegradationKind::kWindowApproximate, "", 0);
  }
}

// Of the stages that end with the score.
void append_stages(FlatWriter& out, const Stamps& stamps) noexcept {
  out.message(12, [&] {
    for (const Stage& stage : kStages) {
      if (stage.end > Stamp::kScored) break;
      out.put_raw(static_cast<uint64_t>(stamps[static_cast<size_t>(stage.end)] - stamps[static_cast<size_t>(stage.start)]));
    }
  });
}

// Big-endian, as the W3C writes them.
void append_trace_id(FlatWriter& out, const Slot& head) noexcept {
  if ((head.trace_id_high | head.trace_id_low) == 0) return;
  const uint64_t words[2] = {__builtin_bswap64(head.trace_id_high), __builtin_bswap64(head.trace_id_low)};
  out.put_delimited(14, bytes_of(reinterpret_cast<const uint8_t*>(words), sizeof words));
}

// By the wall clock, which was at `wall_us` when the stamps' was at 0. An explanation that comes later must say the same.
int64_t received_us(const Slot& slot, int64_t wall_us) noexcept {
  if (slot.explanation != nullptr && slot.explanation->received_us != 0) return slot.explanation->received_us;
  return wall_us + slot.stamps[static_cast<size_t>(Stamp::kReceived)] / 1000;
}

void append_explanation_fields(FlatWriter& out, const RowExplanation& explanation) noexcept {
  out.varint(20, static_cast<uint64_t>(explanation.status));
  if (!explanation.record.empty()) out.put_delimited(21, explanation.record);
}

// Room for a degradation of each kind, with the longest reason, and for a transaction id of which every 13 bytes became a token.
constexpr size_t kDegradationBytesMax = 64;
constexpr size_t kIdBytesMax = 512;
constexpr size_t kRestBytesMax = 256;

}  // namespace

// --- Commits

void Commits::committed(const uint32_t* rows, size_t count, Code outcome) noexcept {
  const int64_t now_ns = clock_.now_ns();
  for (size_t i = 0; i < count; ++i) {
    Slot& slot = calls_.slab()[rows[i]];
    slot.stamp(Stamp::kCommitted) = now_ns;
    if (outcome != Code::kOk) slot.failure = make_failure(Status(outcome));
    calls_.finish_row(rows[i], outcome, completions_);
  }
  completions_.flush();
}

// --- ScoreAudit

ScoreAudit::ScoreAudit(const EngineAudit& audit, Commits& commits, const LaneSpec& spec, std::string_view runtime)
    : log_(audit.log),
      policy_(audit.policy),
      gives_unrecorded_(audit.log->gives_unrecorded()),
      commits_(commits),
      plan_(spec.reader, &spec.reader->plan()),
      explanation_bytes_max_(spec.explained != nullptr ? explanation_record_bytes_max(*spec.explained) : 0),
      lineage_(make_lineage(spec, runtime)) {}

audit::Admit ScoreAudit::admit(const Slot& slot) const noexcept {
  return log_->has_room() ? audit::Admit::kRecord : log_->admit(xxh64(slot.transaction_id()));
}

size_t ScoreAudit::record_bytes_max() const noexcept {
  const size_t bits_bytes = bitmap_bytes(*plan_);
  return std::min<size_t>(plan_->row_bytes(), limits::kAuditRowBytesMax) + 2 * bits_bytes + limits::kAuditOutputsBytesMax +
         plan_->views().size() * 5 * kDegradationBytesMax + kIdBytesMax + kRestBytesMax + explanation_bytes_max_;
}

char* ScoreAudit::encode(const Slot& slot, const Slot& head, const RowOut& row, std::string_view outputs, int64_t wall_us,
                         char* at) const noexcept {
  FlatWriter out(at);
  out.framed([&] {
    const bool is_shadow = head.priority == Priority::kShadow;
    out.message(is_shadow ? 3 : 2, [&] {
      out.varint(1, lineage_->number);
      const bool is_tokenised = encode_id(slot, out);
      out.put_fixed64(3, static_cast<uint64_t>(slot.event_time_us));
      out.put_fixed64(4, static_cast<uint64_t>(received_us(slot, wall_us)));
      out.put_double(5, slot.score);
      out.varint(6, static_cast<uint64_t>(slot.decision));
      encode_inputs(slot, row, out);
      append_degradations(out, *plan_, row.views);
      append_stages(out, slot.stamps);
      out.varint(13, slot.batch_rows);
      append_trace_id(out, head);
      out.varint(15, is_shadow ? 0 : static_cast<uint64_t>(head.priority));
      out.varint(16, static_cast<uint64_t>(head.kind));
      out.varint(17, is_tokenised ? 1 : 0);
      if (!outputs.empty()) encode_outputs(outputs, out);
      if (slot.explanation != nullptr) append_explanation_fields(out, *slot.explanation);
    });
  });
  return out.at();
}

// Whether a part of it became a token.
bool ScoreAudit::encode_id(const Slot& slot, FlatWriter& out) const noexcept {
  const std::string_view id = slot.transaction_id();
  if (__builtin_expect(!may_hold_card(id), 1)) {
    out.text(2, id);
    return false;
  }
  std::string tokenised;
  const bool is_tokenised = append_tokenised(id, policy_.key, tokenised);
  out.text(2, tokenised);
  return is_tokenised;
}

std::string ScoreAudit::explanation_head(const Slot& slot) const {
  std::string id, head;
  WireWriter out(head);
  out.put_fixed64(1, static_cast<uint64_t>(slot.explanation->received_us));
  if (may_hold_card(slot.transaction_id())) {
    append_tokenised(slot.transaction_id(), policy_.key, id);
    out.text(2, id);
  } else {
    out.text(2, slot.transaction_id());
  }
  return head;
}

void ScoreAudit::append_explanation(std::string_view head, std::string_view record) const noexcept {
  std::string bytes;
  WireWriter out(bytes);
  out.message(4, [&] {
    bytes.append(head).append(record);
    out.varint(11, lineage_->number);
  });
  log_->append_record(bytes, lineage_);
}

Digest16 ScoreAudit::keyed_digest(std::initializer_list<std::string_view> parts) const noexcept {
  Blake2b hash(sizeof(Digest16), policy_.key);
  for (const std::string_view part : parts) hash.update(part);
  Digest16 digest;
  hash.finish(digest.data());
  return digest;
}

// One transaction in so many, all its rows or none. ModelInfer need not name one: then the row itself decides.
bool ScoreAudit::wants_row(std::string_view transaction_id, std::string_view row) const noexcept {
  if (policy_.inputs != AuditInputs::kSample) return policy_.inputs == AuditInputs::kFull;
  return xxh64(transaction_id.empty() ? row : transaction_id) % policy_.sample_one_in == 0;
}

// The row, or what stands for it.
void ScoreAudit::encode_inputs(const Slot& slot, const RowOut& row, FlatWriter& out) const noexcept {
  const size_t bits_bytes = bitmap_bytes(*plan_);
  const std::string_view bytes = bytes_of(row.row, plan_->row_bytes());
  if (wants_row(slot.transaction_id(), bytes) && bytes.size() <= limits::kAuditRowBytesMax) {
    out.text(7, bytes);
  } else {
    const Digest16 digest = keyed_digest({bytes, bytes_of(reinterpret_cast<const uint8_t*>(row.missing), bits_bytes)});
    out.put_delimited(8, bytes_of(digest.data(), digest.size()));
  }
  append_bits(out, 9, row.missing, bits_bytes);
  append_bits(out, 10, row.imputed, bits_bytes);
}

void ScoreAudit::encode_outputs(std::string_view outputs, FlatWriter& out) const noexcept {
  if (outputs.size() <= limits::kAuditOutputsBytesMax) return out.put_delimited(19, outputs);
  const Digest16 digest = keyed_digest({outputs});
  out.put_delimited(18, bytes_of(digest.data(), digest.size()));
}

bool ScoreAudit::append(std::string_view records, const std::vector<uint32_t>& rows) const noexcept {
  return log_->append(records, static_cast<uint32_t>(rows.size()), lineage_, rows.data(), rows.size(), &commits_);
}

}  // namespace assay
