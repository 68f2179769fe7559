// Owners of OpenSSL's objects. For files that include OpenSSL anyway; other headers forward-declare what they point to.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

namespace assay {

template <auto kFree>
struct OpensslFree {
  template <typename T>
  void operator()(T* object) const noexcept {
    kFree(object);
  }
};

using BioHandle = std::unique_ptr<BIO, OpensslFree<BIO_free>>;
using KeyHandle = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using CertificateHandle = std::unique_ptr<X509, OpensslFree<X509_free>>;
using NamesHandle = std::unique_ptr<GENERAL_NAMES, OpensslFree<GENERAL_NAMES_free>>;
using SslHandle = std::unique_ptr<SSL, OpensslFree<SSL_free>>;
using SslContextHandle = std::unique_ptr<SSL_CTX, OpensslFree<SSL_CTX_free>>;

}  // namespace assay
