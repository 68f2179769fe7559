#include "core/runtime/ort_staging.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/runtime/ort_model.h"

namespace assay::ort {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

Status Staging::open(const OrtLibrary& library, const OrtSession* session, int cuda_device, std::unique_ptr<Staging>* out) {
  const OrtApi& api = library.api();
  const auto take = [&](OrtStatus* status) { return library.take(status, Code::kRuntimeUnavailable, "buffers"); };
  auto staging = std::make_unique<Staging>(library);
  OrtMemoryInfo* info = nullptr;
  const bool is_cpu = cuda_device == OrtModelOptions::kCpu;
  Status status = take(is_cpu ? api.CreateMemoryInfo("Cpu", kAllocatorArena, 0, kMemoryDefault, &info)
                              : api.CreateMemoryInfo("CudaPinned", kAllocatorDevice, cuda_device, kMemoryCpuOutput, &info));
  if (!status.ok()) return status;
  staging->info_ = Owned<OrtMemoryInfo>(info, api.ReleaseMemoryInfo);
  OrtAllocator* allocator = nullptr;
  status = take(api.CreateAllocator(session, info, &allocator));
  if (!status.ok()) return status;
  staging->allocator_ = Owned<OrtAllocator>(allocator, api.ReleaseAllocator);
  *out = std::move(staging);
  return Status();
}

Status Staging::allocate(size_t bytes, Buffer* out) const {
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = nullptr;
  if (allocator_ == nullptr) {
    memory = std::aligned_alloc(kAlignment, rounded);
    ASSAY_ASSERT(memory != nullptr);  // start-up only
  } else {
    Status status =
        library_.take(library_.api().AllocatorAlloc(allocator_.get(), rounded, &memory), Code::kRuntimeUnavailable, "buffers");
    if (!status.ok()) return status;
  }
  std::memset(memory, 0, rounded);
  *out = Buffer(static_cast<uint8_t*>(memory), Free{this});
  return Status();
}

void Staging::Free::operator()(uint8_t* memory) const noexcept {
  if (from->allocator_ == nullptr) return std::free(memory);
  (void)from->library_.take(from->library_.api().AllocatorFree(from->allocator_.get(), memory), Code::kRuntimeUnavailable,
                            "buffers");
}

}  // namespace assay::ort
