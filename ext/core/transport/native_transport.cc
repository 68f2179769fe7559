#include "core/transport/native_transport.h"

#include <fcntl.h>
#include <unistd.h>

#include <vector>

#include "core/transport/acceptor.h"
#include "core/transport/denials.h"
#include "core/transport/io_thread.h"

namespace assay {

struct NativeTransport::Impl {
  Impl(Engine& made_for, const Clock& given_clock, const TransportOptions& given)
      : engine(made_for), clock(given_clock), options(given) {
    for (uint32_t i = 0; i < options.io_threads; ++i) {
      threads.push_back(std::make_unique<IoThread>(engine, clock, options, counters, denials));
    }
  }

  Engine& engine;
  const Clock& clock;
  const TransportOptions options;
  TransportCounters counters;
  Denials denials;
  std::vector<std::unique_ptr<IoThread>> threads;  // never changes: stats() reads it while others run
  std::unique_ptr<Acceptor> acceptor;              // on the loop of threads[0]
};

bool NativeTransport::is_built() noexcept { return true; }

NativeTransport::NativeTransport(Engine& engine, const Clock& clock, const TransportOptions& options)
    : impl_(std::make_unique<Impl>(engine, clock, options)) {}

NativeTransport::~NativeTransport() { stop(); }

Status NativeTransport::start(int listening_fd) {
  ::fcntl(listening_fd, F_SETFL, ::fcntl(listening_fd, F_GETFL) | O_NONBLOCK);
  Status status;
  for (size_t i = 0; i < impl_->threads.size() && status.ok(); ++i) status = impl_->threads[i]->open();
  if (!status.ok()) {
    ::close(listening_fd);
    return status;
  }
  impl_->acceptor = std::make_unique<Acceptor>(listening_fd, impl_->threads, impl_->options, impl_->counters);
  status = impl_->acceptor->open();
  for (size_t i = 0; i < impl_->threads.size() && status.ok(); ++i) status = impl_->threads[i]->start();
  return status;
}

Status NativeTransport::protect(const TransportPem& pem, const std::vector<std::pair<std::string, uint8_t>>* roles) {
  Protection made;
  const Status status = TlsContext::make({pem.certificate, pem.key, pem.client_authorities}, &made.tls);
  if (!status.ok()) return status;
  if (roles != nullptr) made.roles = std::make_shared<const RoleTable>(*roles);
  for (const auto& thread : impl_->threads) thread->protect(made);
  return Status();
}

std::vector<DeniedCall> NativeTransport::drain_denials() { return impl_->denials.drain(); }

void NativeTransport::drain(int64_t grace_ns) {
  if (impl_->acceptor == nullptr) return;
  impl_->threads[0]->loop().post([acceptor = impl_->acceptor.get()] { acceptor->close(); });
  for (const auto& thread : impl_->threads) thread->drain(grace_ns);
}

bool NativeTransport::wait_closed(int64_t timeout_ns) noexcept {
  const int64_t end_ns = impl_->clock.now_ns() + timeout_ns;
  for (;;) {
    const TransportStats now = stats();
    if (now.open_connections == 0 && now.lingering_sockets == 0) return true;
    if (impl_->clock.now_ns() >= end_ns) return false;
    ::usleep(2'000);
  }
}

void NativeTransport::stop() noexcept {
  for (const auto& thread : impl_->threads) thread->stop();
  impl_->acceptor.reset();
}

TransportStats NativeTransport::stats() const noexcept {
  TransportStats stats;
  stats.accepted_connections = impl_->counters.accepted_connections.get();
  for (size_t i = 0; i < kCloseReasonCount; ++i) stats.closed_connections[i] = impl_->counters.closed_connections[i].get();
  stats.held_bytes = impl_->counters.held_bytes.get();
  stats.lingering_sockets = impl_->counters.lingering_sockets.get();
  stats.cut_sockets = impl_->counters.cut_sockets.get();
  stats.accept_rests = impl_->counters.accept_rests.get();
  stats.open_forwarded_calls = impl_->counters.open_forwarded_calls.get();
  stats.open_streams = impl_->counters.open_streams.get();
  stats.waiting_calls = impl_->counters.waiting_calls.get();
  for (const auto& thread : impl_->threads) stats.open_connections += thread->connection_count();
  for (size_t i = 0; i < static_cast<size_t>(Code::kCount_); ++i) {
    stats.denied_calls[i] = impl_->counters.denied_calls.get(static_cast<Code>(i));
  }
  return stats;
}

}  // namespace assay
