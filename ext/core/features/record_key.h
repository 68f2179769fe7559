// The key of a row record in a remote store: `a1:{kind:id}:view:hash8`.
//
// Kind and id are percent-encoded (all but A-Z a-z 0-9 - . _ ~), so that an id may hold colons, braces or zero bytes. The braces are
// Redis Cluster's hash tag: all records of one entity lie on one node. hash8 is the first 8 hex digits of the view's hash: a view
// that keeps other bytes has other keys, so servers before and after a change share one store.
#pragma once

#include <string>
#include <string_view>

#include "core/features/view.h"

namespace assay {

// Appends the key. At most 3 * (2 * kNameBytesMax + kIdBytesMax) + 16 bytes.
void append_record_key(const ViewSpec& view, std::string_view entity_kind, std::string_view entity_id, std::string& out);

// Which record: one entity's of one view of a plan.
struct RecordRef {
  std::string key;
  uint32_t view_index = 0;
  std::string entity_id;
};

}  // namespace assay
