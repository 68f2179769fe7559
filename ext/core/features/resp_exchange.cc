#include "core/features/resp_exchange.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "core/features/resp_scanner.h"

namespace assay {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr size_t kLateBytesMax = 8 << 20;  // more than a socket's buffer holds: what comes after it was sent after the deadline

// Until the socket is ready for `events`, or has failed (the next call on it says how). False: not before the deadline.
bool wait_ready(int socket, short events, int64_t deadline_ns, const Clock& clock) noexcept {
  for (;;) {
    const int64_t left_ns = deadline_ns - clock.now_ns();
    if (left_ns <= 0) return false;
    pollfd one{socket, events, 0};
    // Rounded up: a wait that ends before its time would only begin again.
    const int64_t left_ms = std::min<int64_t>((left_ns + 999'999) / 1'000'000, INT_MAX);
    const int ready = ::poll(&one, 1, static_cast<int>(left_ms));
    if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
  }
}

bool is_again() noexcept { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

enum class Received : uint8_t { kSome, kNothingYet, kEnd };

// Appends what is there.
Received receive_some(int socket, std::string* answers) {
  const size_t before = answers->size();
  answers->resize(before + kReadBytes);
  const ssize_t got = ::recv(socket, answers->data() + before, kReadBytes, MSG_DONTWAIT);
  const bool is_nothing_yet = got < 0 && is_again();
  answers->resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got > 0) return Received::kSome;
  return is_nothing_yet ? Received::kNothingYet : Received::kEnd;
}

}  // namespace

OwnSocket::OwnSocket(int socket) noexcept : number_(::fcntl(socket, F_DUPFD_CLOEXEC, 0)) {}

OwnSocket::~OwnSocket() {
  if (number_ >= 0) ::close(number_);
}

ExchangeEnd send_commands(int socket, std::string_view commands, int64_t deadline_ns, const Clock& clock) noexcept {
  char early = 0;
  if (::recv(socket, &early, 1, MSG_DONTWAIT | MSG_PEEK) > 0) return ExchangeEnd::kNotResp;
  while (!commands.empty()) {
    const ssize_t sent = ::send(socket, commands.data(), commands.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      commands.remove_prefix(static_cast<size_t>(sent));
    } else if (!is_again()) {
      return ExchangeEnd::kClosed;
    } else if (!wait_ready(socket, POLLOUT, deadline_ns, clock)) {
      return ExchangeEnd::kTimeout;
    }
  }
  return ExchangeEnd::kDone;
}

ExchangeEnd receive_answers(int socket, size_t answer_count, size_t values_max, int64_t deadline_ns, const Clock& clock,
                            std::string* answers) {
  answers->clear();
  RespScanner scanner(answer_count, values_max);
  size_t late_bytes = 0;
  for (;;) {
    switch (scanner.scan(*answers)) {
      case RespScanner::Found::kAll: return ExchangeEnd::kDone;
      case RespScanner::Found::kNotResp: return ExchangeEnd::kNotResp;
      case RespScanner::Found::kTooLarge: return ExchangeEnd::kTooLarge;
      case RespScanner::Found::kMore: break;
    }
    // Before any wait: what is there is taken also where others have used up the time.
    const size_t before = answers->size();
    switch (receive_some(socket, answers)) {
      case Received::kSome:
        if (clock.now_ns() >= deadline_ns) late_bytes += answers->size() - before;
        if (late_bytes > kLateBytesMax) return ExchangeEnd::kTimeout;
        break;
      case Received::kEnd: return ExchangeEnd::kClosed;
      case Received::kNothingYet:
        if (!wait_ready(socket, POLLIN, deadline_ns, clock)) return ExchangeEnd::kTimeout;
    }
  }
}

}  // namespace assay
