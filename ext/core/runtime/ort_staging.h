// Staging: where a runner's buffers lie that ONNX Runtime reads and writes.
//
//   the process's   memory of malloc. A CPU session's runs
//   the session's   memory that ONNX Runtime allocates for one session: page-locked (pinned) where it is on a CUDA device, so that
//                   copies to and from the card need no detour; the CPU arena's for a CPU session (the self-check and tests)
//
// Thread-safe. One for each OrtModel; buffers go before their session does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/runtime/ort_library.h"

namespace assay::ort {

class Staging {
 public:
  struct Free {
    const Staging* from = nullptr;
    void operator()(uint8_t* memory) const noexcept;
  };
  using Buffer = std::unique_ptr<uint8_t, Free>;

  // The process's.
  explicit Staging(const OrtLibrary& library) noexcept : library_(library) {}

  // The session's. `cuda_device` as OrtModelOptions has it.
  static Status open(const OrtLibrary& library, const OrtSession* session, int cuda_device, std::unique_ptr<Staging>* out);

  // Zeroes, aligned for the widest vector instructions. `bytes` may be 0.
  Status allocate(size_t bytes, Buffer* out) const;
  // What an OrtValue over such a buffer is made with.
  const OrtMemoryInfo* info() const noexcept { return info_ != nullptr ? info_.get() : library_.cpu_memory(); }

 private:
  const OrtLibrary& library_;
  Owned<OrtMemoryInfo> info_{nullptr, nullptr};      // null: the process's
  Owned<OrtAllocator> allocator_{nullptr, nullptr};  // null: the process's
};

}  // namespace assay::ort
