#include "core/audit/checkpoint.h"

#include "core/wire/wire_writer.h"

namespace assay::audit {

const char* level_name(AuditLevel level) noexcept {
  switch (level) {
    case AuditLevel::kMemory: return "memory";
    case AuditLevel::kSpool: return "spool";
    case AuditLevel::kFsync: return "fsync";
  }
  return "";
}

const char* drop_name(AuditDrop drop) noexcept {
  switch (drop) {
    case AuditDrop::kSampled: return "sampled";
    case AuditDrop::kFull: return "full";
    case AuditDrop::kBuffer: return "buffer";
    case AuditDrop::kFailed: return "failed";
    case AuditDrop::kCount_: break;
  }
  return "";
}

std::string encode_checkpoint(CheckpointReason reason, int64_t now_us, const AuditCounts& counts, AuditLevel level,
                              std::string_view inputs, std::string_view software) {
  std::string bytes;
  WireWriter out(bytes);
  out.message(6, [&] {
    out.varint(1, static_cast<uint64_t>(reason));
    out.put_fixed64(2, static_cast<uint64_t>(now_us));
    out.varint(3, counts.recorded);
    for (size_t i = 0; i < counts.dropped.size(); ++i) {
      if (counts.dropped[i] == 0) continue;
      out.message(4, [&] {
        out.text(1, drop_name(static_cast<AuditDrop>(i)));
        out.varint(2, counts.dropped[i]);
      });
    }
    out.varint(5, counts.ring_dropped);
    out.text(6, level_name(level));
    out.text(7, inputs);
    out.text(8, software);
  });
  return bytes;
}

}  // namespace assay::audit
