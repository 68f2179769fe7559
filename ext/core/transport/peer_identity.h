// PeerIdentity: who a verified client certificate belongs to: its names, each with its kind.
//
// Alternative names come first: a SPIFFE ID and DNS names. The common name counts only where a certificate has no alternative name
// at all, as in TLS itself: who may choose a common name is often checked by nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct x509_st;

namespace assay {

class TlsStream;

struct PeerIdentity {
  bool has_certificate = false;         // one that was verified. The rest is of it
  std::vector<std::string> principals;  // best first, as the roles file writes them: spiffe://..., dns:name, cn:Name
  int64_t expires_at_s = 0;             // since 1970

  // TLS looks at that while hands are shaken: a connection that stays open outlives it.
  bool has_expired(int64_t now_s) const noexcept { return has_certificate && now_s >= expires_at_s; }
};

// What is past either is left out: a name can only give roles, never take one.
inline constexpr size_t kPrincipalsMax = 128;
inline constexpr size_t kPrincipalsBytesMax = 16 * 1024;  // of all names of one certificate

// Of the other end. Without a certificate where the handshake is not done or none was asked for.
PeerIdentity identity_of(const TlsStream& stream);

// What `certificate` says, whoever signed it: REQUIRES that it was verified.
//
// A name counts with its whole length, so that `core\0.evil` is never `core`; and only if it is text of its type, without a NUL:
// others are left out. A SPIFFE ID counts only if it is the certificate's one URI (X.509-SVID, 2). Of several common names the
// first counts.
PeerIdentity identity_of_certificate(const x509_st& certificate);

}  // namespace assay
