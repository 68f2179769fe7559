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

// By its header: cheap.
bool may_be_block(std::string_view left) noexcept {
  const char* const at = left.data();
  if (left.size() < block_bytes(0) || std::memcmp(at, kBlockMagic, 4) != 0) return false;
  const size_t payload_bytes = load<uint32_t>(at + 4);
  return payload_bytes <= kPayloadBytesMax && block_bytes(payload_bytes) <= left.size();
}

// All of the block that `left` begins with but whether it follows the one before: sequence and chain.
Code check_block(std::string_view left, Block* out) noexcept {
  if (!may_be_block(left)) return Code::kSegmentChecksum;
  const char* const at = left.data();
  const size_t payload_bytes = load<uint32_t>(at + 4);
  const size_t body_bytes = kBlockHeaderBytes + payload_bytes;
  const size_t chained_bytes = body_bytes + sizeof(Digest32);
  if (load<uint32_t>(at + chained_bytes) != crc32c(at, chained_bytes)) return Code::kSegmentChecksum;
  if (load<uint32_t>(at + 20) != 0) return Code::kSegmentVersion;
  out->first_sequence = load<uint64_t>(at + 8);
  out->record_count = load<uint32_t>(at + 16);
  out->written_us = load<int64_t>(at + 24);
  out->payload = left.substr(kBlockHeaderBytes, payload_bytes);
  out->chain = load<Digest32>(at + body_bytes);
  return has_records(out->payload, out->record_count) ? Code::kOk : Code::kSegmentChecksum;
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
  if (left.empty() || (left.size() >= 4 && load<uint32_t>(left.data()) == 0)) return false;
  Block block;
  if (const Code code = check_block(left, &block); code != Code::kOk) return stop(code);
  block.offset = offset_;
  if (block.first_sequence != next_sequence_) return stop(Code::kSegmentSequence);
  if (checks_chain && chain_after(chain_, left.substr(0, kBlockHeaderBytes + block.payload.size())) != block.chain)
    return stop(Code::kSegmentChain);
  resume(block);
  *out = block;
  return true;
}

void SegmentReader::resume(const Block& block) noexcept {
  why_ = Code::kOk;
  chain_ = block.chain;
  next_sequence_ = block.first_sequence + block.record_count;
  offset_ = block.offset + block_bytes(block.payload.size());
}

bool find_block(std::string_view bytes, size_t starts_end, uint64_t sequence_min, uint64_t sequence_end, Block* out) noexcept {
  size_t checked_bytes_left = kScanFactor * bytes.size();
  for (size_t at = 0; at < starts_end && at + block_bytes(0) <= bytes.size(); at += 8) {
    const std::string_view left = bytes.substr(at);
    if (!may_be_block(left)) continue;
    const auto sequence = load<uint64_t>(left.data() + 8);
    if (sequence < sequence_min || sequence >= sequence_end) continue;
    const size_t payload_bytes = load<uint32_t>(left.data() + 4);
    if (payload_bytes > checked_bytes_left) return false;
    checked_bytes_left -= payload_bytes;
    if (check_block(left, out) != Code::kOk) continue;
    out->offset = at;
    return true;
  }
  return false;
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
