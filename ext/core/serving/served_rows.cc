#include "core/serving/served_rows.h"

#include <algorithm>
#include <new>

#include "core/base/hash.h"

namespace assay {
namespace {

// A sum past int64 is left out of a replay's row too; so are stale attributes and windows in tiles the same in both.
bool is_degraded(const FoldResult& view) noexcept {
  return view.is_cache_stale || (view.rejected != Code::kOk && view.rejected != Code::kIntegerOverflow);
}

}  // namespace

ServedRows::ServedRows(const ServedRowsOptions& options)
    : one_in_(options.rows_max == 0 ? 0 : options.one_in), rows_max_(options.rows_max) {
  if (one_in_ != 0) rows_.reserve(rows_max_);
}

bool ServedRows::is_wanted(const FeaturePlan& plan, const Transaction& transaction) const noexcept {
  if (one_in_ == 0) return false;
  return xxh64(plan.spec().entities.empty() ? transaction.id : transaction.entities[0]) % one_in_ == 0;
}

void ServedRows::keep(const std::shared_ptr<const LaneName>& lane, const FeaturePlan& plan, const Transaction& transaction,
                      const RowOut& out) noexcept {
  std::shared_ptr<ServedRow> row;
  try {
    row = std::make_shared<ServedRow>();
    row->lane = lane;
    row->transaction_id.assign(transaction.id);
    row->event_time_us = transaction.event_time_us;
    row->row.assign(out.row, out.row + plan.row_bytes());
    row->missing.assign(out.missing, out.missing + (plan.spec().inputs.size() + 63) / 64);
    row->is_degraded = std::any_of(out.views, out.views + plan.views().size(), is_degraded);
  } catch (const std::bad_alloc&) {
    dropped_rows_.add(1);
    return;
  }
  std::shared_ptr<const ServedRow> oldest;  // goes without the lock
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    row->position = ++newest_;
    if (rows_.size() < rows_max_) {
      rows_.push_back(std::move(row));
    } else {
      oldest = std::move(row);
      oldest.swap(rows_[(newest_ - 1) % rows_max_]);
    }
  }
  sampled_rows_.add(1);
  if (oldest != nullptr) dropped_rows_.add(1);
}

std::vector<std::shared_ptr<const ServedRow>> ServedRows::after(uint64_t position, size_t rows_max) const {
  std::vector<std::shared_ptr<const ServedRow>> found;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (uint64_t next = std::max(position, newest_ - rows_.size()); next < newest_ && found.size() < rows_max; ++next)
    found.push_back(rows_[next % rows_max_]);
  return found;
}

}  // namespace assay
