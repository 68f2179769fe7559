// Stands in where libnghttp2, OpenSSL or zlib were missing when this was built.
#include <unistd.h>

#include "core/transport/native_transport.h"

namespace assay {

struct NativeTransport::Impl {};

bool NativeTransport::is_built() noexcept { return false; }

NativeTransport::NativeTransport(Engine&, const Clock&, const TransportOptions&) {}
NativeTransport::~NativeTransport() = default;

Status NativeTransport::start(int listening_fd) {
  ::close(listening_fd);
  return Status(Code::kInternal,
                "this build has no native transport: install libnghttp2-dev, libssl-dev and zlib1g-dev, build again");
}

Status NativeTransport::protect(const TransportPem&, const std::vector<std::pair<std::string, uint8_t>>*) { return Status(); }
std::vector<DeniedCall> NativeTransport::drain_denials() { return {}; }
void NativeTransport::drain(int64_t) {}
bool NativeTransport::wait_closed(int64_t) noexcept { return true; }
void NativeTransport::stop() noexcept {}
TransportStats NativeTransport::stats() const noexcept { return {}; }

}  // namespace assay
