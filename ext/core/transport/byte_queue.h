// ByteQueue: bytes on their way through a stream: put in behind, taken from the front.
//
// Memory follows what is in it, also where it never runs empty: at most twice the most that was.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace assay {

class ByteQueue {
 public:
  size_t size() const noexcept { return bytes_.size() - taken_; }
  void append(std::string_view bytes) { bytes_.append(bytes); }
  std::string* end() noexcept { return &bytes_; }  // for whoever appends in place
  void clear() noexcept {
    bytes_.clear();
    taken_ = 0;
  }
  // Moves up to `bytes_max` bytes to `to`; how many there were.
  size_t take(uint8_t* to, size_t bytes_max) noexcept {
    const size_t count = std::min(bytes_max, size());
    std::memcpy(to, bytes_.data() + taken_, count);
    taken_ += count;
    // What is left is the lesser part: so no byte is moved often.
    if (taken_ >= size()) {
      bytes_.erase(0, taken_);
      taken_ = 0;
    }
    return count;
  }

 private:
  std::string bytes_;
  size_t taken_ = 0;  // of the front of bytes_
};

}  // namespace assay
