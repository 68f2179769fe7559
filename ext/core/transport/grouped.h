// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace assay {

// 1234567 as 1,234,567.
inline std::string grouped(uint64_t number) {
  std::string text = std::to_string(number);
  for (size_t at = text.size(); at > 3;) {
    at -= 3;
    text.insert(at, ",");
  }
  return text;
}

}  // namespace assay
