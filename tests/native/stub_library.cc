// A library of NVIDIA's with nothing in it, for tests without a card: copied under the names of those that it stands in for. It says
// in the log of fake_cuda_ort.cc that it was opened.

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
