// What a row that has no score says, encoded. Off the hot path: made when something is wrong.
#pragma once

#include <memory>

#include "core/serving/slot.h"
#include "core/wire/response.h"

namespace assay {

inline std::unique_ptr<Failure> make_failure(const Status& status, const Violations* violations = nullptr) {
  return std::make_unique<Failure>(Failure{rpc_message(status, violations), encode_rpc_status(status, violations)});
}

}  // namespace assay
