#include "core/explain/onnx_graph.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/wire/messages.h"
#include "core/wire/wire_fault.h"
#include "core/wire/wire_reader.h"

namespace assay::explain {
namespace {

constexpr uint32_t text_tag(uint32_t field) noexcept { return wire_tag(field, WireType::kDelimited); }
constexpr uint32_t varint_tag(uint32_t field) noexcept { return wire_tag(field, WireType::kVarint); }

enum TensorType : int32_t { kFloat = 1, kUint8 = 2, kDouble = 11 };

template <typename Value>
bool read_fixed(WireReader& in, double* value) noexcept {
  if constexpr (sizeof(Value) == sizeof(double)) return in.read_double(value);
  uint32_t bits = 0;
  if (!in.read_fixed32(&bits)) return false;
  float narrow = 0.0f;
  std::memcpy(&narrow, &bits, sizeof narrow);
  *value = narrow;
  return true;
}

bool has_room(size_t count) noexcept { return count < OnnxAttribute::kValuesMax; }

// Appends one value, or a packed list of them.
template <typename Value, typename Read>
bool append(WireReader& in, uint32_t tag, std::vector<Value>* values, Read&& read) {
  Value value{};
  if ((tag & 7) != static_cast<uint32_t>(WireType::kDelimited)) {
    if (!has_room(values->size()) || !read(in, &value)) return false;
    values->push_back(value);
    return true;
  }
  std::string_view payload;
  if (!in.read_delimited(&payload)) return false;
  WireReader packed = in.nested(payload);
  while (!packed.at_end()) {
    if (!has_room(values->size()) || !read(packed, &value)) return false;
    values->push_back(value);
  }
  return true;
}

bool read_integer(WireReader& in, int64_t* value) noexcept {
  uint64_t bits = 0;
  if (!in.read_varint(&bits)) return false;
  *value = static_cast<int64_t>(bits);
  return true;
}

template <typename Value>
bool append_raw(std::string_view raw, std::vector<double>* values) {
  if (raw.size() % sizeof(Value) != 0 || raw.size() / sizeof(Value) > OnnxAttribute::kValuesMax) return false;
  for (size_t at = 0; at < raw.size(); at += sizeof(Value)) {
    Value value{};
    std::memcpy(&value, raw.data() + at, sizeof value);
    values->push_back(static_cast<double>(value));
  }
  return true;
}

struct Tensor {
  int32_t type = 0;
  std::vector<int64_t> shape;
  std::string_view raw;
  std::vector<double> numbers;
  std::vector<int64_t> integers;
};

bool read_tensor(WireReader in, Tensor* tensor) {
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case text_tag(1):
      case varint_tag(1): return append(in, tag, &tensor->shape, read_integer);
      case varint_tag(2): return in.read_int32(&tensor->type);
      case text_tag(4):
      case wire_tag(4, WireType::kFixed32): return append(in, tag, &tensor->numbers, read_fixed<float>);
      case text_tag(5):
      case varint_tag(5): return append(in, tag, &tensor->integers, read_integer);
      case text_tag(9): return in.read_delimited(&tensor->raw);
      case text_tag(10):
      case wire_tag(10, WireType::kFixed64): return append(in, tag, &tensor->numbers, read_fixed<double>);
      default: return in.skip(tag);
    }
  });
}

bool take_numbers(const Tensor& tensor, std::vector<double>* values) {
  if (tensor.type == kFloat && !tensor.raw.empty()) return append_raw<float>(tensor.raw, values);
  if (tensor.type == kDouble && !tensor.raw.empty()) return append_raw<double>(tensor.raw, values);
  if (tensor.type == kUint8 && !tensor.raw.empty()) return append_raw<uint8_t>(tensor.raw, values);
  if (tensor.type == kUint8) {
    values->assign(tensor.integers.begin(), tensor.integers.end());
  } else {
    *values = tensor.numbers;
  }
  return tensor.type == kFloat || tensor.type == kDouble || tensor.type == kUint8;
}

// Field 1 of an attribute and of an input, 8 of a tensor.
bool read_name(WireReader in, std::string_view* name, uint32_t field = 1) noexcept {
  return for_each_field(in, [&](uint32_t tag) { return tag == text_tag(field) ? in.read_text(name, "name") : in.skip(tag); });
}

// Whether the shape says `count` elements.
bool has_elements(const std::vector<int64_t>& shape, size_t count) noexcept {
  uint64_t said = 1;
  for (const int64_t axis : shape) {
    if (axis <= 0 || static_cast<uint64_t>(axis) > OnnxAttribute::kValuesMax) return false;
    said *= static_cast<uint64_t>(axis);
    if (said > OnnxAttribute::kValuesMax) return false;
  }
  return said == count;
}

bool read_node(WireReader in, OnnxNode* node, size_t* parts_left) {
  return for_each_field(in, [&](uint32_t tag) {
    const char* const start = in.position();
    std::string_view payload;
    const bool is_part = tag == text_tag(1) || tag == text_tag(2) || tag == text_tag(5);
    if (is_part && (*parts_left)-- == 0) return in.fail(start, "more inputs and attributes than are looked at", "node");
    switch (tag) {
      case text_tag(1): return in.read_text(&node->inputs.emplace_back(), "input");
      case text_tag(2): return in.read_text(&node->outputs.emplace_back(), "output");
      case text_tag(4): return in.read_text(&node->op, "op_type");
      case text_tag(5): {
        std::string_view name;
        if (!in.read_delimited(&payload) || !read_name(in.nested(payload), &name)) return false;
        node->attributes.emplace_back(name, payload);
        return true;
      }
      case text_tag(7): return in.read_text(&node->domain, "domain");
      default: return in.skip(tag);
    }
  });
}

using Initializers = std::unordered_map<std::string_view, std::string_view>;

bool read_graph(WireReader in, std::vector<OnnxNode>* nodes, std::vector<std::string_view>* inputs, Initializers* initializers) {
  size_t parts_left = OnnxGraph::kPartsMax;
  return for_each_field(in, [&](uint32_t tag) {
    const char* const start = in.position();
    std::string_view payload;
    switch (tag) {
      case text_tag(1):
        if (nodes->size() == OnnxGraph::kNodesMax) return in.fail(start, "more nodes than are looked at", "node");
        return in.read_delimited(&payload) && read_node(in.nested(payload), &nodes->emplace_back(), &parts_left);
      case text_tag(5): {
        std::string_view name;
        if (initializers->size() == OnnxGraph::kNodesMax) return in.fail(start, "more tensors than are looked at", "initializer");
        if (!in.read_delimited(&payload) || !read_name(in.nested(payload), &name, 8)) return false;
        initializers->emplace(name, payload);
        return true;
      }
      case text_tag(11):
        if (inputs->size() == OnnxGraph::kNodesMax) return in.fail(start, "more inputs than are looked at", "input");
        return in.read_delimited(&payload) && read_name(in.nested(payload), &inputs->emplace_back());
      default: return in.skip(tag);
    }
  });
}

// Runs read(reader of the attribute's bytes) and says whether all of it was well.
template <typename Read>
bool decode(std::string_view bytes, Read&& read) {
  WireFault fault;
  return read(WireReader(bytes, fault));
}

}  // namespace

bool OnnxAttribute::integer(int64_t* value) const {
  *value = 0;
  return decode(bytes_, [&](WireReader in) {
    return for_each_field(in, [&](uint32_t tag) { return tag == varint_tag(3) ? read_integer(in, value) : in.skip(tag); });
  });
}

bool OnnxAttribute::number(double* value) const {
  *value = 0.0;
  return decode(bytes_, [&](WireReader in) {
    return for_each_field(
        in, [&](uint32_t tag) { return tag == wire_tag(2, WireType::kFixed32) ? read_fixed<float>(in, value) : in.skip(tag); });
  });
}

bool OnnxAttribute::text(std::string_view* value) const {
  *value = {};
  return decode(bytes_, [&](WireReader in) {
    return for_each_field(in, [&](uint32_t tag) { return tag == text_tag(4) ? in.read_delimited(value) : in.skip(tag); });
  });
}

bool OnnxAttribute::integers(std::vector<int64_t>* values) const {
  values->clear();
  return decode(bytes_, [&](WireReader in) {
    return for_each_field(in, [&](uint32_t tag) {
      return tag == varint_tag(8) || tag == text_tag(8) ? append(in, tag, values, read_integer) : in.skip(tag);
    });
  });
}

bool OnnxAttribute::texts(std::vector<std::string_view>* values) const {
  values->clear();
  return decode(bytes_, [&](WireReader in) {
    return for_each_field(in, [&](uint32_t tag) {
      if (tag != text_tag(9)) return in.skip(tag);
      return has_room(values->size()) && in.read_delimited(&values->emplace_back());
    });
  });
}

bool OnnxAttribute::tensor(std::string_view* bytes) const {
  *bytes = {};
  return decode(bytes_, [&](WireReader in) {
    return for_each_field(in, [&](uint32_t tag) { return tag == text_tag(5) ? in.read_delimited(bytes) : in.skip(tag); });
  });
}

bool OnnxAttribute::numbers(std::vector<double>* values, bool* are_doubles) const {
  values->clear();
  *are_doubles = false;
  return decode(bytes_, [&](WireReader in) {
    return for_each_field(in, [&](uint32_t tag) {
      if (tag == text_tag(7) || tag == wire_tag(7, WireType::kFixed32)) return append(in, tag, values, read_fixed<float>);
      if (tag != text_tag(5)) return in.skip(tag);
      std::string_view payload;
      Tensor tensor;
      const bool is_read = in.read_delimited(&payload) && read_tensor(in.nested(payload), &tensor);
      *are_doubles = tensor.type == kDouble;
      return is_read && take_numbers(tensor, values);
    });
  });
}

const OnnxAttribute* OnnxNode::find(std::string_view name) const noexcept {
  const auto found = std::find_if(attributes.begin(), attributes.end(), [&](const auto& one) { return one.name() == name; });
  return found == attributes.end() ? nullptr : &*found;
}

bool OnnxNode::is(std::string_view wanted_domain, std::string_view wanted_op) const noexcept {
  const std::string_view mine = domain == "ai.onnx" ? std::string_view() : domain;
  return mine == wanted_domain && op == wanted_op;
}

Status OnnxGraph::read(std::string_view model, OnnxGraph* out) {
  OnnxGraph graph;
  WireFault fault;
  WireReader in(model, fault);
  const bool is_read = for_each_field(in, [&](uint32_t tag) {
    std::string_view payload;
    if (tag != text_tag(7)) return in.skip(tag);
    return in.read_delimited(&payload) && read_graph(in.nested(payload), &graph.nodes_, &graph.inputs_, &graph.initializers_);
  });
  if (!is_read) return Status(Code::kExplainUnsupported, "the model cannot be read: " + fault_status(fault, model).detail);
  for (size_t i = 0; i < graph.nodes_.size(); ++i) {
    for (const std::string_view output : graph.nodes_[i].outputs) {
      if (!output.empty()) graph.maker_of_.emplace(output, i);
    }
  }
  const auto has_initializer = [&](std::string_view name) { return graph.initializers_.count(name) != 0; };
  graph.inputs_.erase(std::remove_if(graph.inputs_.begin(), graph.inputs_.end(), has_initializer), graph.inputs_.end());
  *out = std::move(graph);
  return Status();
}

bool OnnxGraph::constant(std::string_view name, OnnxConstant* out) const {
  std::string_view bytes;
  const auto found = initializers_.find(name);
  if (found != initializers_.end()) {
    bytes = found->second;
  } else {
    const OnnxNode* const maker = maker_of(name);
    const OnnxAttribute* const value = maker != nullptr && maker->is("", "Constant") ? maker->find("value") : nullptr;
    if (value == nullptr || !value->tensor(&bytes)) return false;
  }
  Tensor tensor;
  if (!decode(bytes, [&](WireReader in) { return read_tensor(in, &tensor); }) || tensor.type != kFloat) return false;
  OnnxConstant constant;
  if (!take_numbers(tensor, &constant.numbers) || !has_elements(tensor.shape, constant.numbers.size())) return false;
  constant.shape = std::move(tensor.shape);
  *out = std::move(constant);
  return true;
}

const OnnxNode* OnnxGraph::maker_of(std::string_view tensor) const noexcept {
  const auto found = maker_of_.find(tensor);
  return found == maker_of_.end() ? nullptr : &nodes_[found->second];
}

int OnnxGraph::input_index(std::string_view name) const noexcept {
  const auto found = std::find(inputs_.begin(), inputs_.end(), name);
  return found == inputs_.end() ? -1 : static_cast<int>(found - inputs_.begin());
}

}  // namespace assay::explain
