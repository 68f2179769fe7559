// FeatureReader: transaction + store -> finished model-input row. Reading is not writing: EventWriter changes the store.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "core/features/embedded_store.h"
#include "core/features/plan.h"
#include "core/features/transaction.h"

namespace assay {

// Where a finished row goes. All memory is the caller's (a slot's).
struct RowOut {
  uint8_t* row = nullptr;       // plan.row_bytes(), 8-aligned
  uint64_t* missing = nullptr;  // bit per model input: its source was null. (inputs + 63) / 64 words
  uint64_t* imputed = nullptr;  // bit per model input: a declared default went in
  FoldResult* views = nullptr;  // one per view of the plan
};

// Working memory of one thread; about 50 KiB. Not shared.
struct ReadScratch {
  std::array<Value, limits::kNodesMax> nodes;
  std::array<Value, limits::kAggregatesMax> outputs;
  std::array<char, limits::kAttributesMax * limits::kStringValueBytesMax> arena;  // strings of the view folded last
  std::array<char, limits::kAttributesMax * limits::kStringValueBytesMax> kept;   // of several attribute views' nodes
};
static_assert(limits::kAttributesMax <= limits::kAggregatesMax, "outputs hold either");

// Binds one plan to one store. Immutable and thread-safe; keeps the plan and the store alive.
class FeatureReader {
 public:
  static Status create(std::shared_ptr<const FeaturePlan> plan, std::shared_ptr<EmbeddedStore> store,
                       std::shared_ptr<const FeatureReader>* out);

  // Folds every view at the transaction's event time, derives, converts and writes the row. False: `violations` says why
  // (NULL_INPUT, OUT_OF_RANGE; NOT_FINITE if a store held what no writer of ours writes) and the row must not be used.
  // Allocates only then. The transaction must have passed its decoder: required features and entities are there and typed. An
  // is_fraud it carries is not looked at: nobody knows it when the transaction is scored.
  // Adds to `violations`, never clears them.
  bool read(const Transaction& transaction, ReadScratch& scratch, const RowOut& out, Violations& violations) const noexcept;

  // Brings the transaction's records towards the cache. A hint; read() gives it to itself.
  void prefetch(const Transaction& transaction) const noexcept;

  const FeaturePlan& plan() const noexcept { return *plan_; }
  const std::shared_ptr<const FeaturePlan>& shared_plan() const noexcept { return plan_; }
  EmbeddedStore& store() const noexcept { return *store_; }

 private:
  FeatureReader() = default;
  void fold_views(const Transaction& transaction, ReadScratch& scratch, FoldResult* results) const noexcept;
  bool write_row(const uint64_t* defaulted, const Value* nodes, const RowOut& out, Violations& violations) const noexcept;
  void refuse_input(size_t index, const Value& value, Violations& violations) const;

  std::shared_ptr<const FeaturePlan> plan_;
  std::shared_ptr<EmbeddedStore> store_;
  std::array<uint32_t, limits::kViewsMax> view_ids_{};
};

}  // namespace assay
