// libFuzzer on the audit segment reader: `make fuzz`. With an odd first byte the checksums are put right first, as somebody would who
// wants to be read; the rest is the segment.
//
// Beside what the sanitizers see, it holds: with the chain checked no more is read than without; blocks lie one behind the other and
// their records in them; a block that passes every check is what the writer makes of its records; what is found behind damage is a
// block as well.
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/audit/segment_reader.h"
#include "core/audit/segment_writer.h"
#include "core/base/hash.h"
#include "core/base/status.h"

using namespace assay;
using namespace assay::audit;

namespace {

void put_crc(std::string& bytes, size_t begin, size_t end) {
  const uint32_t crc = crc32c(bytes.data() + begin, end - begin);
  std::memcpy(bytes.data() + end, &crc, sizeof crc);
}

void mend_checksums(std::string& segment) {
  if (segment.size() < kSegmentHeaderBytes) return;
  put_crc(segment, 0, 124);
  for (size_t at = kSegmentHeaderBytes; at + block_bytes(0) <= segment.size();) {
    uint32_t payload_bytes;
    std::memcpy(&payload_bytes, segment.data() + at + 4, sizeof payload_bytes);
    if (payload_bytes > kPayloadBytesMax || at + block_bytes(payload_bytes) > segment.size()) return;
    put_crc(segment, at, at + kBlockHeaderBytes + payload_bytes + sizeof(Digest32));
    at += block_bytes(payload_bytes);
  }
}

// Whether the records fit into their block and nowhere else.
void check_records(const Block& block) {
  uint32_t count = 0;
  const char* at = block.payload.data();
  for (std::string_view payload = block.payload, record; next_record(payload, &record); ++count) {
    ASSAY_ASSERT(record.data() > at && record.data() + record.size() <= block.payload.data() + block.payload.size());
    at = record.data() + record.size() - (record.empty() ? 1 : 0);
  }
  ASSAY_ASSERT(count == block.record_count);
}

void check_written(const std::string& segment, const Block& block, const Digest32& before) {
  Digest32 chain = before;
  std::string written;
  encode_block(block.payload, block.first_sequence, block.record_count, block.written_us, chain, written);
  ASSAY_ASSERT(chain == block.chain);
  // All but the padding, which nothing reads, and the four bytes of the header that are zero.
  const size_t used = kBlockHeaderBytes + block.payload.size() + sizeof(Digest32);
  ASSAY_ASSERT(segment.compare(block.offset, used, written, 0, used) == 0);
}

// Behind what is not read: every block that is found lies further on, and has its records.
void check_rest(const std::string& segment, SegmentReader& reader) {
  Block block;
  for (size_t from = reader.offset();
       find_block(std::string_view(segment).substr(from), segment.size(), 0, UINT64_MAX, &block);) {
    check_records(block);
    block.offset += from;
    reader.resume(block);
    ASSAY_ASSERT(reader.offset() > from && reader.offset() <= segment.size());
    from = reader.offset();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string segment(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & 1) != 0) mend_checksums(segment);
  SegmentReader plain, chained;
  if (SegmentReader::open(segment, &plain) != Code::kOk) return 0;
  ASSAY_ASSERT(SegmentReader::open(segment, &chained) == Code::kOk);
  Block block, same;
  while (plain.next(false, &block)) {
    check_records(block);
    const Digest32 before = chained.chain();
    if (!chained.next(true, &same)) continue;
    ASSAY_ASSERT(same.offset == block.offset && same.payload == block.payload);
    check_written(segment, same, before);
  }
  ASSAY_ASSERT(chained.offset() <= plain.offset() && plain.offset() <= segment.size());
  check_rest(segment, plain);
  return 0;
}
