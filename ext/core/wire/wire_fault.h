// A WireFault as a Status: which byte, of which field, and why.
#pragma once

#include <string>

#include "core/wire/wire_reader.h"

namespace assay {

inline Status fault_status(const WireFault& fault, std::string_view bytes) {
  const size_t offset = static_cast<size_t>(fault.at - bytes.data());
  std::string detail = "byte " + std::to_string(offset);
  if (fault.field != nullptr) detail.append(" (").append(fault.field).append(")");
  detail.append(": ").append(fault.what);
  return Status(fault.code, std::move(detail), static_cast<uint32_t>(offset));
}

}  // namespace assay
