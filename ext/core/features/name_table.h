// NameTable: from a name to its index, without allocation. Features, entities and the words of vocabularies.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/hash.h"

namespace assay {

// Immutable after build(). Open addressing over xxh64; the whole name is compared, so two names of one hash are two names.
class NameTable {
 public:
  // REQUIRES: names are distinct.
  void build(const std::vector<std::string>& names);

  // Index of `name`, or -1.
  int find(std::string_view name) const noexcept {
    if (cells_.empty()) return -1;
    const uint64_t hash = xxh64(name);
    const size_t mask = cells_.size() - 1;
    for (size_t at = hash & mask; cells_[at].index >= 0; at = (at + 1) & mask) {
      if (cells_[at].hash == hash && names_[static_cast<size_t>(cells_[at].index)] == name) return cells_[at].index;
    }
    return -1;
  }

 private:
  struct Cell {
    uint64_t hash = 0;
    int32_t index = -1;
  };
  std::vector<Cell> cells_;  // power of two, at most half full, so that a search ends
  std::vector<std::string> names_;
};

}  // namespace assay
