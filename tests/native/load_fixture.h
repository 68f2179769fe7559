// Message files and runs for tests of the load generator.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "check.h"
#include "core/load/load_run.h"

namespace load_fixture {

inline std::string big_endian(uint32_t number) {
  return {static_cast<char>(number >> 24), static_cast<char>(number >> 16), static_cast<char>(number >> 8),
          static_cast<char>(number)};
}

inline std::string encode_messages(const std::vector<std::string>& messages) {
  std::string bytes = "assaymsg" + big_endian(1) + big_endian(static_cast<uint32_t>(messages.size()));
  for (const std::string& message : messages)
    bytes += std::string(1, '\0') + big_endian(static_cast<uint32_t>(message.size())) + message;
  return bytes;
}

// A file that is removed again.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes) {
    char name[] = "/tmp/assay-load-XXXXXX";
    const int fd = ::mkstemp(name);
    path_ = name;
    if (::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
    ::close(fd);
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace load_fixture
