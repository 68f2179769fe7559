// Look-ups over one connection to one Redis, batch after batch, without the GIL: a hop each. On the grpcio transport a hop of Python
// has few rows, and what it costs most is that it and the event loop take the GIL from each other.
//
// As long as everything is as usual there is nothing to decide. What is not goes back to who called, who knows breakers, other
// servers and what to tell people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/base/clock.h"
#include "core/serving/lookups.h"

namespace assay {

enum class HopsEnd : uint8_t {
  kStopped,  // the look-ups have been stopped
  kSlow,     // the last hop took longer than slow_ns; its records were given all the same
  kTimeout,  // `batch` has no answer in time
  kOdd,      // what answers `batch` is not what MGET says of records, or the connection is gone
};

struct HopLimits {
  size_t rows_max = 0;     // of one batch
  int64_t timeout_ns = 0;  // for one answer
  int64_t slow_ns = 0;
};

struct HopsResult {
  HopsEnd end = HopsEnd::kStopped;
  uint64_t hop_count = 0;              // whose records were given
  std::unique_ptr<LookupBatch> batch;  // kTimeout and kOdd: taken, neither given nor failed. The connection must be closed
};

// Takes batches and gives their records until something ends that. `socket`: as of resp_exchange.h. Blocks; any thread, several at
// once, each with a socket of its own.
HopsResult run_hops(Lookups& lookups, int socket, const HopLimits& limits, const Clock& clock);

}  // namespace assay
