// The near-cache in front of look-ups: what is near is not fetched, what is fetched is fetched once, what is old says so, and no
// row gets another entity's record.
#include <random>

#include "check.h"
#include "remote_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr int64_t kAge = 10 * kSecond;
constexpr int64_t kStaleAge = 600 * kSecond;

EngineOptions near_options() {
  EngineOptions options = stepping();
  options.near_cache_bytes_max = NearCache::kBytesMin;
  options.near_cache_stale_ns_max = kStaleAge;
  return options;
}

// Both views of the plan are kept, unless the ages say otherwise.
struct NearHouse : RemoteHouse {
  explicit NearHouse(std::vector<int64_t> ages_ns = {kAge, kAge}, WhenNull of_views = WhenNull::kDefault)
      : RemoteHouse(near_options(), of_views, std::move(ages_ns)), store(filled_store(plan)) {}

  void give(const LookupBatch& batch) { engine.give_lookups(batch, store.fetch(batch.keys).data()); }
  // Scores, fetches, answers.
  const Answer& score_all_the_way(int64_t amount, const std::string& more = {}) {
    CHECK(score(amount, more).code == Code::kOk);
    if (const auto batch = take()) give(*batch);
    CHECK_EQ(step(), 1u);
    return answer(token);
  }
  EngineStats stats() const { return engine.stats(); }

  FakeStore store;
};

std::string of_customer(const std::string& id) { return entity("customer_id", id); }
std::string with_features() { return number(10, 1); }

// Of a view in an answer: since when its record is in the near-cache, or -1.
int64_t cache_age_ns(const Answer& answer, std::string_view view) {
  for (const Field& field : fields_of(answer.payload)) {
    if (field.number != 8 || find_field(fields_of(field.bytes), 1)->bytes != view) continue;
    const auto age = find_field(fields_of(field.bytes), 3);
    if (!age.has_value()) return -1;
    const std::vector<Field> parts = fields_of(age->bytes);
    const auto seconds = find_field(parts, 1), nanos = find_field(parts, 2);
    return static_cast<int64_t>((seconds ? seconds->value : 0) * 1'000'000'000 + (nanos ? nanos->value : 0));
  }
  return -1;
}

// What the model was given for "count_input".
double count_of(const Answer& answer) {
  for (const Field& field : fields_of(answer.payload)) {
    if (field.number != 9 || find_field(fields_of(field.bytes), 1)->bytes != "count_input") continue;
    const auto value = find_field(fields_of(find_field(fields_of(field.bytes), 2)->bytes), 1);
    double count = 0;
    std::memcpy(&count, &value->value, 8);
    return count;
  }
  return -1;
}

}  // namespace

TEST(a_row_whose_records_are_near_does_not_wait) {
  NearHouse house;
  const Answer first = house.score_all_the_way(1, with_features());
  CHECK_EQ(cache_age_ns(first, "customer"), -1);
  house.clock.advance_ns(3 * kSecond);
  CHECK(house.score(1, with_features()).code == Code::kOk);
  CHECK_EQ(house.looking_up(), 0u);
  CHECK_EQ(house.step(), 1u);
  const Answer& second = house.answer(house.token);
  CHECK_EQ(count_of(second), count_of(first));
  CHECK_EQ(count_of(second), 40.0);
  CHECK_EQ(cache_age_ns(second, "customer"), 3 * kSecond);
  CHECK_EQ(cache_age_ns(second, "terminal"), 3 * kSecond);
  CHECK_EQ(house.stats().degraded_rows, 0u);
  CHECK_EQ(house.stats().lookup_batches, 1u);
  CHECK_EQ(house.stats().near_cache_hits, 2u);
  CHECK_EQ(house.stats().near_cache_misses, 2u);
  CHECK_EQ(house.stats().near_cache.record_count, 2u);
}

TEST(that_there_is_no_record_is_near_too) {
  NearHouse house;
  house.store.records().clear();
  house.score_all_the_way(1);
  CHECK(house.score(2).code == Code::kOk);
  CHECK_EQ(house.looking_up(), 0u);
  CHECK_EQ(house.step(), 1u);
  CHECK_EQ(cache_age_ns(house.answer(2), "customer"), 0);
  CHECK_EQ(house.stats().degraded_rows, 0u);
}

TEST(what_is_older_than_its_view_allows_is_fetched_again) {
  NearHouse house({kAge, 2 * kAge});
  house.score_all_the_way(1);
  house.clock.advance_ns(kAge);
  CHECK(house.score(2).code == Code::kOk);
  CHECK_EQ(house.looking_up(), 0u);
  house.clock.advance_ns(1);
  CHECK(house.score(3).code == Code::kOk);
  CHECK_EQ(house.looking_up(), 1u);
  const auto batch = house.take();
  REQUIRE(batch != nullptr && batch->keys.size() == 1);
  CHECK(batch->keys[0].find(":customer:") != std::string::npos);
  house.give(*batch);
  CHECK_EQ(house.step(), 2u);
  CHECK_EQ(cache_age_ns(house.answer(3), "customer"), -1);
  CHECK_EQ(cache_age_ns(house.answer(3), "terminal"), kAge);  // in whole microseconds
}

TEST(only_what_is_not_near_is_fetched_and_each_key_once) {
  NearHouse house;
  house.store.record("other", kRequestTimeUs - 1'000'000, 5, "597");
  house.score_all_the_way(1);
  std::vector<std::string> rows;
  for (int64_t i = 0; i < 6; ++i) rows.push_back(score_request(i, i % 2 == 0 ? of_customer("597") : of_customer("598")));
  CHECK(house.batch(rows, number(6, 1)).code == Code::kOk);
  const auto batch = house.take();
  REQUIRE(batch != nullptr);
  CHECK_EQ(batch->rows.size(), 6u);
  CHECK_EQ(batch->keys.size(), 2u);  // of two customers; the terminal is near
  house.give(*batch);
  CHECK_EQ(house.step(), 6u);
  const Answer& answer = house.answer(house.token);
  size_t at = 0;
  for (const Field& result : fields_of(answer.payload)) {
    if (result.number != 2) continue;
    Answer row;
    row.payload = find_field(fields_of(result.bytes), 3)->bytes;
    CHECK_EQ(count_of(row), at++ % 2 == 0 ? 1.0 : 0.0);
  }
  CHECK_EQ(at, 6u);
}

TEST(a_call_may_have_rows_of_both_kinds) {
  NearHouse house;
  house.score_all_the_way(1);
  std::vector<std::string> rows;
  for (int64_t i = 0; i < 6; ++i) rows.push_back(i == 4 ? "\x0f" : score_request(i, i % 2 == 0 ? "" : of_customer("597")));
  CHECK(house.batch(rows).code == Code::kOk);
  CHECK_EQ(house.looking_up(), 3u);
  CHECK_EQ(house.step(), 2u);  // those that are near need not wait for the others
  CHECK_EQ(house.drain(), 0u);
  house.give(*house.take());
  CHECK_EQ(house.step(), 3u);
  const std::vector<Row> answered = parse_batch(house.answer(house.token).payload);
  REQUIRE(answered.size() == 6);
  for (size_t i = 0; i < 6; ++i) {
    if (i == 4) CHECK_EQ(answered[i].reason, "MALFORMED_MESSAGE");
    if (i != 4) CHECK_EQ(answered[i].score, static_cast<double>(i) / 1024.0);
  }
}

TEST(a_call_of_both_kinds_is_refused_whole) {
  NearHouse house;
  house.score_all_the_way(1);
  LaneSpec narrow = house.lane_spec("fraud", "2");
  narrow.options.queue_rows_max = 3;
  REQUIRE(house.add(std::move(narrow)).ok());
  CHECK(house.score(1).code == Code::kOk);
  CHECK(house.score(2).code == Code::kOk);  // the queue has one place left
  CHECK(house.batch({score_request(3), score_request(4), score_request(5, of_customer("597"))}).code == Code::kQueueFull);
  CHECK_EQ(house.looking_up(), 0u);
  CHECK_EQ(house.step("fraud", "2"), 2u);
}

TEST(a_view_without_an_age_is_always_fetched) {
  NearHouse house({0, kAge});
  house.score_all_the_way(1);
  house.store.record("now", kRequestTimeUs - 1, 5);
  CHECK(house.score(2, with_features()).code == Code::kOk);
  const auto batch = house.take();
  REQUIRE(batch != nullptr && batch->keys.size() == 1);
  house.give(*batch);
  CHECK_EQ(house.step(), 1u);
  CHECK_EQ(count_of(house.answer(2)), 41.0);
  CHECK_EQ(house.stats().near_cache.record_count, 1u);
  // Nor is it there when the store is not.
  CHECK(house.score(3).code == Code::kOk);
  house.engine.fail_lookups(*house.take());
  CHECK_EQ(house.step(), 1u);
  CHECK(has_degradation(house.answer(3), "STORE_UNAVAILABLE"));
  CHECK_EQ(cache_age_ns(house.answer(3), "terminal"), 0);
}

// --- single flight

TEST(what_another_batch_is_fetching_is_waited_for) {
  NearHouse house;
  CHECK(house.score(1).code == Code::kOk);
  const auto batch = house.take();
  CHECK(house.score(2, with_features()).code == Code::kOk);
  CHECK(house.take() == nullptr);
  CHECK_EQ(house.looking_up(), 2u);
  CHECK_EQ(house.stats().near_cache_joined_rows, 1u);
  house.give(*batch);
  CHECK_EQ(house.looking_up(), 1u);
  CHECK(house.take() == nullptr);  // it needs no fetch any more
  CHECK_EQ(house.looking_up(), 0u);
  CHECK_EQ(house.step(), 2u);
  CHECK_EQ(count_of(house.answer(2)), 40.0);
  CHECK_EQ(house.stats().lookup_batches, 1u);
}

TEST(a_row_that_must_ask_anyway_asks_for_all) {
  NearHouse house;
  CHECK(house.score(1).code == Code::kOk);
  const auto first = house.take();
  CHECK(house.score(2, of_customer("597")).code == Code::kOk);
  const auto second = house.take();
  REQUIRE(second != nullptr);
  CHECK_EQ(second->keys.size(), 2u);
  house.give(*second);
  house.give(*first);
  CHECK_EQ(house.step(), 2u);
}

TEST(when_the_other_batch_fails_the_row_fetches_for_itself) {
  NearHouse house;
  CHECK(house.score(1).code == Code::kOk);
  const auto first = house.take();
  CHECK(house.score(2).code == Code::kOk);
  CHECK(house.score(3).code == Code::kOk);
  CHECK(house.take() == nullptr);
  house.engine.fail_lookups(*first);
  const auto second = house.take();  // oldest first, and never joined again
  REQUIRE(second != nullptr);
  CHECK_EQ(second->rows.size(), 2u);
  CHECK(second->rows[0].serial < second->rows[1].serial);
  house.give(*second);
  CHECK_EQ(house.step(), 3u);
  CHECK(has_degradation(house.answer(1), "STORE_UNAVAILABLE"));
  CHECK(!has_degradation(house.answer(2), "STORE_UNAVAILABLE"));
  CHECK(!has_degradation(house.answer(3), "STORE_UNAVAILABLE"));
}

TEST(a_row_that_has_joined_gives_up_at_its_own_time) {
  NearHouse house;
  CHECK(house.score(1).code == Code::kOk);
  const auto hanging = house.take();
  house.clock.advance_ns(10 * kMs);
  CHECK(house.score(2, with_timeout_ms(50)).code == Code::kOk);  // two fifths: 20 ms
  CHECK(house.take() == nullptr);
  house.clock.advance_ns(20 * kMs - 1);
  CHECK_EQ(house.engine.step_lookups(), 0u);
  house.clock.advance_ns(1);
  CHECK_EQ(house.engine.step_lookups(), 1u);
  CHECK_EQ(house.step(), 1u);
  CHECK(has_degradation(house.answer(2), "STORE_UNAVAILABLE"));
  // A fetch that has taken longer than any row waits is not joined.
  house.clock.advance_ns(kTimeout);
  CHECK(house.score(3).code == Code::kOk);
  const auto own = house.take();
  REQUIRE(own != nullptr);
  house.give(*own);
  house.give(*hanging);
  CHECK_EQ(house.engine.step_lookups(), 0u);
  CHECK_EQ(house.step(), 2u);
}

TEST(a_row_that_has_joined_may_be_cancelled_or_stopped) {
  NearHouse house;
  CHECK(house.score(1).code == Code::kOk);
  const auto batch = house.take();
  const Submission cancelled = house.score(2);
  CHECK(house.score(3).code == Code::kOk);
  CHECK(house.take() == nullptr);
  CHECK(house.engine.cancel(cancelled.call));
  house.engine.stop();
  CHECK(house.answer(1).code == Code::kCancelled);
  CHECK(house.answer(3).code == Code::kCancelled);
  CHECK_EQ(house.stats().cancelled_rows, 2u + 1u);
  house.give(*batch);
}

// --- writes

TEST(what_this_server_writes_is_fetched_anew) {
  NearHouse house;
  house.score_all_the_way(1);
  const auto sizes = [&] { return house.stats().near_cache.record_count; };
  CHECK_EQ(sizes(), 2u);
  house.store.record("now", kRequestTimeUs - 1, 5);
  for (const auto& [key, record] : house.store.records()) house.engine.forget_record(key);
  CHECK_EQ(sizes(), 0u);
  CHECK_EQ(count_of(house.score_all_the_way(2, with_features())), 41.0);
}

TEST(a_fetch_from_before_a_write_is_neither_joined_nor_kept) {
  NearHouse house;
  CHECK(house.score(1, with_features()).code == Code::kOk);
  const auto before = house.take();
  const std::map<std::string, std::string> old = house.store.records();
  house.store.record("now", kRequestTimeUs - 1, 5);
  for (const auto& [key, record] : house.store.records()) house.engine.forget_record(key);
  CHECK(house.score(2, with_features()).code == Code::kOk);
  const auto after = house.take();
  REQUIRE(after != nullptr);
  house.give(*after);
  std::vector<FetchedRecord> fetched(before->keys.size());
  for (size_t i = 0; i < fetched.size(); ++i) fetched[i].bytes = old.at(before->keys[i]);
  house.engine.give_lookups(*before, fetched.data());
  CHECK_EQ(house.step(), 2u);
  CHECK_EQ(count_of(house.answer(2)), count_of(house.answer(1)) + 1);
  CHECK_EQ(count_of(house.score_all_the_way(3, with_features())), count_of(house.answer(2)));
  CHECK_EQ(house.stats().lookup_batches, 2u);
}

// --- without the store

TEST(stale_records_are_used_where_the_store_gives_nothing) {
  NearHouse house;
  const double count = count_of(house.score_all_the_way(1, with_features()));
  house.clock.advance_ns(kAge + 2 * kSecond);
  CHECK(house.score(2, with_features()).code == Code::kOk);
  house.engine.fail_lookups(*house.take());
  CHECK(house.score(3, with_features()).code == Code::kOk);  // nobody takes it
  house.clock.advance_ns(kTimeout);
  CHECK_EQ(house.engine.step_lookups(), 1u);
  CHECK_EQ(house.step(), 2u);
  for (const uint64_t token : {2, 3}) {
    const Answer& answer = house.answer(token);
    CHECK_EQ(count_of(answer), count);
    CHECK(has_degradation(answer, "the store gave nothing; fetched 12 s ago"));
    CHECK(!has_degradation(answer, "STORE_UNAVAILABLE"));
    CHECK_EQ(cache_age_ns(answer, "customer"), kAge + 2 * kSecond + (token == 3 ? kTimeout : 0));
  }
  CHECK_EQ(house.stats().degraded_rows, 2u);
  const EngineMetrics metrics = house.engine.metrics();
  CHECK_EQ(metrics.degradations[static_cast<size_t>(Degradation::kCacheStale)], 2u);  // a row once, though two views are
  CHECK_EQ(metrics.left_out_records[static_cast<size_t>(Code::kStoreUnavailable)], 0u);
  CHECK_EQ(house.stats().near_cache_stale_records, 4u);
  CHECK_EQ(house.stats().lookup_unavailable_records, 0u);
}

TEST(one_server_of_several_is_away_and_stale_records_stand_in_for_its_own) {
  NearHouse house;
  const double count = count_of(house.score_all_the_way(1, with_features()));
  house.clock.advance_ns(kAge + 2 * kSecond);
  for (int64_t amount = 2; amount <= 3; ++amount) {  // the other customer was never near
    CHECK(house.score(amount, with_features() + (amount == 3 ? of_customer("597") : std::string())).code == Code::kOk);
  }
  const auto batch = house.take();
  REQUIRE(batch != nullptr && batch->keys.size() == 3);
  std::vector<FetchedRecord> fetched = house.store.fetch(batch->keys);
  for (size_t i = 0; i < fetched.size(); ++i) {
    if (batch->keys[i].find(":customer:") != std::string::npos) fetched[i] = {{}, Code::kStoreUnavailable};
  }
  house.engine.give_lookups(*batch, fetched.data());
  CHECK_EQ(house.step(), 2u);
  CHECK_EQ(count_of(house.answer(2)), count);
  CHECK(has_degradation(house.answer(2), "the store gave nothing; fetched 12 s ago"));
  CHECK_EQ(cache_age_ns(house.answer(2), "customer"), kAge + 2 * kSecond);
  CHECK_EQ(cache_age_ns(house.answer(2), "terminal"), -1);
  CHECK(has_degradation(house.answer(3), "STORE_UNAVAILABLE"));
  CHECK_EQ(cache_age_ns(house.answer(3), "terminal"), -1);
  CHECK_EQ(house.stats().near_cache_stale_records, 1u);
  CHECK_EQ(house.stats().lookup_unavailable_records, 1u);
}

TEST(stale_has_an_end) {
  NearHouse house;
  house.score_all_the_way(1);
  const auto degradation_at = [&](int64_t age_ns) {
    house.clock.advance_ns(age_ns);
    CHECK(house.score(2).code == Code::kOk);
    house.engine.fail_lookups(*house.take());
    CHECK_EQ(house.step(), 1u);
    return has_degradation(house.answer(house.token), "STORE_UNAVAILABLE");
  };
  CHECK(!degradation_at(kStaleAge));
  CHECK(degradation_at(1));
}

TEST(inputs_without_a_default_have_a_stale_value) {
  NearHouse house({kAge, kAge}, WhenNull::kError);
  house.score_all_the_way(1);
  house.clock.advance_ns(kAge + 1);
  CHECK(house.score(2).code == Code::kOk);
  CHECK(house.score(3, of_customer("597")).code == Code::kOk);
  house.engine.fail_lookups(*house.take());
  CHECK_EQ(house.step(), 1u);
  CHECK(house.answer(2).code == Code::kOk);
  CHECK(house.answer(3).code == Code::kStoreUnavailable);
}

TEST(what_comes_too_late_for_its_row_is_there_for_the_next) {
  NearHouse house;
  CHECK(house.score(1).code == Code::kOk);
  const auto late = house.take();
  house.clock.advance_ns(kTimeout);
  CHECK_EQ(house.engine.step_lookups(), 1u);
  house.give(*late);
  CHECK(house.score(2).code == Code::kOk);
  CHECK_EQ(house.looking_up(), 0u);
  CHECK_EQ(house.step(), 2u);
  CHECK_EQ(cache_age_ns(house.answer(2), "customer"), kTimeout);  // counted from when it was asked for
}

TEST(a_record_that_cannot_be_trusted_is_not_kept) {
  NearHouse house;
  CHECK(house.score(1).code == Code::kOk);
  CHECK(house.score(2).code == Code::kOk);
  const auto batch = house.take();
  std::vector<FetchedRecord> fetched = house.store.fetch(batch->keys);
  fetched[0].bytes = fetched[1].bytes;  // another entity's, of another view
  house.engine.give_lookups(*batch, fetched.data());
  CHECK_EQ(house.step(), 2u);
  CHECK(has_degradation(house.answer(1), "RECORD_VIEW"));
  CHECK(has_degradation(house.answer(2), "RECORD_VIEW"));
  CHECK_EQ(house.stats().near_cache.record_count, 1u);
  CHECK_EQ(house.stats().lookup_rejected_records, 2u);
}

// Customers with as many events as their number says: whatever is near, joined, failed, late, forgotten or stale, a row has its
// own customer's count, or says that it has none.
TEST(no_row_gets_another_customers_record) {
  auto random = check::random_engine();
  NearHouse house;
  constexpr uint64_t kCustomers = 12;
  for (uint64_t c = 0; c < kCustomers; ++c) {
    for (uint64_t e = 0; e < c; ++e) {
      house.store.record("e" + std::to_string(c) + "-" + std::to_string(e), kRequestTimeUs - 1'000'000, 5,
                         "c" + std::to_string(c));
    }
  }
  std::map<uint64_t, uint64_t> customer_of;  // by token
  std::vector<std::unique_ptr<LookupBatch>> taken;
  size_t answered = 0;
  const auto judge = [&] {
    while (house.step() > 0) {}
    house.drain();
    for (auto& [token, answer] : house.answers) {
      const auto customer = static_cast<double>(customer_of.at(token));
      const double count = count_of(answer);
      if (answer.code == Code::kDeadlineExceeded) continue;
      CHECK(answer.code == Code::kOk);
      CHECK(count == customer || (count == 0 && has_degradation(answer, "STORE_UNAVAILABLE")));
      ++answered;
    }
    house.answers.clear();
  };
  for (int i = 0; i < check::scaled(4'000); ++i) {
    const uint64_t customer = random() % kCustomers;
    switch (random() % 8) {
      case 0:
        if (auto batch = house.take(1 + random() % 4)) taken.push_back(std::move(batch));
        break;
      case 1:
      case 2:
        if (taken.empty()) break;
        std::swap(taken[random() % taken.size()], taken.back());
        random() % 4 == 0 ? house.engine.fail_lookups(*taken.back()) : house.give(*taken.back());
        taken.pop_back();
        break;
      case 3: house.clock.advance_ns(static_cast<int64_t>(random() % 20) * kMs); break;
      case 4: house.engine.step_lookups(); break;
      case 5:
        if (random() % 20 == 0) house.clock.advance_ns(kAge);
        break;
      default:
        customer_of[house.token + 1] = customer;
        house.score(static_cast<int64_t>(i),
                    with_features() + of_customer("c" + std::to_string(customer)) + with_timeout_ms(60'000));
    }
    if (random() % 8 == 0) judge();
  }
  house.clock.advance_ns(kTimeout);
  house.engine.step_lookups();
  judge();
  CHECK_EQ(house.looking_up(), 0u);
  CHECK(answered > 500);
  const EngineStats stats = house.stats();
  CHECK(stats.near_cache_hits > 0 && stats.near_cache_misses > 0 && stats.near_cache_joined_rows > 0);
  CHECK(stats.near_cache_stale_records > 0);
}

ASSAY_TEST_MAIN
