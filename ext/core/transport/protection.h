// Protection: what stands between a listener and the network: TLS, client certificates, and what each of those may do.
//
// Swapped whole while connections are open: new connections shake hands with the new certificate, open ones keep theirs, and
// every call from then on is asked for by the new roles.
#pragma once

#include <memory>

#include "core/transport/role_table.h"
#include "core/transport/tls.h"

namespace assay {

struct Protection {
  std::shared_ptr<const TlsContext> tls;  // null: plaintext
  std::shared_ptr<const RoleTable>
      roles;  // null: clients are not asked for certificates, and reaching the port is the permission
};

}  // namespace assay
