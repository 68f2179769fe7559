// Reads an audit segment, block by block, believing nothing. A fuzz target: any bytes are answered, none is read past.
#pragma once

#include <string_view>

#include "core/audit/segment_layout.h"
#include "core/base/status.h"

namespace assay::audit {

// A block that passed its checks. Views into the segment's bytes.
struct Block {
  uint64_t first_sequence = 0;
  uint32_t record_count = 0;
  int64_t written_us = 0;
  std::string_view payload;
  Digest32 chain{};   // after it, as it says
  size_t offset = 0;  // of the block in the segment
};

class SegmentReader {
 public:
  // `bytes` must outlive the reader. kSegmentMagic, kSegmentVersion, kSegmentChecksum: not the beginning of a segment of ours.
  static Code open(std::string_view bytes, SegmentReader* out) noexcept;

  const SegmentHeader& header() const noexcept { return header_; }

  // The next block; false at the end, and at the first one that does not pass: why() tells. `checks_chain`: whether the chain is
  // computed too, which takes most of the time.
  bool next(bool checks_chain, Block* out) noexcept;
  // Goes on behind a block that find_block() found, whatever stands before it. REQUIRES: its offset is in the segment.
  void resume(const Block& block) noexcept;
  // kOk: the segment ends where the last block did. kSegmentChecksum: what follows is torn, or damaged. kSegmentVersion: it has what
  // this reader does not know. kSegmentSequence: records
  // are missing or doubled. kSegmentChain: it was changed after it was written, or belongs to another log.
  Code why() const noexcept { return why_; }
  size_t offset() const noexcept { return offset_; }  // where the next block begins, or would
  uint64_t next_sequence() const noexcept { return next_sequence_; }
  const Digest32& chain() const noexcept { return chain_; }

 private:
  bool stop(Code why) noexcept {
    why_ = why;
    return false;
  }

  std::string_view bytes_;
  SegmentHeader header_;
  size_t offset_ = kSegmentHeaderBytes;
  uint64_t next_sequence_ = 0;
  Digest32 chain_{};
  Code why_ = Code::kOk;
};

// The first block that begins before `starts_end`, at a multiple of 8, passes every check but for its chain, and has one of these
// sequences: what can still be read behind damage. Bytes that only look like blocks are checked up to kScanFactor times the size of
// `bytes`, and then given up.
bool find_block(std::string_view bytes, size_t starts_end, uint64_t sequence_min, uint64_t sequence_end, Block* out) noexcept;
inline constexpr size_t kScanFactor = 8;

// Takes the next record off a payload. False: none is left, or (the payload is not empty) it is malformed.
bool next_record(std::string_view& payload, std::string_view* record) noexcept;

}  // namespace assay::audit
