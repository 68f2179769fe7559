#include "core/transport/tls_pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <utility>

namespace assay {
namespace {

// OpenSSL would ask at the terminal, and a service would hang there.
int refuse_password(char*, int, int, void* was_asked) {
  *static_cast<bool*>(was_asked) = true;
  return -1;
}

// Null: too long, or no memory. REQUIRES: `pem` outlives it.
BioHandle bio_over(std::string_view pem) {
  if (pem.size() > kPemBytesMax) return nullptr;
  return BioHandle(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// Whether reading stopped because there are no more blocks. Leaves the thread's error queue empty.
bool is_end_of_pem() noexcept {
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

}  // namespace

Status tls_refusal(const char* what, const char* why) { return Status(Code::kInvalidRequest, std::string(what) + ": " + why); }

Status read_certificates(std::string_view pem, const char* what, std::vector<CertificateHandle>* certificates) {
  certificates->clear();
  const BioHandle bio = bio_over(pem);
  if (!bio) return tls_refusal(what, "longer than 1 MiB");
  ERR_clear_error();
  bool was_asked = false;
  while (CertificateHandle certificate{PEM_read_bio_X509(bio.get(), nullptr, refuse_password, &was_asked)}) {
    if (certificates->size() == kPemCertificatesMax) return tls_refusal(what, "more than 256 certificates");
    certificates->push_back(std::move(certificate));
  }
  if (!is_end_of_pem()) return tls_refusal(what, "damaged PEM");
  if (certificates->empty()) return tls_refusal(what, "holds no PEM block of a certificate");
  return Status();
}

Status read_private_key(std::string_view pem, KeyHandle* key) {
  const BioHandle bio = bio_over(pem);
  if (!bio) return tls_refusal("key", "longer than 1 MiB");
  ERR_clear_error();
  bool was_asked = false;
  key->reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, refuse_password, &was_asked));
  ERR_clear_error();
  if (*key) return Status();
  if (was_asked) return tls_refusal("key", "is encrypted; the server has nobody to ask for the password: decrypt it, mode 0600");
  return tls_refusal("key", "holds no PEM block of a private key, or a damaged one");
}

}  // namespace assay
