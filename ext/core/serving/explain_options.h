// How explanations are made, and how that goes (explanations.h).
#pragma once

#include <cstdint>
#include <memory>

namespace assay {

class ExplainFaults;

struct ExplainOptions {
  uint32_t threads = 1;
  uint32_t queue_rows_max = 1024;         // that wait, or are worked on
  int64_t inline_ns_max = 5'000'000;      // how long an interactive score waits for its explanation, if its deadline allows
  int64_t later_ns_max = 60'000'000'000;  // how long after its score an explanation that comes later is worth making
  bool has_threads = true;                // false (tests): step_explanations() does it all
  std::shared_ptr<ExplainFaults> faults;  // tests
};

struct ExplainStats {
  uint32_t queued_rows = 0;   // that wait, or are worked on
  uint32_t threads = 0;       // that are alive
  uint64_t asked_rows = 0;    // that were scored so that others can be explained (sampling_desk.h)
  bool is_suspended = false;  // workers did not come back: nothing is taken for a while
};

}  // namespace assay
