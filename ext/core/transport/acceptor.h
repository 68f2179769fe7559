// Acceptor: takes connections from a listening socket and gives each to the I/O thread that has the fewest.
//
// Where the process or the system has no descriptors left (EMFILE, ENFILE, ENOMEM) it rests for a while: a listening socket stays
// readable, and to ask again at once would be a loop that takes a whole core.
#pragma once

#include <memory>
#include <vector>

#include "core/transport/event_loop.h"
#include "core/transport/io_thread.h"

namespace assay {

class Acceptor final : public Pollable {
 public:
  // Owns `fd`, which listens and does not block. Lives on the loop of `threads[0]`.
  Acceptor(int fd, const std::vector<std::unique_ptr<IoThread>>& threads, const TransportOptions& options,
           TransportCounters& counters);
  ~Acceptor();
  Status open();
  void close() noexcept;  // no more connections: they are refused; idempotent

  void on_ready(uint32_t events) noexcept override;

 private:
  void rest() noexcept;
  void on_rested(int64_t now_ns) noexcept;
  bool is_full() const noexcept;

  int fd_;  // -1: closed
  const std::vector<std::unique_ptr<IoThread>>& threads_;
  const TransportOptions& options_;
  TransportCounters& counters_;
  MemberTimer<Acceptor, &Acceptor::on_rested> timer_{*this};
};

}  // namespace assay
