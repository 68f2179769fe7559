// AltStack: where this thread's signal handlers run, so that a stack that overflowed can still be told of. One a thread, on it.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

namespace assay {

class AltStack {
 public:
  // Best effort: without memory, or where the thread has one already, the thread keeps what it has.
  AltStack() noexcept {
    stack_t present{};
    if (::sigaltstack(nullptr, &present) != 0 || (present.ss_flags & SS_DISABLE) == 0) return;
    guard_bytes_ = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    memory_ = ::mmap(nullptr, guard_bytes_ + kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory_ == MAP_FAILED) return;
    ::mprotect(memory_, guard_bytes_, PROT_NONE);
    stack_t own{};
    own.ss_sp = static_cast<char*>(memory_) + guard_bytes_;
    own.ss_size = kBytes;
    is_set_ = ::sigaltstack(&own, nullptr) == 0;
  }
  ~AltStack() {
    if (memory_ == MAP_FAILED) return;
    if (is_set_) {
      stack_t none{};
      none.ss_flags = SS_DISABLE;
      ::sigaltstack(&none, nullptr);
    }
    ::munmap(memory_, guard_bytes_ + kBytes);
  }
  AltStack(const AltStack&) = delete;
  AltStack& operator=(const AltStack&) = delete;

 private:
  static constexpr size_t kBytes = 64 << 10;  // the unwinder takes a few KiB, a processor's registers up to 11

  void* memory_ = MAP_FAILED;
  size_t guard_bytes_ = 0;
  bool is_set_ = false;
};

}  // namespace assay
