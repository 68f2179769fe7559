#include "core/features/record_table.h"

#include <cstdlib>
#include <cstring>
#include <utility>

namespace assay {
namespace {

constexpr uint32_t kCellCountMin = 16;

// Sizes that blocks come in: multiples of 32 to 256, then four to a doubling, so at most a fifth stands empty.
uint32_t block_class(uint64_t bytes) noexcept {
  uint64_t step = 32;
  if (bytes > 256) step = (uint64_t{1} << (63 - __builtin_clzll(bytes - 1))) / 4;
  return static_cast<uint32_t>((bytes + step - 1) / step * step);
}

}  // namespace

RecordTable::~RecordTable() {
  uint64_t bytes = uint64_t{cell_count_} * sizeof(Cell) + uint64_t{order_capacity_} * sizeof(RecordBlock*);
  for (uint32_t i = 0; i < size_; ++i) {
    bytes += order_[i]->bytes;
    std::free(order_[i]);
  }
  std::free(order_);
  std::free(cells_);
  budget_->give_back(bytes);
}

RecordBlock* RecordTable::find(uint64_t hash, uint32_t state, std::string_view id) const noexcept {
  if (cell_count_ == 0) return nullptr;
  const uint32_t mask = cell_count_ - 1;
  for (uint32_t i = static_cast<uint32_t>(hash) & mask; cells_[i].block != nullptr; i = (i + 1) & mask) {
    RecordBlock* block = cells_[i].block;
    if (cells_[i].hash == hash && block->state == state && block->id() == id) return block;
  }
  return nullptr;
}

const void* RecordTable::likely_block(uint64_t hash) const noexcept {
  if (cell_count_ == 0) return nullptr;
  const uint32_t mask = cell_count_ - 1;
  uint32_t i = static_cast<uint32_t>(hash) & mask;
  while (cells_[i].block != nullptr && cells_[i].hash != hash) i = (i + 1) & mask;
  return cells_[i].block;
}

// Doubles the cells (three quarters full at most) and the order list. False: nothing changed.
bool RecordTable::grow() noexcept {
  const uint32_t cell_count = cell_count_ == 0 ? kCellCountMin : cell_count_ * 2;
  const uint32_t order_capacity = cell_count / 4 * 3;
  const uint64_t bytes =
      uint64_t{cell_count - cell_count_} * sizeof(Cell) + uint64_t{order_capacity - order_capacity_} * sizeof(RecordBlock*);
  if (!budget_->take(bytes)) return false;
  Cell* cells = static_cast<Cell*>(std::calloc(cell_count, sizeof(Cell)));
  RecordBlock** order =
      cells == nullptr ? nullptr : static_cast<RecordBlock**>(std::realloc(order_, order_capacity * sizeof *order));
  if (order == nullptr) {
    std::free(cells);
    budget_->give_back(bytes);
    return false;
  }
  for (uint32_t n = 0; n < size_; ++n) {
    uint32_t i = static_cast<uint32_t>(order[n]->hash) & (cell_count - 1);
    while (cells[i].block != nullptr) i = (i + 1) & (cell_count - 1);
    cells[i] = {order[n]->hash, order[n]};
  }
  std::free(cells_);
  cells_ = cells;
  order_ = order;
  cell_count_ = cell_count;
  order_capacity_ = order_capacity;
  return true;
}

RecordBlock* RecordTable::add(uint64_t hash, uint32_t state, std::string_view id, uint32_t record_bytes) noexcept {
  const uint32_t bytes = block_class(sizeof(RecordBlock) + ((id.size() + 7) & ~size_t{7}) + record_bytes);
  if (!budget_->take(bytes)) return nullptr;
  RecordBlock* block = static_cast<RecordBlock*>(std::malloc(bytes));
  if (block == nullptr || (size_ == order_capacity_ && !grow())) {
    std::free(block);
    budget_->give_back(bytes);
    return nullptr;
  }
  *block = {hash, state, size_, bytes, static_cast<uint32_t>(id.size())};
  if (!id.empty()) std::memcpy(block + 1, id.data(), id.size());
  uint32_t i = static_cast<uint32_t>(hash) & (cell_count_ - 1);
  while (cells_[i].block != nullptr) i = (i + 1) & (cell_count_ - 1);
  cells_[i] = {hash, block};
  order_[size_++] = block;
  return block;
}

RecordTable::Cell* RecordTable::cell_of(uint64_t hash, const RecordBlock* block) noexcept {
  uint32_t i = static_cast<uint32_t>(hash) & (cell_count_ - 1);
  while (cells_[i].block != block) i = (i + 1) & (cell_count_ - 1);
  return &cells_[i];
}

// The budget has been asked. Null: out of memory, the old block stands.
RecordBlock* RecordTable::move_block(RecordBlock* block, uint32_t bytes) noexcept {
  Cell* cell = cell_of(block->hash, block);
  RecordBlock* moved = static_cast<RecordBlock*>(std::realloc(block, bytes));
  if (moved == nullptr) return nullptr;
  moved->bytes = bytes;
  cell->block = moved;
  order_[moved->order] = moved;
  return moved;
}

RecordBlock* RecordTable::resize(RecordBlock* block, uint32_t record_bytes) noexcept {
  const uint32_t bytes = block_class(uint64_t{block->record_offset()} + record_bytes);
  if (bytes <= block->bytes) return block;
  const uint32_t added = bytes - block->bytes;
  if (!budget_->take(added)) return nullptr;
  RecordBlock* moved = move_block(block, bytes);
  if (moved == nullptr) budget_->give_back(added);
  return moved;
}

RecordBlock* RecordTable::trim(RecordBlock* block, uint32_t record_bytes) noexcept {
  const uint32_t bytes = block_class(uint64_t{block->record_offset()} + record_bytes);
  if (bytes > block->bytes / 4) return block;
  const uint32_t spared = block->bytes - bytes;
  RecordBlock* moved = move_block(block, bytes);
  if (moved == nullptr) return block;
  budget_->give_back(spared);
  return moved;
}

void RecordTable::swap(RecordTable& other) noexcept {
  std::swap(cells_, other.cells_);
  std::swap(order_, other.order_);
  std::swap(cell_count_, other.cell_count_);
  std::swap(order_capacity_, other.order_capacity_);
  std::swap(size_, other.size_);
}

}  // namespace assay
