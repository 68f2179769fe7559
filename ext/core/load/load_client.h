// LoadClient: one thread of a load run: its connections, when it sends what, and what it has counted.
//
// A TURN: what is due is sent (one write a connection), then events are waited for and taken. All times of a turn's answers are the
// moment at which they were read: parsing a burst is not charged to the calls in it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/load/arrivals.h"
#include "core/load/load_connection.h"
#include "core/load/message_file.h"
#include "core/load/tally.h"

namespace assay::load {

// One thread's share of a run.
struct ClientShare {
  uint32_t connections = 1;
  ArrivalKind arrivals = ArrivalKind::kClosedLoop;
  double rate_per_s = 0;  // open loop
  double phase = 0;       // of the first constant arrival
  uint64_t seed = 0;
  size_t backlog_max = 1;
  int64_t spin_ns = 0;       // before an arrival the thread does not sleep: waking up late would count
  int64_t gather_ns = 0;     // after an arrival the thread sleeps on for so long, and sends what has come by then together
  int64_t drain_ns_max = 0;  // after the end, for answers that are still to come
  bool is_shuffled = false;  // messages in random order, not in turn
  size_t first_message = 0;
};

class LoadClient {
 public:
  // `settings`, `series` and `clock` must outlive it.
  LoadClient(const ClientShare& share, const ConnectionSettings& settings, std::shared_ptr<const MessageFile> messages,
             SecondSeries& series, const Clock& clock);
  ~LoadClient();
  LoadClient(const LoadClient&) = delete;
  LoadClient& operator=(const LoadClient&) = delete;

  // Opens all connections, up to their servers' SETTINGS. Blocks. kIo: one could not be opened in `timeout_ns`.
  Status connect(int64_t timeout_ns);
  // From when to send, and what of it counts; sending ends with the window. Once, after connect().
  void begin(int64_t start_ns, const Window& window);
  // One turn. Waits at most 100 ms, and not at all unless `may_wait`. False: the run is over.
  bool turn(bool may_wait);
  // Sends nothing new and ends soon. Any thread.
  void stop() noexcept { is_stopping_.store(true, std::memory_order_relaxed); }

  const Tally& tally() const noexcept { return tally_; }
  // After the last turn.
  const OpenLoop* open_loop() const noexcept { return open_ ? &*open_ : nullptr; }
  uint64_t unsent() const noexcept { return unsent_; }              // of the window: still in the backlog at the end
  const std::string& failure() const noexcept { return failure_; }  // why it ended early; empty: it did not

 private:
  void send();
  void send_open();
  void send_closed(LoadConnection& connection);
  LoadConnection* find_room() noexcept;
  void open_call(LoadConnection& connection, int64_t intended_ns);
  std::string_view next_frame() noexcept;
  void flush();
  void tick();
  void wait(bool may_wait);
  int64_t wake_ns() const noexcept;
  void arm(int64_t wake_ns) noexcept;
  void touch(LoadConnection& connection);
  void take_stop() noexcept;
  bool is_over();
  void abandon();

  const ClientShare share_;
  const Clock& clock_;
  std::shared_ptr<const MessageFile> messages_;
  Tally tally_;
  int epoll_fd_ = -1;
  int timer_fd_ = -1;
  int64_t armed_ns_ = 0;
  std::vector<uint8_t> read_buffer_;
  std::vector<std::unique_ptr<LoadConnection>> connections_;
  std::vector<LoadConnection*> touched_;
  size_t next_connection_ = 0;

  std::optional<OpenLoop> open_;
  uint64_t random_state_;
  size_t next_message_;
  std::atomic<bool> is_stopping_{false};
  bool is_stopped_ = false;
  int64_t now_ns_ = 0;
  int64_t start_ns_ = INT64_MAX;
  int64_t end_ns_ = 0;  // nothing is intended at or after it
  int64_t drain_ns_max_;
  int64_t tick_ns_;  // between ticks
  int64_t next_tick_ns_ = 0;
  int64_t away_since_ns_ = -1;  // since when no connection is open; -1: one is
  uint64_t unsent_ = 0;
  std::string failure_;
};

}  // namespace assay::load
