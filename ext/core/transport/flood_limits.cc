#include "core/transport/server_callbacks.h"

// Weak: null where the library that the loader found does not have them. Declared here because an older header does not.
extern "C" {
__attribute__((weak)) void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option* option, uint64_t burst, uint64_t rate);
__attribute__((weak)) void nghttp2_option_set_max_continuations(nghttp2_option* option, size_t count);
}

namespace assay {
namespace {

// Honest clients reset calls whose deadline passed, in bursts when a server is overloaded: nghttp2's own limit (1,000, then 33 a
// second) would close their connections just then.
constexpr uint64_t kResetBurst = 10'000;
constexpr uint64_t kResetsPerSecond = 1'000;
constexpr size_t kFrameBytes = 16u << 10;  // the most of one frame, unless a server says otherwise: this one does not
constexpr size_t kContinuationsMin = 8;
constexpr size_t kUnsentAcksMax = 1'000;
constexpr size_t kSettingsEntriesMax = 32;

}  // namespace

void set_flood_limits(nghttp2_option* option, const TransportOptions& options) noexcept {
  nghttp2_option_set_max_outbound_ack(option, kUnsentAcksMax);
  nghttp2_option_set_max_settings(option, kSettingsEntriesMax);
  if (nghttp2_option_set_stream_reset_rate_limit != nullptr) {
    nghttp2_option_set_stream_reset_rate_limit(option, kResetBurst, kResetsPerSecond);
  }
  if (nghttp2_option_set_max_continuations != nullptr) {
    nghttp2_option_set_max_continuations(option, kContinuationsMin + options.metadata_bytes_max / kFrameBytes);
  }
  nghttp2_option_set_max_send_header_block_length(option, sent_header_bytes_max(options));
}

}  // namespace assay
