// BatchCap: how many rows a card is given at once. Down at once when its memory is full, up again slowly.
//
// STATES, all of them visible as rows():
//   full     rows_max, where it begins
//   reduced  half of the batch that did not fit; doubled each time it has held for hold_ns()
//   resting  0: not one row fitted, or the card fails at everything. The CPU runs all rows; after hold_ns() one row is tried
//
// The hold begins at hold_ns_min and doubles, up to hold_ns_max, with each failure that comes before a full batch worked again: a
// card that others fill for hours is tried ever more seldom, and one try costs one failed run.
//
// A pure machine: it is told the time and keeps none. One thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace assay {

class BatchCap {
 public:
  BatchCap(uint32_t rows_max, int64_t hold_ns_min, int64_t hold_ns_max) noexcept
      : rows_max_(rows_max), hold_ns_min_(hold_ns_min), hold_ns_max_(hold_ns_max), rows_(rows_max), hold_ns_(hold_ns_min) {}

  // How many rows may go to the card now; 0: none. May take a step up.
  uint32_t rows(int64_t now_ns) noexcept {
    if (rows_ < rows_max_ && now_ns >= raise_at_ns_) {
      rows_ = std::min(rows_max_, std::max(1u, rows_ * 2));
      raise_at_ns_ = now_ns + hold_ns_;
      is_trying_ = true;
    }
    return rows_;
  }

  // A batch of `rows` did not fit. REQUIRES: rows >= 1.
  void did_not_fit(uint32_t rows, int64_t now_ns) noexcept { lower(std::min(rows_, rows / 2), now_ns); }
  // The card failed at what the CPU could do.
  void rest(int64_t now_ns) noexcept { lower(0, now_ns); }
  // A batch of `rows` ran.
  void ran(uint32_t rows) noexcept {
    if (rows < rows_max_) return;
    hold_ns_ = hold_ns_min_;
    has_failed_ = false;
  }

  uint32_t rows_max() const noexcept { return rows_max_; }
  int64_t hold_ns() const noexcept { return hold_ns_; }

 private:
  void lower(uint32_t rows, int64_t now_ns) noexcept {
    // Halves of one batch that do not fit either are the same failure.
    if (is_trying_ && has_failed_) hold_ns_ = std::min(hold_ns_max_, hold_ns_ * 2);
    is_trying_ = false;
    has_failed_ = true;
    rows_ = rows;
    raise_at_ns_ = now_ns + hold_ns_;
  }

  const uint32_t rows_max_;
  const int64_t hold_ns_min_;
  const int64_t hold_ns_max_;
  uint32_t rows_;
  int64_t hold_ns_;
  int64_t raise_at_ns_ = 0;
  bool is_trying_ = true;    // rows_ has not failed yet
  bool has_failed_ = false;  // since the last full batch
};

}  // namespace assay
