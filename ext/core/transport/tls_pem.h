// Certificates and keys out of PEM text. Refusals name what was wrong, never what stood there: it may be a key.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/transport/openssl_handles.h"

namespace assay {

inline constexpr size_t kPemBytesMax = 1 << 20;
inline constexpr size_t kPemCertificatesMax = 256;

// Every certificate of `pem`, in its order, at least one; blocks of other kinds are passed over. `what` stands in refusals.
// One that is damaged refuses them all: half a chain or half the authorities would be found out by a client at a time.
Status read_certificates(std::string_view pem, const char* what, std::vector<CertificateHandle>* certificates);

// The first private key of `pem`. An encrypted one is refused: there is nobody to ask for the password.
Status read_private_key(std::string_view pem, KeyHandle* key);

// For what PEM is refused with, by whoever uses what was read.
Status tls_refusal(const char* what, const char* why);

}  // namespace assay
