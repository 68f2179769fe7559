// When calls are due, and what becomes of those that find no stream.
#include "core/load/arrivals.h"

#include <cmath>

#include "check.h"
#include "core/base/clock.h"

using namespace assay;
using namespace assay::load;

namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr Window kAll{0, INT64_MAX};

std::vector<int64_t> times_of(ArrivalSchedule schedule) {
  std::vector<int64_t> times;
  for (; schedule.next_ns() != INT64_MAX; schedule.pop()) times.push_back(schedule.next_ns());
  return times;
}

}  // namespace

TEST(constant_arrivals_are_evenly_spread_and_do_not_drift) {
  const int64_t start = 5 * kSecond;
  const auto times = times_of({ArrivalKind::kConstant, 3000, start, start + 1000 * kSecond, 1});
  CHECK_EQ(times.size(), 3'000'000u);
  CHECK_EQ(times[0], start);
  for (const size_t index : {size_t{1}, size_t{3000}, size_t{2'999'999}}) {
    const int64_t wanted = start + static_cast<int64_t>(index) * kSecond / 3000;
    CHECK(std::llabs(times[index] - wanted) <= 1);
  }
}

TEST(threads_send_between_one_another) {
  const auto second = times_of({ArrivalKind::kConstant, 500, 0, kSecond, 1, 0.5});
  CHECK_EQ(second[0], kSecond / 1000);
  CHECK_EQ(second.size(), 500u);
}

TEST(poisson_arrivals_have_the_rate_and_the_spread_of_one) {
  auto random = check::random_engine();
  const double rate = 20'000;
  const auto times = times_of({ArrivalKind::kPoisson, rate, 0, 20 * kSecond, random()});
  const double expected = 20 * rate;
  CHECK(std::abs(static_cast<double>(times.size()) - expected) < 6 * std::sqrt(expected));
  // Gaps: mean and standard deviation are the same; a share 1/e is longer than the mean.
  double sum = 0, squares = 0;
  size_t long_count = 0;
  for (size_t i = 1; i < times.size(); ++i) {
    const double gap = static_cast<double>(times[i] - times[i - 1]);
    sum += gap;
    squares += gap * gap;
    long_count += gap > 1e9 / rate;
  }
  const double count = static_cast<double>(times.size() - 1);
  const double mean = sum / count;
  CHECK(std::abs(std::sqrt(squares / count - mean * mean) / mean - 1) < 0.02);
  CHECK(std::abs(static_cast<double>(long_count) / count - std::exp(-1)) < 0.005);
}

TEST(the_same_seed_gives_the_same_times) {
  const auto times = [](uint64_t seed) { return times_of({ArrivalKind::kPoisson, 1000, 0, kSecond, seed}); };
  CHECK(times(7) == times(7));
  CHECK(times(7) != times(8));
}

TEST(what_is_late_keeps_its_intended_time) {
  ManualClock clock;
  const int64_t start = clock.now_ns();
  OpenLoop loop({ArrivalKind::kConstant, 1000, start, start + kSecond, 1}, 1000, kAll);
  loop.advance(clock.now_ns());
  CHECK_EQ(loop.backlog(), 1u);
  CHECK_EQ(loop.take(), start);
  clock.advance_ns(10'500'000);  // the thread slept
  loop.advance(clock.now_ns());
  CHECK_EQ(loop.backlog(), 10u);
  for (int64_t i = 1; i <= 10; ++i) CHECK_EQ(loop.take(), start + i * 1'000'000);
  CHECK_EQ(loop.next_ns(), start + 11'000'000);
  CHECK_EQ(loop.lag().max(), 9'500'000);
  CHECK_EQ(loop.offered(), 11u);
  CHECK_EQ(loop.dropped(), 0u);
}

TEST(a_full_backlog_drops_and_counts) {
  for (const size_t due : {size_t{3}, size_t{4}, size_t{5}, size_t{50}}) {  // at its maximum and past it
    OpenLoop loop({ArrivalKind::kConstant, 1000, 0, kSecond, 1}, 4, kAll);
    loop.advance(static_cast<int64_t>(due - 1) * 1'000'000);
    CHECK_EQ(loop.offered(), due);
    CHECK_EQ(loop.backlog(), std::min<size_t>(due, 4));
    CHECK_EQ(loop.dropped(), due - loop.backlog());
    CHECK_EQ(loop.take(), 0);  // the oldest stay
    loop.advance(kSecond);
    CHECK_EQ(loop.backlog(), 4u);
    CHECK_EQ(loop.offered(), 1000u);
  }
}

TEST(only_the_window_is_counted) {
  OpenLoop loop({ArrivalKind::kConstant, 1000, 0, kSecond, 1}, 1, {kSecond / 2, kSecond});
  loop.advance(2 * kSecond);
  CHECK_EQ(loop.offered(), 500u);
  CHECK_EQ(loop.dropped(), 500u);
}

TEST(an_early_end_keeps_what_was_due) {
  OpenLoop loop({ArrivalKind::kConstant, 1000, 0, kSecond, 1}, 1000, kAll);
  loop.advance(99'500'000);
  loop.end(99'500'000);
  loop.advance(kSecond);
  CHECK_EQ(loop.backlog(), 100u);
  CHECK_EQ(loop.next_ns(), INT64_MAX);
}

ASSAY_TEST_MAIN
