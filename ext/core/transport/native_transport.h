// NativeTransport: one port of the whole service, without Python for a scored transaction.
//
// It speaks HTTP/2 and gRPC, answers Score, ScoreBatch, ScoreStream and ModelInfer itself, and lets every other method through to the gRPC
// server behind it, on a Unix socket that nobody else can open. The policy table is asked for every call, forwarded ones too.
//
// THREADS. start() and stop() once each, by one thread, stop() after start(). All others: any thread, at any time between. The I/O
// threads are its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/transport/close_reason.h"
#include "core/transport/transport_options.h"

namespace assay {

class Engine;

struct TransportStats {
  uint64_t accepted_connections = 0, accept_rests = 0;
  uint64_t closed_connections[kCloseReasonCount] = {};
  uint64_t held_bytes = 0;  // see TransportOptions::held_bytes_max; all threads together
  uint64_t open_connections = 0;
  uint64_t lingering_sockets = 0, cut_sockets = 0;  // lingering_sockets.h
  uint64_t open_streams = 0;                        // ScoreStream calls
  uint64_t open_forwarded_calls = 0;
  uint64_t waiting_calls = 0;       // in the engine's hands
  uint64_t denied_calls[256] = {};  // by code
};

struct TransportPem {
  std::string certificate, key, client_authorities;  // the last: empty where clients are not asked for certificates
};

struct DeniedCall {
  Code code = Code::kOk;
  std::string method;     // as it came, cut
  std::string principal;  // empty: nobody showed a certificate
};

class NativeTransport {
 public:
  // Whether this build has it.
  static bool is_built() noexcept;

  // `engine` and `clock` outlive it; and it outlives engine.stop(), because runners push to its completion queues until then.
  NativeTransport(Engine& engine, const Clock& clock, const TransportOptions& options);
  ~NativeTransport();  // stop()s
  NativeTransport(const NativeTransport&) = delete;
  NativeTransport& operator=(const NativeTransport&) = delete;

  // Begins the I/O threads and takes connections from `listening_fd`, which it owns from now on, whatever comes of it: a stream
  // socket that listens. Once. kIo; kInternal where this build does not have it.
  Status start(int listening_fd);
  // TLS with what `pem` holds (once that was called, there is no plaintext any more), and client certificates if `roles` is given: a
  // table of principals and their roles (base/policy.h). Before start(), and again whenever it changes: open connections stay.
  // kInvalidRequest: the PEM is not good; what was there stays.
  Status protect(const TransportPem& pem, const std::vector<std::pair<std::string, uint8_t>>* roles);
  // Calls that the policy refused since the last time; at most so many as are kept (denials.h).
  std::vector<DeniedCall> drain_denials();
  // No more connections; those there are asked to go, and cut after `grace_ns`. Returns at once.
  void drain(int64_t grace_ns);
  // Waits until no connection is open and no socket lingers, at most so long. May block.
  bool wait_closed(int64_t timeout_ns) noexcept;
  // Cuts what is still open, ends the threads. Idempotent, may block.
  void stop() noexcept;

  TransportStats stats() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace assay
