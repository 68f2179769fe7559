// The texts in gRPC's headers and trailers, as https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md has them: timeouts,
// content types, messages of statuses, binary metadata. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace assay {

// What a longer timeout is read as: a hundred years. A monotonic clock's time can be added to it without a thought of overflow.
inline constexpr int64_t kGrpcTimeoutNsMax = int64_t{100} * 365 * 86'400 * 1'000'000'000;

// Reads grpc-timeout: 1 to 8 digits and one of H M S m u n. "0n" is a timeout, of a call that is late already. False: malformed,
// which the caller answers INTERNAL; `*ns` is unchanged.
bool parse_grpc_timeout(std::string_view text, int64_t* ns) noexcept;

// Whether a content-type is gRPC with protobuf: application/grpc or application/grpc+proto, in letters of any case, parameters or
// none. Not grpc-web, not another codec: the caller answers those with HTTP status 415.
bool is_grpc_content_type(std::string_view text) noexcept;

// `text` as grpc-message carries it: printable ASCII but '%' as it is, any other byte as %XX. So is a space at either end, because
// HTTP/2 lets no field value begin or end with one. At most `bytes_max` bytes: a longer text is cut in front of the first escape
// or UTF-8 sequence that does not fit whole.
std::string encode_grpc_message(std::string_view text, size_t bytes_max = std::numeric_limits<size_t>::max());

// Base64 of RFC 4648, section 4, without padding: the value of a -bin header.
std::string encode_base64(std::string_view bytes);

}  // namespace assay
