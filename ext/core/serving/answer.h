// The last step of a call: its slots to the bytes of its answer.
#pragma once

#include "core/serving/calls.h"
#include "core/serving/engine.h"

namespace assay {

// Checks the deadline a last time and encodes. REQUIRES: the caller has claimed the call. Slots stay as they are, but for the
// outcome of rows that expire here, is_degraded and the last stamp.
Answer encode_answer(Calls& calls, uint32_t head, int64_t now_ns);

}  // namespace assay
