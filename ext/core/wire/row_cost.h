// What one row costs before it queues: scan, decode, fold, derive and convert, timed over many messages. For benchmarks.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/features/feature_reader.h"

namespace assay {

// Makes the row of every message (ScoreRequest bytes), `rounds` times over, and gives the nanoseconds of processor time that this took in all. A message that
// is refused ends it with its Status. Nothing is kept.
Status measure_rows(const FeatureReader& reader, const std::vector<std::string_view>& messages, uint32_t rounds,
                    int64_t* total_ns);

}  // namespace assay
