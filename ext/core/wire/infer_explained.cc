#include "core/wire/infer_explained.h"

#include <cmath>

#include "core/wire/wire_writer.h"

namespace assay {
namespace {

template <typename Take>
void for_each_wanted(uint8_t wanted, Take&& take) {
  for (size_t i = 0; i < kInferExplainedCount; ++i) {
    if ((wanted >> i & 1) != 0) take(static_cast<InferExplained>(i));
  }
}

void append_note(WireWriter& out, const char* name, std::string_view text) {
  out.message(4, [&] {
    out.text(1, name);
    out.message(2, [&] { out.text(3, text); });
  });
}

void append_shape(WireWriter& out, InferExplained output, const InferExplainedRows& explained) {
  const size_t columns = infer_explained_columns(output, explained.elements);
  const bool has_columns = output != InferExplained::kResidual;
  const size_t rows = explained.rows.size();
  out.put_length(3, WireWriter::varint_bytes(rows) + (has_columns ? WireWriter::varint_bytes(columns) : 0));
  out.put_raw_varint(rows);
  if (has_columns) out.put_raw_varint(columns);
}

size_t offset_of(InferExplained output, size_t elements) noexcept {
  size_t columns = 0;
  for (size_t i = 0; i < static_cast<size_t>(output); ++i)
    columns += infer_explained_columns(static_cast<InferExplained>(i), elements);
  return columns * sizeof(double);
}

}  // namespace

void append_explained_outputs(const InferExplainedRows& explained, std::string& out) {
  WireWriter writer(out);
  for_each_wanted(explained.wanted, [&](InferExplained output) {
    writer.message(5, [&] {
      writer.text(1, kInferExplainedNames[static_cast<size_t>(output)]);
      writer.text(2, "FP64");
      append_shape(writer, output, explained);
      append_note(writer, "method", explained.notes.method);
      append_note(writer, "margin_space", explained.notes.margin_space);
      append_note(writer, "background_sha256", explained.notes.background_sha256);
    });
  });
}

void append_explained_contents(const InferExplainedRows& explained, std::string& out) {
  WireWriter writer(out);
  for_each_wanted(explained.wanted, [&](InferExplained output) {
    const size_t bytes = infer_explained_columns(output, explained.elements) * sizeof(double);
    const std::vector<double> none(infer_explained_columns(output, explained.elements), NAN);
    writer.put_length(6, explained.rows.size() * bytes);
    for (const std::string_view row : explained.rows) {
      out.append(row.empty() ? reinterpret_cast<const char*>(none.data()) : row.data() + offset_of(output, explained.elements),
                 bytes);
    }
  });
}

uint64_t infer_explained_row_bytes(uint8_t wanted, size_t elements) noexcept {
  uint64_t bytes = 0;
  for_each_wanted(wanted, [&](InferExplained output) { bytes += infer_explained_columns(output, elements) * sizeof(double); });
  return bytes;
}

}  // namespace assay
