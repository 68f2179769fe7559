// TlsSocket: the descriptor under one TLS connection, as OpenSSL wants to see it. OpenSSL's own kind of socket raises SIGPIPE.
#pragma once

#include <cstddef>

struct bio_st;

namespace assay {

// What the stream above it wants to know and OpenSSL does not tell.
struct TlsSocket {
  int fd = -1;
  bool has_ended = false;  // the peer's side of the connection is closed, with TLS's own end or without
  int error = 0;           // errno of what failed
  // Received since the last byte of data. TLS may be kept busy with messages of its own (new keys, refused renegotiation) by
  // somebody who pays for bytes alone, so there is a limit: past it nothing more is read. Not counted while hands are shaken.
  size_t bytes_without_data = 0;
  bool is_counting = false;
};

inline constexpr size_t kBytesWithoutDataMax = 64 * 1024;  // a record with data takes at most 17 KiB

// Neither owns the descriptor nor closes it. Null: no memory. REQUIRES: `socket` outlives it and does not move.
bio_st* make_socket_bio(TlsSocket* socket) noexcept;

}  // namespace assay
