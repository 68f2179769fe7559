#include "core/wire/response.h"

#include <cstring>
#include <string>

#include "core/wire/wire_writer.h"

namespace assay {
namespace {

template <typename T>
T load(const uint8_t* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void append_degradation(WireWriter& out, DegradationKind kind, std::string_view view, std::string_view detail) {
  out.message(5, [&] {
    out.varint(1, static_cast<uint64_t>(kind));
    out.text(2, view);
    out.text(3, detail);
  });
}

void append_degradations(WireWriter& out, std::string_view view, const FoldResult& result) {
  if (__builtin_expect(result.rejected != Code::kOk, 0)) {
    append_degradation(out, rejection_kind(result.rejected), view, reason_of(result.rejected));
  }
  if (__builtin_expect(result.is_cache_stale, 0)) {
    const std::string age_s = std::to_string(result.cache_age_us / 1'000'000);
    append_degradation(out, DegradationKind::kCacheStale, view, "the store gave nothing; fetched " + age_s + " s ago");
  }
  if (__builtin_expect(result.is_stale, 0)) {
    append_degradation(out, DegradationKind::kViewStale, view, "older than the view's max_age");
  }
  if (__builtin_expect(result.is_saturated, 0)) {
    append_degradation(out, DegradationKind::kDistinctSaturated, view, "a distinct count is a lower bound");
  }
  if (__builtin_expect(result.is_approximate, 0)) {
    append_degradation(out, DegradationKind::kWindowApproximate, view,
                       "a window reaches into tiles, or back past what the record keeps");
  }
}

// One string field for each model input whose bit is set.
void append_input_names(WireWriter& out, uint32_t field, const std::vector<InputSpec>& inputs, const uint64_t* bits) {
  for (size_t word = 0; word < (inputs.size() + 63) / 64; ++word) {
    for (uint64_t left = bits[word]; left != 0; left &= left - 1) {
      out.put_delimited(field, inputs[word * 64 + static_cast<size_t>(__builtin_ctzll(left))].name);
    }
  }
}

void append_view_age(WireWriter& out, std::string_view view, const FoldResult& result) {
  out.message(8, [&] {
    out.text(1, view);
    if (result.is_found) {
      out.message(2, [&] {
        out.varint(1, static_cast<uint64_t>(result.age_us / 1'000'000));
        out.varint(2, static_cast<uint64_t>(result.age_us % 1'000'000 * 1000));
      });
    }
    if (__builtin_expect(result.cache_age_us >= 0, 0)) out.duration_ns(3, result.cache_age_us * 1000);
  });
}

// A member of FeatureValue's oneof: written even when it is 0.
void append_element(WireWriter& out, TensorType type, const uint8_t* element) {
  switch (type) {
    case TensorType::kFloat32: return out.put_double(1, static_cast<double>(load<float>(element)));
    case TensorType::kFloat64: return out.put_double(1, load<double>(element));
    case TensorType::kInt32: return out.put_varint(2, static_cast<uint64_t>(static_cast<int64_t>(load<int32_t>(element))));
    case TensorType::kInt64: return out.put_varint(2, static_cast<uint64_t>(load<int64_t>(element)));
    case TensorType::kBool: return out.put_varint(3, *element != 0 ? 1 : 0);
  }
}

void append_inputs(WireWriter& out, const FeaturePlan& plan, const uint8_t* row) {
  for (const InputSpec& input : plan.spec().inputs) {
    const TensorType type = plan.spec().tensors[input.tensor].type;
    const uint8_t* const element = row + plan.segments()[input.tensor].offset_bytes + input.element * tensor_type_bytes(type);
    out.message(9, [&] {
      out.text(1, input.name);
      out.message(2, [&] { append_element(out, type, element); });
    });
  }
}

// In the order of the fields' numbers, as google.protobuf writes them: commit and explain came after the others.
void append_timings(WireWriter& out, const Stamps& stamps, uint32_t batch_rows) {
  const auto stage = [&](uint32_t field, Stamp start, Stamp end) {
    const int64_t start_ns = stamps[static_cast<size_t>(start)], end_ns = stamps[static_cast<size_t>(end)];
    if (start_ns != 0 && end_ns != 0) out.duration_ns(field, end_ns - start_ns);
  };
  out.message(10, [&] {
    stage(1, Stamp::kReceived, Stamp::kDecoded);
    stage(2, Stamp::kDecoded, Stamp::kQueued);
    stage(3, Stamp::kQueued, Stamp::kBatched);
    stage(4, Stamp::kBatched, Stamp::kRunStarted);
    stage(5, Stamp::kRunStarted, Stamp::kScored);
    stage(6, Stamp::kCommitted, Stamp::kDone);
    stage(7, Stamp::kReceived, Stamp::kDone);
    out.varint(8, batch_rows);
    stage(9, Stamp::kExplained, Stamp::kCommitted);
    if (stamps[static_cast<size_t>(Stamp::kExplained)] != stamps[static_cast<size_t>(Stamp::kScored)]) {
      stage(10, Stamp::kScored, Stamp::kExplained);
    }
  });
}

void append_score_fields(WireWriter& out, const RowAnswer& answer, std::string_view provenance) {
  const FeaturePlan& plan = *answer.plan;
  out.text(1, answer.transaction_id);
  if (answer.has_score) out.put_double(2, answer.score);
  out.varint(3, static_cast<uint64_t>(answer.decision));
  if (!provenance.empty()) out.put_delimited(4, provenance);
  const std::vector<ViewSchema>& views = plan.views();
  for (size_t i = 0; i < views.size(); ++i) append_degradations(out, views[i].spec().name, answer.views[i]);
  append_input_names(out, 6, plan.spec().inputs, answer.missing);
  append_input_names(out, 7, plan.spec().inputs, answer.imputed);
  for (size_t i = 0; i < views.size(); ++i) append_view_age(out, views[i].spec().name, answer.views[i]);
  if (answer.include_features) append_inputs(out, plan, answer.row);
  if (answer.include_timings) append_timings(out, *answer.stamps, answer.batch_rows);
  out.text(11, answer.explanation);
  out.varint(12, answer.explanation_status);
}

// ScoreResult and ScoreStreamResponse have the same three fields.
void append_result_fields(WireWriter& out, const RowAnswer& answer, std::string_view rpc_status, std::string_view provenance) {
  out.text(1, answer.transaction_id);
  if (!rpc_status.empty()) return out.put_delimited(2, rpc_status);
  out.message(3, [&] { append_score_fields(out, answer, provenance); });
}

}  // namespace

std::string encode_provenance(std::string_view model, std::string_view version, std::string_view model_sha256,
                              const FeaturePlan& plan) {
  std::string bytes;
  WireWriter out(bytes);
  out.text(1, model);
  out.text(2, version);
  out.text(3, model_sha256);
  out.text(4, plan.spec().feature_set);
  out.text(5, plan.spec().feature_set_version);
  out.text(6, plan.spec().schema_hash);
  return bytes;
}

void append_score_response(const RowAnswer& answer, std::string_view provenance, std::string& out) {
  WireWriter writer(out);
  append_score_fields(writer, answer, provenance);
}

void append_batch_result(const RowAnswer& answer, std::string_view rpc_status, std::string& out) {
  WireWriter writer(out);
  writer.message(2, [&] { append_result_fields(writer, answer, rpc_status, {}); });
}

void append_batch_provenance(std::string_view provenance, std::string& out) {
  WireWriter writer(out);
  writer.text(1, provenance);
}

void append_stream_response(const RowAnswer& answer, std::string_view rpc_status, std::string_view provenance, std::string& out) {
  WireWriter writer(out);
  append_result_fields(writer, answer, rpc_status, provenance);
}

}  // namespace assay
