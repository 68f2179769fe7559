// MGET in the words of a Redis: the question for records, and its answer.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/features/feature_reader.h"

namespace assay {

// The question for these keys, in place of what was in `command`. Throws std::bad_alloc.
void write_mget(const std::vector<std::string>& keys, std::string* command);

// One record a key, none (no bytes) where the answer says null; they point into it. `answer` is whole (RespScanner). False: it is no
// array of so many strings and nulls, and `records` mean nothing. A string without bytes is no record either: it passes no check,
// and says so.
bool read_mget(std::string_view answer, std::vector<FetchedRecord>* records) noexcept;

}  // namespace assay
