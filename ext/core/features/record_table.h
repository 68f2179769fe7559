// RecordTable: one shard's records, by (state, entity id). Open addressing, linear probing, records never leave.
//
// Not thread-safe: its shard's lock guards it. All memory is charged to a ByteBudget before it is taken: table cells, the order
// list, and each record's block at its full capacity, key included. (The allocator's own overhead, about 8 bytes a block, is
// not.)
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

namespace assay {

// A number of bytes that many tables share. Thread-safe.
class ByteBudget {
 public:
  explicit ByteBudget(uint64_t bytes_max) noexcept : bytes_max_(bytes_max) {}

  // False: not so many are left, and nothing was taken.
  bool take(uint64_t bytes) noexcept {
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (bytes > bytes_max_ - used) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  void give_back(uint64_t bytes) noexcept { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  uint64_t used() const noexcept { return used_.load(std::memory_order_relaxed); }
  uint64_t bytes_max() const noexcept { return bytes_max_; }

 private:
  const uint64_t bytes_max_;
  std::atomic<uint64_t> used_{0};
};

// One record with its key, one allocation: this header, the id, then the record at a multiple of 8.
struct RecordBlock {
  uint64_t hash;
  uint32_t state;  // which view's state, an index of the store
  uint32_t order;  // its place in the table's order list
  uint32_t bytes;  // of the whole block
  uint32_t id_bytes;

  std::string_view id() const noexcept { return {reinterpret_cast<const char*>(this + 1), id_bytes}; }
  uint32_t record_offset() const noexcept { return static_cast<uint32_t>(sizeof(RecordBlock)) + ((id_bytes + 7) & ~7u); }
  uint8_t* record() noexcept { return reinterpret_cast<uint8_t*>(this) + record_offset(); }
  const uint8_t* record() const noexcept { return reinterpret_cast<const uint8_t*>(this) + record_offset(); }
  uint32_t capacity() const noexcept { return bytes - record_offset(); }  // of the record
};

class RecordTable {
 public:
  explicit RecordTable(ByteBudget* budget) noexcept : budget_(budget) {}
  ~RecordTable();
  RecordTable(const RecordTable&) = delete;
  RecordTable& operator=(const RecordTable&) = delete;

  RecordBlock* find(uint64_t hash, uint32_t state, std::string_view id) const noexcept;

  // Where find() would most likely end, without reading the block: an address to prefetch. Null: there is none.
  const void* likely_block(uint64_t hash) const noexcept;

  // Adds a block with room for `record_bytes`; the record itself is left unset. REQUIRES that find() finds nothing. Null: over
  // the budget or out of memory, and nothing changed.
  RecordBlock* add(uint64_t hash, uint32_t state, std::string_view id, uint32_t record_bytes) noexcept;

  // Gives the block room for `record_bytes`, keeping the record. It may move. Null: as add(), the old block stands.
  RecordBlock* resize(RecordBlock* block, uint32_t record_bytes) noexcept;

  // Gives memory back where the record has become much smaller than its block. It may move.
  RecordBlock* trim(RecordBlock* block, uint32_t record_bytes) noexcept;

  // Records in the order in which they came. An index stays what it is.
  uint32_t size() const noexcept { return size_; }
  const RecordBlock* at(uint32_t order) const noexcept { return order_[order]; }
  RecordBlock* at(uint32_t order) noexcept { return order_[order]; }

  void swap(RecordTable& other) noexcept;  // both of one budget

 private:
  struct Cell {
    uint64_t hash;
    RecordBlock* block;
  };

  Cell* cell_of(uint64_t hash, const RecordBlock* block) noexcept;
  RecordBlock* move_block(RecordBlock* block, uint32_t bytes) noexcept;
  bool grow() noexcept;

  ByteBudget* budget_;
  Cell* cells_ = nullptr;
  RecordBlock** order_ = nullptr;
  uint32_t cell_count_ = 0;  // a power of two
  uint32_t order_capacity_ = 0;
  uint32_t size_ = 0;
};

}  // namespace assay
