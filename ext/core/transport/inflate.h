// Inflation within bounds: what a client compressed, as far as a limit and no further.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace assay {

// grpc-encoding's two names. gRPC's "deflate" is the zlib format; the bare stream that some call deflate is damaged here.
enum class CompressedFormat : uint8_t {
  kGzip,  // RFC 1952
  kZlib,  // RFC 1950
};

enum class InflateResult : uint8_t {
  kOk,
  kTooLarge,  // more than bytes_max comes out
  kDamaged,   // not the format, cut short, a wrong checksum, or bytes after the end of the stream
};

// Inflates all of `compressed` into `*out`, whose old content is dropped; empty unless kOk. One stream and no byte behind it:
// several gzip members after one another, which RFC 1952 allows in a file, are damaged, as they are for gRPC's own servers.
//
// Memory is bounded by what came out, not by what a header says will: `*out` begins at four times the input and doubles, up to
// bytes_max + 1; while it grows the old one is there too, so that less than twice the limit is held. zlib itself takes 40 KiB,
// given back before the return. Out of memory ends the process. Any thread.
//
// REQUIRES: compressed.size() <= UINT32_MAX, bytes_max < SIZE_MAX.
InflateResult inflate_bytes(CompressedFormat format, std::string_view compressed, size_t bytes_max,
                            std::vector<char>* out) noexcept;

}  // namespace assay
