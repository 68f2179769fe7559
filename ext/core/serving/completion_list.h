// CompletionList: the calls that one batch finished, by reply queue, so that each queue gets one push and one wake.
//
// Used by one thread; keeps its memory. REQUIRES: flush() before destruction.
#pragma once

#include <vector>

#include "core/serving/completion_queue.h"

namespace assay {

class CompletionList {
 public:
  void add(CompletionQueue* queue, const Completion& completion);
  // Pushes everything. Never called with a lock held.
  void flush() noexcept;

 private:
  struct Group {
    CompletionQueue* queue = nullptr;
    std::vector<Completion> completions;
  };
  std::vector<Group> groups_;  // the first `used_` are filled; few: a group is a transport thread
  size_t used_ = 0;
  size_t last_ = 0;
};

}  // namespace assay
