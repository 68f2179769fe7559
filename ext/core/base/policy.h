// The policy table: which listener answers which method, and to whom. The one table of every transport, applied once a call.
//
// Reading is not writing: what changes anything stands on the admin listener alone. A method without a row is answered nowhere,
// and a row that names no role is answered to nobody. A method whose answer depends on where it is asked has a row for each
// listener. Python reads the table through assay._core.POLICY_TABLE.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace assay {

// Where a call comes in. Bits: a row may stand on several.
enum class Listener : uint8_t {
  kPublic = 1,  // the port that banks' services call
  kAdmin = 2,   // the machine's own people: a Unix socket, or a port that wants a client certificate
  kHealth = 4,  // plaintext, for probes that have no certificate: health and nothing else
};

// What a caller may do. Bits: a principal may have several, and a row is answered to each that it names.
enum class Role : uint8_t {
  kScore = 1,
  kRead = 2,      // look at what is there: reflection, metadata
  kWrite = 4,     // change what is scored with: events, labels, models
  kAdmin = 8,     // everything that stands on the admin listener, and reading
  kAnyone = 128,  // in rows only: every caller, one without a role too
};

constexpr uint8_t operator|(Listener a, Listener b) noexcept { return static_cast<uint8_t>(a) | static_cast<uint8_t>(b); }
constexpr uint8_t operator|(uint8_t a, Listener b) noexcept { return a | static_cast<uint8_t>(b); }
constexpr uint8_t operator|(Role a, Role b) noexcept { return static_cast<uint8_t>(a) | static_cast<uint8_t>(b); }

struct PolicyRow {
  std::string_view method;  // full: "/assay.v1.ScoringService/Score"
  uint8_t listeners;        // of Listener
  uint8_t roles;            // of Role: any one of them will do
};

// Who calls. Without `needs_certificate` the listener knows nobody: reaching it is the permission (loopback, file permissions).
struct Caller {
  bool needs_certificate = false;  // the listener's own setting: mTLS is on
  bool has_certificate = false;    // the transport verified one
  uint8_t roles = 0;               // of Role, kAnyone left out
};

size_t policy_row_count() noexcept;
const PolicyRow& policy_row(size_t index) noexcept;  // REQUIRES: index < policy_row_count()

// "score, read"; "none". For messages.
std::string role_names(uint8_t roles);

// kOk, or why the call is refused: kUnknownMethod, kWrongListener, kMissingCertificate, kMissingRole, asked in this order.
// Thread-safe, allocates nothing.
Code check_access(Listener listener, std::string_view method, const Caller& caller) noexcept;

}  // namespace assay
