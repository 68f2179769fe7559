// Decoding of inference.ModelInferRequest, straight from bytes into rows. Raw tensors are copied once.
//
// Three steps: scan_infer_request() checks every byte and finds the pieces; check_infer() holds them against a model's tensors and
// names all that is wrong; write_infer_rows() puts each row's elements where the model's runner gathers them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/features/transaction.h"
#include "core/wire/infer_schema.h"

namespace assay {

// A value of inference.InferParameter.
struct InferValue {
  enum class Kind : uint8_t { kNone, kBool, kInt64, kUint64, kDouble, kText };
  Kind kind = Kind::kNone;
  uint64_t bits = 0;  // of text: its length
  // 0, false, empty: as if the parameter were not there. (-0.0 is something.)
  bool is_nothing() const noexcept { return bits == 0; }
};

// One entry of inputs. The text points into the message.
struct InferInputScan {
  std::string_view name;
  std::string_view datatype;
  uint32_t rank = 0;  // may be more than `shape` keeps
  bool has_contents = false;
  std::array<int64_t, limits::kTensorRankMax> shape{};
  std::array<uint32_t, 9> element_counts{};  // by the field of InferTensorContents that holds them
};

// A `contents` of an input; protobuf lets one input have several.
struct InferContents {
  uint32_t input = 0;
  std::string_view bytes;
};

// A parameter that asks for what this server does not do.
struct InferRefusedParameter {
  const char* where = nullptr;  // "parameters", "inputs", "outputs"
  std::string_view key;
};

// The top level of one ModelInferRequest. One per thread, reused.
struct InferScan {
  std::string_view model;
  std::string_view version;
  std::string_view id;
  InferValue priority;
  InferValue timeout;
  std::vector<InferInputScan> inputs;
  std::vector<InferContents> contents;
  std::vector<std::string_view> outputs;  // the names asked for
  std::vector<std::string_view> raw;
  std::vector<InferRefusedParameter> refused;
};

// What a call asks of a model.
struct InferCall {
  uint32_t row_count = 0;
  uint64_t outputs_wanted = 0;                         // bit i: InferSchema::outputs[i]
  uint8_t explained_wanted = 0;                        // bit i: InferExplained i
  std::array<uint8_t, limits::kTensorsMax> sources{};  // for each input of the schema: which of the message's
};

// REQUIRES: `bytes` outlives every use of the scan. kMalformedMessage, kInvalidRequest (more tensors than any model has).
Status scan_infer_request(std::string_view bytes, InferScan& scan);

// priority: 0 or absent is the default (1 row: interactive, more: bulk); 1 is the highest, interactive; any other is bulk.
bool is_bulk(const InferScan& scan, uint32_t row_count) noexcept;

// Holds parameters, names, datatypes, shapes and sizes against the schema. timeout: microseconds; 0 or absent: none. kOk: `call` is
// filled, `violations` empty. kInvalidRequest: `violations` has every one. kEmptyBatch, kTooManyRows (more than rows_max).
// REQUIRES: `violations` is empty.
Status check_infer(const InferScan& scan, const InferSchema& schema, size_t rows_max, InferCall& call, Violations& violations);

// What the outputs that the call wants take in its answer. REQUIRES: check_infer() said kOk.
uint64_t infer_output_bytes(const InferSchema& schema, const InferCall& call) noexcept;

// Writes the elements of every row into rows[0..row_count). REQUIRES: check_infer() said kOk.
void write_infer_rows(const InferScan& scan, const InferSchema& schema, const InferCall& call, uint8_t* const* rows) noexcept;

}  // namespace assay
