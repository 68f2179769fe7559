#include "core/features/feature_reader.h"

#include <cmath>
#include <cstring>

#include "core/base/hash.h"
#include "core/features/event_writer.h"
#include "core/features/fold.h"
#include "core/features/record.h"
#include "core/features/record_key.h"
#include "core/features/row_program.h"

namespace assay {
namespace {

constexpr int64_t kFloat32IntegerMax = int64_t{1} << 24;
constexpr int64_t kFloat64IntegerMax = int64_t{1} << 53;
constexpr size_t kBitWords = (limits::kRequestFeaturesMax + 63) / 64;

void set_bit(uint64_t* words, size_t index) noexcept { words[index / 64] |= uint64_t{1} << (index % 64); }
bool has_bit(const uint64_t* words, size_t index) noexcept { return (words[index / 64] >> (index % 64) & 1) != 0; }

template <typename T>
void put(uint8_t* at, T value) noexcept {
  std::memcpy(at, &value, sizeof value);
}

bool is_within(int64_t value, int64_t bound) noexcept { return value >= -bound && value <= bound; }

// Adding +0.0 makes -0.0 +0.0. False: not finite, or past the element's type.
bool put_float32(uint8_t* at, double value) noexcept {
  const float element = static_cast<float>(value) + 0.0f;
  put(at, element);
  return std::isfinite(element);
}

bool put_float64(uint8_t* at, double value) noexcept {
  put(at, value + 0.0);
  return std::isfinite(value);
}

// Converts one value that is not null. False: it does not fit.
bool put_element(Conversion conversion, const Value& value, uint8_t* at) noexcept {
  switch (conversion) {
    case Conversion::kFloat64ToFloat32: return put_float32(at, value.float64);
    case Conversion::kInt64ToFloat32: put(at, static_cast<float>(value.int64)); return is_within(value.int64, kFloat32IntegerMax);
    case Conversion::kBoolToFloat32: put(at, value.boolean ? 1.0f : 0.0f); return true;
    case Conversion::kFloat64ToFloat64: return put_float64(at, value.float64);
    case Conversion::kInt64ToFloat64:
      put(at, static_cast<double>(value.int64));
      return is_within(value.int64, kFloat64IntegerMax);
    case Conversion::kBoolToFloat64: put(at, value.boolean ? 1.0 : 0.0); return true;
    case Conversion::kInt64ToInt32:
      put(at, static_cast<int32_t>(value.int64));
      return value.int64 >= INT32_MIN && value.int64 <= INT32_MAX;
    case Conversion::kBoolToInt32: put(at, int32_t{value.boolean}); return true;
    case Conversion::kInt64ToInt64: put(at, value.int64); return true;
    case Conversion::kBoolToInt64: put(at, int64_t{value.boolean}); return true;
    case Conversion::kBoolToBool: *at = value.boolean ? 1 : 0; return true;
  }
  return false;
}

// Request features and their defaults. A bit of `defaulted` says that a default stands in for an absent feature.
void load_features(const RowProgram& program, const Transaction& transaction, Value* nodes, uint64_t* defaulted) noexcept {
  for (const uint16_t node : program.event_time_nodes) nodes[node] = Value::of(transaction.event_time_us);
  for (const FeatureStep& step : program.features) {
    const Value& value = transaction.features[step.feature];
    if (value.is_null() && !step.default_value.is_null()) {
      nodes[step.node] = step.default_value;
      set_bit(defaulted, step.feature);
    } else {
      nodes[step.node] = value;
    }
  }
}

// Copies the text of a node to where the next fold does not write.
char* keep_text(Value& value, char* at) noexcept {
  if (value.dtype != Dtype::kString) return at;
  std::memcpy(at, value.text, value.text_bytes);
  value.text = at;
  return at + value.text_bytes;
}

}  // namespace

Status FeatureReader::create(std::shared_ptr<const FeaturePlan> plan, std::shared_ptr<EmbeddedStore> store,
                             std::shared_ptr<const FeatureReader>* out) {
  std::shared_ptr<FeatureReader> reader(new FeatureReader());
  for (size_t i = 0; i < plan->views().size(); ++i) {
    const ViewSchema& view = plan->views()[i];
    Status status = store->add_view(view, plan->spec().entities[view.spec().entity_index], &reader->view_ids_[i]);
    if (!status.ok()) return status;
  }
  reader->plan_ = std::move(plan);
  reader->store_ = std::move(store);
  *out = std::move(reader);
  return Status();
}

std::shared_ptr<const FeatureReader> FeatureReader::create_remote(std::shared_ptr<const FeaturePlan> plan,
                                                                  std::vector<int64_t> near_ages_ns) {
  ASSAY_ASSERT(near_ages_ns.empty() || near_ages_ns.size() == plan->views().size());
  std::shared_ptr<FeatureReader> reader(new FeatureReader());
  reader->plan_ = std::move(plan);
  reader->near_ages_ns_ = std::move(near_ages_ns);
  return reader;
}

void FeatureReader::record_keys(const Transaction& transaction, std::string* keys) const {
  for (size_t v = 0; v < plan_->views().size(); ++v) {
    const ViewSpec& view = plan_->views()[v].spec();
    keys[v].clear();
    append_record_key(view, plan_->spec().entities[view.entity_index], transaction.entities[view.entity_index], keys[v]);
  }
}

uint64_t FeatureReader::digest(size_t view, const Transaction& transaction) const noexcept {
  const uint16_t entity = plan_->program().views[view].entity;
  return entity_digest(plan_->spec().entities[entity], transaction.entities[entity]);
}

Code FeatureReader::check(size_t view, uint64_t digest, std::string_view record) const noexcept {
  return validate_record(reinterpret_cast<const uint8_t*>(record.data()), record.size(), plan_->views()[view], digest);
}

void FeatureReader::prefetch(const Transaction& transaction) const noexcept {
  const RowProgram& program = plan_->program();
  for (size_t v = 0; v < program.views.size(); ++v) {
    store_->prefetch(view_ids_[v], transaction.entities[program.views[v].entity]);
  }
}

bool FeatureReader::read(const Transaction& transaction, ReadScratch& scratch, const RowOut& out,
                         Violations& violations) const noexcept {
  prefetch(transaction);  // before anything else: the records travel while the features are loaded
  const auto fold_one = [&](size_t v, const FoldRequest& request, FoldResult* result) {
    const std::string_view id = transaction.entities[plan_->program().views[v].entity];
    store_->fold(view_ids_[v], id, request, scratch.outputs.data(), result, scratch.arena.data());
  };
  return read_with(fold_one, transaction, scratch, out, violations);
}

bool FeatureReader::read(const Transaction& transaction, const FetchedRecord* records, ReadScratch& scratch, const RowOut& out,
                         Violations& violations) const noexcept {
  const auto fold_one = [&](size_t v, const FoldRequest& request, FoldResult* result) {
    const ViewSchema& schema = plan_->views()[v];
    const auto* const record = reinterpret_cast<const uint8_t*>(records[v].bytes.data());
    Code why = records[v].why;
    if (why == Code::kOk && record != nullptr) why = check_header(record, schema.hash64(), digest(v, transaction));
    if (why != Code::kOk) return fold_unknown(schema, why, scratch.outputs.data(), result);
    fold_view(schema, record, request, scratch.outputs.data(), result, scratch.arena.data());
    result->is_cache_stale = records[v].is_cache_stale;
    result->cache_age_us = records[v].cache_age_us;
  };
  return read_with(fold_one, transaction, scratch, out, violations);
}

template <typename FoldOne>
bool FeatureReader::read_with(const FoldOne& fold_one, const Transaction& transaction, ReadScratch& scratch, const RowOut& out,
                              Violations& violations) const noexcept {
  const RowProgram& program = plan_->program();
  uint64_t defaulted[kBitWords] = {};
  Value* const nodes = scratch.nodes.data();
  load_features(program, transaction, nodes, defaulted);
  fold_views(fold_one, transaction, scratch, out.views);
  for (const DerivedStep& step : program.derived) nodes[step.node] = step.operation.apply(nodes);
  return write_row(defaulted, nodes, out, violations);
}

template <typename FoldOne>
void FeatureReader::fold_views(const FoldOne& fold_one, const Transaction& transaction, ReadScratch& scratch,
                               FoldResult* results) const noexcept {
  const RowProgram& program = plan_->program();
  const uint64_t fingerprint = xxh64(transaction.id);
  char* kept = scratch.kept.data();
  EventEntry entry;
  for (size_t v = 0; v < program.views.size(); ++v) {
    const ViewStep& step = program.views[v];
    FoldRequest request;
    request.event_time_us = transaction.event_time_us;
    if (step.is_window) {
      fill_entry(transaction, plan_->views()[v], fingerprint, entry);
      entry.is_fraud = -1;  // the label of the transaction being scored is not known, whatever a replayed event says
      request.current = &entry;
    }
    fold_one(v, request, &results[v]);
    for (uint32_t i = step.outputs_begin; i < step.outputs_end; ++i) {
      const OutputStep& output = program.outputs[i];
      Value& node = scratch.nodes[output.node];
      node = scratch.outputs[output.output];
      if (step.keeps_text) kept = keep_text(node, kept);
    }
  }
}

bool FeatureReader::write_row(const uint64_t* defaulted, const Value* nodes, const RowOut& out,
                              Violations& violations) const noexcept {
  const std::vector<InputStep>& inputs = plan_->program().inputs;
  std::memset(out.row, 0, plan_->row_bytes());  // the bytes between segments are part of the row's digest
  for (size_t i = 0; i < (inputs.size() + 63) / 64; ++i) out.missing[i] = out.imputed[i] = 0;
  bool is_good = true;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const InputStep& step = inputs[i];
    const Value& value = nodes[step.node];
    uint8_t* const at = out.row + step.offset_bytes;
    if (value.is_null()) {
      set_bit(out.missing, i);
      if (step.when_null == WhenNull::kDefault) set_bit(out.imputed, i);
      std::memcpy(at, &step.null_bits, step.bytes);
      if (step.when_null != WhenNull::kError) continue;
    } else {
      if (step.feature >= 0 && has_bit(defaulted, static_cast<size_t>(step.feature))) {
        set_bit(out.missing, i);
        set_bit(out.imputed, i);
      }
      if (__builtin_expect(put_element(step.conversion, value, at), 1)) continue;
    }
    refuse_input(i, value, violations);
    is_good = false;
  }
  return is_good;
}

void FeatureReader::refuse_input(size_t index, const Value& value, Violations& violations) const {
  const InputSpec& input = plan_->spec().inputs[index];
  const TensorSpec& tensor = plan_->spec().tensors[input.tensor];
  const std::string source = "\"" + plan_->spec().nodes[input.node].name + "\"";
  const std::string field = "inputs[\"" + input.name + "\"]";
  if (value.is_null()) {
    return violations.add(Code::kNullInput, field,
                          "has no value from " + source + " and its when_null is error; send what it is made of, or let the " +
                              "feature set say default or nan");
  }
  if (value.dtype == Dtype::kFloat64 && !std::isfinite(value.float64)) {
    return violations.add(Code::kNotFinite, field, "got NaN or infinity from " + source + "; expected a finite float64");
  }
  violations.add(Code::kOutOfRange, field,
                 std::string("is a ") + dtype_name(value.dtype) + " of " + source + " that does not fit an element of type " +
                     tensor_type_name(tensor.type) + "; declare a range or scale it");
}

}  // namespace assay
