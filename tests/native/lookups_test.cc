// Rows that wait for a remote store: read like those of the embedded one, on time whatever the store does, each settled once.
#include <future>
#include <set>
#include <thread>

#include "check.h"
#include "core/features/record_key.h"
#include "remote_fixture.h"

using namespace assay;
using namespace fixture;

TEST(keys_are_encoded_and_name_the_state) {
  ViewSpec view;
  view.name = "customer";
  view.view_hash = {0x0a, 0xff, 0x10, 0x01, 0x77};
  const auto key = [&](std::string_view kind, std::string_view id) {
    std::string out;
    append_record_key(view, kind, id, out);
    return out;
  };
  CHECK_EQ(key("customer_id", "596"), "a1:{customer_id:596}:customer:0aff1001");
  CHECK_EQ(key("customer_id", "a:b}{ %"), "a1:{customer_id:a%3ab%7d%7b%20%25}:customer:0aff1001");
  CHECK_EQ(key("k", std::string_view("\0\xc3\xa9", 3)), "a1:{k:%00%c3%a9}:customer:0aff1001");
  CHECK_EQ(key("~-._", "Az09"), "a1:{~-._:Az09}:customer:0aff1001");
  CHECK(key(std::string(64, '%'), std::string(128, '%')).size() <= 3 * (2 * limits::kNameBytesMax + limits::kIdBytesMax) + 16);
}

TEST(a_kept_transaction_is_what_was_kept) {
  const std::shared_ptr<const FeaturePlan> plan = make_plan();
  auto random = check::random_engine();
  KeptTransaction kept;
  for (int round = 0; round < check::scaled(200); ++round) {
    std::vector<std::string> texts;  // what the transaction points into
    const auto text = [&](size_t bytes_max) -> std::string_view {
      texts.push_back(std::string(random() % (bytes_max + 1), static_cast<char>('a' + random() % 26)));
      return texts.back();
    };
    texts.reserve(1000);
    Transaction before;
    before.id = text(limits::kIdBytesMax);
    before.event_time_us = static_cast<int64_t>(random());
    for (size_t i = 0; i < plan->spec().entities.size(); ++i) before.entities[i] = text(limits::kIdBytesMax);
    for (size_t i = 0; i < plan->spec().request_features.size(); ++i) {
      switch (random() % 5) {
        case 0: before.features[i] = Value(); break;
        case 1: before.features[i] = Value::of(static_cast<double>(random())); break;
        case 2: before.features[i] = Value::of(static_cast<int64_t>(random())); break;
        case 3: before.features[i] = Value::of(random() % 2 == 0); break;
        default: before.features[i] = Value::of(text(limits::kStringValueBytesMax)); break;
      }
    }
    const std::vector<std::string> copies = texts;
    kept.keep(before, *plan);
    for (std::string& gone : texts) std::fill(gone.begin(), gone.end(), '#');  // the request's bytes are somebody else's now
    Transaction after;
    kept.load(after);
    size_t next = 0;
    CHECK_EQ(after.id, copies[next++]);
    CHECK_EQ(after.event_time_us, before.event_time_us);
    for (size_t i = 0; i < plan->spec().entities.size(); ++i) CHECK_EQ(after.entities[i], copies[next++]);
    for (size_t i = 0; i < plan->spec().request_features.size(); ++i) {
      CHECK(after.features[i].dtype == before.features[i].dtype);
      if (before.features[i].dtype == Dtype::kString) {
        CHECK_EQ(after.features[i].string(), copies[next++]);
      } else {
        CHECK_EQ(after.features[i].int64, before.features[i].int64);
      }
    }
  }
}

TEST(answers_are_those_of_the_embedded_store_to_the_byte) {
  RemoteHouse remote;
  FakeStore store = filled_store(remote.plan);
  House embedded(stepping());
  REQUIRE(FeatureReader::create(remote.plan, store.embedded, &embedded.reader).ok());
  REQUIRE(embedded.add(embedded.lane_spec()).ok());
  const std::string with_features = number(10, 1);
  for (const int64_t amount : {5, 77, 100'000}) {
    CHECK(remote.score(amount, with_features).code == Code::kOk);
    CHECK(embedded.score(amount, with_features).code == Code::kOk);
    const auto batch = remote.take();
    REQUIRE(batch != nullptr);
    CHECK_EQ(batch->keys.size(), remote.plan->views().size());
    remote.engine.give_lookups(*batch, store.fetch(batch->keys).data());
    CHECK_EQ(remote.step(), 1u);
    CHECK_EQ(embedded.step(), 1u);
    const Answer& answer = remote.answer(remote.token);
    CHECK(answer.code == Code::kOk);
    CHECK_EQ(answer.payload, embedded.answer(embedded.token).payload);
    CHECK(parse_response(answer.payload).has_score);
  }
  CHECK_EQ(remote.engine.stats().degraded_rows, 0u);
}

TEST(a_plan_without_views_waits_for_no_store) {
  House house(stepping());
  PlanSpec spec = plan_spec();
  spec.views.clear();
  spec.nodes.pop_back();
  spec.inputs.erase(spec.inputs.begin());
  spec.tensors.erase(spec.tensors.begin());
  for (InputSpec& input : spec.inputs) --input.tensor;
  std::shared_ptr<const FeaturePlan> plan;
  REQUIRE(FeaturePlan::compile(std::move(spec), &plan).ok());
  house.reader = FeatureReader::create_remote(plan);
  CHECK(!house.reader->is_remote());
  LaneSpec lane = house.lane_spec();
  lane.runners.clear();
  lane.runners.push_back(std::make_unique<FakeRunner>(house.fake, plan->segments()[1].offset_bytes));
  REQUIRE(house.add(std::move(lane)).ok());
  CHECK(house.score(9).code == Code::kOk);
  CHECK_EQ(house.engine.stats().looking_up_rows, 0u);
  CHECK_EQ(house.step(), 1u);
  CHECK(parse_response(house.answer(1).payload).has_score);
}

TEST(no_record_is_a_new_entity_and_a_bad_one_is_left_out) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  CHECK(house.score(1).code == Code::kOk);
  auto batch = house.take();
  std::vector<FetchedRecord> none(batch->keys.size());
  house.engine.give_lookups(*batch, none.data());
  CHECK(house.score(2).code == Code::kOk);
  batch = house.take();
  std::vector<FetchedRecord> fetched = store.fetch(batch->keys);
  std::string damaged(fetched[0].bytes);
  damaged[200] = static_cast<char>(damaged[200] ^ 1);
  fetched[0].bytes = damaged;
  fetched[1].bytes = std::string_view("", 0);  // a value, but an empty one
  house.engine.give_lookups(*batch, fetched.data());
  CHECK_EQ(house.step(), 2u);
  CHECK_EQ(house.engine.stats().degraded_rows, 0u);
  CHECK(!has_degradation(house.answer(1), "RECORD_"));
  CHECK(has_degradation(house.answer(2), "RECORD_CHECKSUM"));
  CHECK(has_degradation(house.answer(2), "RECORD_LENGTH"));
  CHECK_EQ(house.engine.stats().lookup_rejected_records, 2u);
  CHECK_EQ(house.engine.stats().degraded_rows, 1u);
  const EngineMetrics metrics = house.engine.metrics();
  CHECK_EQ(metrics.left_out_records[static_cast<size_t>(Code::kRecordChecksum)], 1u);
  CHECK_EQ(metrics.left_out_records[static_cast<size_t>(Code::kRecordLength)], 1u);
  CHECK_EQ(metrics.left_out_records[static_cast<size_t>(Code::kOk)], 0u);
}

TEST(a_store_that_is_away_costs_the_features_and_says_so) {
  RemoteHouse house;
  CHECK(house.score(3).code == Code::kOk);
  house.engine.fail_lookups(*house.take());
  CHECK_EQ(house.step(), 1u);
  CHECK(house.answer(1).code == Code::kOk);
  CHECK(parse_response(house.answer(1).payload).has_score);
  CHECK(has_degradation(house.answer(1), "STORE_UNAVAILABLE"));
  CHECK_EQ(house.engine.stats().degraded_rows, 1u);
  CHECK_EQ(house.engine.metrics().left_out_records[static_cast<size_t>(Code::kStoreUnavailable)], 1u);
  CHECK_EQ(house.engine.stats().lookup_unavailable_records, house.plan->views().size());
}

TEST(inputs_without_a_default_fail_closed) {
  RemoteHouse house(stepping(), WhenNull::kError);
  CHECK(house.score(3).code == Code::kOk);
  house.engine.fail_lookups(*house.take());
  CHECK_EQ(house.step(), 0u);
  CHECK(house.answer(1).code == Code::kStoreUnavailable);
  CHECK_EQ(reason_in(house.answer(1).rpc_status), "STORE_UNAVAILABLE");
  // What is wrong with the request itself stays the client's to mend.
  CHECK(house.engine.submit_score(without_ratio(1), house.context(), &house.queue, 99).code == Code::kOk);
  auto batch = house.take();
  std::vector<FetchedRecord> none(batch->keys.size());
  house.engine.give_lookups(*batch, none.data());
  CHECK(house.answer(99).code == Code::kInvalidRequest);
  CHECK(house.answer(99).rpc_status.find("NULL_INPUT") != std::string::npos);
}

TEST(a_row_gives_up_at_its_time_and_not_before) {
  RemoteHouse house;
  CHECK(house.score(1).code == Code::kOk);                        // 1 s: the limit holds, 50 ms
  CHECK(house.score(2, with_timeout_ms(100)).code == Code::kOk);  // two fifths of 100 ms
  CHECK(house.score(3, with_timeout_ms(5)).code == Code::kOk);    // 2 ms
  const auto taken = house.take(1);                               // row 1 is on its way, the others wait
  house.clock.advance_ns(2 * kMs - 1);
  CHECK_EQ(house.engine.step_lookups(), 0u);
  house.clock.advance_ns(1);
  CHECK_EQ(house.engine.step_lookups(), 1u);
  house.clock.advance_ns(38 * kMs - 1);
  CHECK_EQ(house.engine.step_lookups(), 0u);
  house.clock.advance_ns(1);
  CHECK_EQ(house.engine.step_lookups(), 1u);
  house.clock.advance_ns(10 * kMs - 1);
  CHECK_EQ(house.engine.step_lookups(), 0u);
  house.clock.advance_ns(1);
  CHECK_EQ(house.engine.step_lookups(), 1u);
  CHECK_EQ(house.engine.stats().lookup_given_up_rows, 3u);
  CHECK_EQ(house.looking_up(), 0u);
  CHECK_EQ(house.step(), 2u);  // row 3's deadline has passed meanwhile
  CHECK(has_degradation(house.answer(1), "STORE_UNAVAILABLE"));
  CHECK(has_degradation(house.answer(2), "STORE_UNAVAILABLE"));
  CHECK(house.answer(3).code == Code::kDeadlineExceeded);
}

TEST(what_comes_after_a_row_gave_up_reaches_nobody) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  CHECK(house.score(1).code == Code::kOk);
  const auto late = house.take();
  house.clock.advance_ns(kTimeout);
  CHECK_EQ(house.engine.step_lookups(), 1u);
  CHECK_EQ(house.step(), 1u);
  CHECK(has_degradation(house.answer(1), "STORE_UNAVAILABLE"));
  CHECK(house.score(2).code == Code::kOk);  // the same slot, the same state
  const auto batch = house.take();
  CHECK_EQ(batch->rows[0].slot, late->rows[0].slot);
  house.engine.give_lookups(*late, store.fetch(late->keys).data());
  CHECK_EQ(house.looking_up(), 1u);
  house.engine.give_lookups(*batch, store.fetch(batch->keys).data());
  house.engine.give_lookups(*batch, store.fetch(batch->keys).data());  // twice: nothing
  CHECK_EQ(house.step(), 1u);
  CHECK(!has_degradation(house.answer(2), "STORE_UNAVAILABLE"));
}

TEST(nobody_waits_or_it_is_too_late) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  const Submission cancelled = house.score(1);
  CHECK(house.engine.cancel(cancelled.call));
  const Submission late = house.score(2, with_timeout_ms(10));
  CHECK(late.code == Code::kOk);
  const auto batch = house.take();
  house.clock.advance_ns(10 * kMs);
  house.engine.give_lookups(*batch, store.fetch(batch->keys).data());
  CHECK_EQ(house.step(), 0u);
  CHECK_EQ(house.drain(), 1u);
  CHECK(house.answer(2).code == Code::kDeadlineExceeded);
  const EngineStats stats = house.engine.stats();
  CHECK_EQ(stats.cancelled_rows, 1u);
  CHECK_EQ(stats.expired_rows[static_cast<size_t>(DeadlineCheck::kAfterLookup)], 1u);
}

TEST(rows_of_a_batch_may_come_back_apart) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  std::vector<std::string> rows;
  for (int64_t i = 0; i < 7; ++i) rows.push_back(i == 3 ? "\x0f" : score_request(i));
  CHECK(house.batch(rows).code == Code::kOk);
  const auto first = house.take(2), second = house.take(3), third = house.take(3);
  CHECK_EQ(first->rows.size() + second->rows.size() + third->rows.size(), 6u);
  house.engine.give_lookups(*third, store.fetch(third->keys).data());
  house.engine.fail_lookups(*second);
  CHECK_EQ(house.step(), 4u);
  CHECK_EQ(house.drain(), 0u);
  house.engine.give_lookups(*first, store.fetch(first->keys).data());
  CHECK_EQ(house.step(), 2u);
  const std::vector<Row> answered = parse_batch(house.answer(1).payload);
  REQUIRE(answered.size() == 7);
  for (int64_t i = 0; i < 7; ++i) {
    if (i == 3) {
      CHECK_EQ(answered[3].reason, "MALFORMED_MESSAGE");
    } else {
      CHECK_EQ(answered[static_cast<size_t>(i)].score, static_cast<double>(i) / 1024.0);
    }
  }
}

TEST(streams_wait_too) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  CHECK(house.stream(score_request(9)).code == Code::kOk);
  CHECK(house.stream(without_ratio(8)).code == Code::kOk);
  const auto batch = house.take();
  CHECK_EQ(batch->rows.size(), 2u);
  house.engine.give_lookups(*batch, store.fetch(batch->keys).data());
  CHECK_EQ(house.step(), 1u);
  CHECK(parse_result(house.answer(1).payload).has_score);
  CHECK_EQ(parse_result(house.answer(2).payload).reason, "INVALID_REQUEST");
}

TEST(a_full_queue_refuses_the_row_that_comes_back) {
  RemoteHouse house;
  LaneSpec narrow = house.lane_spec("fraud", "2");
  narrow.options.queue_rows_max = 1;
  REQUIRE(house.add(std::move(narrow)).ok());
  CHECK(house.score(1).code == Code::kOk);
  CHECK(house.score(2).code == Code::kOk);
  const auto first = house.take(1), second = house.take(1);
  house.engine.fail_lookups(*first);
  house.engine.fail_lookups(*second);
  CHECK(house.answer(2).code == Code::kQueueFull);
  CHECK_EQ(house.step("fraud", "2"), 1u);
}

// Rows of two lanes share fetches by key, whether or not their records are kept near; a key says the view by its hash.
TEST(two_kinds_of_bytes_under_one_hash_are_refused) {
  RemoteHouse house;
  PlanSpec spec = plan_spec();
  spec.views[0].exact_events_max *= 2;
  std::shared_ptr<const FeaturePlan> other;
  REQUIRE(FeaturePlan::compile(std::move(spec), &other).ok());
  LaneSpec lane = house.lane_spec("fraud", "2");
  lane.reader = FeatureReader::create_remote(other, {});
  const Status refused = house.add(std::move(lane));
  CHECK(refused.code == Code::kPlanInvalid);
  CHECK(refused.detail.find("view \"customer\"") != std::string::npos);
}

TEST(no_call_is_refused_for_its_neighbours) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  LaneSpec narrow = house.lane_spec("fraud", "2");
  narrow.options.queue_rows_max = 3;
  REQUIRE(house.add(std::move(narrow)).ok());
  CHECK(house.score(1).code == Code::kOk);                                                       // token 1
  CHECK(house.batch({score_request(2), score_request(3), score_request(4)}).code == Code::kOk);  // token 2: no room beside it
  CHECK(house.score(5).code == Code::kOk);                                                       // token 3
  const auto batch = house.take();
  CHECK_EQ(batch->rows.size(), 5u);
  house.engine.give_lookups(*batch, store.fetch(batch->keys).data());
  CHECK_EQ(house.step("fraud", "2"), 2u);
  CHECK(parse_response(house.answer(1).payload).has_score);
  CHECK(parse_response(house.answer(3).payload).has_score);
  const std::vector<Row> refused = parse_batch(house.answer(2).payload);
  REQUIRE(refused.size() == 3);
  for (const Row& row : refused) CHECK_EQ(row.reason, "QUEUE_FULL");
}

TEST(a_lane_that_is_removed_still_takes_its_parked_rows) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  CHECK(house.score(1).code == Code::kOk);
  const auto batch = house.take();
  std::thread remover([&] { CHECK(house.engine.remove_lane("fraud", "1").ok()); });
  house.engine.give_lookups(*batch, store.fetch(batch->keys).data());
  remover.join();
  CHECK(parse_response(house.answer(1).payload).has_score);
}

TEST(stop_answers_everybody_and_wakes_the_waiting) {
  RemoteHouse house;
  CHECK(house.score(1).code == Code::kOk);
  CHECK(house.score(2).code == Code::kOk);
  const auto batch = house.take(1);
  std::thread waiting([&] {
    while (house.engine.take_lookups(1, true) != nullptr) {}
  });
  house.engine.stop();
  waiting.join();
  house.engine.fail_lookups(*batch);
  CHECK(house.answer(1).code == Code::kCancelled);
  CHECK(house.answer(2).code == Code::kCancelled);
  CHECK(house.score(3).code == Code::kDraining);
}

// --- rows are left a little to the thread that has a batch under way

// A look-up thread that takes one batch.
using Taking = std::future<std::unique_ptr<LookupBatch>>;
static Taking start_taking(Engine& engine) {
  return std::async(std::launch::async, [&engine] { return engine.take_lookups(64, true); });
}
// The same, once it has seen which rows wait. REQUIRES: nobody else reads the clock.
static Taking start_taking_and_see(RemoteHouse& house) {
  house.clock.jump_at(1, 0);
  Taking taking = start_taking(house.engine);
  while (!house.clock.has_jumped()) std::this_thread::yield();
  return taking;
}
// Null: it took nothing within 20 s, and the engine has been stopped.
static std::unique_ptr<LookupBatch> taken_by(Taking& taking, RemoteHouse& house) {
  if (taking.wait_for(std::chrono::seconds(20)) != std::future_status::ready) house.engine.stop();
  return taking.get();
}

TEST(rows_wait_a_little_for_the_batch_under_way) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  CHECK(house.score(1).code == Code::kOk);
  const auto first = house.take();
  CHECK(house.score(2).code == Code::kOk);
  Taking other = start_taking_and_see(house);
  const auto second = house.take();  // who asks without waiting has it, so the other has left it alone
  CHECK(second != nullptr);
  CHECK(house.score(3).code == Code::kOk);
  house.clock.advance_ns(kMs);
  const auto third = taken_by(other, house);
  REQUIRE(second != nullptr && third != nullptr);
  for (const LookupBatch* batch : {first.get(), second.get(), third.get()}) {
    CHECK_EQ(batch->rows.size(), 1u);
    house.engine.give_lookups(*batch, store.fetch(batch->keys).data());
  }
  CHECK_EQ(house.step(), 3u);
}

TEST(a_row_with_little_time_does_not_wait_for_company) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  CHECK(house.score(1).code == Code::kOk);
  const auto first = house.take();
  CHECK(house.score(2, with_timeout_ms(2)).code == Code::kOk);  // it gives up after 0.8 ms
  Taking other = start_taking(house.engine);
  house.clock.advance_ns(kMs / 5);
  const auto second = taken_by(other, house);
  REQUIRE(second != nullptr);
  house.engine.give_lookups(*second, store.fetch(second->keys).data());
  house.engine.give_lookups(*first, store.fetch(first->keys).data());
  CHECK_EQ(house.step(), 2u);
}

TEST(nor_does_it_behind_a_row_with_more_time) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  CHECK(house.score(1).code == Code::kOk);
  const auto first = house.take();
  CHECK(house.score(2).code == Code::kOk);
  CHECK(house.score(3, with_timeout_ms(2)).code == Code::kOk);
  Taking other = start_taking(house.engine);
  house.clock.advance_ns(kMs / 5);
  const auto second = taken_by(other, house);
  REQUIRE(second != nullptr);
  CHECK_EQ(second->rows.size(), 2u);
  house.engine.give_lookups(*second, store.fetch(second->keys).data());
  house.engine.give_lookups(*first, store.fetch(first->keys).data());
  CHECK_EQ(house.step(), 3u);
}

// The clock has gone back a minute, so the thread would wait as long for the first row. It must be told of the second.
TEST(who_waits_is_told_of_a_row_with_less_time) {
  RemoteHouse house;
  CHECK(house.score(1).code == Code::kOk);
  const auto first = house.take();
  CHECK(house.score(2).code == Code::kOk);
  house.clock.advance_ns(-60 * kSecond);
  Taking other = start_taking_and_see(house);
  CHECK(house.score(3, with_timeout_ms(2)).code == Code::kOk);
  house.clock.advance_ns(kMs / 5);
  const auto second = taken_by(other, house);
  REQUIRE(second != nullptr);
  CHECK_EQ(second->rows.size(), 2u);
}

// The thread that knew of the last row has gone with it; the one that is left knows of none.
TEST(who_waits_is_told_of_the_next_row_after_others_were_taken) {
  RemoteHouse house;
  CHECK(house.score(1).code == Code::kOk);
  const auto first = house.take();
  Taking threads[2] = {start_taking_and_see(house), start_taking_and_see(house)};
  CHECK(house.score(2).code == Code::kOk);
  house.clock.advance_ns(kMs);
  for (int ms = 0; ms < 20'000 && house.engine.stats().lookup_batches < 2; ++ms) {
    threads[ms % 2].wait_for(std::chrono::milliseconds(1));
  }
  CHECK(house.score(3).code == Code::kOk);
  house.clock.advance_ns(kMs);
  for (Taking& thread : threads) CHECK(taken_by(thread, house) != nullptr);
}

TEST(nobody_waits_for_a_batch_that_was_given_twice) {
  RemoteHouse house;
  FakeStore store = filled_store(house.plan);
  CHECK(house.score(1).code == Code::kOk);
  const auto given = house.take();
  house.engine.give_lookups(*given, store.fetch(given->keys).data());
  house.engine.give_lookups(*given, store.fetch(given->keys).data());
  CHECK(house.score(2).code == Code::kOk);
  Taking other = start_taking(house.engine);
  CHECK(taken_by(other, house) != nullptr);
}

TEST(nor_for_one_that_was_dropped) {
  RemoteHouse house;
  CHECK(house.score(1).code == Code::kOk);
  house.take().reset();
  CHECK(house.score(2).code == Code::kOk);
  Taking other = start_taking(house.engine);
  CHECK(taken_by(other, house) != nullptr);
}

// The thread that gives up looks at rows while they are being taken; none of them may be forgotten.
TEST(a_row_that_is_taken_and_never_given_is_answered) {
  EngineOptions options;
  options.slots = 4;
  options.batch_call_rows_max = 1;
  options.lookup_timeout_ns_max = kMs;
  Engine engine(options, SystemClock::instance());
  CompletionQueue queue(options.slots);
  const std::shared_ptr<const FeaturePlan> plan = make_plan();
  LaneSpec spec;
  spec.model = "fraud";
  spec.version = "1";
  spec.reader = FeatureReader::create_remote(plan);
  spec.runners.push_back(std::make_unique<FakeRunner>(std::make_shared<Fake>(), plan->segments()[2].offset_bytes));
  REQUIRE(engine.add_lane(std::move(spec), true).ok());
  std::thread taking([&] {
    while (engine.take_lookups(1, true) != nullptr) {}  // what is taken is dropped
  });
  std::vector<Completion> completions;
  for (int i = 0; i < check::scaled(500); ++i) {
    const CallContext context{SystemClock::instance().now_ns(), 0};
    REQUIRE(engine.submit_score(score_request(i, with_timeout_ms(20'000)), context, &queue, 1).code == Code::kOk);
    size_t answered = 0;
    for (int waited = 0; waited < 20'000 && answered == 0; ++waited) {
      queue.drain(completions);
      for (const Completion& completion : completions) {
        CHECK(has_degradation(engine.finish(completion.call), "STORE_UNAVAILABLE"));
        ++answered;
      }
      if (answered == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    CHECK_EQ(answered, 1u);
    if (answered == 0) break;
  }
  engine.stop();
  taking.join();
  engine.check_idle();
}

// Real time: clients, look-up threads of which each third fetch fails, hangs or is late, rows that give up by themselves, cancels.
// With a near-cache: records of an age that is over most of the time, so that rows hit, join, miss and make do; and a writer.
static void storm(uint64_t near_cache_bytes_max) {
  EngineOptions options;
  options.slots = 256;
  options.near_cache_bytes_max = near_cache_bytes_max;
  options.batch_call_rows_max = 16;
  options.lookup_timeout_ns_max = 3 * kMs;
  Engine engine(options, SystemClock::instance());
  CompletionQueue queue(options.slots);
  const std::shared_ptr<const FeaturePlan> plan = make_plan();
  const FakeStore store = filled_store(plan);
  const auto fake = std::make_shared<Fake>();
  LaneSpec spec;
  spec.model = "fraud";
  spec.version = "1";
  spec.reader = FeatureReader::create_remote(plan, {kMs, kMs});
  for (int i = 0; i < 2; ++i) spec.runners.push_back(std::make_unique<FakeRunner>(fake, plan->segments()[2].offset_bytes));
  REQUIRE(engine.add_lane(std::move(spec), true).ok());

  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(check::seed() + t);
      while (const auto batch = engine.take_lookups(1 + random() % 32, true)) {
        const uint64_t mood = random() % 6;
        if (mood == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than anybody waits
        if (mood == 1) {
          engine.fail_lookups(*batch);
        } else {
          engine.give_lookups(*batch, store.fetch(batch->keys).data());
        }
      }
    });
  }
  std::mt19937_64 random(check::seed() + 100);
  std::map<uint64_t, int64_t> expected;  // amount by token; those answered or cancelled leave
  std::vector<Completion> completions;
  size_t answered = 0;
  const auto drain = [&] {
    queue.drain(completions);
    for (const Completion& completion : completions) {
      const Answer answer = engine.finish(completion.call);
      const auto at = expected.find(completion.token);
      REQUIRE(at != expected.end());
      CHECK(answer.code == Code::kOk);
      if (answer.code == Code::kOk) CHECK_EQ(parse_response(answer.payload).score, static_cast<double>(at->second) / 1024.0);
      expected.erase(at);
      ++answered;
    }
  };
  const int count = check::scaled(3'000);
  for (int i = 1; i <= count; ++i) {
    if (random() % 32 == 0) engine.forget_record(store.key_of(random()));
    const CallContext context{SystemClock::instance().now_ns(), 0};
    const auto token = static_cast<uint64_t>(i);
    expected[token] = i;
    const Submission submission = engine.submit_score(score_request(i, with_timeout_ms(20'000)), context, &queue, token);
    if (submission.code != Code::kOk) {
      CHECK(submission.code == Code::kSlotsExhausted || submission.code == Code::kQueueFull);
      expected.erase(token);
      std::this_thread::yield();
    } else if (random() % 16 == 0 && engine.cancel(submission.call)) {
      expected.erase(token);
    }
    drain();
  }
  for (int i = 0; i < 20'000 && !expected.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    drain();
  }
  CHECK(expected.empty());
  CHECK(answered > 0);
  CHECK(engine.wait_idle(20 * kSecond));
  const EngineStats stats = engine.stats();
  CHECK(stats.lookup_given_up_rows > 0);
  CHECK_EQ(stats.near_cache_hits > 0, near_cache_bytes_max > 0);
  CHECK_EQ(stats.near_cache_joined_rows > 0, near_cache_bytes_max > 0);
  engine.stop();
  for (std::thread& thread : threads) thread.join();
  engine.check_idle();
}

TEST(a_storm_settles_every_row_once) { storm(0); }
TEST(a_storm_with_a_near_cache_settles_every_row_once) { storm(NearCache::kBytesMin); }

ASSAY_TEST_MAIN
