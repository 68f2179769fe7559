#include "core/explain/mixed_row.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace assay::explain {
namespace {

Status refused(std::string why) { return Status(Code::kExplainUnsupported, std::move(why)); }

// `elements`: by offset.
Status check(const std::vector<RowElement>& elements, size_t row_bytes, size_t players) {
  size_t end = 0;
  for (const RowElement& element : elements) {
    if (element.offset < end) return refused("two elements of a row overlap");
    end = size_t{element.offset} + element.bytes;
    if (element.bytes == 0 || end > row_bytes) return refused("an element is empty, or ends behind its row");
    if (element.player >= players) return refused("an element of a row belongs to no player");
  }
  return Status();
}

}  // namespace

Status RowMixer::create(std::vector<RowElement> elements, size_t row_bytes, size_t players, RowMixer* out) {
  const auto by_offset = [](const RowElement& a, const RowElement& b) { return a.offset < b.offset; };
  std::sort(elements.begin(), elements.end(), by_offset);
  if (Status status = check(elements, row_bytes, players); !status.ok()) return status;
  std::stable_sort(elements.begin(), elements.end(),
                   [](const RowElement& a, const RowElement& b) { return a.player < b.player; });
  RowMixer made;
  made.row_bytes_ = row_bytes;
  made.player_ends_.assign(players + 1, 0);
  for (const RowElement& element : elements) ++made.player_ends_[element.player + 1];
  for (size_t player = 0; player < players; ++player) made.player_ends_[player + 1] += made.player_ends_[player];
  made.elements_ = std::move(elements);
  *out = std::move(made);
  return Status();
}

void RowMixer::mix(const uint8_t* x, const uint8_t* z, const uint16_t* players, size_t count, uint8_t* row) const noexcept {
  std::memcpy(row, z, row_bytes_);
  for (size_t i = 0; i < count; ++i) {
    for (uint32_t at = player_ends_[players[i]]; at < player_ends_[players[i] + 1u]; ++at) {
      const RowElement& element = elements_[at];
      std::memcpy(row + element.offset, x + element.offset, element.bytes);
    }
  }
}

}  // namespace assay::explain
