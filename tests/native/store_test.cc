// The embedded store: what goes in comes out, limits hold, threads do not disturb each other.
#include <atomic>
#include <thread>

#include <unistd.h>

#include "record_fixture.h"

using namespace assay;
using namespace assay::fixture;

namespace {

constexpr uint64_t kMegabyte = 1 << 20;

Folded fold_of(const EmbeddedStore& store, uint32_t view, const ViewSchema& schema, const std::string& id, int64_t t_us,
               const EventEntry* current = nullptr) {
  Folded folded;
  folded.values.resize(schema.output_count());
  std::vector<char> arena(limits::kAttributesMax * limits::kStringValueBytesMax);
  FoldRequest request;
  request.event_time_us = t_us;
  request.current = current;
  store.fold(view, id, request, folded.values.data(), &folded.result, arena.data());
  return folded;
}

uint32_t added(EmbeddedStore& store, const ViewSchema& schema, const std::string& kind) {
  uint32_t view = 99;
  const Status status = store.add_view(schema, kind, &view);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return view;
}

}  // namespace

TEST(each_entity_of_each_view_has_its_own_state) {
  std::mt19937_64 random = check::random_engine();
  EmbeddedStore store(64 * kMegabyte);
  const ViewSchema customer = compiled(customer_spec()), terminal = compiled(terminal_spec());
  const uint32_t by_customer = added(store, customer, "customer_id"), by_terminal = added(store, terminal, "terminal_id");
  std::vector<std::vector<EventEntry>> customers(300), terminals(300);
  for (int i = 0; i < 6000; ++i) {
    const size_t c = random() % 300, t = random() % 300;
    const EventEntry seen = random_event(customer, static_cast<int64_t>(i) * kMinute, random);
    const EventEntry taken = random_event(terminal, static_cast<int64_t>(i) * kMinute, random);
    REQUIRE(store.apply(by_customer, std::to_string(c), seen) == Code::kOk);
    REQUIRE(store.apply(by_terminal, std::to_string(t), taken) == Code::kOk);
    customers[c].push_back(seen);
    terminals[t].push_back(taken);
  }
  for (size_t i = 0; i < 300; ++i) {
    const int64_t t_us = 5990 * kMinute;
    check_same(fold_of(store, by_customer, customer, std::to_string(i), 6000 * kMinute).values,
               reference_fold(customer, customers[i], 6000 * kMinute), "customer");
    check_same(fold_of(store, by_terminal, terminal, std::to_string(i), t_us + 7 * kDay).values,
               reference_fold(terminal, terminals[i], t_us + 7 * kDay), "terminal");
    store.prefetch(by_customer, std::to_string(i));
  }
  CHECK(!fold_of(store, by_customer, customer, "300", 0).result.is_found);
  store.prefetch(by_customer, "300");
  const StoreStats stats = store.stats();
  CHECK_EQ(stats.event_count, 12000u);
  CHECK(stats.record_count <= 600 && stats.record_count > 590);
  CHECK_EQ(stats.duplicate_count + stats.late_count + stats.full_count + stats.rejected_record_count, 0u);
  CHECK(store.apply(by_customer, "1", customers[1].back()) == Code::kEventDuplicate);
  CHECK_EQ(store.stats().duplicate_count, 1u);
  CHECK(store.apply(by_customer, std::string(limits::kIdBytesMax, 'i'), customers[1][0]) == Code::kOk);
  CHECK(store.apply(by_customer, std::string(limits::kIdBytesMax + 1, 'i'), customers[1][0]) == Code::kTooLong);
  CHECK(!fold_of(store, by_customer, customer, std::string(limits::kIdBytesMax + 1, 'i'), 0).result.is_found);
}

TEST(views_of_one_hash_share_their_state) {
  EmbeddedStore store(kMegabyte);
  const ViewSchema schema = compiled(amount_spec());
  const uint32_t view = added(store, schema, "customer_id");
  CHECK_EQ(added(store, schema, "customer_id"), view);
  const uint32_t other_kind = added(store, schema, "account_id");
  CHECK(other_kind != view);
  EventEntry event = event_at(0, 1);
  event.columns[0] = Value::of(int64_t{7});
  CHECK(store.apply(view, "1", event) == Code::kOk);
  CHECK(!fold_of(store, other_kind, schema, "1", 0).result.is_found);
  // Another aggregate over the same windows and columns reads the same records.
  ViewSpec more = amount_spec();
  more.aggregates.push_back({AggregateOp::kMax, 0, kDay});
  const ViewSchema wider = compiled(more);
  const uint32_t wide = added(store, wider, "customer_id");
  CHECK(wide != view);
  CHECK_EQ(fold_of(store, wide, wider, "1", 0).values.back().int64, 7);
  CHECK(store.apply(wide, "1", event) == Code::kEventDuplicate);
  // But a hash that stands for other bytes is refused.
  ViewSpec liar = amount_spec();
  liar.columns.push_back({ColumnSource::kRequestFeature, 1, Dtype::kBool});
  uint32_t id = 0;
  CHECK(store.add_view(compiled(liar), "customer_id", &id).code == Code::kPlanInvalid);
  CHECK(store.add_view(schema, "", &id).code == Code::kPlanInvalid);
  CHECK(store.add_view(schema, std::string(limits::kNameBytesMax + 1, 'k'), &id).code == Code::kPlanInvalid);
}

TEST(a_store_knows_at_most_its_views) {
  EmbeddedStore store(kMegabyte);
  uint32_t id = 0;
  for (size_t i = 0; i < limits::kViewsMax * limits::kLanesMax; ++i) {
    CHECK(store.add_view(compiled(amount_spec("view" + std::to_string(i))), "k", &id).ok());
  }
  CHECK(store.add_view(compiled(amount_spec("one too many")), "k", &id).code == Code::kPlanInvalid);
  CHECK(store.add_view(compiled(amount_spec("view0")), "k", &id).ok());
  CHECK_EQ(id, 0u);
}

TEST(memory_is_bounded_to_the_byte) {
  const ViewSchema schema = compiled(amount_spec());
  const auto fill = [&](EmbeddedStore& store) {
    const uint32_t view = added(store, schema, "customer_id");
    Code code = Code::kOk;
    int events = 0;
    for (; code == Code::kOk && events < 3000; ++events) {
      code = store.apply(view, std::to_string(events % 117), event_at(events, static_cast<uint64_t>(events)));
    }
    return std::make_pair(code, events);
  };
  EmbeddedStore roomy(64 * kMegabyte);
  CHECK(fill(roomy) == std::make_pair(Code::kOk, 3000));
  const uint64_t bytes = roomy.stats().bytes;
  CHECK(bytes > 3000 * uint64_t{schema.entry_bytes()});
  EmbeddedStore exact(bytes);
  CHECK(fill(exact) == std::make_pair(Code::kOk, 3000));
  CHECK_EQ(exact.stats().bytes, bytes);
  EmbeddedStore small(bytes - 1);
  CHECK(fill(small).first == Code::kStoreFull);
  CHECK(small.stats().bytes < bytes);
  CHECK_EQ(small.stats().full_count, 1u);
  EmbeddedStore none(0);
  CHECK(fill(none) == std::make_pair(Code::kStoreFull, 1));
  CHECK_EQ(none.stats().bytes, 0u);
  CHECK_EQ(none.stats().record_count, 0u);
}

TEST(a_full_store_changes_nothing_and_keeps_serving) {
  const ViewSchema schema = compiled(amount_spec()), profile = compiled(attribute_spec());
  EmbeddedStore store(8000);
  const uint32_t view = added(store, schema, "k"), attributes = added(store, profile, "k");
  int64_t time_us = 0;
  while (store.apply(view, "1", event_at(time_us, static_cast<uint64_t>(time_us))) == Code::kOk) ++time_us;
  const StoreStats before = store.stats();
  CHECK(store.apply(view, "1", event_at(time_us, 12345)) == Code::kStoreFull);
  std::string text(200, 'x');
  const Value values[5] = {Value(), Value(), Value(), Value::of(std::string_view(text)), Value::of(std::string_view(text))};
  while (store.put_attributes(attributes, std::to_string(time_us), 0, values) == Code::kOk) ++time_us;
  CHECK(store.apply(view, "1", event_at(0, 0)) == Code::kEventDuplicate);
  CHECK_EQ(fold_of(store, view, schema, "1", time_us).values[0].int64, static_cast<int64_t>(before.event_count));
  CHECK(store.stats().bytes <= 8000);
}

TEST(memory_comes_back_when_an_entity_goes_quiet) {
  const ViewSchema schema = compiled(amount_spec());
  EmbeddedStore store(kMegabyte);
  const uint32_t view = added(store, schema, "k");
  for (int64_t i = 0; i < 5000; ++i)
    REQUIRE(store.apply(view, "1", event_at(i * kHour / 4, static_cast<uint64_t>(i))) == Code::kOk);
  const uint64_t busy = store.stats().bytes;
  CHECK(store.stats().tiled_event_count > 4000);
  CHECK(busy < 64 + 16 * 24 + 5 * schema.record_bytes_max() / 4);
  CHECK(store.apply(view, "1", event_at(1000 * kDay, 77)) == Code::kOk);
  CHECK(store.stats().bytes < busy / 4);
}

TEST(attributes_are_replaced_by_newer_ones) {
  const ViewSchema schema = compiled(attribute_spec());
  EmbeddedStore store(kMegabyte);
  const uint32_t view = added(store, schema, "customer_id");
  const std::string longest(limits::kStringValueBytesMax, 'x');
  Value values[5] = {Value::of(51.5), Value::of(int64_t{9}), Value(), Value::of(std::string_view("gold")), Value()};
  CHECK(fold_of(store, view, schema, "1", 0).values[0].is_null());
  CHECK(!fold_of(store, view, schema, "1", 0).result.is_found);
  CHECK(store.put_attributes(view, "1", kDay, values) == Code::kOk);
  CHECK(store.put_attributes(view, "1", kDay, values) == Code::kEventDuplicate);
  values[4] = Value::of(std::string_view(longest));  // grows
  CHECK(store.put_attributes(view, "1", kDay - 1, values) == Code::kEventTooLate);
  CHECK(store.put_attributes(view, "1", kDay + 1, values) == Code::kOk);
  FoldRequest request;
  request.event_time_us = 2 * kDay;
  Value found[5];
  FoldResult result;
  std::vector<char> arena(limits::kAttributesMax * limits::kStringValueBytesMax);
  store.fold(view, "1", request, found, &result, arena.data());
  CHECK(result.is_found && result.age_us == kDay - 1 && !result.is_stale);
  CHECK(found[0].float64 == 51.5 && found[1].int64 == 9 && found[2].is_null() && found[3].string() == "gold" &&
        found[4].string() == longest);
  CHECK(found[4].text >= arena.data() && found[4].text < arena.data() + arena.size());
  request.event_time_us = 31 * kDay + 2;
  store.fold(view, "1", request, found, &result, arena.data());
  CHECK(result.is_stale && found[1].int64 == 9);
  values[0] = Value::of(int64_t{1});
  CHECK(store.put_attributes(view, "1", 3 * kDay, values) == Code::kWrongType);
}

TEST(threads_apply_fold_and_save_at_once) {
  const std::string path = "/tmp/assay_store_test." + std::to_string(::getpid()) + ".snapshot";
  const ViewSchema schema = compiled(customer_spec()), profile = compiled(attribute_spec());
  EmbeddedStore store(64 * kMegabyte);
  const uint32_t view = added(store, schema, "customer_id"), attributes = added(store, profile, "customer_id");
  const int events = check::scaled(3000);
  std::atomic<int> refused{0}, wrong{0};
  std::vector<std::thread> threads;
  for (uint64_t writer = 0; writer < 2; ++writer) {  // both write the same events: each is taken once
    threads.emplace_back([&, writer] {
      std::mt19937_64 random(check::seed());
      for (int i = 0; i < events; ++i) {
        const EventEntry event = random_event(schema, static_cast<int64_t>(i) * kSecond, random);
        const Code code = store.apply(view, std::to_string(i % 40), event);
        refused += code != Code::kOk && code != Code::kEventDuplicate && code != Code::kEventTooLate;
        const Value values[5] = {Value(), Value::of(int64_t{i}), Value::of(writer == 0), Value(), Value()};
        if (i % 10 == 0) store.put_attributes(attributes, std::to_string(i % 40), i, values);
      }
    });
  }
  threads.emplace_back([&] {
    int64_t last = 0;
    for (int i = 0; i < events; ++i) {
      const int64_t count = fold_of(store, view, schema, "7", int64_t{events} * kSecond).values[0].int64;
      wrong += count < last;  // a count over a window that reaches all events never falls
      last = count;
      store.prefetch(view, std::to_string(i % 40));
      if (i % 500 == 0) (void)store.stats();
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; i < 5; ++i) wrong += !store.save(path, {}).ok();
    uint32_t id = 0;
    for (int i = 0; i < 20; ++i) wrong += !store.add_view(compiled(amount_spec(std::to_string(i))), "k", &id).ok();
  });
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(refused.load(), 0);
  CHECK_EQ(wrong.load(), 0);
  const StoreStats stats = store.stats();
  CHECK_EQ(stats.record_count, 44u);
  EmbeddedStore loaded(64 * kMegabyte);
  const Status status = loaded.load(path, {});
  CHECK_EQ(status.detail, std::string());
  CHECK_EQ(added(loaded, schema, "customer_id"), 0u);  // every record was whole when it was copied
  ::unlink(path.c_str());
}

ASSAY_TEST_MAIN
