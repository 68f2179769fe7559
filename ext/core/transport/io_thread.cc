#include "core/transport/io_thread.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <system_error>

#include "core/base/alt_stack.h"
#include "core/base/signals_blocked.h"
#include "core/transport/server_connection.h"
#include "core/transport/unary_call.h"

namespace assay {
namespace {

// Of one connection in one turn: some hundred calls, which the other connections wait for.
constexpr size_t kReadBytesMax = 64u << 10;

}  // namespace

IoThread::IoThread(Engine& engine, const Clock& clock, const TransportOptions& options, TransportCounters& counters,
                   Denials& denials)
    : engine_(engine),
      options_(options),
      counters_(counters),
      denials_(denials),
      loop_(clock),
      queue_(engine.stats().slots),
      read_buffer_(kReadBytesMax),
      lingering_(loop_, counters.lingering_sockets, counters.cut_sockets) {}

IoThread::~IoThread() { stop(); }

Status IoThread::open() {
  Status status = loop_.open();
  if (status.ok()) status = loop_.add(queue_.fd(), EPOLLIN, *this);
  return status;
}

Status IoThread::start() {
  const SignalsBlocked blocked;
  try {
    thread_ = std::thread([this] {
      ::pthread_setname_np(::pthread_self(), "assay-io");
      const AltStack stack;
      loop_.run();
    });
  } catch (const std::system_error& error) { return Status(Code::kIo, error.code().message()); }
  return Status();
}

void IoThread::stop() noexcept {
  if (thread_.joinable()) {
    loop_.stop();
    thread_.join();
  }
  loop_.run_tasks();  // sockets that it was given and never looked at are still its own
  for (auto& [_, connection] : connections_) buried_.push_back(std::move(connection));
  connections_.clear();
  buried_.clear();
  lingering_.close_all();
  connection_count_.store(0, std::memory_order_relaxed);
}

// --- connections

void IoThread::adopt(int fd) {
  connection_count_.fetch_add(1, std::memory_order_relaxed);
  loop_.post([this, fd] { take_in(fd); });
}

void IoThread::protect(Protection protection) {
  loop_.post([this, given = std::move(protection)] { protection_ = given; });
}

void IoThread::take_in(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // says no for a Unix socket, which needs none
  auto connection = std::make_unique<ServerConnection>(*this, fd);
  ServerConnection* const made = connection.get();
  connections_.emplace(made, std::move(connection));
  if (!made->open().ok()) return bury(*made, CloseReason::kSystem);
  if (is_draining_) made->drain(drain_grace_ns_);
}

void IoThread::drain(int64_t grace_ns) {
  loop_.post([this, grace_ns] {
    is_draining_ = true;
    drain_grace_ns_ = grace_ns;
    // A connection that never said a word is buried at once, which changes the map.
    std::vector<ServerConnection*> all;
    for (const auto& [connection, _] : connections_) all.push_back(connection);
    for (ServerConnection* connection : all) connection->drain(grace_ns);
  });
}

void IoThread::bury(ServerConnection& connection, CloseReason why) {
  const auto found = connections_.find(&connection);
  if (found == connections_.end()) return;
  if (has_last_words(why)) lingering_.add(connection.take_socket());
  buried_.push_back(std::move(found->second));
  connections_.erase(found);
  counters_.closed_connections[static_cast<size_t>(why)].add(1);
  connection_count_.fetch_sub(1, std::memory_order_relaxed);
  loop_.at_turn_end(*this);
}

void IoThread::on_turn_end() noexcept {
  buried_.clear();
  while (is_full()) close_largest();
}

// What clients do not read is the loss of whoever holds the most of it.
void IoThread::close_largest() noexcept {
  const auto largest = std::max_element(connections_.begin(), connections_.end(), [](const auto& a, const auto& b) {
    return a.first->held_bytes() < b.first->held_bytes();
  });
  ASSAY_ASSERT(largest != connections_.end());
  largest->first->kill(CloseReason::kMemory);
  buried_.clear();
}

void IoThread::count_bytes(size_t before, size_t after) noexcept {
  held_bytes_ += after - before;
  counters_.held_bytes.add(after - before);  // wraps as held_bytes_ does: less is more than 2^63
  if (is_full()) loop_.at_turn_end(*this);
}

// --- calls

void IoThread::forget_submit(UnaryCall& call) noexcept {
  std::replace(waiting_.begin(), waiting_.end(), &call, static_cast<UnaryCall*>(nullptr));
}

// One that is alone may be run by this thread; of several, or with more connections to read, the runner takes them in a batch.
void IoThread::submit_waiting() noexcept {
  const bool is_alone = waiting_.size() == 1 && loop_.still_ready() == 0;
  for (size_t i = 0; i < waiting_.size(); ++i) {
    if (waiting_[i] != nullptr) waiting_[i]->submit(is_alone);
  }
  waiting_.clear();
}

void IoThread::on_ready(uint32_t) noexcept {
  queue_.drain(completions_);
  for (const Completion& completion : completions_) {
    // Also where nobody waits any more: the answer frees the slots.
    const Answer answer = engine_.finish(completion.call);
    EngineCaller* const caller = calls_.take(completion.token);
    if (caller != nullptr) caller->on_answer(answer);
  }
}

void IoThread::cancel(CallId call) noexcept {
  if (!engine_.cancel(call)) engine_.finish(call);
}

void IoThread::expire(CallId call) noexcept {
  if (!engine_.expire(call)) engine_.finish(call);
}

// Two threads may pass the limit by one at the same moment: the claim is taken back then.
Status IoThread::claim_stream() noexcept {
  if (is_draining_) return Status(Code::kDraining);
  counters_.open_streams.add(1);
  if (counters_.open_streams.get() <= options_.streams_max) return Status();
  counters_.open_streams.subtract(1);
  return Status(Code::kStreamLimit, std::to_string(options_.streams_max) + " streams are open");
}

Status IoThread::refuse(Code code, std::string detail) {
  engine_.count_refused_call(code);
  return Status(code, std::move(detail));
}

Status IoThread::deny(Code code, std::string_view method, std::string_view principal) {
  counters_.denied_calls.add(code, 1);
  denials_.add(code, method, principal);
  return Status(code);
}

}  // namespace assay
