// Window: the part of a run that counts, after its warm-up.
#pragma once

#include <cstdint>

namespace assay::load {

struct Window {
  int64_t start_ns = 0;
  int64_t end_ns = 0;  // one past it
  bool contains(int64_t time_ns) const noexcept { return time_ns >= start_ns && time_ns < end_ns; }
};

}  // namespace assay::load
