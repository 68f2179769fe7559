// Certificates made in memory, and a wire between two ends whose bytes are moved by hand.
#pragma once

#include <fcntl.h>
#include <openssl/pem.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/transport/openssl_handles.h"
#include "core/transport/tls.h"

namespace fixture {

using assay::CertificateHandle;
using assay::IoResult;
using assay::KeyHandle;
using assay::TlsStream;

inline void must(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fixture: %s\n", what);
  std::abort();
}

// --- certificates ---

struct AlternativeName {
  int type;  // GEN_DNS, GEN_URI, ...
  std::string bytes;
};

struct CertificateSpec {
  std::string common_name;
  int common_name_type = V_ASN1_UTF8STRING;
  std::vector<AlternativeName> names;
  bool has_empty_names = false;  // the extension of alternative names, without any
  bool is_authority = false;
  const char* extended_usage = nullptr;
  int64_t from_s = -3600;  // from now
  int64_t until_s = 3600;
};

struct Pair {
  CertificateHandle certificate;
  KeyHandle key;
};

inline std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

inline std::string pem_of(const X509* certificate) {
  const assay::BioHandle bio(BIO_new(BIO_s_mem()));
  must(PEM_write_bio_X509(bio.get(), certificate) == 1, "PEM of a certificate");
  return text_of(bio.get());
}

// With a password: encrypted with it.
inline std::string pem_of(const EVP_PKEY* key, const char* password = nullptr) {
  const assay::BioHandle bio(BIO_new(BIO_s_mem()));
  const int size = password == nullptr ? 0 : static_cast<int>(std::string(password).size());
  must(PEM_write_bio_PKCS8PrivateKey(bio.get(), key, password == nullptr ? nullptr : EVP_aes_256_cbc(), password, size, nullptr,
                                     nullptr) == 1,
       "PEM of a key");
  return text_of(bio.get());
}

inline std::string pem_of(const CertificateHandle& certificate) { return pem_of(certificate.get()); }
inline std::string pem_of(const KeyHandle& key) { return pem_of(key.get()); }

inline void add_names(X509* certificate, const CertificateSpec& spec) {
  const assay::NamesHandle names(sk_GENERAL_NAME_new_null());
  for (const AlternativeName& wanted : spec.names) {
    GENERAL_NAME* name = GENERAL_NAME_new();
    if (wanted.type == GEN_DIRNAME) {
      GENERAL_NAME_set0_value(name, wanted.type, X509_NAME_new());
    } else {
      ASN1_STRING* string = ASN1_STRING_type_new(wanted.type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
      ASN1_STRING_set(string, wanted.bytes.data(), static_cast<int>(wanted.bytes.size()));
      GENERAL_NAME_set0_value(name, wanted.type, string);
    }
    sk_GENERAL_NAME_push(names.get(), name);
  }
  must(X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, 0) == 1, "alternative names");
}

inline void add_extension(X509* certificate, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
  must(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1, "an extension");
  X509_EXTENSION_free(extension);
}

// Without an issuer: signed by itself.
inline Pair issue(const CertificateSpec& spec, const Pair* issuer = nullptr) {
  static long serial = 0;
  Pair made{CertificateHandle(X509_new()), KeyHandle(EVP_EC_gen("P-256"))};
  X509* certificate = made.certificate.get();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), spec.from_s);
  X509_gmtime_adj(X509_getm_notAfter(certificate), spec.until_s);
  if (!spec.common_name.empty()) {
    must(X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName, spec.common_name_type,
                                    reinterpret_cast<const unsigned char*>(spec.common_name.data()),
                                    static_cast<int>(spec.common_name.size()), -1, 0) == 1,
         "a common name");
  }
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer != nullptr ? issuer->certificate.get() : certificate));
  X509_set_pubkey(certificate, made.key.get());
  if (spec.is_authority) add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
  if (spec.extended_usage != nullptr) add_extension(certificate, NID_ext_key_usage, spec.extended_usage);
  if (!spec.names.empty() || spec.has_empty_names) add_names(certificate, spec);
  must(X509_sign(certificate, (issuer != nullptr ? issuer->key : made.key).get(), EVP_sha256()) > 0, "a signature");
  return made;
}

inline CertificateSpec authority_spec(const std::string& name) {
  CertificateSpec spec;
  spec.common_name = name;
  spec.is_authority = true;
  return spec;
}

inline CertificateSpec dns_spec(const std::string& name) {
  CertificateSpec spec;
  spec.names = {{GEN_DNS, name}};
  return spec;
}

// An authority, a server's certificate and a client's: made once, good for most tests.
struct Certificates {
  Pair authority = issue(authority_spec("assay test authority"));
  Pair server = issue(dns_spec("localhost"), &authority);
  Pair client = issue(dns_spec("core.bank.internal"), &authority);
};

inline const Certificates& house() {
  static const Certificates made;
  return made;
}

// --- a wire ---

// Two socket pairs. What an end writes stays in its pair until step() carries it over.
class Wire {
 public:
  explicit Wire(int buffer_bytes = 0) {
    for (int side = 0; side < 2; ++side) {
      int pair[2];
      must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
      outer_[side] = pair[0];
      inner_[side] = pair[1];
      if (buffer_bytes > 0) ::setsockopt(outer_[side], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
    }
  }
  ~Wire() {
    for (int side = 0; side < 2; ++side) {
      hang_up(side);
      if (inner_[side] >= 0) ::close(inner_[side]);
    }
  }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  int end(int side) const { return outer_[side]; }
  // The end's owner goes away without a word.
  void hang_up(int side) {
    if (outer_[side] >= 0) ::close(outer_[side]);
    outer_[side] = -1;
  }
  // What side 1 - `side` sees from now on is an end; what `side` writes fails.
  void cut(int side) {
    ::close(inner_[1 - side]);
    inner_[1 - side] = -1;
  }
  // `side` reads an end after what is on its way to it, and may still write.
  void end_stream(int side) { ::shutdown(inner_[side], SHUT_WR); }
  // Carries up to `bytes_max` each way; how many there were.
  size_t step(size_t bytes_max) { return carry(0, bytes_max) + carry(1, bytes_max); }
  size_t carry(int from, size_t bytes_max) {
    if (inner_[from] < 0 || inner_[1 - from] < 0) return 0;
    std::string bytes(std::min<size_t>(bytes_max, 65536), '\0');
    const ssize_t count = ::recv(inner_[from], &bytes[0], bytes.size(), 0);
    if (count <= 0) return 0;
    bytes.resize(static_cast<size_t>(count));
    inject(1 - from, bytes);
    return bytes.size();
  }
  // Bytes of nobody, on their way to `side`.
  void inject(int side, const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t sent = ::send(inner_[side], bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (sent < 0) return;  // the end is gone
      at += static_cast<size_t>(sent);
    }
  }

 private:
  int outer_[2];  // the ends'
  int inner_[2];  // the other halves of their pairs
};

constexpr int kServer = 0, kClient = 1;

// One read of at most `size` bytes, appended to `out`.
inline IoResult read_some(TlsStream& stream, std::string* out = nullptr, size_t size = 4096) {
  std::string bytes(size, '\0');
  size_t count = 0;
  const IoResult result = stream.read(reinterpret_cast<uint8_t*>(&bytes[0]), size, &count);
  must((result == IoResult::kOk) == (count > 0), "a count is 0 unless kOk");
  if (out != nullptr) out->append(bytes, 0, count);
  return result;
}

inline IoResult write_some(TlsStream& stream, const std::string& bytes, size_t* count) {
  const IoResult result = stream.write(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), count);
  must((result == IoResult::kOk) == (*count > 0), "a count is 0 unless kOk");
  return result;
}

inline bool is_over(IoResult result) { return result == IoResult::kFailed || result == IoResult::kClosed; }

// Drives both ends until nothing moves any more, `bytes` at a time. Server and client may be anything with turn().
template <typename Server, typename Client>
void drive(Server&& server_turn, Client&& client_turn, Wire& wire, size_t bytes = 65536) {
  for (int quiet = 0; quiet < 3;) {
    client_turn();
    server_turn();
    quiet = wire.step(bytes) > 0 ? 0 : quiet + 1;
  }
}

inline void shake(TlsStream& server, TlsStream& client, Wire& wire, size_t bytes = 65536) {
  const auto turn = [](TlsStream& stream) {
    if (!stream.is_ready()) read_some(stream);
  };
  drive([&] { turn(server); }, [&] { turn(client); }, wire, bytes);
}

}  // namespace fixture
