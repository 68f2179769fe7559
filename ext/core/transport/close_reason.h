// CloseReason: why a connection of the native transport ended. Counted, each by itself: they are the limits of connections.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace assay {

enum class CloseReason : uint8_t {
  kClient,     // it closed its side
  kLeft,       // it was asked to go, and its calls have ended
  kBroken,     // the socket or TLS failed
  kProtocol,   // not HTTP/2 as it must be
  kFlood,      // the stock of frames that bring no request is used up
  kUnread,     // it reads nothing of what is queued for it
  kMemory,     // it held the most when held_bytes_max was passed
  kHandshake,  // no SETTINGS in time
  kKeepalive,  // no answer to a ping
  kGrace,      // its calls lasted longer than it was given
  kDrained,    // the listener drained before it had said a word
  kSystem,     // the kernel would not watch it
  kCount_,
};

inline constexpr size_t kCloseReasonCount = static_cast<size_t>(CloseReason::kCount_);

// Whether the client may still have to read what the server said last (lingering_sockets.h).
inline constexpr bool has_last_words(CloseReason why) noexcept {
  return why == CloseReason::kLeft || why == CloseReason::kProtocol || why == CloseReason::kFlood;
}

// As metrics name them.
inline constexpr std::array<const char*, kCloseReasonCount> kCloseReasonNames = {
    "client", "left", "broken", "protocol", "flood", "unread", "memory", "handshake", "keepalive", "grace", "drained", "system"};

}  // namespace assay
