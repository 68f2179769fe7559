// FeatureReader: transaction + store -> finished model-input row. Reading is not writing: EventWriter changes the store.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

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

// A record of a remote store, borrowed. A null view: the store has none. `why` other than kOk: it could not be had, or fails a
// check.
struct FetchedRecord {
  std::string_view bytes;
  Code why = Code::kOk;
  bool is_cache_stale = false;  // as in FoldResult
  int64_t cache_age_us = -1;
};

// Binds one plan to one store. Immutable and thread-safe; keeps the plan and the store alive.
class FeatureReader {
 public:
  static Status create(std::shared_ptr<const FeaturePlan> plan, std::shared_ptr<EmbeddedStore> store,
                       std::shared_ptr<const FeatureReader>* out);
  // For a store elsewhere: who reads brings the records. A plan without views has none to bring, and is read as any other.
  // `near_ages_ns`: how old a record of the near-cache may be, one a view (0: none of this view is kept); empty: 0 for all.
  static std::shared_ptr<const FeatureReader> create_remote(std::shared_ptr<const FeaturePlan> plan,
                                                            std::vector<int64_t> near_ages_ns = {});
  bool is_remote() const noexcept { return store_ == nullptr && !plan_->views().empty(); }
  int64_t near_age_ns(size_t view) const noexcept { return near_ages_ns_.empty() ? 0 : near_ages_ns_[view]; }

  // Folds every view at the transaction's event time, derives, converts and writes the row. False: `violations` says why
  // (NULL_INPUT, OUT_OF_RANGE; NOT_FINITE if a store held what no writer of ours writes) and the row must not be used.
  // Allocates only then. The transaction must have passed its decoder: required features and entities are there and typed. An
  // is_fraud it carries is not looked at: nobody knows it when the transaction is scored.
  // Adds to `violations`, never clears them.
  bool read(const Transaction& transaction, ReadScratch& scratch, const RowOut& out, Violations& violations) const noexcept;

  // The same from records of a remote store: one per view of the plan, in its order. REQUIRES: each has passed check(), of this
  // reader or of one whose view keeps the same bytes. Of another view or entity, or with a `why`, it is left out and said in
  // out.views[].rejected, as the embedded store does.
  bool read(const Transaction& transaction, const FetchedRecord* records, ReadScratch& scratch, const RowOut& out,
            Violations& violations) const noexcept;
  // The keys of those records.
  void record_keys(const Transaction& transaction, std::string* keys) const;
  // What such a record must say of whose it is.
  uint64_t digest(size_t view, const Transaction& transaction) const noexcept;
  // All checks of a record from outside, to its last entry: kOk, kRecord...
  Code check(size_t view, uint64_t digest, std::string_view record) const noexcept;

  // Brings the transaction's records towards the cache. A hint; read() gives it to itself.
  void prefetch(const Transaction& transaction) const noexcept;

  const FeaturePlan& plan() const noexcept { return *plan_; }

 private:
  FeatureReader() = default;
  template <typename FoldOne>
  bool read_with(const FoldOne& fold_one, const Transaction& transaction, ReadScratch& scratch, const RowOut& out,
                 Violations& violations) const noexcept;
  template <typename FoldOne>
  void fold_views(const FoldOne& fold_one, const Transaction& transaction, ReadScratch& scratch,
                  FoldResult* results) const noexcept;
  bool write_row(const uint64_t* defaulted, const Value* nodes, const RowOut& out, Violations& violations) const noexcept;
  void refuse_input(size_t index, const Value& value, Violations& violations) const;

  std::shared_ptr<const FeaturePlan> plan_;
  std::shared_ptr<EmbeddedStore> store_;  // null: remote
  std::array<uint32_t, limits::kViewsMax> view_ids_{};
  std::vector<int64_t> near_ages_ns_;
};

}  // namespace assay
