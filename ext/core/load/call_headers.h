// The header fields of a load run's calls.
#pragma once

#include <vector>

#include "core/base/status.h"
#include "core/load/load_connection.h"
#include "core/load/load_run.h"
#include "core/load/target.h"

namespace assay::load {

// kInvalidRequest: the method or the metadata cannot be sent.
Status check_call_headers(const LoadOptions& options);

// REQUIRES: check_call_headers().
Status make_call_headers(const LoadOptions& options, const Target& target, std::vector<Header>* headers);

}  // namespace assay::load
