// Encodes what an audit segment is made of (segment_layout.h). Pure: no file.
#pragma once

#include <string>
#include <string_view>

#include "core/audit/segment_layout.h"

namespace assay::audit {

// What headers call a key by. It tells nothing of the key.
KeyId key_id(std::string_view key) noexcept;

std::string encode_header(const SegmentHeader& header);

// Appends one record to a payload. REQUIRES: at most kRecordBytesMax.
void append_record(std::string_view record, std::string& payload);

// The whole block. `chain` is the one before it, and becomes the one after it. REQUIRES: a payload of at most kPayloadBytesMax.
void encode_block(std::string_view payload, uint64_t first_sequence, uint32_t records, int64_t written_us, Digest32& chain,
                  std::string& out);

}  // namespace assay::audit
