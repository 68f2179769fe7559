// A library of NVIDIA's with nothing in it, for tests without a card. NAME is the one that it stands in for; it says in the log of
// fake_cuda_ort.cc that it was opened.

#include <cstdlib>
#include <fstream>
#include <string>

namespace {

struct Opened {
  Opened() {
    if (const char* path = std::getenv("ASSAY_TEST_CUDA_SCRIPT"))
      std::ofstream(std::string(path) + ".log", std::ios::app) << "opened " << NAME << "\n";
  }
} opened;

}  // namespace
