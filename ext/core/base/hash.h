// The two hashes that stored formats depend on. Both are frozen: changing either changes what is on disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace assay {

// XXH64 (xxHash specification 0.1.1, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), seed 0. Event
// fingerprints, entity digests, distinct values. Not a defence against someone who chooses ids: those come from the bank.
uint64_t xxh64(std::string_view bytes) noexcept;

// CRC-32C (Castagnoli, RFC 3720 appendix B.4): reflected polynomial 0x82f63b78. Uses the processor's instruction where it
// has one. `crc` continues an earlier call; start with 0.
uint32_t crc32c(const void* data, size_t bytes, uint32_t crc = 0) noexcept;

}  // namespace assay
