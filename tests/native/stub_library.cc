// A library of NVIDIA's for tests without a card: copied under the names of those that it stands in for. It says in the log of
// fake_cuda_ort.cc that it was opened, and what the card has free as that library keeps it.

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

struct Opened {
  Opened() {
    const char* script = std::getenv("ASSAY_TEST_CUDA_SCRIPT");
    std::FILE* log = script == nullptr ? nullptr : std::fopen((std::string(script) + ".log").c_str(), "a");
    Dl_info here;
    if (log == nullptr || dladdr(this, &here) == 0) return;
    std::fprintf(log, "opened %s\n", std::strrchr(here.dli_fname, '/') + 1);
    std::fclose(log);
  }
} opened;

}  // namespace

extern "C" {

// Of libcuda.so.1: the CUDA that ASSAY_TEST_CUDA_DRIVER names, 13.0 without.
__attribute__((visibility("default"))) int cuDriverGetVersion(int* version) {
  const char* named = std::getenv("ASSAY_TEST_CUDA_DRIVER");
  *version = named == nullptr ? 13000 : std::atoi(named);
  return 0;
}

__attribute__((visibility("default"))) int cudaSetDevice(int) { return 0; }

__attribute__((visibility("default"))) int cudaMemGetInfo(size_t* free, size_t* total) {
  const char* script = std::getenv("ASSAY_TEST_CUDA_SCRIPT");
  std::FILE* file = script == nullptr ? nullptr : std::fopen((std::string(script) + ".free").c_str(), "r");
  if (file == nullptr) return 999;
  const bool is_read = std::fscanf(file, "%zu %zu", free, total) == 2;
  std::fclose(file);
  return is_read ? 0 : 999;
}

}  // extern "C"
