// Encoding of inference.ModelInferResponse. Outputs are raw, as Triton's are, however the inputs came.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/wire/infer_explained.h"
#include "core/wire/infer_schema.h"

namespace assay {

struct InferAnswer {
  std::string_view model;
  std::string_view version;
  std::string_view id;
  uint64_t outputs_wanted = 0;           // bits as InferCall
  const uint8_t* const* rows = nullptr;  // the outputs of each row, laid out by the schema
  size_t row_count = 0;
  InferExplainedRows explained;
};

// Appends to `out`, once it is grown to the size.
void append_infer_response(const InferAnswer& answer, const InferSchema& schema, std::string& out);

}  // namespace assay
