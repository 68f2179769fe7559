#include "core/base/hash.h"

#include <array>
#include <cstring>

#include "core/base/crc32c_kernels.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace assay {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored formats and hashes are read in place as little-endian");

template <typename T>
T load(const uint8_t* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// --- XXH64 ---

constexpr uint64_t kPrime1 = 0x9e3779b185ebca87;
constexpr uint64_t kPrime2 = 0xc2b2ae3d27d4eb4f;
constexpr uint64_t kPrime3 = 0x165667b19e3779f9;
constexpr uint64_t kPrime4 = 0x85ebca77c2b2ae63;
constexpr uint64_t kPrime5 = 0x27d4eb2f165667c5;

constexpr uint64_t rotate_left(uint64_t value, int bits) noexcept { return (value << bits) | (value >> (64 - bits)); }

constexpr uint64_t xxh64_round(uint64_t accumulator, uint64_t lane) noexcept {
  return rotate_left(accumulator + lane * kPrime2, 31) * kPrime1;
}

constexpr uint64_t xxh64_merge(uint64_t accumulator, uint64_t lane) noexcept {
  return (accumulator ^ xxh64_round(0, lane)) * kPrime1 + kPrime4;
}

// Takes whole stripes of 32 bytes and moves `at` past them.
uint64_t xxh64_stripes(const uint8_t*& at, const uint8_t* end) noexcept {
  uint64_t lane1 = kPrime1 + kPrime2, lane2 = kPrime2, lane3 = 0, lane4 = 0 - kPrime1;
  for (; end - at >= 32; at += 32) {
    lane1 = xxh64_round(lane1, load<uint64_t>(at));
    lane2 = xxh64_round(lane2, load<uint64_t>(at + 8));
    lane3 = xxh64_round(lane3, load<uint64_t>(at + 16));
    lane4 = xxh64_round(lane4, load<uint64_t>(at + 24));
  }
  uint64_t hash = rotate_left(lane1, 1) + rotate_left(lane2, 7) + rotate_left(lane3, 12) + rotate_left(lane4, 18);
  hash = xxh64_merge(hash, lane1);
  hash = xxh64_merge(hash, lane2);
  hash = xxh64_merge(hash, lane3);
  return xxh64_merge(hash, lane4);
}

}  // namespace

uint64_t xxh64(std::string_view bytes) noexcept {
  const uint8_t* at = reinterpret_cast<const uint8_t*>(bytes.data());
  const uint8_t* const end = at + bytes.size();
  uint64_t hash = bytes.size() >= 32 ? xxh64_stripes(at, end) : kPrime5;
  hash += bytes.size();
  for (; end - at >= 8; at += 8) hash = rotate_left(hash ^ xxh64_round(0, load<uint64_t>(at)), 27) * kPrime1 + kPrime4;
  if (end - at >= 4) {
    hash = rotate_left(hash ^ load<uint32_t>(at) * kPrime1, 23) * kPrime2 + kPrime3;
    at += 4;
  }
  for (; at != end; ++at) hash = rotate_left(hash ^ *at * kPrime5, 11) * kPrime1;
  hash = (hash ^ (hash >> 33)) * kPrime2;
  hash = (hash ^ (hash >> 29)) * kPrime3;
  return hash ^ (hash >> 32);
}

// --- CRC-32C ---

namespace {

using SliceTables = std::array<std::array<uint32_t, 256>, 8>;

// Table k advances a byte that stands k bytes before the end of an 8-byte slice.
constexpr SliceTables make_slice_tables() noexcept {
  SliceTables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr SliceTables kSlices = make_slice_tables();

}  // namespace

namespace crc32c_kernels {

uint32_t by_table(const uint8_t* at, size_t bytes, uint32_t crc) noexcept {
  crc = ~crc;
  for (; bytes >= 8; at += 8, bytes -= 8) {
    const uint64_t slice = load<uint64_t>(at) ^ crc;
    crc = 0;
    for (int k = 0; k < 8; ++k) crc ^= kSlices[7 - k][(slice >> (8 * k)) & 0xff];
  }
  for (; bytes > 0; ++at, --bytes) crc = (crc >> 8) ^ kSlices[0][(crc ^ *at) & 0xff];
  return ~crc;
}

#if defined(__x86_64__)

bool has_instruction() noexcept { return __builtin_cpu_supports("sse4.2") != 0; }

__attribute__((target("sse4.2"))) uint32_t by_instruction(const uint8_t* at, size_t bytes, uint32_t crc) noexcept {
  uint64_t wide = ~crc;
  for (; bytes >= 8; at += 8, bytes -= 8) wide = _mm_crc32_u64(wide, load<uint64_t>(at));
  uint32_t narrow = static_cast<uint32_t>(wide);
  for (; bytes > 0; ++at, --bytes) narrow = _mm_crc32_u8(narrow, *at);
  return ~narrow;
}

#else

bool has_instruction() noexcept { return false; }

uint32_t by_instruction(const uint8_t* at, size_t bytes, uint32_t crc) noexcept { return by_table(at, bytes, crc); }

#endif

}  // namespace crc32c_kernels

uint32_t crc32c(const void* data, size_t bytes, uint32_t crc) noexcept {
  static const bool has_instruction = crc32c_kernels::has_instruction();
  const uint8_t* const at = static_cast<const uint8_t*>(data);
  return has_instruction ? crc32c_kernels::by_instruction(at, bytes, crc) : crc32c_kernels::by_table(at, bytes, crc);
}

}  // namespace assay
