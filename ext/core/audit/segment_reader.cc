#include "core/audit/segment_reader.h"

#include <algorithm>
#include <cstring>

#include "core/base/blake2bp.h"
#include "core/base/hash.h"

namespace assay::audit {
namespace {

template <typename T>
T load(const char* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// What a later format may use.
bool are_zero(std::string_view bytes) noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; });
}

Digest32 chain_after(const Digest32& before, std::string_view block) noexcept {
  Blake2bp hash;
  hash.update({reinterpret_cast<const char*>(before.data()), before.size()});
  hash.update(block);
  return hash.finish();
}

// Whether the payload is exactly so many records.
bool has_records(std::string_view payload, uint32_t count) noexcept {
  std::string_view record;
  uint32_t found = 0;
  while (next_record(payload, &record)) ++found;
  return payload.empty() && found == count;
}

}  // namespace

Code SegmentReader::open(std::string_view bytes, SegmentReader* out) noexcept {
  const char* const at = bytes.data();
  if (bytes.size() < kSegmentHeaderBytes || std::memcmp(at, kSegmentMagic, 8) != 0) return Code::kSegmentMagic;
  if (load<uint32_t>(at + 8) != kSegmentFormat || load<uint32_t>(at + 12) != kSegmentHeaderBytes) return Code::kSegmentVersion;
  if (load<uint32_t>(at + 124) != crc32c(at, 124)) return Code::kSegmentChecksum;
  if (!are_zero(bytes.substr(56, 8)) || !are_zero(bytes.substr(96, 28))) return Code::kSegmentVersion;
  *out = SegmentReader();
  out->bytes_ = bytes;
  out->header_.first_sequence = load<uint64_t>(at + 16);
  out->header_.made_us = load<int64_t>(at + 24);
  out->header_.log_id = load<LogId>(at + 32);
  out->header_.key_id = load<KeyId>(at + 48);
  out->header_.chain = load<Digest32>(at + 64);
  out->next_sequence_ = out->header_.first_sequence;
  out->chain_ = out->header_.chain;
  return Code::kOk;
}

bool SegmentReader::next(bool checks_chain, Block* out) noexcept {
  if (why_ != Code::kOk) return false;
  const std::string_view left = bytes_.substr(offset_);
  const char* const at = left.data();
  if (left.empty() || (left.size() >= 4 && load<uint32_t>(at) == 0)) return false;
  if (left.size() < block_bytes(0) || std::memcmp(at, kBlockMagic, 4) != 0) return stop(Code::kSegmentChecksum);
  const size_t payload_bytes = load<uint32_t>(at + 4);
  if (payload_bytes > kPayloadBytesMax || block_bytes(payload_bytes) > left.size()) return stop(Code::kSegmentChecksum);
  const size_t body_bytes = kBlockHeaderBytes + payload_bytes;
  const size_t chained_bytes = body_bytes + sizeof(Digest32);
  if (load<uint32_t>(at + chained_bytes) != crc32c(at, chained_bytes)) return stop(Code::kSegmentChecksum);
  Block block;
  block.first_sequence = load<uint64_t>(at + 8);
  block.record_count = load<uint32_t>(at + 16);
  block.written_us = load<int64_t>(at + 24);
  block.payload = left.substr(kBlockHeaderBytes, payload_bytes);
  block.chain = load<Digest32>(at + body_bytes);
  block.offset = offset_;
  if (load<uint32_t>(at + 20) != 0) return stop(Code::kSegmentVersion);
  if (block.first_sequence != next_sequence_) return stop(Code::kSegmentSequence);
  if (!has_records(block.payload, block.record_count)) return stop(Code::kSegmentChecksum);
  if (checks_chain && chain_after(chain_, left.substr(0, body_bytes)) != block.chain) return stop(Code::kSegmentChain);
  chain_ = block.chain;
  next_sequence_ += block.record_count;
  offset_ += block_bytes(payload_bytes);
  *out = block;
  return true;
}

bool next_record(std::string_view& payload, std::string_view* record) noexcept {
  size_t bytes = 0, used = 0;
  for (int shift = 0;; shift += 7, ++used) {
    if (used >= payload.size() || shift > 14) return false;  // three bytes hold every length that is allowed
    const auto byte = static_cast<uint8_t>(payload[used]);
    bytes |= static_cast<size_t>(byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  ++used;
  if (bytes > kRecordBytesMax || bytes > payload.size() - used) return false;
  *record = payload.substr(used, bytes);
  payload.remove_prefix(used + bytes);
  return true;
}

}  // namespace assay::audit
