#include "core/transport/plain_stream.h"

#include <sys/socket.h>

#include <cerrno>

namespace assay {
namespace {

IoResult failure() noexcept {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? IoResult::kBlocked : IoResult::kFailed;
}

}  // namespace

IoResult PlainStream::read(uint8_t* data, size_t size, size_t* count) noexcept {
  *count = 0;
  const ssize_t got = ::recv(fd_, data, size, 0);
  if (got < 0) return failure();
  if (got == 0) return IoResult::kClosed;
  *count = static_cast<size_t>(got);
  return IoResult::kOk;
}

IoResult PlainStream::write(const uint8_t* data, size_t size, size_t* count) noexcept {
  *count = 0;
  const ssize_t taken = ::send(fd_, data, size, MSG_NOSIGNAL);
  if (taken < 0) return failure();
  *count = static_cast<size_t>(taken);
  return IoResult::kOk;
}

void PlainStream::close_write() noexcept { ::shutdown(fd_, SHUT_WR); }

}  // namespace assay
