// IoThread: one thread of the native transport: its loop, its connections, and its calls in the engine's hands.
//
// Never holds the GIL, never waits for anything but its loop. What other threads want of it they post (EventLoop::post).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/base/clock.h"
#include "core/base/policy.h"
#include "core/serving/completion_queue.h"
#include "core/serving/engine.h"
#include "core/transport/denials.h"
#include "core/transport/engine_calls.h"
#include "core/transport/event_loop.h"
#include "core/transport/lingering_sockets.h"
#include "core/transport/protection.h"
#include "core/transport/transport_counters.h"
#include "core/transport/transport_options.h"

namespace assay {

class ServerConnection;
class UnaryCall;

class IoThread final : private Pollable, private TurnEnd {
 public:
  // All outlive it; `counters` and `denials` are shared by all threads of a transport.
  IoThread(Engine& engine, const Clock& clock, const TransportOptions& options, TransportCounters& counters, Denials& denials);
  ~IoThread();  // stop()s
  Status open();
  Status start();        // begins the thread; kIo: there can be none. REQUIRES: open() was ok
  void stop() noexcept;  // ends it and closes its connections. Idempotent, may block

  // --- any thread
  // A client's socket, which is the thread's from now on.
  void adopt(int fd);
  void drain(int64_t grace_ns);
  void protect(Protection protection);  // from now on, and before start()
  size_t connection_count() const noexcept { return connection_count_.load(std::memory_order_relaxed); }

  // --- its own thread
  EventLoop& loop() noexcept { return loop_; }
  Engine& engine() noexcept { return engine_; }
  CompletionQueue& queue() noexcept { return queue_; }
  EngineCalls& calls() noexcept { return calls_; }
  const TransportOptions& options() const noexcept { return options_; }
  TransportCounters& counters() noexcept { return counters_; }
  const Protection& protection() const noexcept { return protection_; }
  // Bytes that were read; whoever reads next overwrites them.
  std::vector<uint8_t>& read_buffer() noexcept { return read_buffer_; }

  // A whole request, to be submitted once its connection has told all that was read.
  void wants_submit(UnaryCall& call) { waiting_.push_back(&call); }
  void forget_submit(UnaryCall& call) noexcept;
  void submit_waiting() noexcept;

  // A place for one more ScoreStream, given back by release_stream(); kDraining, kStreamLimit: there is none.
  Status claim_stream() noexcept;
  void release_stream() noexcept { counters_.open_streams.subtract(1); }
  bool is_draining() const noexcept { return is_draining_; }

  // Nobody waits for the engine's call any more: its client left, or (expire) was told DEADLINE_EXCEEDED. Where it was finished
  // already its slots are freed here, and its completion finds nothing.
  void cancel(CallId call) noexcept;
  void expire(CallId call) noexcept;

  // What a call keeps changes from `before` to `after` bytes. Too many of all calls: see held_bytes_max.
  void count_bytes(size_t before, size_t after) noexcept;
  size_t held_bytes() const noexcept { return held_bytes_; }
  bool is_full() const noexcept { return held_bytes_ > options_.held_bytes_max; }

  // Counts a call that the transport refuses, and says how.
  Status refuse(Code code, std::string detail = {});
  Status deny(Code code, std::string_view method, std::string_view principal);

  // Destroyed at the end of the turn; its socket lingers where its client may still have to read the end.
  void bury(ServerConnection& connection, CloseReason why);

 private:
  void on_ready(uint32_t events) noexcept override;  // the engine has finished calls
  void on_turn_end() noexcept override;              // buries
  void take_in(int fd);
  void close_largest() noexcept;

  Engine& engine_;
  const TransportOptions& options_;
  TransportCounters& counters_;
  Denials& denials_;
  EventLoop loop_;
  CompletionQueue queue_;
  EngineCalls calls_;
  Protection protection_;
  std::vector<uint8_t> read_buffer_;
  std::vector<UnaryCall*> waiting_;
  std::vector<Completion> completions_;
  std::unordered_map<ServerConnection*, std::unique_ptr<ServerConnection>> connections_;
  std::vector<std::unique_ptr<ServerConnection>> buried_;
  LingeringSockets lingering_;
  std::atomic<size_t> connection_count_{0};
  size_t held_bytes_ = 0;
  bool is_draining_ = false;
  int64_t drain_grace_ns_ = 0;
  std::thread thread_;
};

}  // namespace assay
