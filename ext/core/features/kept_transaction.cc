#include "core/features/kept_transaction.h"

namespace assay {

void KeptTransaction::keep(const Transaction& transaction, const FeaturePlan& plan) {
  const size_t entity_count = plan.spec().entities.size(), feature_count = plan.spec().request_features.size();
  text_.assign(transaction.id);
  id_bytes_ = static_cast<uint32_t>(transaction.id.size());
  event_time_us_ = transaction.event_time_us;
  entity_bytes_.clear();
  for (size_t i = 0; i < entity_count; ++i) {
    entity_bytes_.push_back(static_cast<uint32_t>(transaction.entities[i].size()));
    text_.append(transaction.entities[i]);
  }
  features_.assign(transaction.features.begin(), transaction.features.begin() + static_cast<ptrdiff_t>(feature_count));
  for (const Value& value : features_) {
    if (value.dtype == Dtype::kString) text_.append(value.string());
  }
}

void KeptTransaction::load(Transaction& out) const noexcept {
  out.clear(entity_bytes_.size(), features_.size());
  const char* at = text_.data();
  out.id = {at, id_bytes_};
  at += id_bytes_;
  out.event_time_us = event_time_us_;
  for (size_t i = 0; i < entity_bytes_.size(); ++i) {
    out.entities[i] = {at, entity_bytes_[i]};
    at += entity_bytes_[i];
  }
  for (size_t i = 0; i < features_.size(); ++i) {
    out.features[i] = features_[i];
    if (features_[i].dtype != Dtype::kString) continue;
    out.features[i].text = at;
    at += features_[i].text_bytes;
  }
}

}  // namespace assay
