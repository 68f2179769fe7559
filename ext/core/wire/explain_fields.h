// ExplainFields: an assay.v1.ExplainOptions as it stands on the wire. What its numbers mean is checked where it is used.
#pragma once

#include <cstdint>

#include "core/wire/wire_reader.h"

namespace assay {

struct ExplainFields {
  bool is_set = false;  // the message was there, perhaps empty
  bool has_min_score = false;
  int32_t when = 0;
  int32_t players = 0;
  int32_t mode = 0;
  uint32_t top_k = 0;
  double min_score = 0.0;
};

// Reads the message's payload over what `fields` has: several occurrences of a message merge. False: the reader's fault says why.
bool read_explain_fields(WireReader in, ExplainFields* fields) noexcept;

}  // namespace assay
