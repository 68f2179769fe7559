// TlsStream (tls.h). Every call of OpenSSL starts with an empty error queue and leaves one: the queue is the thread's, and others
// use it too.
#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "core/transport/openssl_handles.h"
#include "core/transport/tls.h"

namespace assay {
namespace {

constexpr char kNoMemory[] = "no memory";

bool speaks_h2(const SSL* ssl) noexcept {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl, &name, &size);
  return size == 2 && std::memcmp(name, "h2", 2) == 0;
}

// The server's certificate must have this name. An address is not sent as SNI: that is for names alone (RFC 6066).
bool expect_server(SSL* ssl, const std::string& name) noexcept {
  if (name.empty() || name.find('\0') != std::string::npos) return false;
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1) return true;
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  return SSL_set1_host(ssl, name.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
}

// Of a connection that OpenSSL gave up, from the thread's error queue. Texts live as long as the process.
const char* reason_of_failure(const SSL* ssl, const TlsSocket& socket) noexcept {
  if (socket.bytes_without_data > kBytesWithoutDataMax) return "too much of TLS itself without data";
  const unsigned long error = ERR_peek_error();  // the first: what came later follows from it
  if (error != 0 && ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)
    return X509_verify_cert_error_string(SSL_get_verify_result(ssl));
  if (const char* text = ERR_reason_error_string(error)) return text;
  if (socket.error != 0) return "the connection is lost";
  return socket.has_ended || SSL_get_shutdown(ssl) != 0 ? "the peer closed the connection during the handshake" : "TLS failed";
}

}  // namespace

TlsStream::TlsStream(int fd, ssl_ctx_st* context) noexcept {
  socket_.fd = fd;
  ERR_clear_error();
  ssl_ = SSL_new(context);  // keeps the context
  BIO* const bio = make_socket_bio(&socket_);
  if (ssl_ == nullptr || bio == nullptr) {
    BIO_free(bio);
    fail(kNoMemory);
    return;
  }
  SSL_set_bio(ssl_, bio, bio);
}

TlsStream::TlsStream(int fd, const TlsContext& context) noexcept : TlsStream(fd, context.native_) {
  if (state_ != State::kFailed) SSL_set_accept_state(ssl_);
}

TlsStream::TlsStream(int fd, const TlsClientContext& context, const std::string& server_name) noexcept
    : TlsStream(fd, context.native_) {
  if (state_ == State::kFailed) return;
  SSL_set_connect_state(ssl_);
  if (!expect_server(ssl_, server_name)) fail("the server's name is neither a DNS name nor an address");
  ERR_clear_error();
}

TlsStream::~TlsStream() { SSL_free(ssl_); }

IoResult TlsStream::read(uint8_t* data, size_t size, size_t* count) noexcept {
  *count = 0;
  ERR_clear_error();
  bool wants_read = false;
  read_wants_write_ = false;
  const IoResult greeted = shake_hands(&wants_read, &read_wants_write_);
  if (greeted != IoResult::kOk) return greeted;
  if (has_peer_ended_) return IoResult::kClosed;
  const int result = SSL_read_ex(ssl_, data, size, count);
  is_read_blocked_ = result != 1;
  if (result != 1) return stopped(result, &wants_read, &read_wants_write_);
  socket_.bytes_without_data = 0;
  return IoResult::kOk;
}

IoResult TlsStream::write(const uint8_t* data, size_t size, size_t* count) noexcept {
  *count = 0;
  ERR_clear_error();
  bool wants_write = false;
  write_wants_read_ = false;
  const IoResult greeted = shake_hands(&write_wants_read_, &wants_write);
  if (greeted != IoResult::kOk) return greeted;
  // One record. Offered more, OpenSSL would go on to the next, and forget to say that the first is out when that one blocks.
  const int result = SSL_write_ex(ssl_, data, std::min(size, size_t{SSL3_RT_MAX_PLAIN_LENGTH}), count);
  return result == 1 ? IoResult::kOk : stopped(result, &write_wants_read_, &wants_write);
}

bool TlsStream::has_pending() const noexcept {
  return state_ == State::kReady && !is_read_blocked_ && !has_peer_ended_ && SSL_has_pending(ssl_) == 1;
}

void TlsStream::close_write() noexcept {
  if (state_ == State::kReady) {
    ERR_clear_error();
    SSL_shutdown(ssl_);
    ERR_clear_error();
  }
  ::shutdown(socket_.fd, SHUT_WR);
}

// kOk: they are shaken. Else what the read or the write that wanted it has come to.
IoResult TlsStream::shake_hands(bool* wants_read, bool* wants_write) noexcept {
  if (state_ == State::kReady) return IoResult::kOk;
  if (state_ == State::kFailed) return IoResult::kFailed;
  const int result = SSL_do_handshake(ssl_);
  if (result != 1) return stopped(result, wants_read, wants_write);
  if (!speaks_h2(ssl_)) {
    SSL_shutdown(ssl_);  // so that the peer sees an end, not a loss
    return fail("the peer has not agreed to HTTP/2 (no ALPN)");
  }
  state_ = State::kReady;
  socket_.is_counting = true;
  return IoResult::kOk;
}

// What `result`, of a call that did not succeed, means.
IoResult TlsStream::stopped(int result, bool* wants_read, bool* wants_write) noexcept {
  const int error = SSL_get_error(ssl_, result);
  *wants_read = error == SSL_ERROR_WANT_READ;
  *wants_write = error == SSL_ERROR_WANT_WRITE;
  if (*wants_read || *wants_write) return IoResult::kBlocked;
  const bool has_left = socket_.has_ended && socket_.error == 0 && ERR_peek_error() == 0;
  if (state_ != State::kReady || !(error == SSL_ERROR_ZERO_RETURN || has_left)) return fail(reason_of_failure(ssl_, socket_));
  has_peer_ended_ = true;
  return IoResult::kClosed;
}

IoResult TlsStream::fail(const char* why) noexcept {
  state_ = State::kFailed;
  failure_ = why;
  read_wants_write_ = write_wants_read_ = false;
  ERR_clear_error();
  return IoResult::kFailed;
}

}  // namespace assay
