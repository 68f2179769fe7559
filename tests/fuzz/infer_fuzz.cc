// libFuzzer on ModelInferRequest: `make fuzz`. The input is the message.
//
// Beside what the sanitizers see (rows lie in blocks of exactly their size), it holds: the status of a refusal is well formed and fits
// into trailers; the names of an accepted request lie inside the message; a raw tensor's bytes arrive as they are, whole; every
// byte of a row that belongs to a tensor is written, and a truth is 0 or 1.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/wire/infer_request.h"
#include "refusal_fixture.h"

using namespace assay;

namespace {

constexpr size_t kRowsMax = 9;

struct Model {
  std::shared_ptr<const FeaturePlan> plan;
  InferSchema schema;
};

const Model& shared_model() {
  static const Model model = [] {
    Model made;
    ASSAY_ASSERT(FeaturePlan::of_tensors({{"x", TensorType::kFloat32, 6},
                                          {"n", TensorType::kInt64, 1},
                                          {"b", TensorType::kBool, 1},
                                          {"d", TensorType::kFloat64, 2},
                                          {"i", TensorType::kInt32, 3}},
                                         &made.plan)
                     .ok());
    ASSAY_ASSERT(InferSchema::make(*made.plan,
                                   {{"x", TensorType::kFloat32, {2, 3}, 0},
                                    {"n", TensorType::kInt64, {1}, 1},
                                    {"b", TensorType::kBool, {}, 2},
                                    {"d", TensorType::kFloat64, {2}, 3},
                                    {"i", TensorType::kInt32, {3}, 4}},
                                   {{"label", TensorType::kInt64, {}, 0}, {"p", TensorType::kFloat32, {2}, 1}}, &made.schema)
                     .ok());
    made.schema.explained_elements = 13;
    return made;
  }();
  return model;
}

bool is_inside(std::string_view text, std::string_view message) {
  return text.empty() || (text.data() >= message.data() && text.data() + text.size() <= message.data() + message.size());
}

// The rows, each in a block of its own, filled with `filling` before.
std::vector<std::unique_ptr<uint8_t[]>> write_rows(const InferScan& scan, const InferCall& call, uint8_t filling) {
  const Model& model = shared_model();
  std::vector<std::unique_ptr<uint8_t[]>> rows;
  std::vector<uint8_t*> pointers;
  for (uint32_t i = 0; i < call.row_count; ++i) {
    rows.emplace_back(new uint8_t[model.plan->row_bytes()]);
    std::memset(rows.back().get(), filling, model.plan->row_bytes());
    pointers.push_back(rows.back().get());
  }
  write_infer_rows(scan, model.schema, call, pointers.data());
  return rows;
}

void check_rows(const InferScan& scan, const InferCall& call) {
  const auto rows = write_rows(scan, call, 0x00), again = write_rows(scan, call, 0xff);
  const InferSchema& schema = shared_model().schema;
  for (size_t i = 0; i < schema.inputs.size(); ++i) {
    const InferTensor& tensor = schema.inputs[i];
    for (uint32_t row = 0; row < call.row_count; ++row) {
      const uint8_t* const bytes = rows[row].get() + tensor.offset_bytes;
      ASSAY_ASSERT(std::memcmp(bytes, again[row].get() + tensor.offset_bytes, tensor.row_bytes) == 0);
      if (tensor.shape.type == TensorType::kBool) ASSAY_ASSERT(*bytes <= 1);
      if (scan.raw.empty()) continue;
      const std::string_view raw = scan.raw[call.sources[i]];
      ASSAY_ASSERT(raw.size() == size_t{call.row_count} * tensor.row_bytes);
      ASSAY_ASSERT(std::memcmp(bytes, raw.data() + row * tensor.row_bytes, tensor.row_bytes) == 0);
    }
  }
}

void check_accepted(const InferScan& scan, const InferCall& call, std::string_view message) {
  ASSAY_ASSERT(call.row_count >= 1 && call.row_count <= kRowsMax);
  ASSAY_ASSERT(call.outputs_wanted < 4 && call.explained_wanted < 8);
  ASSAY_ASSERT(call.outputs_wanted != 0 || call.explained_wanted != 0);
  ASSAY_ASSERT(scan.id.size() <= limits::kIdBytesMax);
  for (const std::string_view text : {scan.model, scan.version, scan.id}) ASSAY_ASSERT(is_inside(text, message));
  is_bulk(scan, call.row_count);
  check_rows(scan, call);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static InferScan scan;
  const std::string_view message(reinterpret_cast<const char*>(data), size);
  Status status = scan_infer_request(message, scan);
  if (!status.ok()) return fixture::check_refusal(status, nullptr, message), 0;
  Violations violations;
  InferCall call;
  status = check_infer(scan, shared_model().schema, kRowsMax, call, violations);
  if (!status.ok()) return fixture::check_refusal(status, &violations, message), 0;
  check_accepted(scan, call, message);
  return 0;
}
