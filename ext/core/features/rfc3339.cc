// parse_rfc3339_us: times as RFC 3339 writes them.
#include "core/features/checks.h"
#include "core/features/event_json.h"

namespace assay {
namespace {

constexpr int kDaysBefore[] = {0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};  // before the first of month 1..12
constexpr int kNanosDigitsMax = 9;

constexpr bool is_leap(int64_t year) noexcept { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

constexpr int days_in(int64_t year, int month) noexcept {
  if (month == 2) return is_leap(year) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

// Days from 1970-01-01 in the proleptic Gregorian calendar. REQUIRES: 1 <= year <= 9999 and a valid month and day.
constexpr int64_t days_of(int64_t year, int month, int day) noexcept {
  const int64_t before = year - 1;
  const int64_t days_before_year = before * 365 + before / 4 - before / 100 + before / 400;
  return days_before_year + kDaysBefore[month] + (month > 2 && is_leap(year) ? 1 : 0) + day - 1 - 719'162;
}
static_assert(days_of(1970, 1, 1) == 0 && days_of(2000, 3, 1) == 11'017 && days_of(1, 1, 1) == -719'162);

// Reads `count` digits at `at`, or returns -1.
int read_digits(const char* at, int count) noexcept {
  int value = 0;
  for (int i = 0; i < count; ++i) {
    const unsigned digit = static_cast<unsigned char>(at[i]) - unsigned{'0'};
    if (digit > 9) return -1;
    value = value * 10 + static_cast<int>(digit);
  }
  return value;
}

struct Field {
  int minimum, maximum;
};

bool is_within(int value, Field field) noexcept { return value >= field.minimum && value <= field.maximum; }

// ".123" to nanoseconds; moves `at` past it. No fraction is 0.
bool read_fraction(const char** at, const char* end, int32_t* nanos) noexcept {
  *nanos = 0;
  if (*at == end || **at != '.') return true;
  const char* digit = *at + 1;
  int count = 0;
  for (; digit != end && *digit >= '0' && *digit <= '9'; ++digit, ++count) {
    if (count == kNanosDigitsMax) return false;
    *nanos = *nanos * 10 + (*digit - '0');
  }
  *at = digit;
  for (int i = count; i < kNanosDigitsMax; ++i) *nanos *= 10;
  return count > 0;
}

// "Z" or "+hh:mm" to seconds east of UTC; must be all that is left.
bool read_zone(const char* at, const char* end, int* offset_seconds) noexcept {
  *offset_seconds = 0;
  if (end - at == 1) return *at == 'Z' || *at == 'z';
  if (end - at != 6 || (*at != '+' && *at != '-') || at[3] != ':') return false;
  const int hours = read_digits(at + 1, 2), minutes = read_digits(at + 4, 2);
  if (!is_within(hours, {0, 23}) || !is_within(minutes, {0, 59})) return false;
  *offset_seconds = (hours * 3600 + minutes * 60) * (*at == '-' ? -1 : 1);
  return true;
}

}  // namespace

bool parse_rfc3339_us(std::string_view text, int64_t* time_us) noexcept {
  if (text.size() < sizeof "2018-04-01T00:00:31Z" - 1) return false;
  const char* at = text.data();
  const char* const end = at + text.size();
  if (at[4] != '-' || at[7] != '-' || (at[10] != 'T' && at[10] != 't') || at[13] != ':' || at[16] != ':') return false;
  const int year = read_digits(at, 4), month = read_digits(at + 5, 2), day = read_digits(at + 8, 2);
  const int hour = read_digits(at + 11, 2), minute = read_digits(at + 14, 2), second = read_digits(at + 17, 2);
  if (!is_within(year, {1, 9999}) || !is_within(month, {1, 12}) || !is_within(day, {1, days_in(year, month)})) return false;
  if (!is_within(hour, {0, 23}) || !is_within(minute, {0, 59}) || !is_within(second, {0, 59})) return false;
  at += 19;
  int32_t nanos;
  int offset_seconds;
  if (!read_fraction(&at, end, &nanos) || !read_zone(at, end, &offset_seconds)) return false;
  const int64_t seconds = days_of(year, month, day) * 86'400 + hour * 3600 + minute * 60 + second - offset_seconds;
  return timestamp_us(seconds, nanos, time_us);  // an offset may carry a time out of the range of years
}

}  // namespace assay
