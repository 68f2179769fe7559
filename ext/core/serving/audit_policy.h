// What the engine's owner decides about the audit log.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/audit/audit_log.h"

namespace assay {

// What stands of a row's inputs.
enum class AuditInputs : uint8_t { kFull = 0, kSample = 1, kDigest = 2 };

struct AuditPolicy {
  AuditInputs inputs = AuditInputs::kFull;
  uint32_t sample_one_in =
      100;          // kSample: transactions whose row is kept whole, by the hash of their id; of the others the digest
  std::string key;  // of digests and tokens, 32 bytes. Secret
};

// The log, and how this engine uses it. A null log: nothing is recorded.
struct EngineAudit {
  std::shared_ptr<audit::AuditLog> log;
  AuditPolicy policy;
};

}  // namespace assay
