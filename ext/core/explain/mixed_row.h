// RowMixer: rows that have x's features for some players and a background row's for the others, as bytes of any layout.
//
// A value; mix() on any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/status.h"

namespace assay::explain {

// One element of a model's input row: where its bytes lie, and whose it is.
struct RowElement {
  uint32_t offset = 0;
  uint32_t bytes = 0;
  uint32_t player = 0;
};

class RowMixer {
 public:
  // Bytes that belong to no element are padding. kExplainUnsupported: elements that overlap, leave the row, are nobody's.
  static Status create(std::vector<RowElement> elements, size_t row_bytes, size_t players, RowMixer* out);

  size_t row_bytes() const noexcept { return row_bytes_; }

  // `row` becomes z with x's elements of players[0..count). All of row_bytes(); `row` is neither x nor z.
  void mix(const uint8_t* x, const uint8_t* z, const uint16_t* players, size_t count, uint8_t* row) const noexcept;

 private:
  std::vector<RowElement> elements_;   // by player
  std::vector<uint32_t> player_ends_;  // of each player's elements; one more in front, which is 0
  size_t row_bytes_ = 0;
};

}  // namespace assay::explain
