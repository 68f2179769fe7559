// RoleTable: which principal may do what, as the roles file says.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/base/policy.h"
#include "core/transport/peer_identity.h"

namespace assay {

// Immutable; any thread may read it. A change of the file makes another.
class RoleTable {
 public:
  // A principal (as PeerIdentity has it) and what it may do: bits of Role, kAnyone is not one to give. One that stands there
  // twice has the roles of both.
  using Row = std::pair<std::string, uint8_t>;
  explicit RoleTable(const std::vector<Row>& rows);

  // Of all its principals together.
  uint8_t roles_of(const PeerIdentity& peer) const noexcept;
  // For check_access(), on a listener that wants client certificates; one that does not has no table and asks with Caller().
  // A certificate that has expired since it was shown is none: PeerIdentity::has_expired() tells that to the refusal's text.
  // `now_s`: since 1970, of the wall clock at the call, not at the connection.
  Caller caller_of(const PeerIdentity& peer, int64_t now_s) const noexcept;

 private:
  std::unordered_map<std::string, uint8_t> roles_;
};

}  // namespace assay
