// LoadRun: sends distinct gRPC calls to a server, in its own threads, and says how long the answers took.
//
//   create -> start -> progress ... -> wait -> result
//
// A run connects, warms up (nothing of it counts), measures for `duration_ns`, and then waits up to `drain_ns_max` for what is still
// open. LATENCY is counted from when a call was intended to be sent (see arrivals.h) to when its answer was read from the socket.
// What got no answer in time is counted as lost, and quantiles count it as endlessly slow: a server does not get faster by dropping.
//
// Threads never call back and know no Python. Memory: about 1.3 MiB a thread, 200 bytes a stream, 8 bytes a place in the backlog, the
// message file.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/load/histogram.h"
#include "core/load/outcome.h"
#include "core/load/second_series.h"

namespace assay::load {

struct LoadLimits {
  static constexpr uint32_t kThreadsMax = 64;
  static constexpr uint32_t kConnectionsMax = 4096;  // together
  static constexpr uint32_t kStreamsMax = 4096;      // of one connection
  static constexpr uint64_t kOpenCallsMax = 1 << 20;
  static constexpr double kRateMax = 10e6;
  static constexpr uint64_t kBacklogMax = 16 << 20;
  static constexpr int64_t kDurationNsMax = 86'400'000'000'000;
  static constexpr size_t kMetadataMax = 64;
  static constexpr size_t kMetadataBytesMax = 8192;
};

struct LoadOptions {
  std::string target;    // HOST:PORT or unix:PATH
  std::string method;    // "/package.Service/Method"
  std::string messages;  // path of a MessageFile
  uint32_t threads = 1;
  uint32_t connections = 1;  // at least as many as threads
  uint32_t streams = 1;      // of each connection
  uint8_t arrivals = 0;      // an ArrivalKind
  double rate_per_s = 0;     // open loop: of all threads together
  uint64_t backlog_max = 100'000;
  bool spins = false;  // open loop: threads stay awake for arrivals that are near, so that they are on time to the microsecond
  int64_t warm_up_ns = 0;
  int64_t duration_ns = 10'000'000'000;
  int64_t drain_ns_max = 5'000'000'000;
  int64_t connect_timeout_ns = 5'000'000'000;
  int64_t timeout_ns = 0;    // of each call, told to the server as its deadline; 0: none
  bool is_shuffled = false;  // messages in random order, by `seed`; else in turn
  uint64_t seed = 0;
  std::vector<std::pair<std::string, std::string>> metadata;
  bool is_tls = false;
  std::string tls_authorities;  // PEM, as the next two
  std::string tls_certificate;  // empty: none is shown
  std::string tls_key;
  std::string tls_server_name;  // that the server's certificate must have; empty: the target's host
};

enum class LoadPhase : uint8_t { kNew, kConnecting, kWarmUp, kMeasuring, kDraining, kEnded };

// A look at a run under way. Counts are of all of it, the warm-up included.
struct LoadProgress {
  LoadPhase phase = LoadPhase::kNew;
  double elapsed_s = 0;  // since sending began
  uint64_t sent = 0;
  uint64_t ended = 0;
  uint64_t ok = 0;
  uint64_t in_flight = 0;
  uint64_t backlog = 0;
  Second last_second;  // the last whole one
};

struct LoadResult {
  double duration_s = 0;  // of the window
  LogHistogram ok;        // latencies of OK calls intended within it
  LogHistogram failed;    // of calls that ended otherwise
  LogHistogram lag;       // open loop: how late the generator was itself
  std::array<uint64_t, kOutcomeCount> outcomes{};
  std::array<std::string, kOutcomeCount> messages;  // the first grpc-message of each, percent-encoded
  uint64_t ok_in_window = 0;                        // OK answers that came within it: the rate is this by duration_s
  uint64_t offered = 0;                             // calls intended within it
  uint64_t dropped = 0;                             // of them: found the backlog full
  uint64_t unsent = 0;                              // of them: in the backlog when the run was over
  uint64_t lost = 0;                                // of them: without an answer in time, dropped and unsent ones included
  uint64_t in_flight_max = 0;                       // the sum of the threads' own
  uint64_t reconnects = 0;
  uint64_t sent = 0;  // of the whole run, as the bytes are
  uint64_t sent_bytes = 0;
  uint64_t received_bytes = 0;
  double cpu_s = 0;     // of the generator's threads, in the window
  std::string failure;  // why it ended early; empty: it did not
  std::vector<Second> seconds;
};

class LoadRun {
 public:
  // Checks the options and reads the messages. kInvalidRequest or kIo: the detail says what to do.
  static Status create(LoadOptions options, std::unique_ptr<LoadRun>* out) noexcept;
  ~LoadRun();  // stops and joins
  LoadRun(const LoadRun&) = delete;
  LoadRun& operator=(const LoadRun&) = delete;

  // Looks the target up, opens all connections, starts the threads. Blocks until then. Once. kIo: there is nothing to talk to.
  Status start() noexcept;
  // Any thread, any time.
  LoadProgress progress() const noexcept;
  // Sends nothing new and ends within a second or so; what was measured so far is the result. Any thread.
  void stop() noexcept;
  // Whether the run has ended after at most `timeout_ns`. Blocks.
  bool wait(int64_t timeout_ns) noexcept;
  // Joins the threads. REQUIRES: wait() said so.
  LoadResult result() noexcept;

  size_t message_count() const noexcept;

 private:
  class Impl;
  explicit LoadRun(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace assay::load
