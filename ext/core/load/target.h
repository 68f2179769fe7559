// Where a load run's calls go: HOST:PORT or unix:PATH.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"

namespace assay::load {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

struct Target {
  std::string text;       // as it was given, for errors
  std::string authority;  // the :authority header
  std::string host;       // empty: a Unix socket
  std::vector<Address> addresses;

  bool is_unix() const noexcept { return host.empty(); }
};

// Reads a target and looks its name up. May block as long as the resolver does. kInvalidRequest: it is no target; kIo: no such name.
Status find_target(const std::string& text, Target* out);

// The first of the target's addresses that takes a connection (which is closed again). Blocks, at most `timeout_ns` for each
// address. kIo: none does; the detail says why and what to do.
Status find_address(const Target& target, int64_t timeout_ns, Address* out);

// Begins to connect without waiting. -1: errno says why.
int start_connection(const Address& address) noexcept;

}  // namespace assay::load
