// ByteStream: the bytes of one connection, plain or TLS, over a socket that does not block.
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay {

// What a read or a write came to.
enum class IoResult : uint8_t {
  kOk,       // some bytes were moved
  kBlocked,  // none now: wait until the socket is ready (see wants_write), then call again
  kClosed,   // the peer closed its side in good order
  kFailed,   // the connection is gone, or its bytes were not TLS
};

// One owner, one thread at a time. Does not own the descriptor.
class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // Reads up to `size` bytes (> 0) into `data`; `*count` is how many there were, 0 unless kOk.
  virtual IoResult read(uint8_t* data, size_t size, size_t* count) noexcept = 0;
  // Writes up to `size` bytes (> 0) of `data`; `*count` is how many were taken, 0 unless kOk. After kBlocked the next write must
  // offer the same bytes first, or more.
  virtual IoResult write(const uint8_t* data, size_t size, size_t* count) noexcept = 0;
  // After kBlocked of a read: whether it waits for the socket to be writable (a handshake), not readable.
  virtual bool read_wants_write() const noexcept { return false; }
  // After kBlocked of a write: whether it waits for the socket to be readable.
  virtual bool write_wants_read() const noexcept { return false; }
  // Bytes that a read would give without the socket becoming readable.
  virtual bool has_pending() const noexcept { return false; }
  // Tells the peer that nothing more is written, as far as that goes without waiting.
  virtual void close_write() noexcept = 0;
};

}  // namespace assay
