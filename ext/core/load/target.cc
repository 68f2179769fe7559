#include "core/load/target.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace assay::load {
namespace {

constexpr char kUnixPrefix[] = "unix:";

Status usage_error(const std::string& text) {
  return Status(Code::kInvalidRequest, "target " + printable(text) + ": expected HOST:PORT or unix:PATH");
}

Status find_unix(const std::string& text, Target* out) {
  std::string path = text.substr(sizeof kUnixPrefix - 1);
  if (path.compare(0, 2, "//") == 0) path.erase(0, 2);
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof address.sun_path) return usage_error(text);
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Address found;
  std::memcpy(&found.storage, &address, sizeof address);
  found.size = sizeof address;
  out->authority = "localhost";
  out->addresses = {found};
  return {};
}

// Host and port of HOST:PORT or [IPv6]:PORT.
bool split(const std::string& text, std::string* host, std::string* port) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size()) return false;
  *host = text.substr(0, colon);
  *port = text.substr(colon + 1);
  if (host->front() == '[' && host->back() == ']') {
    *host = host->substr(1, host->size() - 2);
  } else if (host->find(':') != std::string::npos) {
    return false;
  }
  return !host->empty() && port->size() <= 5 && port->find_first_not_of("0123456789") == std::string::npos &&
         std::stoi(*port) <= 65'535 && std::stoi(*port) > 0;
}

// 0, or errno.
int try_address(const Address& address, int64_t timeout_ns) noexcept {
  const int fd = start_connection(address);
  if (fd < 0) return errno;
  pollfd waiting{fd, POLLOUT, 0};
  const int ready = ::poll(&waiting, 1, static_cast<int>(timeout_ns / 1'000'000));
  int error = ETIMEDOUT;
  socklen_t size = sizeof error;
  if (ready > 0) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  ::close(fd);
  return error;
}

}  // namespace

Status find_target(const std::string& text, Target* out) {
  out->text = text;
  if (text.compare(0, sizeof kUnixPrefix - 1, kUnixPrefix) == 0) return find_unix(text, out);
  std::string port;
  if (!split(text, &out->host, &port)) return usage_error(text);
  out->authority = text;
  addrinfo wanted{};
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(out->host.c_str(), port.c_str(), &wanted, &list);
  if (error != 0) return Status(Code::kIo, "target " + printable(text) + ": " + gai_strerror(error));
  for (const addrinfo* item = list; item != nullptr; item = item->ai_next) {
    Address found;
    if (item->ai_addrlen > sizeof found.storage) continue;
    std::memcpy(&found.storage, item->ai_addr, item->ai_addrlen);
    found.size = item->ai_addrlen;
    out->addresses.push_back(found);
  }
  freeaddrinfo(list);
  return {};
}

Status find_address(const Target& target, int64_t timeout_ns, Address* out) {
  int error = EADDRNOTAVAIL;
  for (const Address& address : target.addresses) {
    error = try_address(address, timeout_ns);
    if (error != 0) continue;
    *out = address;
    return {};
  }
  return Status(Code::kIo, target.text + ": " + std::strerror(error));
}

int start_connection(const Address& address) noexcept {
  const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  if (address.storage.ss_family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  int result = 0;
  do {
    result = ::connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size);
  } while (result != 0 && errno == EINTR);
  if (result == 0 || errno == EINPROGRESS) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

}  // namespace assay::load
