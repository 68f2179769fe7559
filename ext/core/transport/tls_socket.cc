#include "core/transport/tls_socket.h"

#include <openssl/bio.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>

namespace assay {
namespace {

TlsSocket& socket_of(BIO* bio) noexcept { return *static_cast<TlsSocket*>(BIO_get_data(bio)); }

bool is_blocked(int error) noexcept { return error == EAGAIN || error == EWOULDBLOCK; }

int read_socket(BIO* bio, char* data, int size) {
  TlsSocket& socket = socket_of(bio);
  BIO_clear_retry_flags(bio);
  if (socket.bytes_without_data > kBytesWithoutDataMax) return -1;
  ssize_t count;
  do { count = ::recv(socket.fd, data, static_cast<size_t>(size), MSG_DONTWAIT); } while (count < 0 && errno == EINTR);
  if (count < 0 && is_blocked(errno)) {
    BIO_set_retry_read(bio);
  } else if (count < 0) {
    socket.error = errno;
  } else if (count == 0) {
    socket.has_ended = true;
  } else if (socket.is_counting) {
    socket.bytes_without_data += static_cast<size_t>(count);
  }
  return static_cast<int>(count);
}

int write_socket(BIO* bio, const char* data, int size) {
  TlsSocket& socket = socket_of(bio);
  BIO_clear_retry_flags(bio);
  ssize_t count;
  do {
    count = ::send(socket.fd, data, static_cast<size_t>(size), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && is_blocked(errno)) {
    BIO_set_retry_write(bio);
  } else if (count < 0) {
    socket.error = errno;
  }
  return static_cast<int>(count);
}

// BIO_CTRL_EOF is left unanswered on purpose: OpenSSL would make an error of a peer that leaves without TLS's own end, as most
// gRPC clients do, and that error would forbid to write what is still owed to it.
long control_socket(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* make_method() noexcept {
  BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "assay socket");
  if (method == nullptr) return nullptr;
  BIO_meth_set_read(method, read_socket);
  BIO_meth_set_write(method, write_socket);
  BIO_meth_set_ctrl(method, control_socket);
  return method;
}

}  // namespace

bio_st* make_socket_bio(TlsSocket* socket) noexcept {
  static BIO_METHOD* const method = make_method();  // for the life of the process: BIOs point to it
  BIO* const bio = method == nullptr ? nullptr : BIO_new(method);
  if (bio == nullptr) return nullptr;
  BIO_set_data(bio, socket);
  BIO_set_init(bio, 1);
  return bio;
}

}  // namespace assay
