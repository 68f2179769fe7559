#include "core/serving/near_lookup.h"

#include <algorithm>

namespace assay {
namespace {

void make_keys(const FeatureReader& reader, const Transaction& transaction, NearRow& row) {
  const size_t view_count = reader.plan().views().size();
  row.keys.resize(view_count);
  row.held.resize(view_count);
  row.records.assign(view_count, {});
  reader.record_keys(transaction, row.keys.data());
}

}  // namespace

FetchedRecord fetched_record(const NearRecord& held, int64_t now_ns) noexcept {
  FetchedRecord record;
  if (held.bytes != nullptr) record.bytes = *held.bytes;
  record.cache_age_us = (now_ns - held.fetched_ns) / 1000;
  return record;
}

bool NearLookup::find(const FeatureReader& reader, size_t view, std::string_view key, int64_t now_ns,
                      NearRecord* out) const noexcept {
  const int64_t age_ns_max = reader.near_age_ns(view);
  return age_ns_max > 0 && cache_.is_on() && cache_.find(key, now_ns - age_ns_max, out);
}

bool NearLookup::find_row(const FeatureReader& reader, const Transaction& transaction, int64_t now_ns, NearRow& row) const {
  const size_t view_count = reader.plan().views().size();
  if (!cache_.is_on()) return false;
  for (size_t v = 0; v < view_count; ++v) {
    if (reader.near_age_ns(v) == 0) return false;  // it has to wait for the store anyway
  }
  make_keys(reader, transaction, row);
  for (size_t v = 0; v < view_count; ++v) {
    if (!find(reader, v, row.keys[v], now_ns, &row.held[v])) {
      row.held.clear();  // what the near-cache drops is not kept here
      return false;
    }
    row.records[v] = fetched_record(row.held[v], now_ns);
  }
  counters_.near_cache_hits.add(view_count);
  return true;
}

void NearLookup::make_do(const FeatureReader& reader, const Transaction& transaction, const FetchedRecord* given, int64_t now_ns,
                         NearRow& row) const {
  make_keys(reader, transaction, row);
  for (size_t v = 0; v < row.keys.size(); ++v) {
    if (given != nullptr && given[v].why != Code::kStoreUnavailable) {
      row.records[v] = given[v];
      continue;
    }
    const int64_t age_ns_max = reader.near_age_ns(v);
    NearRecord& held = row.held[v];
    const int64_t since_ns = now_ns - std::max(age_ns_max, stale_ns_max_);
    if (age_ns_max == 0 || !cache_.is_on() || !cache_.find(row.keys[v], since_ns, &held)) {
      row.records[v].why = Code::kStoreUnavailable;
      continue;
    }
    const bool is_young = now_ns - held.fetched_ns <= age_ns_max;
    row.records[v] = fetched_record(held, now_ns);
    row.records[v].is_cache_stale = !is_young;
    (is_young ? counters_.near_cache_hits : counters_.near_cache_stale_records).add(1);
  }
}

}  // namespace assay
