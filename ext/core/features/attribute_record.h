// Attribute records: the newest typed values of one entity. docs/row-record.md has the bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/status.h"
#include "core/features/embedded_store.h"
#include "core/features/view.h"

namespace assay {

// The longest attribute record of any view.
inline constexpr size_t kAttributeRecordBytesMax = 128 + 8 + limits::kAttributesMax * (8 + limits::kStringValueBytesMax);

// Writes a record of `values` (one per attribute, typed as declared or null) into `out`, which has kAttributeRecordBytesMax
// bytes. kWrongType, kNotFinite, kTooLong, kBadTimestamp: nothing useful was written.
Code build_attribute_record(const ViewSchema& schema, uint64_t digest, int64_t time_us, const Value* values,
                            uint8_t* out) noexcept;

// What happens to `known` when `offered` comes: kOk replaces it, kEventTooLate (older), kEventDuplicate (the same time and
// values). At the same time with other values, what came last stands: a corrected file may be loaded again.
Code compare_attribute_records(const uint8_t* known, const uint8_t* offered) noexcept;

// Reads a validated record. Text is copied to `arena` (kAttributesMax * kStringValueBytesMax bytes). Values newer than the
// request are given too, with a negative age.
void read_attributes(const ViewSchema& schema, const uint8_t* record, int64_t event_time_us, Value* values, FoldResult* result,
                     char* arena) noexcept;

// Whether everything behind the checked header is as build_attribute_record writes it.
bool is_attribute_layout(const ViewSchema& schema, const uint8_t* bytes, size_t size) noexcept;

}  // namespace assay
