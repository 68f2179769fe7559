#include "core/serving/completion_list.h"

namespace assay {

void CompletionList::add(CompletionQueue* queue, const Completion& completion) {
  if (last_ >= used_ || groups_[last_].queue != queue) {
    for (last_ = 0; last_ < used_ && groups_[last_].queue != queue; ++last_) {}
    if (last_ == used_) {
      if (used_ == groups_.size()) groups_.emplace_back();
      groups_[used_++].queue = queue;
    }
  }
  groups_[last_].completions.push_back(completion);
}

void CompletionList::flush() noexcept {
  for (size_t i = 0; i < used_; ++i) {
    Group& group = groups_[i];
    group.queue->push(group.completions.data(), group.completions.size());
    group.completions.clear();
    group.queue = nullptr;
  }
  used_ = 0;
  last_ = 0;
}

}  // namespace assay
