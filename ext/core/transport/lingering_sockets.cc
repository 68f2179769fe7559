#include "core/transport/lingering_sockets.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace assay {

LingeringSockets::Socket::~Socket() {
  owner_.loop_.remove(fd_, *this);
  owner_.loop_.timers().cancel(timer_);
  ::close(fd_);
}

bool LingeringSockets::Socket::watch(int64_t due_ns) noexcept {
  owner_.loop_.timers().set(timer_, due_ns);
  return owner_.loop_.add(fd_, EPOLLIN, *this).ok();
}

// One buffer a turn: the other connections of the thread come first.
void LingeringSockets::Socket::on_ready(uint32_t) noexcept {
  std::array<uint8_t, 16u << 10> thrown;
  const ssize_t got = ::recv(fd_, thrown.data(), thrown.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return owner_.close(*this, false);
  thrown_bytes_ += static_cast<size_t>(got);
  if (thrown_bytes_ > kBytesMax) owner_.close(*this, true);
}

void LingeringSockets::add(int fd) {
  if (sockets_.size() == kSocketsMax) close(sockets_.front(), true);
  sockets_.emplace_back(*this, fd);
  lingering_.add(1);
  if (!sockets_.back().watch(loop_.now_ns() + kNsMax)) close(sockets_.back(), true);
}

void LingeringSockets::close_all() noexcept {
  while (!sockets_.empty()) close(sockets_.front(), true);
}

// Destroys it, which may be who asks.
void LingeringSockets::close(Socket& socket, bool is_cut) noexcept {
  if (is_cut) cut_.add(1);
  lingering_.subtract(1);
  sockets_.remove_if([&socket](const Socket& one) { return &one == &socket; });
}

}  // namespace assay
