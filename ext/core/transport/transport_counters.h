// TransportCounters: what the native transport counts, over all its threads.
#pragma once

#include "core/serving/counters.h"

namespace assay {

struct TransportCounters {
  Counter accepted_connections;
  Counter closed_connections;
  Counter refused_connections;  // the kernel or the limit did not allow them
  CodeCounters denied_calls;    // by the policy
  Counter open_streams;         // ScoreStream calls; a level
  Counter waiting_calls;        // in the engine's hands; a level
};

}  // namespace assay
