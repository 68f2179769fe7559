#include "core/transport/acceptor.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace assay {
namespace {

constexpr int kAcceptsPerTurn = 64;
constexpr int64_t kRestNs = 100'000'000;

}  // namespace

Acceptor::Acceptor(int fd, const std::vector<std::unique_ptr<IoThread>>& threads, const TransportOptions& options,
                   TransportCounters& counters)
    : fd_(fd), threads_(threads), options_(options), counters_(counters) {}

Acceptor::~Acceptor() { close(); }

Status Acceptor::open() { return threads_[0]->loop().add(fd_, EPOLLIN, *this); }

// The descriptor goes at once: else the kernel takes connections into its queue, where clients wait for nobody.
void Acceptor::close() noexcept {
  if (fd_ < 0) return;
  threads_[0]->loop().remove(fd_, *this);
  threads_[0]->loop().timers().cancel(timer_);
  ::close(fd_);
  fd_ = -1;
}

void Acceptor::on_ready(uint32_t) noexcept {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    if (is_full()) return rest();
    const int client = ::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return rest();
    }
    counters_.accepted_connections.add(1);
    const auto fewest = std::min_element(threads_.begin(), threads_.end(), [](const auto& a, const auto& b) {
      return a->connection_count() < b->connection_count();
    });
    (*fewest)->adopt(client);
  }
}

bool Acceptor::is_full() const noexcept {
  size_t count = 0;
  for (const auto& thread : threads_) count += thread->connection_count();
  return count >= options_.connections_max;
}

void Acceptor::rest() noexcept {
  counters_.accept_rests.add(1);
  threads_[0]->loop().change(fd_, 0, *this);
  threads_[0]->loop().timers().set(timer_, threads_[0]->loop().now_ns() + kRestNs);
}

void Acceptor::on_rested(int64_t) noexcept { threads_[0]->loop().change(fd_, EPOLLIN, *this); }

}  // namespace assay
