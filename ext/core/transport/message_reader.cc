#include "core/transport/message_reader.h"

#include <algorithm>
#include <limits>

#include "core/transport/grouped.h"
#include "core/transport/inflate.h"

namespace assay {
namespace {

// A buffer up to this is used again: nearly all messages fit, and a thousand idle streams hold 32 MiB at the very most.
constexpr size_t kSpareBytesMax = 16 * 1024;
// What comes out is at most so many times what went in, else it is counted as idle: transactions have 3 to 15.
constexpr size_t kUsualRatio = 32;

void clear_or_free(std::vector<char>* buffer) noexcept {
  if (buffer->capacity() > kSpareBytesMax) {
    std::vector<char>().swap(*buffer);
  } else {
    buffer->clear();
  }
}

const char* encoding_name(MessageEncoding encoding) noexcept {
  switch (encoding) {
    case MessageEncoding::kIdentity: return "identity";
    case MessageEncoding::kGzip: return "gzip";
    case MessageEncoding::kDeflate: return "deflate";
  }
  return "?";
}

std::string truncated_text(size_t came_bytes, uint32_t payload_bytes) {
  if (came_bytes < kMessagePrefixBytes) {
    return "the stream ended inside a message: " + grouped(came_bytes) + " of the 5 bytes in front of it came";
  }
  return "the stream ended inside a message: " + grouped(came_bytes - kMessagePrefixBytes) + " of its " + grouped(payload_bytes) +
         " bytes came";
}

}  // namespace

bool parse_message_encoding(std::string_view name, MessageEncoding* encoding) noexcept {
  for (const MessageEncoding known : {MessageEncoding::kIdentity, MessageEncoding::kGzip, MessageEncoding::kDeflate}) {
    if (name != encoding_name(known)) continue;
    *encoding = known;
    return true;
  }
  return false;
}

GrpcCode grpc_code(MessageError error) noexcept {
  switch (error) {
    case MessageError::kNone: return GrpcCode::kOk;
    case MessageError::kTooLarge:
    case MessageError::kInflatedTooLarge: return GrpcCode::kResourceExhausted;
    case MessageError::kBadFlag:
    case MessageError::kNoEncoding:
    case MessageError::kDamaged:
    case MessageError::kTruncated: return GrpcCode::kInternal;
  }
  return GrpcCode::kInternal;
}

std::string MessageReader::error_text() const {
  const std::string limit = grouped(message_bytes_max_);
  switch (error_) {
    case MessageError::kNone: break;
    case MessageError::kBadFlag:
      return "a message's compressed flag is " + std::to_string(prefix_.flag) + ", not 0 or 1: these are no gRPC messages";
    case MessageError::kNoEncoding: return "a message is flagged as compressed, but grpc-encoding does not say with what";
    case MessageError::kTooLarge: return "the message is " + grouped(prefix_.payload_bytes) + " bytes; the limit is " + limit;
    case MessageError::kInflatedTooLarge: return "the message inflates to more bytes than the limit, which is " + limit;
    case MessageError::kDamaged:
      return std::string("the message is not one stream of ") + encoding_name(encoding_) +
             " data, as grpc-encoding says: it is damaged, cut short, or has bytes behind its end";
    case MessageError::kTruncated: return truncated_text(came_bytes_, prefix_.payload_bytes);
  }
  return {};
}

void MessageReader::append(std::string_view data) noexcept {
  ASSAY_ASSERT(data_.empty() && !is_ended_);
  if (error_ == MessageError::kNone) data_ = data;
}

MessageReader::Next MessageReader::next(std::string_view* message) noexcept {
  if (error_ != MessageError::kNone) return Next::kFailed;
  release_last();
  return kept_bytes() == 0 ? next_in_place(message) : next_kept(message);
}

MessageReader::Next MessageReader::next_in_place(std::string_view* message) noexcept {
  if (data_.size() < kMessagePrefixBytes) return next_none();
  if (!accept_prefix(data_.data())) return Next::kFailed;
  if (data_.size() - kMessagePrefixBytes < prefix_.payload_bytes) return next_none();
  const std::string_view payload = data_.substr(kMessagePrefixBytes, prefix_.payload_bytes);
  data_.remove_prefix(kMessagePrefixBytes + payload.size());
  return open(payload, message);
}

MessageReader::Next MessageReader::next_kept(std::string_view* message) noexcept {
  if (!gather(kMessagePrefixBytes)) return next_none();
  if (!accept_prefix(kept_.data() + kept_at_)) return Next::kFailed;
  if (!gather(kMessagePrefixBytes + prefix_.payload_bytes)) return next_none();
  const std::string_view payload(kept_.data() + kept_at_ + kMessagePrefixBytes, prefix_.payload_bytes);
  kept_at_ += kMessagePrefixBytes + payload.size();
  return open(payload, message);
}

// No whole message is there: keeps the piece of one, if there is one.
MessageReader::Next MessageReader::next_none() noexcept {
  keep();
  if (!is_ended_) return Next::kMore;
  if (kept_bytes() == 0) return Next::kEnd;
  came_bytes_ = kept_bytes();
  return fail(MessageError::kTruncated);
}

// Gives back what the last message lay in. Bytes behind it are moved to the front once they are the lesser part, so that a buffer
// that never runs empty does not grow for ever, and no byte is moved often.
void MessageReader::release_last() noexcept {
  clear_or_free(&inflated_);
  if (kept_at_ == 0 || kept_at_ < kept_bytes()) return;
  kept_.erase(kept_.begin(), kept_.begin() + static_cast<ptrdiff_t>(kept_at_));
  kept_at_ = 0;
  if (kept_.empty()) clear_or_free(&kept_);
}

// Whether kept_ has `bytes` of the next message, once it was given what it lacks.
bool MessageReader::gather(size_t bytes) noexcept {
  const size_t missing = bytes - std::min(bytes, kept_bytes());
  copy_from_data(std::min(missing, data_.size()), kept_at_ + bytes);
  return kept_bytes() >= bytes;
}

void MessageReader::keep() noexcept { copy_from_data(data_.size(), std::numeric_limits<size_t>::max()); }

// Moves the first `bytes` of data_ to the end of kept_. That grows twofold, so that what comes in many pieces is not copied over
// and over, but not past the capacity that is wanted in the end.
void MessageReader::copy_from_data(size_t bytes, size_t capacity_wanted) noexcept {
  if (bytes == 0) return;
  const size_t size = kept_.size() + bytes;
  if (size > kept_.capacity()) kept_.reserve(std::max(size, std::min(kept_.capacity() * 2, capacity_wanted)));
  kept_.insert(kept_.end(), data_.begin(), data_.begin() + static_cast<ptrdiff_t>(bytes));
  data_.remove_prefix(bytes);
}

// Reads the prefix and says whether its message is wanted; if not, the reader has failed.
bool MessageReader::accept_prefix(const char* bytes) noexcept {
  prefix_ = read_message_prefix(bytes);
  if (prefix_.flag > 1) return fail(MessageError::kBadFlag), false;
  if (prefix_.flag == 1 && encoding_ == MessageEncoding::kIdentity) return fail(MessageError::kNoEncoding), false;
  if (prefix_.payload_bytes > message_bytes_max_) return fail(MessageError::kTooLarge), false;
  return true;
}

MessageReader::Next MessageReader::open(std::string_view payload, std::string_view* message) noexcept {
  if (prefix_.flag == 1 && !payload.empty())
    return open_compressed(payload, message);  // no bytes are no message compressed: as gRPC
  *message = payload;
  return Next::kMessage;
}

MessageReader::Next MessageReader::open_compressed(std::string_view payload, std::string_view* message) noexcept {
  const auto format = encoding_ == MessageEncoding::kGzip ? CompressedFormat::kGzip : CompressedFormat::kZlib;
  const InflateResult result = inflate_bytes(format, payload, message_bytes_max_, &inflated_);
  const size_t came_out = result == InflateResult::kOk ? inflated_.size() : message_bytes_max_;
  idle_bytes_ += came_out - std::min(came_out, kUsualRatio * payload.size());
  switch (result) {
    case InflateResult::kOk: break;
    case InflateResult::kTooLarge: return fail(MessageError::kInflatedTooLarge);
    case InflateResult::kDamaged: return fail(MessageError::kDamaged);
  }
  *message = std::string_view(inflated_.data(), inflated_.size());
  return Next::kMessage;
}

// Final: nothing more is read, and nothing is held.
MessageReader::Next MessageReader::fail(MessageError error) noexcept {
  error_ = error;
  data_ = {};
  kept_at_ = 0;
  std::vector<char>().swap(kept_);
  std::vector<char>().swap(inflated_);
  return Next::kFailed;
}

}  // namespace assay
