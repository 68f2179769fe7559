// The bytes of an audit segment: a header, then blocks. docs/audit-format.md has the same tables for people and other languages.
//
// All numbers are little-endian. A segment is allocated whole and filled from the front: it ends where the next block would begin
// and four zero bytes stand. A block is what was committed together; nothing in a torn one was ever acknowledged.
//
//   header   0 magic "ASAYAUD1"   8 u32 format   12 u32 header bytes   16 u64 sequence of the first record   24 i64 made at, us
//            32 u8[16] id of the log   48 u8[8] id of the key   56 u8[8] zero   64 u8[32] chain before it   96 u8[28] zero
//            124 u32 CRC-32C of bytes 0 to 123
//   block    0 magic "ABLK"   4 u32 payload bytes   8 u64 sequence of its first record   16 u32 records   20 u32 zero
//            24 i64 written at, us   32 payload, then u8[32] chain, u32 CRC-32C of all before it in the block, zeros to a multiple of 8
//   payload  for each record: varint of its bytes, an assay.v1.AuditRecord
//
// CHAIN. chain = BLAKE2bp(chain before || the block's header || payload), 32 bytes (base/blake2bp.h). Before the first block it is
// what the segment's header says: the chain after the segment before it, 32 zero bytes in the first of a log. Who changes, takes out
// or adds a record breaks it for all that follow. Who cuts the end off does not: that is why every record leaves the machine for a
// sink.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/base/blake2b.h"

namespace assay::audit {

inline constexpr char kSegmentMagic[] = "ASAYAUD1";
inline constexpr char kBlockMagic[] = "ABLK";
inline constexpr uint32_t kSegmentFormat = 1;
inline constexpr size_t kSegmentHeaderBytes = 128;
inline constexpr size_t kBlockHeaderBytes = 32;
inline constexpr size_t kBlockTrailerBytes = 36;       // chain and CRC
inline constexpr size_t kRecordBytesMax = 64 << 10;    // 512 inputs, their names and all that stands beside them are less
inline constexpr size_t kPayloadBytesMax = 256 << 10;  // of one block
inline constexpr size_t kSegmentBytesMin = 1 << 20;
inline constexpr size_t kSegmentBytesMax = 1 << 30;

using LogId = std::array<uint8_t, 16>;
using KeyId = std::array<uint8_t, 8>;

struct SegmentHeader {
  uint64_t first_sequence = 0;
  int64_t made_us = 0;  // wall clock
  LogId log_id{};
  KeyId key_id{};  // of the key of its digests and tokens
  Digest32 chain{};
};

constexpr size_t block_bytes(size_t payload_bytes) noexcept {
  return (kBlockHeaderBytes + payload_bytes + kBlockTrailerBytes + 7) / 8 * 8;
}

}  // namespace assay::audit
