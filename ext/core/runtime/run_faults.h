// What ONNX Runtime's text of a failed run means. It has no codes for what goes wrong with a card, only texts: this is the one
// table of them. Python reads it too (_core.run_fault); models/cuda_errors.py has the advice for people.
#pragma once

#include <string_view>

#include "core/serving/runner.h"

namespace assay {

// `text`: as it comes, or as ort_message() left it. A text that no row of the table knows is kOther.
Fault run_fault(std::string_view text) noexcept;

}  // namespace assay
