// The batch cap of a card: down at once, up slowly, ever more slowly while it keeps failing.
#include "core/serving/batch_cap.h"

#include "check.h"

using namespace assay;

namespace {

constexpr int64_t kHold = 10;
constexpr int64_t kHoldMax = 35;

}  // namespace

TEST(begins_full_and_stays_so_while_nothing_fails) {
  BatchCap cap(64, kHold, kHoldMax);
  CHECK_EQ(cap.rows(0), 64u);
  cap.ran(64);
  CHECK_EQ(cap.rows(1'000'000), 64u);
}

TEST(halves_what_did_not_fit_and_doubles_after_each_hold) {
  BatchCap cap(64, kHold, kHoldMax);
  cap.did_not_fit(64, 0);
  CHECK_EQ(cap.rows(0), 32u);
  cap.did_not_fit(32, 0);
  CHECK_EQ(cap.rows(9), 16u);
  CHECK_EQ(cap.rows(10), 32u);
  CHECK_EQ(cap.rows(19), 32u);
  CHECK_EQ(cap.rows(20), 64u);
  CHECK_EQ(cap.rows(1000), 64u);
}

TEST(rests_when_one_row_did_not_fit_and_tries_one_again) {
  BatchCap cap(4, kHold, kHoldMax);
  for (const uint32_t rows : {4u, 2u, 1u}) cap.did_not_fit(rows, 0);
  CHECK_EQ(cap.rows(9), 0u);
  CHECK_EQ(cap.rows(10), 1u);
  CHECK_EQ(cap.rows(20), 2u);
  CHECK_EQ(cap.rows(30), 4u);
}

TEST(never_rises_by_failing) {
  BatchCap cap(64, kHold, kHoldMax);
  cap.did_not_fit(8, 0);
  CHECK_EQ(cap.rows(0), 4u);
  cap.did_not_fit(60, 1);  // a larger one that was under way
  CHECK_EQ(cap.rows(1), 4u);
}

TEST(holds_longer_each_time_until_a_full_batch_runs) {
  BatchCap cap(2, kHold, kHoldMax);
  cap.did_not_fit(2, 0);
  CHECK_EQ(cap.hold_ns(), kHold);
  int64_t now_ns = 0;
  for (const int64_t hold_ns : {20, 35, 35}) {
    now_ns += cap.hold_ns();
    REQUIRE(cap.rows(now_ns) == 2u);
    cap.did_not_fit(2, now_ns);
    CHECK_EQ(cap.hold_ns(), hold_ns);
    CHECK_EQ(cap.rows(now_ns + hold_ns - 1), 1u);
  }
  now_ns += cap.hold_ns();
  REQUIRE(cap.rows(now_ns) == 2u);
  cap.ran(1);  // says nothing of a full one
  CHECK_EQ(cap.hold_ns(), kHoldMax);
  cap.ran(2);
  CHECK_EQ(cap.hold_ns(), kHold);
  cap.did_not_fit(2, now_ns);
  CHECK_EQ(cap.hold_ns(), kHold);
}

// Against a walk that knows nothing of the machine: it is never above the limit, and is full after enough quiet.
TEST(any_history_ends_full) {
  std::mt19937_64 random = check::random_engine();
  for (int round = 0; round < check::scaled(200); ++round) {
    const auto rows_max = static_cast<uint32_t>(1 + random() % 300);
    BatchCap cap(rows_max, kHold, kHoldMax);
    int64_t now_ns = 0;
    for (int step = 0; step < 50; ++step) {
      now_ns += static_cast<int64_t>(random() % 15);
      const uint32_t rows = cap.rows(now_ns);
      REQUIRE(rows <= rows_max);
      if (random() % 3 == 0) {
        cap.rest(now_ns);
        CHECK_EQ(cap.rows(now_ns), 0u);
      } else if (rows > 0 && random() % 2 == 0) {
        cap.did_not_fit(rows, now_ns);
        CHECK_EQ(cap.rows(now_ns), rows / 2);
      } else if (rows > 0) {
        cap.ran(rows);
      }
    }
    for (int step = 0; step < 11; ++step) (void)cap.rows(now_ns += kHoldMax);
    CHECK_EQ(cap.rows(now_ns), rows_max);
  }
}

ASSAY_TEST_MAIN
