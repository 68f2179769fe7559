#include "core/transport/peer_identity.h"

#include <algorithm>
#include <ctime>
#include <string_view>

#include "core/base/utf8.h"
#include "core/transport/openssl_handles.h"
#include "core/transport/tls.h"

namespace assay {
namespace {

constexpr std::string_view kSpiffe = "spiffe://";
constexpr size_t kSpiffeIdBytesMax = 2048;
constexpr size_t kTrustDomainBytesMax = 255;

std::string_view text_of(const ASN1_STRING* string) noexcept {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)), static_cast<size_t>(ASN1_STRING_length(string))};
}

bool is_ascii(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) < 0x80; });
}

// Whether the bytes are what everybody would read there. The older types are read as ASCII: what their other bytes mean is
// answered in several ways, and UTF-16 and UTF-32 are not read at all.
bool is_name(const ASN1_STRING* string) noexcept {
  const std::string_view text = text_of(string);
  if (text.empty() || text.find('\0') != std::string_view::npos) return false;
  switch (ASN1_STRING_type(string)) {
    case V_ASN1_UTF8STRING: return utf8_find_bad(text) == nullptr;
    case V_ASN1_IA5STRING:
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_T61STRING: return is_ascii(text);
    default: return false;
  }
}

// spiffe://TRUST_DOMAIN/PATH, neither of them empty.
bool is_spiffe_id(std::string_view uri) noexcept {
  if (uri.size() > kSpiffeIdBytesMax || uri.substr(0, kSpiffe.size()) != kSpiffe) return false;
  const std::string_view rest = uri.substr(kSpiffe.size());
  const size_t domain_bytes = rest.find('/');
  if (domain_bytes == std::string_view::npos || domain_bytes == 0 || domain_bytes > kTrustDomainBytesMax) return false;
  return domain_bytes + 1 < rest.size() && rest[domain_bytes + 1] != '/';
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& byte : lower) {
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte + ('a' - 'A'));
  }
  return lower;
}

// The principals of one certificate, within the limits.
class Principals {
 public:
  void add(std::string principal) {
    if (names_.size() == kPrincipalsMax || principal.size() > kPrincipalsBytesMax - bytes_) return;
    bytes_ += principal.size();
    names_.push_back(std::move(principal));
  }
  std::vector<std::string> take() { return std::move(names_); }

 private:
  std::vector<std::string> names_;
  size_t bytes_ = 0;
};

void add_spiffe_id(const GENERAL_NAMES* names, Principals& principals) {
  const ASN1_STRING* uri = nullptr;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI) continue;
    if (uri != nullptr) return;  // a second one
    uri = name->d.uniformResourceIdentifier;
  }
  if (uri != nullptr && is_name(uri) && is_spiffe_id(text_of(uri))) principals.add(std::string(text_of(uri)));
}

void add_dns_names(const GENERAL_NAMES* names, Principals& principals) {
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type == GEN_DNS && is_name(name->d.dNSName)) principals.add("dns:" + lower_case(text_of(name->d.dNSName)));
  }
}

void add_common_name(const X509& certificate, Principals& principals) {
  const X509_NAME* subject = X509_get_subject_name(&certificate);
  const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (index < 0) return;
  const ASN1_STRING* name = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
  if (is_name(name)) principals.add("cn:" + std::string(text_of(name)));
}

std::vector<std::string> principals_of(const X509& certificate) {
  Principals principals;
  int state = 0;  // -1: there is no such extension. Else one that is damaged or stands there twice has no names, but it is there
  const NamesHandle names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, &state, nullptr)));
  if (names) {
    add_spiffe_id(names.get(), principals);
    add_dns_names(names.get(), principals);
  } else if (state == -1) {
    add_common_name(certificate, principals);
  }
  return principals.take();
}

// 0, long expired, if there is no reading it.
int64_t expiry_of(const X509& certificate) noexcept {
  std::tm time{};
  return ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) == 1 ? int64_t{::timegm(&time)} : 0;
}

}  // namespace

PeerIdentity identity_of(const TlsStream& stream) {
  if (!stream.is_ready()) return {};
  const SSL* ssl = stream.native();
  const X509* certificate = SSL_get0_peer_certificate(ssl);
  const bool is_verified = (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0 && SSL_get_verify_result(ssl) == X509_V_OK;
  return certificate != nullptr && is_verified ? identity_of_certificate(*certificate) : PeerIdentity();
}

PeerIdentity identity_of_certificate(const x509_st& certificate) {
  PeerIdentity identity;
  identity.has_certificate = true;
  identity.principals = principals_of(certificate);
  identity.expires_at_s = expiry_of(certificate);
  return identity;
}

}  // namespace assay
