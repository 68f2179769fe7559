#include "core/transport/tls.h"

#include <openssl/err.h>

#include <utility>
#include <vector>

#include "core/transport/openssl_handles.h"
#include "core/transport/tls_pem.h"

namespace assay {
namespace {

constexpr int kSecurityLevel = 2;  // 112 bits: RSA and DH of 2048 bits, no SHA-1
constexpr int kChainDepthMax = 8;  // certificates between a peer's own and the authority

constexpr char kCiphersTls12[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384";
constexpr char kCiphersTls13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
// Those that are fast; a client's wish for others costs it a round trip. The first is safe from quantum computers to come, and
// OpenSSL has it since 3.5.
constexpr char kGroups[] = "X25519:P-256:P-384";
constexpr char kGroupsWithHybrid[] = "X25519MLKEM768:X25519:P-256:P-384";
constexpr unsigned char kAlpn[] = {2, 'h', '2'};

// --- what servers and clients have in common ---

bool set_groups(SSL_CTX* context) noexcept {
  if (SSL_CTX_set1_groups_list(context, kGroupsWithHybrid) == 1) return true;
  ERR_clear_error();
  return SSL_CTX_set1_groups_list(context, kGroups) == 1;
}

bool set_protocol(SSL_CTX* context) noexcept {
  SSL_CTX_set_security_level(context, kSecurityLevel);
  return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 && SSL_CTX_set_max_proto_version(context, 0) == 1 &&
         SSL_CTX_set_cipher_list(context, kCiphersTls12) == 1 && SSL_CTX_set_ciphersuites(context, kCiphersTls13) == 1 &&
         set_groups(context);
}

void set_options(SSL_CTX* context) noexcept {
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
  SSL_CTX_clear_options(context, SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  // NO_AUTO_CHAIN: else the clients' authorities would be looked through for the server's own chain.
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS |
                                SSL_MODE_NO_AUTO_CHAIN);
  // One system call for what has come, not two for each record (its header, then the rest).
  SSL_CTX_set_read_ahead(context, 1);
}

// Null: no memory, or an OpenSSL without what HTTP/2 wants.
SslContextHandle new_context(const SSL_METHOD* method) noexcept {
  SslContextHandle context(SSL_CTX_new(method));
  if (!context || !set_protocol(context.get())) return nullptr;
  set_options(context.get());
  return context;
}

// The first of the thread's errors, and none is left.
const char* taken_error() noexcept {
  const char* text = ERR_reason_error_string(ERR_peek_error());
  ERR_clear_error();
  return text != nullptr ? text : "no memory";
}

Status use_chain(SSL_CTX* context, std::vector<CertificateHandle> chain) {
  if (SSL_CTX_use_certificate(context, chain[0].get()) != 1) return tls_refusal("certificate", taken_error());
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add0_chain_cert(context, chain[i].get()) != 1) return tls_refusal("certificate", taken_error());
    (void)chain[i].release();  // the context's now
  }
  return Status();
}

Status use_pair(SSL_CTX* context, std::string_view certificate_pem, std::string_view key_pem) {
  std::vector<CertificateHandle> chain;
  KeyHandle key;
  Status status = read_certificates(certificate_pem, "certificate", &chain);
  if (status.ok()) status = read_private_key(key_pem, &key);
  if (status.ok()) status = use_chain(context, std::move(chain));
  if (!status.ok()) return status;
  if (SSL_CTX_use_PrivateKey(context, key.get()) == 1) return Status();
  const bool is_mismatch = ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH;
  const char* why = taken_error();
  return tls_refusal("key", is_mismatch ? "is not the key of the certificate" : why);
}

// From now on the peer must show a certificate that one of `pem` signed, for `purpose`. Servers also tell clients whose.
Status trust(SSL_CTX* context, std::string_view pem, const char* what, int purpose) {
  std::vector<CertificateHandle> authorities;
  Status status = read_certificates(pem, what, &authorities);
  if (!status.ok()) return status;
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  for (const CertificateHandle& authority : authorities) {
    if (X509_STORE_add_cert(store, authority.get()) != 1) return tls_refusal(what, taken_error());
    if (purpose == X509_PURPOSE_SSL_CLIENT && SSL_CTX_add_client_CA(context, authority.get()) != 1)
      return tls_refusal(what, taken_error());
  }
  if (X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) != 1 || SSL_CTX_set_purpose(context, purpose) != 1)
    return tls_refusal(what, taken_error());
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_verify_depth(context, kChainDepthMax);
  return Status();
}

int choose_h2(SSL*, const unsigned char** chosen, unsigned char* chosen_size, const unsigned char* offered, unsigned offered_size,
              void*) {
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, chosen_size, kAlpn, sizeof(kAlpn), offered, offered_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

Status TlsContext::make(const TlsPem& pem, std::shared_ptr<const TlsContext>* context) {
  SslContextHandle made = new_context(TLS_server_method());
  if (!made) return tls_refusal("TLS", taken_error());
  Status status = use_pair(made.get(), pem.certificate, pem.key);
  if (status.ok() && !pem.client_authorities.empty())
    status = trust(made.get(), pem.client_authorities, "client authorities", X509_PURPOSE_SSL_CLIENT);
  if (!status.ok()) return status;
  SSL_CTX_set_alpn_select_cb(made.get(), choose_h2, nullptr);
  context->reset(new TlsContext(made.release()));
  return Status();
}

TlsContext::~TlsContext() { SSL_CTX_free(native_); }

Status TlsClientContext::make(const TlsClientPem& pem, std::shared_ptr<const TlsClientContext>* context) {
  SslContextHandle made = new_context(TLS_client_method());
  if (!made || SSL_CTX_set_alpn_protos(made.get(), kAlpn, sizeof(kAlpn)) != 0) return tls_refusal("TLS", taken_error());
  Status status = trust(made.get(), pem.authorities, "authorities", X509_PURPOSE_SSL_SERVER);
  if (status.ok() && !(pem.certificate.empty() && pem.key.empty())) status = use_pair(made.get(), pem.certificate, pem.key);
  if (!status.ok()) return status;
  context->reset(new TlsClientContext(made.release()));
  return Status();
}

TlsClientContext::~TlsClientContext() { SSL_CTX_free(native_); }

}  // namespace assay
