// Fold: a window record and a moment in, aggregates out.
#pragma once

#include <cstdint>

#include "core/features/embedded_store.h"
#include "core/features/view.h"

namespace assay {

// Folds every window (t - delay - w, t - delay] of a view at t = request.event_time_us, in one pass over the entries in reach.
// `record` has passed validate_record or is ours; null: an entity without events. Sets values[0, output_count) and `result`;
// allocates nothing. A sum past int64 becomes null and result->rejected kIntegerOverflow.
void fold_record(const ViewSchema& schema, const uint8_t* record, const FoldRequest& request, Value* values,
                 FoldResult* result) noexcept;

// The same for a view of either kind: what one entity's record (null: there is none) says at one moment. `arena` takes the text of
// attributes: kAttributesMax * kStringValueBytesMax bytes.
void fold_view(const ViewSchema& schema, const uint8_t* record, const FoldRequest& request, Value* values, FoldResult* result,
               char* arena) noexcept;

// For a record that may not be used, or could not be had: nulls, not zeros, since nothing is known of the entity.
void fold_unknown(const ViewSchema& schema, Code why, Value* values, FoldResult* result) noexcept;

}  // namespace assay
