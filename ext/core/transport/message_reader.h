// MessageReader: cuts what a stream's DATA frames bring into gRPC messages.
//
//   reader.append(data);
//   for (;;) {
//     std::string_view message;
//     switch (reader.next(&message)) {
//       case MessageReader::Next::kMessage: submit(message); continue;                       // before anything else is asked
//       case MessageReader::Next::kMore: return;                                             // wait for the next append
//       case MessageReader::Next::kEnd: return half_closed();                                // after end() only
//       case MessageReader::Next::kFailed: return refuse(grpc_code(reader.error()), reader.error_text());
//     }
//   }
//
// Whoever stops earlier, with a message taken and more behind it, calls keep() before `data` goes away.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/transport/message_frame.h"

namespace assay {

// What a compressed message of the stream is compressed with.
enum class MessageEncoding : uint8_t { kIdentity, kGzip, kDeflate };

// Reads grpc-encoding. False: none that we read, which the caller answers UNIMPLEMENTED; `*encoding` is unchanged.
bool parse_message_encoding(std::string_view name, MessageEncoding* encoding) noexcept;

// Why a stream's bytes are refused.
enum class MessageError : uint8_t {
  kNone = 0,
  kBadFlag,           // INTERNAL: the compressed flag is neither 0 nor 1
  kNoEncoding,        // INTERNAL: the flag is 1 and the stream has no encoding
  kTooLarge,          // RESOURCE_EXHAUSTED: the prefix claims more than the limit
  kInflatedTooLarge,  // RESOURCE_EXHAUSTED: more than the limit came out of it
  kDamaged,           // INTERNAL: the payload is not what the encoding says
  kTruncated,         // INTERNAL: the stream ended inside a message
};

// The status that answers it, as gRPC's own servers choose it; kOk for kNone.
GrpcCode grpc_code(MessageError error) noexcept;

// One stream's. One thread at a time. Out of memory ends the process; nothing throws.
//
// The usual unary call brings one whole, uncompressed message in one piece: then the message is a view of the appended bytes, and
// nothing is copied or allocated. What is left of an append when next() says kMore is copied, and only that.
//
// Memory follows the bytes that came, never a length that was claimed: a message over the limit is refused when its prefix is
// there, and one under it is held in a buffer of at most twice what came of it (and the old one, while it grows). A compressed
// message is inflated into a second buffer (inflate.h). Buffers over 16 KiB are given back with their last message. What keep()
// copies is bounded not by the limit but by what the caller lets the peer send meanwhile: the stream's flow-control window.
class MessageReader {
 public:
  enum class Next : uint8_t {
    kMessage,  // `*message` is one
    kMore,     // none now; all that was appended is read or kept
    kEnd,      // none any more: the stream ended behind a message, or had none
    kFailed,   // error() says why; so it stays
  };

  // `message_bytes_max` bounds a message as it comes and as it is inflated. REQUIRES: message_bytes_max < SIZE_MAX.
  explicit MessageReader(size_t message_bytes_max, MessageEncoding encoding = MessageEncoding::kIdentity) noexcept
      : message_bytes_max_(message_bytes_max), encoding_(encoding) {}

  // More bytes, in any pieces. They are borrowed until next() says anything but kMessage, or keep() is called. After a failure they
  // are dropped. REQUIRES: what was appended before is not borrowed any more; end() was not called.
  void append(std::string_view data) noexcept;

  // The peer sends no more: next() ends in kEnd, or fails if a message is cut short.
  void end() noexcept { is_ended_ = true; }

  // The next message. A view of it is good until the next call of any function that is not const, and no longer than the appended
  // bytes are.
  Next next(std::string_view* message) noexcept;

  // Copies what is still borrowed, so that the appended bytes may go away before all messages are taken. Free if nothing is.
  void keep() noexcept;

  // Whether bytes came that are not part of a message handed out.
  bool has_more() const noexcept { return !data_.empty() || kept_bytes() > 0; }

  MessageError error() const noexcept { return error_; }
  // For people, and for grpc-message: what is wrong, with the sizes. REQUIRES: error() != kNone.
  std::string error_text() const;

  // How much came out of compressed messages beyond what is usual for what went in, since the last time: much work, little said.
  size_t take_idle_bytes() noexcept { return std::exchange(idle_bytes_, 0); }

  // What the reader holds allocated.
  size_t memory_bytes() const noexcept { return kept_.capacity() + inflated_.capacity(); }

  // --- implementation ---

 private:
  size_t kept_bytes() const noexcept { return kept_.size() - kept_at_; }
  void release_last() noexcept;
  bool gather(size_t bytes) noexcept;
  void copy_from_data(size_t bytes, size_t capacity_wanted) noexcept;
  bool accept_prefix(const char* bytes) noexcept;
  Next next_in_place(std::string_view* message) noexcept;
  Next next_kept(std::string_view* message) noexcept;
  Next next_none() noexcept;
  Next open(std::string_view payload, std::string_view* message) noexcept;
  Next open_compressed(std::string_view payload, std::string_view* message) noexcept;
  Next fail(MessageError error) noexcept;

  size_t message_bytes_max_;
  std::string_view data_;       // borrowed, not yet read; comes after kept_
  std::vector<char> kept_;      // begins with whole messages that were handed out, kept_at_ bytes of them
  size_t kept_at_ = 0;          // what is behind it starts with a prefix
  std::vector<char> inflated_;  // the last message, if it was compressed
  MessagePrefix prefix_{};      // of the message that is being read, or was read last
  size_t idle_bytes_ = 0;
  size_t came_bytes_ = 0;  // kTruncated: prefix and payload, as far as they came
  MessageEncoding encoding_;
  MessageError error_ = MessageError::kNone;
  bool is_ended_ = false;
};

}  // namespace assay
