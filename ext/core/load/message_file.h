// MessageFile: the distinct requests that a load run sends. Written by `assay bench prepare`.
//
//   bytes 0..7    "assaymsg"
//         8..11   version, 1
//        12..15   number of messages, at least 1
//        16..     the messages, each as gRPC has it on the wire: a zero byte (not compressed), its length in 4 bytes, its bytes
//
// Numbers are big-endian, as HTTP/2's and gRPC's are, and a message is sent as it lies there. Nothing stands after the last one. The
// file is read whole: a run must not meet page faults, nor a file that somebody cuts off under it. Memory: the file's size and 8
// bytes a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace assay::load {

class MessageFile {
 public:
  static constexpr size_t kFileBytesMax = size_t{1} << 30;
  static constexpr size_t kMessageBytesMax = size_t{4} << 20;
  static constexpr uint32_t kVersion = 1;

  // kIo: it cannot be read. kInvalidRequest: it is no such file; the detail says what to do.
  static Status read(const std::string& path, std::shared_ptr<const MessageFile>* out);
  // The same of bytes in memory. `name` stands in the error.
  static Status parse(std::string bytes, const std::string& name, std::shared_ptr<const MessageFile>* out);

  size_t count() const noexcept { return ends_.size(); }
  // A message with gRPC's five bytes before it. REQUIRES: index < count(). Valid as long as the file is.
  std::string_view frame(size_t index) const noexcept {
    const size_t start = index == 0 ? kHeaderBytes : ends_[index - 1];
    return std::string_view(bytes_).substr(start, ends_[index] - start);
  }

 private:
  static constexpr size_t kHeaderBytes = 16;

  std::string bytes_;
  std::vector<size_t> ends_;  // one past each message
};

}  // namespace assay::load
