// Where answers of a Redis end, in bytes that come in pieces: RESP 2 and 3, lengths alone. What they say is read elsewhere.
//
// A push (RESP 3) is no answer: it is passed over, before or between answers. Refuses what is no RESP and what passes a limit.
// Allocates nothing. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace assay {

// A length behind its type: digits, or -1 for null in RESP 2. False: neither.
bool read_resp_length(std::string_view text, int64_t* length) noexcept;

class RespScanner {
 public:
  static constexpr size_t kBytesMax = size_t{256} << 20;  // of all answers together
  static constexpr size_t kLineBytesMax = 64 << 10;       // of a line: an error, a number, a length
  static constexpr size_t kDepthMax = 8;                  // levels; the first one is the answers themselves

  enum class Found : uint8_t { kMore, kAll, kNotResp, kTooLarge };

  // Looks for `answer_count` answers, which have at most `values_max` values: each array, each value in one, and pushes.
  RespScanner(size_t answer_count, size_t values_max) noexcept : values_left_(values_max) { left_[0] = answer_count; }

  // `bytes`: all that has come, those of earlier calls in front. kAll: exactly the answers are there, kMore: some of their bytes
  // are missing. More bytes than the answers have are kNotResp. Nothing else is found after kNotResp and kTooLarge.
  Found scan(std::string_view bytes) noexcept;

 private:
  Found scan_one(std::string_view bytes) noexcept;
  Found fail(Found why) noexcept { return failed_ = why; }

  size_t values_left_;
  size_t place_ = 0;                           // what is before it has been looked at
  std::array<uint64_t, kDepthMax> left_ = {};  // answers of each level that are still to come
  size_t depth_ = 0;
  Found failed_ = Found::kAll;
};

}  // namespace assay
