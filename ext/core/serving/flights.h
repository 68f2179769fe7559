// Flights: which keys are being fetched right now, and by which batch of look-ups, so that none is fetched twice at once.
//
// A table of fixed size, by hash: where two keys meet in a cell the later one stays, and the earlier is at worst fetched once
// more. Two keys of one hash do no harm either: who waited for the wrong one does not find its own record and fetches it then.
//
// THREADS. One at a time (Lookups::mutex_). Allocates nothing after its making. No GIL.
#pragma once

#include <cstdint>
#include <vector>

namespace assay {

struct Flight {
  uint64_t key_hash = 0;
  uint64_t batch = 0;  // 0: none
  uint64_t lease = 0;  // of the near-cache, taken before the fetch
  int64_t started_ns = 0;
};

class Flights {
 public:
  static constexpr size_t kCells = 4096;  // a power of two: four batches of 256 rows with four views each

  Flights() : cells_(kCells) {}

  // Null: nobody fetches it.
  const Flight* find(uint64_t key_hash) const noexcept {
    const Flight& flight = cells_[key_hash % kCells];
    return flight.batch != 0 && flight.key_hash == key_hash ? &flight : nullptr;
  }
  void begin(const Flight& flight) noexcept { cells_[flight.key_hash % kCells] = flight; }
  void end(uint64_t key_hash, uint64_t batch) noexcept {
    Flight& flight = cells_[key_hash % kCells];
    if (flight.key_hash == key_hash && flight.batch == batch) flight = Flight();
  }

 private:
  std::vector<Flight> cells_;
};

}  // namespace assay
