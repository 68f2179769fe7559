// Digit runs: numbers in text as people and programs write them, in groups and in any script.
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay {

struct Character {
  uint32_t point;  // U+FFFD for a byte that is not UTF-8
  size_t bytes;
};

// REQUIRES: at < end.
Character character_at(const char* at, const char* end) noexcept;

// 0 to 9, of any script: what Unicode calls a decimal digit. -1: no digit.
int digit_value(uint32_t point) noexcept;

// Between two digits of one number: "4111 - 1111".
inline constexpr int kGapCharactersMax = 3;

bool is_ascii_letter(uint32_t point) noexcept;

// The end of the number that starts at `at`: digits, with at most kGapCharactersMax others but ASCII letters between two of them.
const char* number_end(const char* at, const char* end, int* digit_count) noexcept;

}  // namespace assay
