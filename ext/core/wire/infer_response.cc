#include "core/wire/infer_response.h"

#include "core/wire/wire_writer.h"

namespace assay {
namespace {

constexpr size_t kTensorBytesGuess = 64;  // of a tensor's description beside its name

// Calls take(tensor) for each output that was asked for, in the model's order.
template <typename Take>
void for_each_wanted(const InferAnswer& answer, const InferSchema& schema, Take&& take) {
  for (size_t i = 0; i < schema.outputs.size(); ++i) {
    if ((answer.outputs_wanted >> i & 1) != 0) take(schema.outputs[i]);
  }
}

void append_shape(WireWriter& out, const InferTensor& tensor, size_t row_count) {
  size_t bytes = WireWriter::varint_bytes(row_count);
  for (const int64_t dim : tensor.shape.dims) bytes += WireWriter::varint_bytes(static_cast<uint64_t>(dim));
  out.put_length(3, bytes);
  out.put_raw_varint(row_count);
  for (const int64_t dim : tensor.shape.dims) out.put_raw_varint(static_cast<uint64_t>(dim));
}

}  // namespace

void append_infer_response(const InferAnswer& answer, const InferSchema& schema, std::string& out) {
  size_t bytes = answer.model.size() + answer.version.size() + answer.id.size() + kTensorBytesGuess;
  bytes += answer.row_count * infer_explained_row_bytes(answer.explained.wanted, answer.explained.elements);
  for_each_wanted(answer, schema, [&](const InferTensor& tensor) {
    bytes += kTensorBytesGuess + tensor.shape.name.size() + answer.row_count * tensor.row_bytes;
  });
  out.reserve(out.size() + bytes);
  WireWriter writer(out);
  writer.text(1, answer.model);
  writer.text(2, answer.version);
  writer.text(3, answer.id);
  for_each_wanted(answer, schema, [&](const InferTensor& tensor) {
    writer.message(5, [&] {
      writer.text(1, tensor.shape.name);
      writer.text(2, infer_datatype(tensor.shape.type));
      append_shape(writer, tensor, answer.row_count);
    });
  });
  append_explained_outputs(answer.explained, out);
  for_each_wanted(answer, schema, [&](const InferTensor& tensor) {
    writer.put_length(6, answer.row_count * tensor.row_bytes);
    for (size_t i = 0; i < answer.row_count; ++i) {
      out.append(reinterpret_cast<const char*>(answer.rows[i] + tensor.offset_bytes), tensor.row_bytes);
    }
  });
  append_explained_contents(answer.explained, out);
}

}  // namespace assay
