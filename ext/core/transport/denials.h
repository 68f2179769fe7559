// Denials: calls that the policy refused, on their way to the log: a bounded list, for whoever drains it.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/transport/native_transport.h"

namespace assay {

class Denials {
 public:
  static constexpr size_t kKeptMax = 64;
  static constexpr size_t kMethodBytesMax = 256;

  // What does not fit is not kept: counters tell how many there were.
  void add(Code code, std::string_view method, std::string_view principal) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (kept_.size() < kKeptMax) kept_.push_back({code, std::string(method.substr(0, kMethodBytesMax)), std::string(principal)});
  }
  std::vector<DeniedCall> drain() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<DeniedCall> drained;
    drained.swap(kept_);
    return drained;
  }

 private:
  std::mutex mutex_;
  std::vector<DeniedCall> kept_;
};

}  // namespace assay
