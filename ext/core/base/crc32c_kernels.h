// The two ways to compute CRC-32C, so that a test can hold one against the other on any processor. Callers use crc32c().
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay::crc32c_kernels {

bool has_instruction() noexcept;
// Slicing by eight, on any processor.
uint32_t by_table(const uint8_t* at, size_t bytes, uint32_t crc) noexcept;
// REQUIRES: has_instruction().
uint32_t by_instruction(const uint8_t* at, size_t bytes, uint32_t crc) noexcept;

}  // namespace assay::crc32c_kernels
