// KeptTransaction: a decoded transaction that outlives the bytes it was decoded from, while its records are on their way.
//
// Bounded by the plan's limits, whatever the message's size: ids, typed values and their text, nothing else. Keeps its memory when it
// is used again.
#pragma once

#include <string>
#include <vector>

#include "core/features/plan.h"
#include "core/features/transaction.h"

namespace assay {

class KeptTransaction {
 public:
  // Copies what the plan reads of the transaction.
  void keep(const Transaction& transaction, const FeaturePlan& plan);
  // Gives it back; its text points into this object. REQUIRES: keep() came before.
  void load(Transaction& out) const noexcept;

 private:
  std::string text_;                    // id, entity ids and string features, one after the other
  std::vector<uint32_t> entity_bytes_;  // length of each entity's id
  std::vector<Value> features_;         // strings: their length; the text is in text_
  uint32_t id_bytes_ = 0;
  int64_t event_time_us_ = 0;
};

}  // namespace assay
