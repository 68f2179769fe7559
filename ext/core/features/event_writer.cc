#include "core/features/event_writer.h"

#include <cmath>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/features/record.h"

namespace assay {
namespace {

Value hashed(std::string_view text) noexcept { return Value::of(static_cast<int64_t>(xxh64(text))); }

Value column_of(const Transaction& transaction, const ColumnSpec& column) noexcept {
  switch (column.source) {
    case ColumnSource::kEventTime: return Value::of(transaction.event_time_us);
    case ColumnSource::kEntity: {
      const std::string_view id = transaction.entities[column.source_index];
      return id.empty() ? Value() : hashed(id);
    }
    case ColumnSource::kRequestFeature: {
      const Value& value = transaction.features[column.source_index];
      return value.dtype == Dtype::kString ? hashed(value.string()) : value;
    }
  }
  return Value();
}

// Checks one attribute and makes -0.0 +0.0.
Code check_attribute(const AttributeSpec& attribute, Value& value) noexcept {
  if (value.is_null()) return Code::kOk;
  if (value.dtype != attribute.dtype) return Code::kWrongType;
  if (value.dtype == Dtype::kString && value.text_bytes > limits::kStringValueBytesMax) return Code::kTooLong;
  if (value.dtype != Dtype::kFloat64) return Code::kOk;
  if (!std::isfinite(value.float64)) return Code::kNotFinite;
  value.float64 += 0.0;
  return Code::kOk;
}

}  // namespace

void fill_entry(const Transaction& transaction, const ViewSchema& schema, uint64_t fingerprint, EventEntry& entry) noexcept {
  const ViewSpec& spec = schema.spec();
  entry.event_time_us = transaction.event_time_us;
  entry.fingerprint = fingerprint;
  entry.is_fraud = transaction.is_fraud;
  entry.is_label = transaction.is_label;
  entry.was_fraud = transaction.was_fraud;
  entry.place = transaction.place;
  if (transaction.label_time_us != Transaction::kNoTime) {
    entry.label_time_us = transaction.label_time_us;
  } else if (__builtin_add_overflow(transaction.event_time_us, spec.delay_us, &entry.label_time_us)) {
    entry.label_time_us = INT64_MAX;
  }
  for (size_t i = 0; i < spec.columns.size(); ++i) entry.columns[i] = column_of(transaction, spec.columns[i]);
}

EventEntry entry_of(const Transaction& transaction, const ViewSchema& schema) noexcept {
  EventEntry entry;
  fill_entry(transaction, schema, xxh64(transaction.id), entry);
  return entry;
}

Status EventWriter::create(std::shared_ptr<const FeaturePlan> plan, std::shared_ptr<EmbeddedStore> store,
                           const WriterOptions& options, std::shared_ptr<const EventWriter>* out) {
  std::shared_ptr<EventWriter> writer(new EventWriter());
  for (size_t i = 0; i < plan->views().size(); ++i) {
    const ViewSchema& view = plan->views()[i];
    Status status = store->add_view(view, plan->spec().entities[view.spec().entity_index], &writer->view_ids_[i]);
    if (!status.ok()) return status;
  }
  writer->plan_ = std::move(plan);
  writer->store_ = std::move(store);
  writer->options_ = options;
  *out = std::move(writer);
  return Status();
}

bool EventWriter::is_in_future(int64_t time_us) const noexcept {
  return options_.ahead_us_max > 0 && time_us > wall_now_us() + options_.ahead_us_max;
}

bool EventWriter::takes(size_t view_index, const Transaction& event) const noexcept {
  const ViewSpec& view = plan_->views()[view_index].spec();
  return !options_.left_out[view_index] && view.kind == ViewKind::kWindow && !event.entities[view.entity_index].empty() &&
         (view.uses_labels || !event.is_label);
}

Code EventWriter::write(const Transaction& event) const noexcept {
  std::vector<FenceMove> moves;
  const Code code = write(event, &moves).code;
  move_fences(event.is_label ? FenceKind::kLabels : FenceKind::kEvents, moves);
  return code;
}

void EventWriter::move_fences(FenceKind kind, const std::vector<FenceMove>& moves) const noexcept {
  for (const FenceMove& move : moves) store_->move_fence(move.view_id, move.entity_id, kind, move.place);
}

EventOutcome EventWriter::write(const Transaction& event, std::vector<FenceMove>* moves) const noexcept {
  if (is_in_future(event.event_time_us) || is_in_future(event.label_time_us)) return {Code::kEventInFuture};
  const uint64_t fingerprint = xxh64(event.id);
  bool is_recorded = false, is_late = false, is_unknown = false;
  Code refused = Code::kOk;
  EventEntry entry;
  entry.late = options_.late;
  for (size_t i = 0; i < plan_->views().size(); ++i) {
    const ViewSchema& view = plan_->views()[i];
    if (!takes(i, event)) continue;
    fill_entry(event, view, fingerprint, entry);
    const std::string_view entity_id = event.entities[view.spec().entity_index];
    const Code code = store_->apply(view_ids_[i], entity_id, entry);
    switch (code) {
      case Code::kOk:
        is_recorded = true;
        if (event.place.source != 0) moves->push_back({view_ids_[i], std::string(entity_id), event.place});
        break;
      case Code::kEventDuplicate: break;
      case Code::kEventTooLate: is_late = true; break;
      case Code::kEventUnknown: is_unknown = true; break;
      default: refused = refused == Code::kOk ? code : refused;
    }
  }
  if (refused != Code::kOk) return {refused, is_late};
  if (is_recorded && !(event.is_label && (is_late || is_unknown))) return {Code::kOk, is_late};
  if (is_late) return {Code::kEventTooLate, true};
  return {is_unknown ? Code::kEventUnknown : Code::kEventDuplicate};
}

Code EventWriter::write_attributes(size_t view_index, std::string_view entity_id, int64_t time_us,
                                   const Value* values) const noexcept {
  if (view_index >= plan_->views().size()) return Code::kPlanInvalid;
  const ViewSpec& view = plan_->views()[view_index].spec();
  if (view.kind != ViewKind::kAttributes) return Code::kPlanInvalid;
  if (entity_id.empty()) return Code::kMissingEntity;
  if (entity_id.size() > limits::kIdBytesMax) return Code::kTooLong;
  if (time_us < limits::kTimeUsMin || time_us > limits::kTimeUsMax) return Code::kBadTimestamp;
  if (is_in_future(time_us)) return Code::kEventInFuture;
  std::array<Value, limits::kAttributesMax> checked;
  for (size_t i = 0; i < view.attributes.size(); ++i) {
    checked[i] = values[i];
    const Code code = check_attribute(view.attributes[i], checked[i]);
    if (code != Code::kOk) return code;
  }
  return store_->put_attributes(view_ids_[view_index], entity_id, time_us, checked.data());
}

void EventWriter::add_records_of(const Transaction& event, std::vector<RecordRef>* records) const {
  for (size_t i = 0; i < plan_->views().size(); ++i) {
    const ViewSpec& view = plan_->views()[i].spec();
    if (takes(i, event)) records->push_back(record_of(i, event.entities[view.entity_index]));
  }
}

RecordRef EventWriter::record_of(size_t view_index, std::string_view entity_id) const {
  const ViewSpec& view = plan_->views()[view_index].spec();
  RecordRef record;
  append_record_key(view, plan_->spec().entities[view.entity_index], entity_id, record.key);
  record.view_index = static_cast<uint32_t>(view_index);
  record.entity_id = entity_id;
  return record;
}

Code EventWriter::put_record(size_t view_index, std::string_view entity_id, std::string_view sealed) const noexcept {
  return store_->put_record(view_ids_[view_index], entity_id, sealed);
}

bool EventWriter::take_changed_record(size_t view_index, std::string_view entity_id, std::string_view before, int64_t now_us,
                                      std::string* sealed) const {
  if (!store_->copy_record(view_ids_[view_index], entity_id, sealed)) return false;
  if (!before.empty() && is_same_state(before, *sealed)) return false;
  seal_record(reinterpret_cast<uint8_t*>(sealed->data()), now_us);
  return true;
}

}  // namespace assay
