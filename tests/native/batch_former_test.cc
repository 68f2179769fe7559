// The pure parts of the serving room: slot states, slab, row queue, batch former, completion queue. No threads but where said.
#include "core/serving/batch_former.h"

#include <poll.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "check.h"
#include "core/serving/completion_list.h"

using namespace assay;

namespace {

constexpr size_t kInteractive = 0, kBulk = 1, kShadow = 2;
constexpr int64_t kFar = 1'000'000'000'000;

QueuedRow row(uint32_t slot, int64_t queued_ns = 0, int64_t deadline_ns = kFar) {
  return {slot, slot, queued_ns, deadline_ns, queued_ns};
}

struct Bench {
  explicit Bench(uint32_t queue_rows_max, int64_t delay_ns = 0, int64_t ageing_ns = kFar)
      : queue(queue_rows_max), former(delay_ns, ageing_ns), slab(4096) {}

  bool push(size_t priority, uint32_t count, int64_t now_ns = 0, int64_t deadline_ns = kFar) {
    std::vector<QueuedRow> rows;
    for (uint32_t i = 0; i < count; ++i) {
      rows.push_back(row(next_slot++, now_ns, deadline_ns));
      rows.back().latest_start_ns = former.latest_start_ns(now_ns, deadline_ns);
      priorities.push_back(priority);
    }
    evicted.assign(count, QueuedRow());
    uint32_t evicted_count = 0;
    const bool is_pushed = queue.push(rows.data(), count, priority, evicted.data(), &evicted_count);
    evicted.resize(evicted_count);
    return is_pushed;
  }
  // Rows of the next batch by priority.
  std::vector<size_t> form(uint32_t rows_max, int64_t now_ns = 0) {
    FormedBatch batch(rows_max);
    former.form(queue, slab, now_ns, rows_max, batch);
    std::vector<size_t> counts(kPriorityCount, 0);
    slots.clear();
    for (const QueuedRow& taken : batch.rows) {
      ++counts[priorities[taken.slot]];
      slots.push_back(taken.slot);
    }
    expired = batch.expired.size();
    cancelled = batch.cancelled.size();
    return counts;
  }

  RowQueue queue;
  BatchFormer former;
  Slab slab;
  uint32_t next_slot = 0;
  std::vector<size_t> priorities;
  std::vector<QueuedRow> evicted;
  std::vector<uint32_t> slots;
  size_t expired = 0, cancelled = 0;
};

using Counts = std::vector<size_t>;

}  // namespace

// --- slot states

TEST(slot_moves_only_as_the_table_says) {
  const std::set<std::pair<int, int>> legal = {{0, 1}, {1, 2}, {1, 9}, {2, 3}, {2, 9}, {3, 4}, {3, 9}, {4, 5}, {4, 9}, {5, 6},
                                               {5, 4}, {5, 9}, {6, 7}, {6, 8}, {6, 9}, {7, 8}, {7, 9}, {8, 9}, {9, 0}};
  for (int from = 0; from < 10; ++from) {
    for (int to = 0; to < 10; ++to) {
      CHECK_EQ(may_move(static_cast<SlotState>(from), static_cast<SlotState>(to)), legal.count({from, to}) == 1);
    }
  }
}

TEST(slot_keeps_an_id_of_the_limit_and_drops_a_longer_one) {
  Slot slot;
  slot.set_transaction_id(std::string(limits::kIdBytesMax, 'x'));
  CHECK_EQ(slot.transaction_id(), std::string(limits::kIdBytesMax, 'x'));
  slot.set_transaction_id(std::string(limits::kIdBytesMax + 1, 'x'));
  CHECK_EQ(slot.transaction_id(), "");
}

// --- slab

TEST(slab_gives_all_or_none) {
  Slab slab(8);
  uint32_t out[8] = {};
  CHECK(slab.allocate(8, out));
  CHECK_EQ(std::set<uint32_t>(out, out + 8).size(), 8u);
  uint32_t more = 99;
  CHECK(!slab.allocate(1, &more));
  CHECK_EQ(more, 99u);
  slab.free(out, 3);
  CHECK(!slab.allocate(4, out));
  CHECK(slab.allocate(0, out));
  CHECK_EQ(slab.use().used, 5u);
  CHECK_EQ(slab.use().used_max, 8u);
  CHECK(!slab.wait_idle(0));
  slab.free(out + 3, 5);
  CHECK(slab.wait_idle(0));
  CHECK_EQ(slab.use().allocated_count, slab.use().freed_count);
}

// --- row queue

TEST(queue_takes_its_limit_and_no_more) {
  Bench bench(4);
  CHECK(bench.push(kInteractive, 4));
  CHECK(!bench.push(kInteractive, 1));
  CHECK_EQ(bench.queue.size(), 4u);
  CHECK(bench.push(kInteractive, 0));
}

TEST(queue_sheds_the_newest_of_the_lowest_priority) {
  Bench bench(6);
  CHECK(bench.push(kBulk, 3));    // slots 0 1 2
  CHECK(bench.push(kShadow, 3));  // slots 3 4 5
  CHECK(bench.push(kInteractive, 4));
  std::vector<uint32_t> gone;
  for (const QueuedRow& one : bench.evicted) gone.push_back(one.slot);
  CHECK((gone == std::vector<uint32_t>{5, 4, 3, 2}));
  CHECK_EQ(bench.queue.size(kInteractive), 4u);
  CHECK_EQ(bench.queue.size(kBulk), 2u);
  CHECK(!bench.push(kShadow, 1));
  CHECK(!bench.push(kBulk, 1));
}

TEST(queue_that_cannot_make_room_sheds_nobody) {
  Bench bench(4);
  CHECK(bench.push(kInteractive, 2));
  CHECK(bench.push(kShadow, 2));
  CHECK(!bench.push(kBulk, 3));
  CHECK(bench.evicted.empty());
  CHECK_EQ(bench.queue.size(kShadow), 2u);
  CHECK(bench.push(kBulk, 2));
  CHECK_EQ(bench.evicted.size(), 2u);
}

TEST(queue_keeps_order_around_the_ring) {
  Bench bench(5);
  std::vector<uint32_t> seen;
  for (int round = 0; round < 20; ++round) {
    CHECK(bench.push(kBulk, 3));
    bench.form(3);
    seen.insert(seen.end(), bench.slots.begin(), bench.slots.end());
  }
  for (uint32_t i = 0; i < seen.size(); ++i) CHECK_EQ(seen[i], i);
}

// --- batch former: who

TEST(former_takes_interactive_first_and_all_when_there_is_room) {
  Bench bench(1000);
  bench.push(kShadow, 5);
  bench.push(kBulk, 5);
  bench.push(kInteractive, 5);
  CHECK((bench.form(16) == Counts{5, 5, 5}));
  bench.push(kBulk, 5);
  bench.push(kInteractive, 5);
  CHECK((bench.form(5) == Counts{5, 0, 0}));  // 5/8 of a place is owed to bulk
  CHECK_EQ(bench.queue.size(kBulk), 5u);
}

TEST(former_guarantees_shares) {
  Bench bench(4000);
  bench.push(kInteractive, 1000);
  bench.push(kBulk, 1000);
  bench.push(kShadow, 1000);
  for (int i = 0; i < 3; ++i) CHECK((bench.form(256) == Counts{216, 32, 8}));
}

TEST(former_saves_up_shares_of_small_batches) {
  for (const uint32_t rows_max : {1u, 2u, 3u, 7u}) {
    Bench bench(4000);
    bench.push(kInteractive, 2000);
    bench.push(kBulk, 1000);
    bench.push(kShadow, 900);
    Counts total(kPriorityCount, 0);
    const uint32_t batches = 960 / rows_max;
    for (uint32_t i = 0; i < batches; ++i) {
      const Counts counts = bench.form(rows_max);
      for (size_t p = 0; p < kPriorityCount; ++p) total[p] += counts[p];
    }
    const size_t places = batches * rows_max;
    CHECK(total[kBulk] + 1 >= places / 8 && total[kBulk] <= places / 8 + 1);
    CHECK(total[kShadow] + 1 >= places / 32 && total[kShadow] <= places / 32 + 1);
    CHECK_EQ(total[kInteractive] + total[kBulk] + total[kShadow], places);
  }
}

TEST(former_owes_nothing_to_the_absent) {
  Bench bench(4000);
  bench.push(kInteractive, 3000);
  for (int i = 0; i < 20; ++i) bench.form(64);
  bench.push(kBulk, 500);
  CHECK((bench.form(64) == Counts{56, 8, 0}));  // its share of this batch, nothing saved from when it did not wait
}

TEST(former_gives_an_aged_priority_a_place) {
  Bench bench(4000, 0, /*ageing_ns=*/100);
  bench.push(kShadow, 100);
  bench.push(kBulk, 100);
  bench.push(kInteractive, 3000);
  CHECK((bench.form(8, 100) == Counts{7, 1, 0}));  // not over the limit yet: 8/8 of a place for bulk, 8/32 for shadow
  CHECK((bench.form(8, 101) == Counts{6, 1, 1}));
  CHECK((bench.form(4, 101) == Counts{2, 1, 1}));
  Counts total(kPriorityCount, 0);
  for (int i = 0; i < 400; ++i) {
    const Counts counts = bench.form(1, 101);
    for (size_t p = 0; p < kPriorityCount; ++p) total[p] += counts[p];
  }
  CHECK_EQ(total[kInteractive] + total[kBulk] + total[kShadow], 400u);
  CHECK(total[kInteractive] >= 200);  // half, however old the others are
  CHECK(total[kBulk] >= 90 && total[kShadow] >= 90);
}

// Found by tests/property/test_batcher.py: what was owed to them went to the next bulk rows.
TEST(former_forgets_what_it_owed_to_rows_that_expired) {
  Bench bench(4000);
  bench.push(kBulk, 2, 0, /*deadline_ns=*/50);
  bench.push(kInteractive, 6);
  for (int i = 0; i < 6; ++i) CHECK((bench.form(1, 0) == Counts{1, 0, 0}));  // 6/8 of a place is owed
  CHECK((bench.form(1, 50) == Counts{0, 0, 0}));                             // 7/8, to nobody now
  bench.push(kInteractive, 2);
  bench.push(kBulk, 1);
  CHECK((bench.form(1, 50) == Counts{1, 0, 0}));
}

// --- batch former: who not

TEST(former_hands_back_the_dead_and_fills_their_places) {
  Bench bench(100);
  bench.push(kInteractive, 3, 0, /*deadline_ns=*/50);
  bench.push(kInteractive, 4);
  bench.slab[3].call_word = call_word(1, CallPhase::kCancelled);
  bench.slab[4].call_word = call_word(1, CallPhase::kExpired);  // its transport has answered
  bench.slab.hint_abandoned(3);
  bench.slab.hint_abandoned(4);
  bench.slab.hint_abandoned(5);  // left over from an earlier call: its call is not abandoned
  bench.push(kBulk, 1);
  CHECK((bench.form(3, 50) == Counts{2, 1, 0}));  // a deadline of now has passed
  CHECK_EQ(bench.expired, 3u);
  CHECK_EQ(bench.cancelled, 2u);
  CHECK_EQ(bench.queue.size(), 0u);
}

TEST(former_bounds_the_dead_of_one_batch) {
  Bench bench(2000);
  bench.push(kInteractive, kDeadRowsPerBatchMax + 1, 0, 50);
  bench.push(kBulk, 2);
  CHECK((bench.form(4, 60) == Counts{0, 0, 0}));
  CHECK_EQ(bench.expired, kDeadRowsPerBatchMax);
  CHECK((bench.form(4, 60) == Counts{0, 2, 0}));
  CHECK_EQ(bench.expired, 1u);
}

// --- batch former: when

TEST(former_without_delay_is_ready_at_once) {
  Bench bench(10);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), INT64_MAX);
  bench.push(kShadow, 1, 77);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), INT64_MIN);
}

TEST(former_with_delay_waits_for_the_oldest_the_full_batch_or_half_a_deadline) {
  Bench bench(100, /*delay_ns=*/1000);
  bench.push(kInteractive, 1, 100);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), 1100);
  bench.push(kInteractive, 1, 200);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), 1100);
  bench.push(kBulk, 1, 300, /*deadline_ns=*/700);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), 500);  // half of its 400 are for the run
  bench.push(kBulk, 1, 310);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), INT64_MIN);
  bench.form(3, 310);
  CHECK_EQ(bench.queue.size(), 1u);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), 1310);  // what is left has its own time
  bench.form(3, 310);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), INT64_MAX);
  bench.push(kBulk, 1, 400, /*deadline_ns=*/300);
  CHECK_EQ(bench.former.form_at_ns(bench.queue, 4), 400);  // late already: now
}

// --- completions

TEST(completion_queue_wakes_once_until_drained) {
  CompletionQueue queue(8);
  const auto is_readable = [&] {
    pollfd poller{queue.fd(), POLLIN, 0};
    return poll(&poller, 1, 0) == 1;
  };
  CHECK(!is_readable());
  const Completion three[3] = {{1, 11}, {2, 22}, {3, 33}};
  queue.push(three, 0);
  CHECK(!is_readable());
  queue.push(three, 2);
  queue.push(three + 2, 1);
  uint64_t wakes = 0;
  CHECK_EQ(read(queue.fd(), &wakes, sizeof wakes), static_cast<ssize_t>(sizeof wakes));
  CHECK_EQ(wakes, 1u);
  std::vector<Completion> out(5);
  queue.drain(out);
  REQUIRE(out.size() == 3);
  CHECK_EQ(out[2].token, 3u);
  CHECK_EQ(out[2].call, 33u);
  queue.push(three, 1);
  CHECK(is_readable());
  queue.drain(out);
  CHECK_EQ(out.size(), 1u);
  CHECK(!is_readable());
  queue.drain(out);
  CHECK(out.empty());
}

TEST(completion_list_pushes_once_a_queue) {
  CompletionQueue first(8), second(8);
  CompletionList list;
  for (int round = 0; round < 2; ++round) {
    for (uint64_t i = 0; i < 6; ++i) list.add(i % 2 == 0 ? &first : &second, {i, i});
    list.flush();
    list.flush();
    for (CompletionQueue* queue : {&first, &second}) {
      uint64_t wakes = 0;
      CHECK_EQ(read(queue->fd(), &wakes, sizeof wakes), static_cast<ssize_t>(sizeof wakes));
      CHECK_EQ(wakes, 1u);
      std::vector<Completion> out;
      queue->drain(out);
      CHECK_EQ(out.size(), 3u);
      for (size_t i = 1; i < out.size(); ++i) CHECK(out[i - 1].token < out[i].token);
    }
  }
}

TEST(completion_queue_loses_no_wake) {  // one pusher, one drainer that sleeps on the descriptor only
  const int rounds = check::scaled(20'000);
  CompletionQueue queue(static_cast<size_t>(rounds));
  std::thread pusher([&] {
    for (int i = 0; i < rounds; ++i) {
      const Completion one{static_cast<uint64_t>(i), 1};
      queue.push(&one, 1);
    }
  });
  std::vector<Completion> out;
  int seen = 0;
  while (seen < rounds) {
    pollfd poller{queue.fd(), POLLIN, 0};
    if (poll(&poller, 1, 10'000) != 1) break;  // a lost wake-up ends here
    queue.drain(out);
    for (const Completion& one : out) CHECK_EQ(one.token, static_cast<uint64_t>(seen++));
  }
  CHECK_EQ(seen, rounds);
  pusher.join();
}

ASSAY_TEST_MAIN
