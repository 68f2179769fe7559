// How a session of nghttp2 is made for a client's connection.
#pragma once

#include <nghttp2/nghttp2.h>

#include "core/transport/transport_options.h"

namespace assay {

class ServerConnection;

// False: out of memory. What nghttp2 then calls back goes to `connection`.
bool make_server_session(const TransportOptions& options, ServerConnection* connection, nghttp2_session** session);

// nghttp2's own limits on floods, as far as the installed version has them: distributions carry them back to versions whose
// number does not tell.
void set_flood_limits(nghttp2_option* option, const TransportOptions& options) noexcept;

// Of a header block that is sent on: what came within the limit, and what is added to it.
inline size_t sent_header_bytes_max(const TransportOptions& options) noexcept {
  return 2 * options.metadata_bytes_max + (64u << 10);
}

}  // namespace assay
