#include "core/wire/explain_fields.h"

#include "core/wire/messages.h"

namespace assay {

bool read_explain_fields(WireReader in, ExplainFields* fields) noexcept {
  fields->is_set = true;
  return for_each_field(in, [&](uint32_t tag) {
    switch (tag) {
      case wire_tag(1, WireType::kVarint): return in.read_int32(&fields->when);
      case wire_tag(2, WireType::kFixed64): fields->has_min_score = true; return in.read_double(&fields->min_score);
      case wire_tag(3, WireType::kVarint): return in.read_uint32(&fields->top_k);
      case wire_tag(4, WireType::kVarint): return in.read_int32(&fields->players);
      case wire_tag(5, WireType::kVarint): return in.read_int32(&fields->mode);
      default: return in.skip(tag);
    }
  });
}

}  // namespace assay
