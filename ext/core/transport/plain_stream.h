// PlainStream: a socket's bytes as they are.
#pragma once

#include "core/transport/byte_stream.h"

namespace assay {

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(int fd) noexcept : fd_(fd) {}
  IoResult read(uint8_t* data, size_t size, size_t* count) noexcept override;
  IoResult write(const uint8_t* data, size_t size, size_t* count) noexcept override;
  void close_write() noexcept override;

 private:
  const int fd_;
};

}  // namespace assay
