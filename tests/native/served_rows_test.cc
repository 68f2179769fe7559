// The sample of rows that models were given: whose are kept, what of them, and that there are never too many.
#include "core/serving/served_rows.h"

#include <thread>

#include "check.h"
#include "core/base/hash.h"
#include "remote_fixture.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

EngineOptions sampling(EngineOptions options, uint32_t one_in, uint32_t rows_max = 1'000) {
  options.served_rows.one_in = one_in;
  options.served_rows.rows_max = rows_max;
  return options;
}

// A request of one customer.
std::string request_of(const std::string& customer, int64_t amount) {
  return delimited(1, "tx-" + std::to_string(amount)) + delimited(2, timestamp(1'522'540'831, 0)) +
         entity("customer_id", customer) + entity("terminal_id", "3156") + feature_entry("amount_minor", integer(amount)) +
         feature_entry("ratio", fixed64(1, 0.5));
}

// Rows by themselves, without an engine.
struct Offers {
  Offers() : plan(house.reader->plan()), row(plan.row_bytes()), missing(words()), imputed(words()), views(plan.views().size()) {}
  size_t words() const { return (plan.spec().inputs.size() + 63) / 64; }
  void offer(ServedRows& rows, const std::string& customer, const std::string& id, int64_t time_us = 0) {
    Transaction transaction;
    transaction.clear(plan.spec().entities.size(), plan.spec().request_features.size());
    transaction.id = id;
    transaction.event_time_us = time_us;
    transaction.entities[0] = customer;
    transaction.entities[1] = "3156";
    rows.offer(lane, plan, transaction, {row.data(), missing.data(), imputed.data(), views.data()});
  }

  House house;
  const FeaturePlan& plan;
  std::vector<uint8_t> row;
  std::vector<uint64_t> missing, imputed;
  std::vector<FoldResult> views;
  const std::shared_ptr<const LaneName> lane = std::make_shared<const LaneName>(LaneName{"fraud", "1"});
};

std::vector<uint64_t> positions(const ServedRows& rows, uint64_t after, size_t rows_max) {
  std::vector<uint64_t> found;
  for (const auto& row : rows.after(after, rows_max)) found.push_back(row->position);
  return found;
}

}  // namespace

TEST(the_newest_rows_are_kept_and_the_others_are_counted) {
  Offers offers;
  ServedRows rows({1, 3});
  CHECK(positions(rows, 0, 10).empty());
  for (int i = 1; i <= 3; ++i) offers.offer(rows, "c", "tx-" + std::to_string(i));
  CHECK(positions(rows, 0, 10) == std::vector<uint64_t>({1, 2, 3}));
  CHECK_EQ(rows.dropped_rows(), 0u);
  for (int i = 4; i <= 8; ++i) offers.offer(rows, "c", "tx-" + std::to_string(i));
  CHECK(positions(rows, 0, 10) == std::vector<uint64_t>({6, 7, 8}));
  CHECK(positions(rows, 0, 2) == std::vector<uint64_t>({6, 7}));
  CHECK(positions(rows, 7, 10) == std::vector<uint64_t>({8}));
  CHECK(positions(rows, 8, 10).empty());
  CHECK(positions(rows, UINT64_MAX, 10).empty());
  CHECK_EQ(rows.after(6, 1)[0]->transaction_id, "tx-7");
  CHECK_EQ(rows.sampled_rows(), 8u);
  CHECK_EQ(rows.dropped_rows(), 5u);
}

TEST(the_entity_decides_so_all_rows_of_one_are_kept_or_none) {
  Offers offers;
  ServedRows rows({7, 10'000});
  size_t expected = 0;
  for (int round = 0; round < 3; ++round) {
    for (int customer = 0; customer < 700; ++customer) {
      const std::string id = "c" + std::to_string(customer);
      offers.offer(rows, id, id + "/" + std::to_string(round));
      if (xxh64(id) % 7 == 0) ++expected;
    }
  }
  CHECK(expected > 3 * 50 && expected < 3 * 150);
  CHECK_EQ(rows.sampled_rows(), expected);
  for (const auto& row : rows.after(0, 10'000))
    CHECK_EQ(xxh64(row->transaction_id.substr(0, row->transaction_id.find('/'))) % 7, 0u);
}

TEST(nothing_is_kept_where_it_is_off) {
  Offers offers;
  for (const ServedRowsOptions& off : {ServedRowsOptions{0, 10}, ServedRowsOptions{1, 0}}) {
    ServedRows rows(off);
    offers.offer(rows, "c", "tx");
    CHECK_EQ(rows.sampled_rows() + rows.dropped_rows(), 0u);
    CHECK(positions(rows, 0, 10).empty());
  }
}

TEST(a_kept_row_is_the_one_that_its_model_got_whatever_the_call) {
  House house(sampling(House::small(), 1));
  REQUIRE(house.add(house.lane_spec()).ok());
  CHECK(house.score(1).code == Code::kOk);
  CHECK(house.batch({request_of("c1", 2), without_ratio(3), request_of("c2", 4)}).code == Code::kOk);
  CHECK(house.stream(request_of("c3", 5)).code == Code::kOk);
  while (house.step() > 0) {}
  house.drain();
  const uint32_t offset = house.reader->plan().segments()[2].offset_bytes;
  std::vector<int64_t> amounts;
  for (const auto& row : house.engine.served_rows().after(0, 100)) {
    REQUIRE(row->row.size() == house.reader->plan().row_bytes());
    int64_t amount = 0;
    std::memcpy(&amount, row->row.data() + offset, sizeof amount);
    CHECK_EQ(row->transaction_id, "tx-" + std::to_string(amount));
    CHECK_EQ(row->event_time_us, 1'522'540'831'000'000);
    CHECK_EQ(row->lane->model + row->lane->version, "fraud1");
    CHECK(!row->is_degraded);
    amounts.push_back(amount);
  }
  CHECK(amounts == std::vector<int64_t>({1, 2, 4, 5}));  // the row that has no ratio is refused
  CHECK_EQ(house.engine.stats().sampled_rows, house.engine.served_rows().sampled_rows());
}

TEST(rows_of_a_remote_store_are_kept_too_and_say_what_they_did_without) {
  RemoteHouse house(sampling(stepping(), 1));
  const FakeStore store = filled_store(house.plan);
  CHECK(house.score(1).code == Code::kOk);
  const std::unique_ptr<LookupBatch> given = house.take();
  REQUIRE(given != nullptr);
  house.engine.give_lookups(*given, store.fetch(given->keys).data());
  CHECK(house.score(2).code == Code::kOk);
  const std::unique_ptr<LookupBatch> failed = house.take();
  REQUIRE(failed != nullptr);
  house.engine.fail_lookups(*failed);
  while (house.step() > 0) {}
  house.drain();
  const auto rows = house.engine.served_rows().after(0, 10);
  REQUIRE(rows.size() == 2);
  CHECK_EQ(rows[0]->transaction_id, "tx-1");
  CHECK(!rows[0]->is_degraded);
  CHECK_EQ(rows[1]->transaction_id, "tx-2");
  CHECK(rows[1]->is_degraded);
  CHECK(rows[0]->missing != rows[1]->missing);
}

TEST(several_threads_keep_rows_while_others_read) {
  Offers offers;
  ServedRows rows({1, 64});
  constexpr int kThreads = 4, kRows = 2'000;
  std::atomic<bool> is_over{false};
  std::thread reader([&] {
    while (!is_over.load()) {
      const std::vector<uint64_t> found = positions(rows, 0, 64);
      for (size_t i = 1; i < found.size(); ++i) CHECK_EQ(found[i], found[i - 1] + 1);
      CHECK(found.size() <= 64);
    }
  });
  std::vector<std::thread> writers;
  for (int t = 0; t < kThreads; ++t) {
    writers.emplace_back([&, t] {
      for (int i = 0; i < kRows; ++i) offers.offer(rows, "c" + std::to_string(t), std::to_string(i));
    });
  }
  for (std::thread& writer : writers) writer.join();
  is_over.store(true);
  reader.join();
  CHECK_EQ(rows.sampled_rows(), static_cast<uint64_t>(kThreads) * kRows);
  CHECK_EQ(rows.dropped_rows(), static_cast<uint64_t>(kThreads) * kRows - 64);
  CHECK_EQ(positions(rows, 0, 100).size(), 64u);
}

ASSAY_TEST_MAIN
