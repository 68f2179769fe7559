// Replays a fuzz target's kept corpus (tests/fuzz/corpus/NAME), so that what fuzzing once found stays found without clang.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes);

namespace corpus {

// Feeds every file of the corpus to the target and returns how many there were. REQUIRES the repository's root as working directory.
inline size_t replay(const std::string& name) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus/" + name)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
    ++count;
  }
  return count;
}

}  // namespace corpus
