// NearLookup: what the near-cache has of one row, judged by the ages that its views allow.
//
// THREADS. Any, each with a NearRow of its own; takes the near-cache's locks one at a time. No GIL.
#pragma once

#include <string>
#include <vector>

#include "core/features/feature_reader.h"
#include "core/features/near_cache.h"
#include "core/serving/counters.h"

namespace assay {

// Working memory of one thread: one row's keys and records, one a view.
struct NearRow {
  std::vector<std::string> keys;
  std::vector<NearRecord> held;        // keeps alive what `records` point to
  std::vector<FetchedRecord> records;  // for FeatureReader::read
};

class NearLookup {
 public:
  // `stale_ns_max`: how old a record may be where the store gives nothing. All must outlive it.
  NearLookup(const NearCache& cache, int64_t stale_ns_max, Counters& counters)
      : cache_(cache), stale_ns_max_(stale_ns_max), counters_(counters) {}

  // One record, as young as its view allows. False: it must be fetched. Counts nothing.
  bool find(const FeatureReader& reader, size_t view, std::string_view key, int64_t now_ns, NearRecord* out) const noexcept;

  // All records of a row. False: some must be fetched; nothing was counted.
  bool find_row(const FeatureReader& reader, const Transaction& transaction, int64_t now_ns, NearRow& row) const;

  // A row where the store gave nothing (`given` null), or not for all views (kStoreUnavailable). For those: a young record, or a
  // stale one (is_cache_stale), else kStoreUnavailable. The others are as given, borrowed.
  void make_do(const FeatureReader& reader, const Transaction& transaction, const FetchedRecord* given, int64_t now_ns,
               NearRow& row) const;

 private:
  const NearCache& cache_;
  const int64_t stale_ns_max_;
  Counters& counters_;
};

// A record of the near-cache as FeatureReader::read takes it. `held` stays with the caller.
FetchedRecord fetched_record(const NearRecord& held, int64_t now_ns) noexcept;

}  // namespace assay
