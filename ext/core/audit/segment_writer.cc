#include "core/audit/segment_writer.h"

#include <cstring>

#include "core/base/blake2bp.h"
#include "core/base/hash.h"
#include "core/base/status.h"

namespace assay::audit {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "segments are written as memory has them");

template <typename T>
void store(char* at, const T& value) noexcept {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace

KeyId key_id(std::string_view key) noexcept { return blake2b<sizeof(KeyId)>("assay audit key", key); }

std::string encode_header(const SegmentHeader& header) {
  std::string bytes(kSegmentHeaderBytes, '\0');
  char* const at = bytes.data();
  std::memcpy(at, kSegmentMagic, 8);
  store(at + 8, kSegmentFormat);
  store(at + 12, static_cast<uint32_t>(kSegmentHeaderBytes));
  store(at + 16, header.first_sequence);
  store(at + 24, header.made_us);
  store(at + 32, header.log_id);
  store(at + 48, header.key_id);
  store(at + 64, header.chain);
  store(at + 124, crc32c(at, 124));
  return bytes;
}

void append_record(std::string_view record, std::string& payload) {
  ASSAY_ASSERT(record.size() <= kRecordBytesMax);
  size_t left = record.size();
  for (; left >= 0x80; left >>= 7) payload.push_back(static_cast<char>(left | 0x80));
  payload.push_back(static_cast<char>(left));
  payload.append(record);
}

void encode_block(std::string_view payload, uint64_t first_sequence, uint32_t records, int64_t written_us, Digest32& chain,
                  std::string& out) {
  ASSAY_ASSERT(payload.size() <= kPayloadBytesMax);
  const size_t body_bytes = kBlockHeaderBytes + payload.size();
  out.assign(block_bytes(payload.size()), '\0');
  char* const at = out.data();
  std::memcpy(at, kBlockMagic, 4);
  store(at + 4, static_cast<uint32_t>(payload.size()));
  store(at + 8, first_sequence);
  store(at + 16, records);
  store(at + 24, written_us);
  std::memcpy(at + kBlockHeaderBytes, payload.data(), payload.size());
  Blake2bp hash;
  hash.update({reinterpret_cast<const char*>(chain.data()), chain.size()});
  hash.update({at, body_bytes});
  chain = hash.finish();
  store(at + body_bytes, chain);
  store(at + body_bytes + chain.size(), crc32c(at, body_bytes + chain.size()));
}

}  // namespace assay::audit
