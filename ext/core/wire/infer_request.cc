// scan_infer_request() and write_infer_rows(): the bytes. What they mean to a model stands in infer_check.cc.
#include "core/wire/infer_request.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/wire/infer_explained.h"
#include "core/wire/messages.h"
#include "core/wire/wire_fault.h"
#include "core/wire/wire_reader.h"

namespace assay {
namespace {

constexpr uint32_t text_tag(uint32_t field) noexcept { return wire_tag(field, WireType::kDelimited); }
constexpr uint32_t varint_tag(uint32_t field) noexcept { return wire_tag(field, WireType::kVarint); }

// Parameters that change what an answer means or where tensors are. All others are hints for servers that know them.
constexpr std::string_view kRefusedKeys[] = {"sequence_id",          "sequence_start",       "sequence_end",
                                             "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size",
                                             "classification",       "binary_data",          "binary_data_size",
                                             "binary_data_output"};
constexpr size_t kRefusedMax = 32;  // listed; there are no more violations in an answer

bool read_parameter(WireReader in, InferValue* value) noexcept {
  using Kind = InferValue::Kind;
  return for_each_field(in, [&](uint32_t tag) {
    const auto varint = [&](Kind kind) {
      value->kind = kind;
      return in.read_varint(&value->bits);
    };
    switch (tag) {
      case varint_tag(1): {
        bool is_set = false;
        if (!in.read_bool(&is_set)) return false;
        *value = {Kind::kBool, is_set ? 1u : 0u};
        return true;
      }
      case varint_tag(2): return varint(Kind::kInt64);
      case varint_tag(5): return varint(Kind::kUint64);
      case text_tag(3): {
        std::string_view text;
        if (!in.read_text(&text, "a parameter")) return false;
        *value = {Kind::kText, text.size()};
        return true;
      }
      case wire_tag(4, WireType::kFixed64): {
        double number = 0.0;
        if (!in.read_double(&number)) return false;
        value->kind = Kind::kDouble;
        std::memcpy(&value->bits, &number, sizeof number);
        return true;
      }
      default: return in.skip(tag);
    }
  });
}

bool read_parameter_entry(WireReader in, std::string_view* key, InferValue* value) noexcept {
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case text_tag(1): return in.read_text(key, "the name of a parameter");
      case text_tag(2): {
        std::string_view payload;
        return in.read_delimited(&payload, "a parameter") && read_parameter(in.nested(payload), value);
      }
      default: return in.skip(tag);
    }
  });
}

// Reads one entry of a map of parameters and keeps it if it means something here. `where` names the map.
bool scan_parameter(WireReader& in, const char* where, InferScan& scan) {
  std::string_view payload, key("", 0);
  InferValue value;
  if (!in.read_delimited(&payload, where) || !read_parameter_entry(in.nested(payload), &key, &value)) return false;
  const bool is_request = std::strcmp(where, "parameters") == 0;
  if (is_request && key == "priority") scan.priority = value;
  if (is_request && key == "timeout") scan.timeout = value;
  const bool is_refused = std::find(std::begin(kRefusedKeys), std::end(kRefusedKeys), key) != std::end(kRefusedKeys);
  if (is_refused && !value.is_nothing() && scan.refused.size() < kRefusedMax) scan.refused.push_back({where, key});
  return true;
}

// --- tensors

// The wire type of an element of InferTensorContents, by field.
constexpr WireType kElementTypes[] = {WireType::kVarint, WireType::kVarint, WireType::kVarint,  WireType::kVarint,
                                      WireType::kVarint, WireType::kVarint, WireType::kFixed32, WireType::kFixed64};
constexpr uint32_t kBytesField = 8;

bool read_element(WireReader& in, uint32_t field, uint64_t* bits) noexcept {
  if (kElementTypes[field] == WireType::kVarint) return in.read_varint(bits);
  if (kElementTypes[field] == WireType::kFixed64) {
    double value = 0.0;
    if (!in.read_double(&value)) return false;
    std::memcpy(bits, &value, sizeof value);
    return true;
  }
  uint32_t low = 0;
  if (!in.read_fixed32(&low)) return false;
  *bits = low;
  return true;
}

// Calls element(field, bits) for every element of an InferTensorContents, in order; packed or not.
template <typename Element>
bool read_contents(WireReader in, Element&& element) noexcept {
  return for_each_field(in, [&](uint32_t tag) {
    const uint32_t field = tag >> 3;
    const auto type = static_cast<WireType>(tag & 7);
    std::string_view payload;
    uint64_t bits = 0;
    if (tag == text_tag(kBytesField)) {  // of no model here, but counted
      if (!in.read_delimited(&payload, "contents")) return false;
      element(field, bits);
      return true;
    }
    if (field >= kBytesField) return in.skip(tag);
    if (type == kElementTypes[field]) {
      if (!read_element(in, field, &bits)) return false;
      element(field, bits);
      return true;
    }
    if (type != WireType::kDelimited) return in.skip(tag);
    if (!in.read_delimited(&payload, "contents")) return false;
    WireReader packed = in.nested(payload);
    while (!packed.at_end()) {
      if (!read_element(packed, field, &bits)) return false;
      element(field, bits);
    }
    return true;
  });
}

bool scan_axis(WireReader& in, InferInputScan& input) noexcept {
  uint64_t bits = 0;
  if (!in.read_varint(&bits)) return false;
  if (input.rank < input.shape.size()) input.shape[input.rank] = static_cast<int64_t>(bits);
  ++input.rank;
  return true;
}

bool scan_shape(WireReader& in, InferInputScan& input) noexcept {
  std::string_view payload;
  if (!in.read_delimited(&payload, "shape")) return false;
  WireReader packed = in.nested(payload);
  while (!packed.at_end()) {
    if (!scan_axis(packed, input)) return false;
  }
  return true;
}

static_assert(limits::kTensorsMax == 64, "the text below says 64");

bool refuse_more(WireReader& in, const char* at, const char* field) noexcept {
  return in.fail(at, "more than 64 entries; no model has so many tensors", field, Code::kInvalidRequest);
}

bool scan_contents(WireReader& in, uint32_t index, InferScan& scan) {
  std::string_view payload;
  if (!in.read_delimited(&payload, "contents")) return false;
  InferInputScan& input = scan.inputs[index];
  input.has_contents = true;
  if (payload.empty()) return true;
  // One for each tensor is what clients send. Each costs a walk for each tensor, and room that stays.
  if (scan.contents.size() == limits::kTensorsMax) return refuse_more(in, payload.data(), "contents");
  scan.contents.push_back({index, payload});
  return read_contents(in.nested(payload), [&](uint32_t field, uint64_t) { ++input.element_counts[field]; });
}

bool scan_input(WireReader in, InferScan& scan) {
  const auto index = static_cast<uint32_t>(scan.inputs.size());
  scan.inputs.emplace_back();
  return for_each_field(in, [&](uint32_t tag) {
    InferInputScan& input = scan.inputs[index];
    switch (tag) {
      case text_tag(1): return in.read_text(&input.name, "the name of an input");
      case text_tag(2): return in.read_text(&input.datatype, "datatype");
      case varint_tag(3): return scan_axis(in, input);
      case text_tag(3): return scan_shape(in, input);
      case text_tag(4): return scan_parameter(in, "inputs", scan);
      case text_tag(5): return scan_contents(in, index, scan);
      default: return in.skip(tag);
    }
  });
}

bool scan_output(WireReader in, InferScan& scan) {
  const size_t index = scan.outputs.size();
  scan.outputs.emplace_back("", 0);
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case text_tag(1): return in.read_text(&scan.outputs[index], "the name of an output");
      case text_tag(2): return scan_parameter(in, "outputs", scan);
      default: return in.skip(tag);
    }
  });
}

bool scan_fields(WireReader in, InferScan& scan) {
  return for_each_field(in, [&](uint32_t tag) {
    const char* const start = in.position();
    std::string_view payload;
    switch (tag) {
      case text_tag(1): return in.read_text(&scan.model, "model_name");
      case text_tag(2): return in.read_text(&scan.version, "model_version");
      case text_tag(3): return in.read_text(&scan.id, "id");
      case text_tag(4): return scan_parameter(in, "parameters", scan);
      case text_tag(5):
        if (scan.inputs.size() == limits::kTensorsMax) return refuse_more(in, start, "inputs");
        return in.read_delimited(&payload, "inputs") && scan_input(in.nested(payload), scan);
      case text_tag(6):
        if (scan.outputs.size() == limits::kTensorsMax) return refuse_more(in, start, "outputs");
        return in.read_delimited(&payload, "outputs") && scan_output(in.nested(payload), scan);
      case text_tag(7):
        if (scan.raw.size() == limits::kTensorsMax) return refuse_more(in, start, "raw_input_contents");
        return in.read_delimited(&scan.raw.emplace_back(), "raw_input_contents");
      default: return in.skip(tag);
    }
  });
}

void clear(InferScan& scan) noexcept {
  scan.model = scan.version = scan.id = {};
  scan.priority = scan.timeout = {};
  scan.inputs.clear();
  scan.contents.clear();
  scan.outputs.clear();
  scan.raw.clear();
  scan.refused.clear();
}

// --- rows

// Puts elements into rows one after the other.
class ElementWriter {
 public:
  ElementWriter(const InferTensor& tensor, uint8_t* const* rows) noexcept
      : width_(tensor_type_bytes(tensor.shape.type)), offset_(tensor.offset_bytes), end_(tensor.row_bytes), rows_(rows) {}

  void put(uint64_t bits) noexcept {  // little-endian, as the machine is
    std::memcpy(rows_[row_] + offset_ + at_, &bits, width_);
    at_ += width_;
    if (at_ < end_) return;
    at_ = 0;
    ++row_;
  }

 private:
  const uint32_t width_, offset_, end_;
  uint8_t* const* const rows_;
  size_t row_ = 0;
  uint32_t at_ = 0;
};

void write_raw(const InferTensor& tensor, std::string_view raw, uint32_t row_count, uint8_t* const* rows) noexcept {
  const char* from = raw.data();
  for (uint32_t i = 0; i < row_count; ++i, from += tensor.row_bytes) {
    std::memcpy(rows[i] + tensor.offset_bytes, from, tensor.row_bytes);
  }
}

void write_typed(const InferTensor& tensor, const InferScan& scan, uint32_t source, uint8_t* const* rows) noexcept {
  const bool is_bool = tensor.shape.type == TensorType::kBool;
  ElementWriter out(tensor, rows);
  WireFault fault;
  for (const InferContents& contents : scan.contents) {
    if (contents.input != source) continue;
    read_contents(WireReader(contents.bytes, fault), [&](uint32_t, uint64_t bits) { out.put(is_bool ? bits != 0 : bits); });
  }
}

}  // namespace

Status scan_infer_request(std::string_view bytes, InferScan& scan) {
  WireFault fault;
  clear(scan);
  return scan_fields(WireReader(bytes, fault), scan) ? Status() : fault_status(fault, bytes);
}

uint64_t infer_output_bytes(const InferSchema& schema, const InferCall& call) noexcept {
  uint64_t row_bytes = 0;
  for (size_t i = 0; i < schema.outputs.size(); ++i) {
    if ((call.outputs_wanted >> i & 1) != 0) row_bytes += schema.outputs[i].row_bytes;
  }
  row_bytes += infer_explained_row_bytes(call.explained_wanted, schema.explained_elements);
  return row_bytes * call.row_count;
}

void write_infer_rows(const InferScan& scan, const InferSchema& schema, const InferCall& call, uint8_t* const* rows) noexcept {
  for (size_t i = 0; i < schema.inputs.size(); ++i) {
    const InferTensor& tensor = schema.inputs[i];
    if (scan.raw.empty()) {
      write_typed(tensor, scan, call.sources[i], rows);
    } else {
      write_raw(tensor, scan.raw[call.sources[i]], call.row_count, rows);
    }
  }
}

}  // namespace assay
