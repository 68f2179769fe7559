#include "core/transport/role_table.h"

namespace assay {
namespace {

constexpr uint8_t kGiven = (Role::kScore | Role::kRead) | (Role::kWrite | Role::kAdmin);

}  // namespace

RoleTable::RoleTable(const std::vector<Row>& rows) {
  roles_.reserve(rows.size());
  for (const auto& [principal, roles] : rows) roles_[principal] |= roles & kGiven;
}

uint8_t RoleTable::roles_of(const PeerIdentity& peer) const noexcept {
  uint8_t roles = 0;
  for (const std::string& principal : peer.principals) {
    const auto found = roles_.find(principal);
    if (found != roles_.end()) roles |= found->second;
  }
  return roles;
}

Caller RoleTable::caller_of(const PeerIdentity& peer, int64_t now_s) const noexcept {
  Caller caller;
  caller.needs_certificate = true;
  caller.has_certificate = peer.has_certificate && !peer.has_expired(now_s);
  if (caller.has_certificate) caller.roles = roles_of(peer);
  return caller;
}

}  // namespace assay
