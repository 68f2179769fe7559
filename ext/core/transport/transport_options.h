// TransportOptions: the limits of one native listener. Everything that a client can make grow has one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/policy.h"

namespace assay {

struct TransportOptions {
  Listener listener = Listener::kPublic;
  uint32_t io_threads = 1;   // 1..64
  std::string forward_path;  // Unix socket of the gRPC server that answers everything but the hot methods

  size_t receive_message_bytes_max = 4u << 20;
  size_t send_message_bytes_max = 16u << 20;
  size_t metadata_bytes_max = 16u << 10;  // of one call, as HTTP/2 reckons it: name + value + 32 for each field
  uint32_t connections_max = 10'000;      // of all I/O threads; then accepting stops until one closes
  uint32_t connection_streams_max = 1000;
  uint32_t forwarded_streams_max = 128;  // of one connection
  uint32_t streams_max = 256;            // open ScoreStream calls
  uint32_t stream_messages_max = 64;     // in flight, of one of them
  // Of all calls of one I/O thread: requests that are not whole yet, answers that their clients have not read, and 2 KiB for each
  // call itself. A message that would pass it is refused; where answers do, the connection that holds the most is closed.
  size_t held_bytes_max = 256u << 20;

  int64_t handshake_ns_max = 10'000'000'000;  // from accept to the client's SETTINGS
  int64_t request_ns_max = 60'000'000'000;    // from the headers of a Score or ScoreBatch to its last byte, without a deadline
  int64_t ping_interval_ns_min = 10'000'000'000;
  int64_t keepalive_ns = 60'000'000'000;
  int64_t keepalive_timeout_ns = 20'000'000'000;
  int64_t idle_ns_max = 300'000'000'000;        // 0: never
  int64_t age_ns_max = 600'000'000'000;         // 0: never
  int64_t age_grace_ns = 600'000'000'000;       // for the calls of a connection that was sent away
  int64_t stream_age_ns_max = 540'000'000'000;  // of a ScoreStream. 0: never

  // FOR TESTS, and for no setting of a server to reach: methods without a row in the policy table that are forwarded for anyone,
  // so that a service of the tests' own (grpc.testing) can stand behind the listener. What has a row is asked for as ever.
  std::vector<std::string> test_only_methods;
};

}  // namespace assay
