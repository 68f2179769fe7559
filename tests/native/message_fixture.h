// What tests of the transport's messages share: compressing, framing, and a reader that has all bytes at once and thinks simply.
#pragma once

#define ZLIB_CONST  // next_in is a pointer to const
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/transport/inflate.h"
#include "core/transport/message_frame.h"
#include "core/transport/message_reader.h"

namespace fixture {

// zlib's names of formats, as deflateInit2 takes them.
inline constexpr int kZlibBits = 15, kGzipBits = 15 + 16, kRawBits = -15;

inline std::string compressed(std::string_view bytes, int window_bits, int level = 6) {
  z_stream stream{};
  ASSAY_ASSERT(deflateInit2(&stream, level, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<const Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(&out[0]);
  stream.avail_out = static_cast<uInt>(out.size());
  ASSAY_ASSERT(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string prefix(uint8_t flag, size_t payload_bytes) {
  std::string bytes(assay::kMessagePrefixBytes, '\0');
  assay::write_message_prefix({flag, static_cast<uint32_t>(payload_bytes)}, &bytes[0]);
  return bytes;
}
inline std::string framed(std::string_view payload, uint8_t flag = 0) {
  return prefix(flag, payload.size()) + std::string(payload);
}

// What a stream was read as, to its end.
struct StreamRead {
  std::vector<std::string> messages;
  assay::MessageError error = assay::MessageError::kNone;
  std::string error_text;

  bool operator==(const StreamRead& other) const {
    return messages == other.messages && error == other.error && error_text == other.error_text;
  }
};

// Straight from the definition, over the whole of the stream. Its error has no text.
inline StreamRead read_simply(std::string_view bytes, assay::MessageEncoding encoding, size_t bytes_max) {
  using assay::MessageError;
  StreamRead read;
  const auto failed = [&](MessageError error) { return read.error = error, read; };
  while (!bytes.empty()) {
    if (bytes.size() < 5) return failed(MessageError::kTruncated);
    size_t length = 0;
    for (size_t i = 1; i < 5; ++i) length = length * 256 + static_cast<uint8_t>(bytes[i]);
    if (bytes[0] != 0 && bytes[0] != 1) return failed(MessageError::kBadFlag);
    if (bytes[0] == 1 && encoding == assay::MessageEncoding::kIdentity) return failed(MessageError::kNoEncoding);
    if (length > bytes_max) return failed(MessageError::kTooLarge);
    if (bytes.size() < 5 + length) return failed(MessageError::kTruncated);
    std::vector<char> message(bytes.begin() + 5, bytes.begin() + 5 + static_cast<ptrdiff_t>(length));
    if (bytes[0] == 1 && length > 0) {
      const auto format =
          encoding == assay::MessageEncoding::kGzip ? assay::CompressedFormat::kGzip : assay::CompressedFormat::kZlib;
      const auto result = assay::inflate_bytes(format, bytes.substr(5, length), bytes_max, &message);
      if (result == assay::InflateResult::kTooLarge) return failed(MessageError::kInflatedTooLarge);
      if (result == assay::InflateResult::kDamaged) return failed(MessageError::kDamaged);
    }
    read.messages.emplace_back(message.begin(), message.end());
    bytes.remove_prefix(5 + length);
  }
  return read;
}

// Reads on with a MessageReader as far as it goes, or until `messages_max` messages were taken. False: that, or it said kMore.
inline bool read_on(assay::MessageReader& reader, StreamRead& read, size_t messages_max = std::numeric_limits<size_t>::max()) {
  using Next = assay::MessageReader::Next;
  for (; messages_max > 0; --messages_max) {
    std::string_view message;
    switch (reader.next(&message)) {
      case Next::kMessage: read.messages.emplace_back(message); continue;
      case Next::kMore: return false;
      case Next::kEnd: return true;
      case Next::kFailed:
        read.error = reader.error();
        read.error_text = reader.error_text();
        return true;
    }
  }
  reader.keep();
  return false;
}

// Reads `bytes` with a MessageReader: appended in pieces whose sizes `piece()` gives (0 too), with `taken()` messages taken after
// each. Each piece is a block of its own that is gone before the next comes, so that ASAN sees a view that outlives it.
template <typename Piece, typename Taken>
StreamRead read_in_pieces(std::string_view bytes, assay::MessageEncoding encoding, size_t bytes_max, Piece piece, Taken taken) {
  assay::MessageReader reader(bytes_max, encoding);
  StreamRead read;
  while (!bytes.empty()) {
    const size_t size = std::min<size_t>(piece(), bytes.size());
    const std::vector<char> block(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    bytes.remove_prefix(size);
    reader.append({block.data(), block.size()});
    if (read_on(reader, read, taken())) return read;
  }
  reader.end();
  ASSAY_ASSERT(read_on(reader, read));
  return read;
}

}  // namespace fixture
