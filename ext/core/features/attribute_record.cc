#include "core/features/attribute_record.h"

#include <cstring>

#include "core/features/cells.h"
#include "core/features/record.h"
#include "core/features/record_layout.h"

namespace assay {
namespace {

constexpr uint32_t kNullsOffset = kRecordHeaderBytes;      // u64, bit per attribute
constexpr uint32_t kCellsOffset = kRecordHeaderBytes + 8;  // text: u32 offset into the heap, u32 bytes
static_assert(limits::kAttributesMax <= 64, "nulls are one word");

uint64_t text_cell(uint32_t offset, uint32_t bytes) noexcept { return uint64_t{offset} | uint64_t{bytes} << 32; }
uint32_t text_offset(uint64_t cell) noexcept { return static_cast<uint32_t>(cell); }
uint32_t text_bytes(uint64_t cell) noexcept { return static_cast<uint32_t>(cell >> 32); }
uint32_t padded(uint32_t bytes) noexcept { return (bytes + 7) & ~7u; }

}  // namespace

Code build_attribute_record(const ViewSchema& schema, uint64_t digest, int64_t time_us, const Value* values,
                            uint8_t* out) noexcept {
  if (time_us < limits::kTimeUsMin || time_us > limits::kTimeUsMax) return Code::kBadTimestamp;
  const std::vector<AttributeSpec>& attributes = schema.spec().attributes;
  const uint32_t count = static_cast<uint32_t>(attributes.size());
  uint8_t* cells = out + kCellsOffset;
  uint8_t* heap = cells + 8 * count;
  uint32_t used = 0;
  uint64_t nulls = 0;
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t cell = 0;
    if (values[i].is_null()) {
      nulls |= uint64_t{1} << i;
    } else if (attributes[i].dtype == Dtype::kString) {
      if (values[i].dtype != Dtype::kString) return Code::kWrongType;
      if (values[i].text_bytes > limits::kStringValueBytesMax) return Code::kTooLong;
      cell = text_cell(used, values[i].text_bytes);
      if (values[i].text_bytes > 0) std::memcpy(heap + used, values[i].text, values[i].text_bytes);
      used += values[i].text_bytes;
    } else if (Code code = cell_of(attributes[i].dtype, values[i], &cell); code != Code::kOk) {
      return code;
    }
    store_le(cells + 8 * i, cell);
  }
  std::memset(heap + used, 0, padded(used) - used);
  init_window_record(schema, digest, out);
  out[header::kKind] = static_cast<uint8_t>(ViewKind::kAttributes);
  store_le(out + header::kNewestTime, time_us);
  store_le(out + header::kEntryCount, count);
  store_le(out + header::kHeapBytes, padded(used));
  store_le(out + header::kRecordBytes, kCellsOffset + 8 * count + padded(used));
  store_le(out + kNullsOffset, nulls);
  return Code::kOk;
}

Code compare_attribute_records(const uint8_t* known, const uint8_t* offered) noexcept {
  const int64_t known_us = load_le<int64_t>(known + header::kNewestTime);
  const int64_t offered_us = load_le<int64_t>(offered + header::kNewestTime);
  if (offered_us != known_us) return offered_us < known_us ? Code::kEventTooLate : Code::kOk;
  const uint32_t bytes = record_bytes(known);
  const bool is_same = bytes == record_bytes(offered) &&
                       std::memcmp(known + kRecordHeaderBytes, offered + kRecordHeaderBytes, bytes - kRecordHeaderBytes) == 0;
  return is_same ? Code::kEventDuplicate : Code::kOk;
}

void read_attributes(const ViewSchema& schema, const uint8_t* record, int64_t event_time_us, Value* values, FoldResult* result,
                     char* arena) noexcept {
  const std::vector<AttributeSpec>& attributes = schema.spec().attributes;
  const uint64_t nulls = load_le<uint64_t>(record + kNullsOffset);
  const uint8_t* cells = record + kCellsOffset;
  const uint8_t* heap = cells + 8 * attributes.size();
  for (size_t i = 0; i < attributes.size(); ++i) {
    const uint64_t cell = load_le<uint64_t>(cells + 8 * i);
    if ((nulls >> i) & 1) {
      values[i] = Value();
    } else if (attributes[i].dtype == Dtype::kString) {
      std::memcpy(arena, heap + text_offset(cell), text_bytes(cell));
      values[i] = Value::of(std::string_view(arena, text_bytes(cell)));
      arena += text_bytes(cell);
    } else {
      values[i] = value_of(attributes[i].dtype, cell);
    }
  }
  result->is_found = true;
  result->age_us = event_time_us - load_le<int64_t>(record + header::kNewestTime);
  result->is_stale = schema.spec().max_age_us > 0 && result->age_us > schema.spec().max_age_us;
}

bool is_attribute_layout(const ViewSchema& schema, const uint8_t* bytes, size_t size) noexcept {
  const std::vector<AttributeSpec>& attributes = schema.spec().attributes;
  const uint32_t heap_bytes = load_le<uint32_t>(bytes + header::kHeapBytes);
  if (load_le<uint32_t>(bytes + header::kEntryCount) != attributes.size()) return false;
  if (load_le<uint32_t>(bytes + header::kTileCount) != 0) return false;
  if (size != uint64_t{kCellsOffset} + 8 * attributes.size() + heap_bytes) return false;
  const uint64_t nulls = load_le<uint64_t>(bytes + kNullsOffset);
  if (attributes.size() < 64 && (nulls >> attributes.size()) != 0) return false;
  uint32_t used = 0;
  for (size_t i = 0; i < attributes.size(); ++i) {
    const bool is_null = (nulls >> i) & 1;
    const uint64_t cell = load_le<uint64_t>(bytes + kCellsOffset + 8 * i);
    if (attributes[i].dtype != Dtype::kString || is_null) {
      if (!is_cell(attributes[i].dtype, is_null, cell)) return false;
      continue;
    }
    if (text_offset(cell) != used || text_bytes(cell) > limits::kStringValueBytesMax) return false;
    used += text_bytes(cell);
  }
  if (heap_bytes != padded(used)) return false;
  const uint8_t* heap = bytes + kCellsOffset + 8 * attributes.size();
  for (uint32_t i = used; i < heap_bytes; ++i) {
    if (heap[i] != 0) return false;
  }
  return true;
}

}  // namespace assay
