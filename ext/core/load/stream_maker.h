// StreamMaker: what stands between a connected socket and HTTP/2: nothing, or TLS.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "core/transport/plain_stream.h"
#include "core/transport/tls.h"

namespace assay::load {

// Used by several threads at once.
class StreamMaker {
 public:
  virtual ~StreamMaker() = default;
  // A stream over a connected socket, which it does not own.
  virtual std::unique_ptr<ByteStream> make(int fd) const = 0;
  // Why a stream of this maker failed, where it knows; else empty.
  virtual std::string failure_of(const ByteStream&) const { return {}; }
};

class PlainStreamMaker final : public StreamMaker {
 public:
  std::unique_ptr<ByteStream> make(int fd) const override { return std::make_unique<PlainStream>(fd); }
};

class TlsStreamMaker final : public StreamMaker {
 public:
  TlsStreamMaker(std::shared_ptr<const TlsClientContext> context, std::string server_name)
      : context_(std::move(context)), server_name_(std::move(server_name)) {}

  std::unique_ptr<ByteStream> make(int fd) const override { return std::make_unique<TlsStream>(fd, *context_, server_name_); }
  // All streams of this maker are TlsStreams.
  std::string failure_of(const ByteStream& stream) const override {
    const std::string_view why = static_cast<const TlsStream&>(stream).failure();
    return why.empty() ? std::string() : "TLS: " + std::string(why);
  }

 private:
  std::shared_ptr<const TlsClientContext> context_;
  std::string server_name_;
};

}  // namespace assay::load
