// TransportCounters: what the native transport counts, over all its threads.
#pragma once

#include <array>

#include "core/serving/counters.h"
#include "core/transport/close_reason.h"

namespace assay {

struct TransportCounters {
  Counter accepted_connections;
  std::array<Counter, kCloseReasonCount> closed_connections;
  Counter lingering_sockets;     // closed for writing, read until their clients close them; a level
  Counter cut_sockets;           // of those that the server closed, because a limit was passed
  Counter accept_rests;          // times that accepting rested: the kernel or the limit allowed no more
  Counter held_bytes;            // by requests that are not whole and answers that are not read; a level
  CodeCounters denied_calls;     // by the policy
  Counter open_streams;          // ScoreStream calls; a level
  Counter open_forwarded_calls;  // that the server behind answers; a level
  Counter waiting_calls;         // in the engine's hands; a level
};

}  // namespace assay
