#include "core/features/name_table.h"

namespace assay {

void NameTable::build(const std::vector<std::string>& names) {
  names_ = names;
  cells_.clear();
  if (names.empty()) return;
  size_t size = 4;
  while (size < names.size() * 2) size *= 2;
  cells_.resize(size);
  for (size_t i = 0; i < names_.size(); ++i) {
    const uint64_t hash = xxh64(names_[i]);
    size_t at = hash & (size - 1);
    while (cells_[at].index >= 0) at = (at + 1) & (size - 1);
    cells_[at].hash = hash;
    cells_[at].index = static_cast<int32_t>(i);
  }
}

}  // namespace assay
