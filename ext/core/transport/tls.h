// TLS: what one end proves and accepts (a context, shared by connections), and a ByteStream that speaks it.
//
// TLS 1.2 or 1.3, the cipher suites of gRPC's own default list (ECDHE and AEAD only), HTTP/2 by ALPN. No compression, no
// renegotiation, no early data. No session is resumed, so every connection proves its certificate anew and in full: a resumed
// one would outlive its certificate's authority. What openssl.cnf says about protocols and ciphers does not count here.
//
// No header of OpenSSL is included, so that any file may include this one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/transport/byte_stream.h"
#include "core/transport/tls_socket.h"

struct ssl_ctx_st;
struct ssl_st;

namespace assay {

// Read while a context is made, not kept. Each may have further PEM blocks of other kinds.
struct TlsPem {
  std::string_view certificate;         // the server's own, then its chain: what is sent, and nothing is added
  std::string_view key;                 // not encrypted
  std::string_view client_authorities;  // empty: clients are not asked for certificates
};

// A server's side. Immutable; any thread may make streams of it.
class TlsContext {
 public:
  // kInvalidRequest: damaged PEM, an encrypted key, a key of another certificate, one that is too weak. The detail says which,
  // without a byte of it. Dates are not looked at: a server whose certificate expires serves on, for its clients to judge.
  //
  // With client authorities a client must show a certificate that one of them signed, over at most 8 between, that is valid
  // now and that does not say it is for other uses than a client's. An authority need not be a root: what the PEM holds is
  // trusted as it is (the same as gRPC).
  static Status make(const TlsPem& pem, std::shared_ptr<const TlsContext>* context);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

 private:
  friend class TlsStream;
  explicit TlsContext(ssl_ctx_st* native) noexcept : native_(native) {}
  ssl_ctx_st* const native_;
};

struct TlsClientPem {
  std::string_view authorities;  // of servers
  std::string_view certificate;  // with its chain; empty: none is shown
  std::string_view key;          // not encrypted; empty where there is no certificate
};

// A client's side. Immutable; any thread may make streams of it.
class TlsClientContext {
 public:
  // As TlsContext::make().
  static Status make(const TlsClientPem& pem, std::shared_ptr<const TlsClientContext>* context);
  ~TlsClientContext();
  TlsClientContext(const TlsClientContext&) = delete;
  TlsClientContext& operator=(const TlsClientContext&) = delete;

 private:
  friend class TlsStream;
  explicit TlsClientContext(ssl_ctx_st* native) noexcept : native_(native) {}
  ssl_ctx_st* const native_;
};

// One connection. Shakes hands inside read() and write(); until that is done neither moves a byte. Never raises SIGPIPE. Keeps
// what it needs of its context, which may go first.
//
// A peer that leaves without TLS's own end (most gRPC clients) is kClosed, not kFailed: HTTP/2 knows by itself what is cut off.
// One read() gives the data of one record at most, so read on while has_pending(), after a write() too: it may have finished the
// handshake. Once failed, always failed.
class TlsStream final : public ByteStream {
 public:
  // A server's end. A client that offers protocols without h2 is refused with an alert; one that offers none (no ALPN) shakes
  // hands, so that tools can look at the certificate, and is refused then, before a byte of data: the same as gRPC.
  TlsStream(int fd, const TlsContext& context) noexcept;
  // A client's end. `server_name`: a DNS name (also sent, as SNI) or an IP address that the server's certificate must have.
  TlsStream(int fd, const TlsClientContext& context, const std::string& server_name) noexcept;
  ~TlsStream() override;
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  IoResult read(uint8_t* data, size_t size, size_t* count) noexcept override;
  IoResult write(const uint8_t* data, size_t size, size_t* count) noexcept override;
  bool read_wants_write() const noexcept override { return read_wants_write_; }
  bool write_wants_read() const noexcept override { return write_wants_read_; }
  // May promise in vain, once: what has come may be the beginning of a record. After kBlocked it is false.
  bool has_pending() const noexcept override;
  // Says that TLS ends (where the handshake is done), then that the connection does. Nothing may be written after it.
  void close_write() noexcept override;

  // The handshake is done: protocol, certificates and ALPN are as they must be.
  bool is_ready() const noexcept { return state_ == State::kReady; }
  // Why kFailed, in a few words that are ours or OpenSSL's, never the peer's: safe to log. Empty: has not failed.
  std::string_view failure() const noexcept { return failure_; }
  // For whoever reads the peer's certificate. Null: has failed for want of memory.
  const ssl_st* native() const noexcept { return ssl_; }

 private:
  enum class State : uint8_t { kHandshake, kReady, kFailed };

  TlsStream(int fd, ssl_ctx_st* context) noexcept;
  IoResult shake_hands(bool* wants_read, bool* wants_write) noexcept;
  IoResult stopped(int result, bool* wants_read, bool* wants_write) noexcept;
  IoResult fail(const char* why) noexcept;

  TlsSocket socket_;
  ssl_st* ssl_ = nullptr;
  State state_ = State::kHandshake;
  bool has_peer_ended_ = false;  // nothing more to read; what is owed to the peer may still be written
  bool is_read_blocked_ = false;
  bool read_wants_write_ = false;
  bool write_wants_read_ = false;
  const char* failure_ = "";
};

}  // namespace assay
