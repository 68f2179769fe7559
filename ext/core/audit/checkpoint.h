// Checkpoints: the audit log's own records, of what it has recorded and what it has not (assay.v1.CheckpointRecord).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace assay::audit {

enum class AuditLevel : uint8_t { kMemory = 0, kSpool = 1, kFsync = 2 };
const char* level_name(AuditLevel level) noexcept;

// Why a score has no record though it was given.
enum class AuditDrop : uint8_t {
  kSampled = 0,  // no room for segments: one in some is recorded
  kFull = 1,     // no room at all
  kBuffer = 2,   // came more quickly than the disk takes them
  kFailed = 3,   // the disk did not take it
  kCount_ = 4,
};
const char* drop_name(AuditDrop drop) noexcept;

struct AuditCounts {
  uint64_t recorded = 0;  // by this process
  std::array<uint64_t, static_cast<size_t>(AuditDrop::kCount_)> dropped{};
  uint64_t ring_dropped = 0;
};

// assay.v1.CheckpointReason.
enum class CheckpointReason : uint8_t { kStart = 1, kMinute = 2, kNoRoom = 3, kRoomAgain = 4, kEnd = 5 };

// The bytes of an AuditRecord.
std::string encode_checkpoint(CheckpointReason reason, int64_t now_us, const AuditCounts& counts, AuditLevel level,
                              std::string_view inputs, std::string_view software);

}  // namespace assay::audit
