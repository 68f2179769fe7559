// check_infer(): does a ModelInferRequest fit the model? Names everything that is wrong with it.
#include <algorithm>
#include <string>

#include "core/wire/infer_explained.h"
#include "core/wire/infer_request.h"

namespace assay {
namespace {

constexpr size_t kNamesShownMax = 8;

// The field of InferTensorContents that holds a type's elements.
uint32_t contents_field(TensorType type) noexcept {
  switch (type) {
    case TensorType::kBool: return 1;
    case TensorType::kInt32: return 2;
    case TensorType::kInt64: return 3;
    case TensorType::kFloat32: return 6;
    case TensorType::kFloat64: return 7;
  }
  return 0;
}

constexpr const char* kContentsNames[] = {"",
                                          "bool_contents",
                                          "int_contents",
                                          "int64_contents",
                                          "uint_contents",
                                          "uint64_contents",
                                          "fp32_contents",
                                          "fp64_contents",
                                          "bytes_contents"};

std::string path(const char* list, std::string_view name) { return std::string(list) + "[\"" + printable(name) + "\"]"; }

std::string names_of(const std::vector<InferTensor>& tensors) {
  std::string names;
  for (size_t i = 0; i < std::min(tensors.size(), kNamesShownMax); ++i) {
    names += (i == 0 ? "" : ", ") + printable(tensors[i].shape.name);
  }
  return tensors.size() > kNamesShownMax ? names + ", ..." : names;
}

// Index of a tensor, or -1. Clients send tensors in the model's order, so the first guess is nearly always right.
int find_tensor(const std::vector<InferTensor>& tensors, std::string_view name, size_t guess) noexcept {
  if (guess < tensors.size() && tensors[guess].shape.name == name) return static_cast<int>(guess);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].shape.name == name) return static_cast<int>(i);
  }
  return -1;
}

// Of InferExplained; kInferExplainedCount: none.
size_t find_explained(std::string_view name) noexcept {
  const auto found = std::find(kInferExplainedNames.begin(), kInferExplainedNames.end(), name);
  return static_cast<size_t>(found - kInferExplainedNames.begin());
}

bool has_shape(const InferInputScan& input, const InferTensor& tensor) noexcept {
  const std::vector<int64_t>& dims = tensor.shape.dims;
  return input.rank == dims.size() + 1 && std::equal(dims.begin(), dims.end(), input.shape.begin() + 1) && input.shape[0] >= 0;
}

std::string shape_text(const InferInputScan& input) {
  std::string text = "[";
  for (size_t i = 0; i < std::min<size_t>(input.rank, input.shape.size()); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(input.shape[i]);
  }
  return text + (input.rank > input.shape.size() ? ", ...]" : "]");
}

std::string wanted_shape(const InferTensor& tensor) {
  std::string text = "[rows";
  for (const int64_t dim : tensor.shape.dims) text += ", " + std::to_string(dim);
  return text + "]";
}

// One request against one schema.
class Check {
 public:
  Check(const InferScan& scan, const InferSchema& schema, InferCall& call, Violations& violations)
      : scan_(scan), schema_(schema), call_(call), violations_(violations) {}

  // Names, datatypes and shapes. True: every input of the model is there, and all have as many rows.
  bool inputs() {
    std::array<bool, limits::kTensorsMax> is_set{};
    for (size_t i = 0; i < scan_.inputs.size(); ++i) input(i, is_set);
    for (size_t i = 0; i < schema_.inputs.size(); ++i) {
      if (!is_set[i]) add(path("inputs", schema_.inputs[i].shape.name), "missing: the model takes it in every request");
    }
    if (has_fault_) return false;
    rows_ = scan_.inputs.empty() ? 0 : scan_.inputs[0].shape[0];
    for (const InferInputScan& one : scan_.inputs) {
      if (one.shape[0] != rows_) {
        add(path("inputs", one.name), "it has " + std::to_string(one.shape[0]) + " rows, the first input has " +
                                          std::to_string(rows_) + "; all inputs must have the same");
      }
    }
    return !has_fault_;
  }
  int64_t rows() const noexcept { return rows_; }

  // Whether the elements that were sent are as many as the shapes say. REQUIRES: inputs(); rows() is in range.
  void sizes() {
    if (!scan_.raw.empty() && scan_.raw.size() != scan_.inputs.size()) {
      return add("raw_input_contents", std::to_string(scan_.raw.size()) + " entries for " + std::to_string(scan_.inputs.size()) +
                                           " inputs; send one for each, in their order, or none and set contents");
    }
    for (size_t i = 0; i < schema_.inputs.size(); ++i) {
      const size_t source = call_.sources[i];
      if (scan_.raw.empty()) {
        typed(schema_.inputs[i], scan_.inputs[source]);
      } else {
        raw(schema_.inputs[i], scan_.inputs[source], scan_.raw[source]);
      }
    }
  }

  void outputs() {
    call_.outputs_wanted = 0;
    call_.explained_wanted = 0;
    for (size_t i = 0; i < scan_.outputs.size(); ++i) {
      const std::string_view name = scan_.outputs[i];
      const int index = find_tensor(schema_.outputs, name, i);
      if (index >= 0) {
        want(name, static_cast<size_t>(index), call_.outputs_wanted);
      } else if (const size_t explained = find_explained(name); explained < kInferExplainedCount) {
        want_explained(name, explained);
      } else {
        add(path("outputs", name),
            "the model gives no such output, or does not declare its size; it gives " + names_of(schema_.outputs));
      }
    }
    if (scan_.outputs.empty()) {
      for (size_t i = 0; i < schema_.outputs.size(); ++i) call_.outputs_wanted |= uint64_t{1} << i;
    }
  }

 private:
  void add(std::string field, std::string description) {
    has_fault_ = true;
    violations_.add(Code::kBadTensor, std::move(field), std::move(description));
  }

  template <typename Bits>
  void want(std::string_view name, size_t index, Bits& wanted) {
    const Bits bit = static_cast<Bits>(Bits{1} << index);
    if ((wanted & bit) != 0) add(path("outputs", name), "asked for twice; name each output once");
    wanted = static_cast<Bits>(wanted | bit);
  }

  void want_explained(std::string_view name, size_t index) {
    if (schema_.explained_elements > 0) return want(name, index, call_.explained_wanted);
    has_fault_ = true;
    violations_.add(Code::kExplainUnsupported, path("outputs", name),
                    "this model version has no background rows to explain against: leave it out, or pack the model with them");
  }

  void input(size_t i, std::array<bool, limits::kTensorsMax>& is_set) {
    const InferInputScan& sent = scan_.inputs[i];
    const int index = find_tensor(schema_.inputs, sent.name, i);
    if (index < 0) return add(path("inputs", sent.name), "the model takes no such input; it takes " + names_of(schema_.inputs));
    const InferTensor& tensor = schema_.inputs[static_cast<size_t>(index)];
    if (is_set[static_cast<size_t>(index)]) return add(path("inputs", sent.name), "sent twice; send each input once");
    is_set[static_cast<size_t>(index)] = true;
    call_.sources[static_cast<size_t>(index)] = static_cast<uint8_t>(i);
    if (sent.datatype != infer_datatype(tensor.shape.type)) {
      add(path("inputs", sent.name) + ".datatype", std::string("expected ") + infer_datatype(tensor.shape.type) + ", not \"" +
                                                       printable(sent.datatype) + "\"; nothing is converted");
    }
    if (!has_shape(sent, tensor)) {
      add(path("inputs", sent.name) + ".shape", "expected " + wanted_shape(tensor) + ", not " + shape_text(sent));
    }
  }

  void raw(const InferTensor& tensor, const InferInputScan& sent, std::string_view bytes) {
    if (sent.has_contents) { add(path("inputs", sent.name) + ".contents", "must be unset where raw_input_contents are sent"); }
    const size_t wanted = static_cast<size_t>(rows_) * tensor.row_bytes;
    if (bytes.size() != wanted) {
      return add("raw_input_contents", printable(sent.name) + " has " + std::to_string(bytes.size()) +
                                           " bytes, its shape makes " + std::to_string(wanted));
    }
    const auto is_no_bool = [](char byte) { return static_cast<uint8_t>(byte) > 1; };
    if (tensor.shape.type == TensorType::kBool && std::any_of(bytes.begin(), bytes.end(), is_no_bool)) {
      add("raw_input_contents", printable(sent.name) + " has a byte that is neither 0 nor 1; BOOL has no other");
    }
  }

  void typed(const InferTensor& tensor, const InferInputScan& sent) {
    const uint32_t field = contents_field(tensor.shape.type);
    for (uint32_t other = 1; other < sent.element_counts.size(); ++other) {
      if (other != field && sent.element_counts[other] > 0) {
        add(path("inputs", sent.name) + ".contents", std::string(infer_datatype(tensor.shape.type)) + " stands in " +
                                                         kContentsNames[field] + ", not in " + kContentsNames[other]);
      }
    }
    const uint64_t wanted = static_cast<uint64_t>(rows_) * (tensor.row_bytes / tensor_type_bytes(tensor.shape.type));
    if (sent.element_counts[field] != wanted) {
      add(path("inputs", sent.name) + ".contents", std::to_string(sent.element_counts[field]) + " elements in " +
                                                       kContentsNames[field] + ", its shape makes " + std::to_string(wanted));
    }
  }

  const InferScan& scan_;
  const InferSchema& schema_;
  InferCall& call_;
  Violations& violations_;
  int64_t rows_ = 0;
  bool has_fault_ = false;  // of tensors; the list may hold others
};

// A parameter that is a whole number of at least 0; absent is 0. False: it is something else.
bool is_count(const InferValue& value) noexcept {
  switch (value.kind) {
    case InferValue::Kind::kNone:
    case InferValue::Kind::kUint64: return true;
    case InferValue::Kind::kInt64: return static_cast<int64_t>(value.bits) >= 0;
    default: return false;
  }
}

void check_parameters(const InferScan& scan, Violations& violations) {
  const auto check = [&](const InferValue& value, const char* field) {
    if (!is_count(value)) violations.add(Code::kBadParameter, field, "expected an int64_param or uint64_param of at least 0");
  };
  check(scan.priority, "parameters[\"priority\"]");
  check(scan.timeout, "parameters[\"timeout\"]");
  for (const InferRefusedParameter& refused : scan.refused) {
    violations.add(Code::kBadParameter, path(refused.where, refused.key),
                   "this server has no sequences, shared memory, classification or binary data of HTTP: leave it out");
  }
  if (scan.id.size() > limits::kIdBytesMax) {
    violations.add(Code::kTooLong, "id", "at most " + std::to_string(limits::kIdBytesMax) + " bytes");
  }
}

}  // namespace

bool is_bulk(const InferScan& scan, uint32_t row_count) noexcept {
  return scan.priority.bits == 0 ? row_count > 1 : scan.priority.bits > 1;
}

Status check_infer(const InferScan& scan, const InferSchema& schema, size_t rows_max, InferCall& call, Violations& violations) {
  Check check(scan, schema, call, violations);
  if (check.inputs()) {
    if (check.rows() == 0) return Status(Code::kEmptyBatch);
    if (static_cast<uint64_t>(check.rows()) > rows_max) {
      return Status(Code::kTooManyRows,
                    std::to_string(check.rows()) + " rows, at most " + std::to_string(rows_max) + " in one call");
    }
    call.row_count = static_cast<uint32_t>(check.rows());
    check.sizes();
  }
  check.outputs();
  check_parameters(scan, violations);
  return violations.empty() ? Status() : Status(Code::kInvalidRequest);
}

}  // namespace assay
