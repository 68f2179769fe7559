// Working memory of one thread that takes, gives or gives up rows: Lookups' own, shared by its files. Kept for the thread's
// life; no record stays in it between two calls.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/serving/completion_list.h"
#include "core/serving/lookups.h"

namespace assay {

// One record that a taken row wants.
struct Lookups::Asked {
  std::string key;
  uint64_t hash = 0;
  uint64_t digest = 0;
  uint64_t lease = 0;
  int64_t age_ns_max = 0;  // 0: not kept
  bool is_near = false;
  NearRecord near;
};

struct Lookups::Settling {
  struct Taken {
    uint32_t slot = 0;
    uint64_t serial = 0;
    uint32_t first_asked = 0;
    uint32_t view_count = 0;
    std::shared_ptr<const FeatureReader> reader;
  };
  // A row that was read and goes to its lane.
  struct Ready {
    LaneTicket ticket;
    Priority priority;
  };

  // --- rows being taken
  std::vector<Taken> taken;
  std::vector<Asked> asked;     // of all of them, one a view
  std::vector<Taken> near;      // those that need no fetch...
  std::vector<Taken> fetching;  // ...and those that do
  std::unordered_map<uint64_t, uint32_t> key_of_hash;
  // --- rows being settled
  std::vector<LookupBatch::Row> landed;
  std::vector<uint32_t> given_up;
  std::vector<FetchedRecord> checked;   // one a key of the batch
  std::vector<FetchedRecord> gathered;  // one a view of the row
  NearRow near_row;
  std::vector<QueuedRow> rows;  // to queue...
  std::vector<Ready> ready;     // ...and where
  Transaction transaction;
  ReadScratch read;
  Violations violations;
  CompletionList completions;
};

}  // namespace assay
