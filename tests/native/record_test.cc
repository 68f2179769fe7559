// Row records: the bytes, the fold and the tiles against the definitions.
#include <cmath>

#include "record_fixture.h"

using namespace assay;
using namespace assay::fixture;

namespace {

constexpr uint32_t kRing = limits::kExactEventsMin;

// Shuffles so that no event comes more than `distance` places late.
void shuffle_nearby(std::vector<EventEntry>& events, size_t distance, std::mt19937_64& random) {
  std::vector<std::pair<size_t, size_t>> keys;
  for (size_t i = 0; i < events.size(); ++i) keys.push_back({i + random() % distance, i});
  std::sort(keys.begin(), keys.end());
  std::vector<EventEntry> shuffled;
  for (const auto& key : keys) shuffled.push_back(events[key.second]);
  events = std::move(shuffled);
}

// A busy entity: events in ascending time, mostly minutes apart, sometimes at one moment, sometimes after hours of nothing.
std::vector<EventEntry> busy_stream(const ViewSchema& schema, size_t count, int64_t start_us, int64_t step_us,
                                    std::mt19937_64& random) {
  std::vector<EventEntry> events;
  int64_t time_us = start_us;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t draw = random() % 100;
    if (draw >= 10) time_us += static_cast<int64_t>(random() % static_cast<uint64_t>(2 * step_us));
    if (draw == 99) time_us += static_cast<int64_t>(random() % static_cast<uint64_t>(40 * step_us));
    events.push_back(random_event(schema, time_us, random));
  }
  return events;
}

Record record_of(const ViewSchema& schema, const std::vector<EventEntry>& events) {
  Record record;
  for (const EventEntry& event : events) CHECK_EQ(reason_of(record.apply(schema, event)), std::string("OK"));
  return record;
}

// A stream of at most a ring's worth of events, in any order with repeats, folded at moments chosen to hit boundaries.
void compare_ring_with_reference(const ViewSchema& schema, std::mt19937_64& random) {
  const int64_t grain_us = random() % 2 ? kHour / 4 : 1;  // coarse: windows' ends hit events to the microsecond
  const int64_t span_us = schema.horizon_us();
  const int64_t start_us = random() % 2 ? 0 : -3 * kDay;  // before 1970 too
  std::vector<EventEntry> events;
  Record record;
  const size_t count = random() % (kRing + 1);
  for (size_t i = 0; i < count; ++i) {
    if (!events.empty() && random() % 8 == 0) {
      CHECK_EQ(static_cast<int>(record.apply(schema, events[random() % events.size()])), static_cast<int>(Code::kEventDuplicate));
      continue;
    }
    const int64_t time_us = start_us + static_cast<int64_t>(random() % static_cast<uint64_t>(span_us)) / grain_us * grain_us;
    const EventEntry event = random_event(schema, time_us, random);
    REQUIRE(record.apply(schema, event) == Code::kOk);
    events.push_back(event);
  }
  if (!events.empty()) CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
  for (int i = 0; i < 20; ++i) {
    const int64_t t_us = start_us + static_cast<int64_t>(random() % static_cast<uint64_t>(2 * span_us)) / grain_us * grain_us;
    EventEntry current = random_event(schema, t_us, random);
    if (!events.empty() && random() % 3 == 0) {  // scored again after it was recorded
      current = events[random() % events.size()];
    }
    const int64_t at_us = current.event_time_us;
    const EventEntry* given = random() % 3 == 0 ? nullptr : &current;
    const Folded folded = fold(schema, record.data(), at_us, given);
    check_same(folded.values, reference_fold(schema, events, at_us, given), "seed " + std::to_string(check::seed()));
    CHECK_EQ(folded.result.is_found, !events.empty());
    CHECK(!folded.result.is_saturated);
    const int64_t newest_us = events.empty() ? at_us : load_le<int64_t>(record.data() + header::kNewestTime);
    if (at_us >= newest_us - schema.spec().lateness_us) CHECK(!folded.result.is_approximate);
  }
}

}  // namespace

TEST(fold_equals_the_reference_on_random_streams) {
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schemas[] = {compiled(customer_spec()), compiled(terminal_spec()), compiled(amount_spec())};
  for (int i = 0; i < check::scaled(60); ++i) {
    for (const ViewSchema& schema : schemas) compare_ring_with_reference(schema, random);
  }
}

TEST(windows_are_half_open_to_the_microsecond) {
  const ViewSchema amount = compiled(amount_spec());
  Record record;
  const int64_t t_us = 100 * kDay;
  for (int64_t time_us : {t_us - 30 * kDay, t_us - 30 * kDay + 1, t_us - kDay, t_us - kDay + 1, t_us, t_us + 1}) {
    CHECK(record.apply(amount, event_at(time_us, static_cast<uint64_t>(time_us))) == Code::kOk);
  }
  const Folded folded = fold(amount, record.data(), t_us);
  CHECK_EQ(folded.values[0].int64, 2);  // one microsecond less than a day ago, and now
  CHECK_EQ(folded.values[2].int64, 3);  // and exactly a day ago
  CHECK_EQ(folded.values[4].int64, 4);  // not 30 days ago exactly, not in a microsecond
  CHECK(folded.values[1].is_null());    // no amounts

  const ViewSchema terminal = compiled(terminal_spec());
  Record delayed;
  const int64_t head_us = t_us - 7 * kDay;
  for (int64_t time_us : {head_us - kDay, head_us - kDay + 1, head_us, head_us + 1}) {
    CHECK(delayed.apply(terminal, event_at(time_us, static_cast<uint64_t>(time_us))) == Code::kOk);
  }
  CHECK_EQ(fold(terminal, delayed.data(), t_us).values[0].int64, 2);
}

TEST(an_unknown_entity_has_empty_windows) {
  const ViewSchema schema = compiled(customer_spec());
  const Folded folded = fold(schema, nullptr, kDay);
  CHECK(!folded.result.is_found);
  check_same(folded.values, reference_fold(schema, {}, kDay), "empty");
  EventEntry current = event_at(kDay, 1);
  current.columns[0] = Value::of(int64_t{5716});
  check_same(fold(schema, nullptr, kDay, &current).values, reference_fold(schema, {}, kDay, &current), "current alone");
}

TEST(a_state_does_not_depend_on_the_order_of_its_events) {
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schemas[] = {compiled(customer_spec()), compiled(terminal_spec())};
  size_t tiled = 0;
  for (int i = 0; i < check::scaled(12); ++i) {
    const ViewSchema& schema = schemas[i % 2];
    const int64_t step_us = i % 2 ? 20 * kMinute : 4 * kMinute;
    std::vector<EventEntry> events = busy_stream(schema, kRing + random() % 1500, -5 * kDay, step_us, random);
    std::sort(events.begin(), events.end(), [](const EventEntry& a, const EventEntry& b) {
      return std::make_pair(a.event_time_us, a.fingerprint) < std::make_pair(b.event_time_us, b.fingerprint);
    });
    const Record in_order = record_of(schema, events);
    tiled += in_order.tile_count();
    CHECK_EQ(static_cast<int>(in_order.validate(schema)), 0);
    for (int repeat = 0; repeat < 3; ++repeat) {
      shuffle_nearby(events, kRing - 1, random);
      const Record shuffled = record_of(schema, events);  // never too late: none is more than a ring late
      CHECK(shuffled.bytes == in_order.bytes);
      std::sort(events.begin(), events.end(), [](const EventEntry& a, const EventEntry& b) {
        return std::make_pair(a.event_time_us, a.fingerprint) < std::make_pair(b.event_time_us, b.fingerprint);
      });
    }
  }
  CHECK(tiled > 0);
}

TEST(expired_events_do_not_make_the_order_matter) {
  // A ring that is not full when time jumps, and the same events in an order in which it was full first.
  std::mt19937_64 random = check::random_engine();
  ViewSpec spec = amount_spec();
  spec.aggregates = {{AggregateOp::kCount, kNoColumn, kHour}};
  const ViewSchema schema = compiled(spec);
  for (int i = 0; i < check::scaled(30); ++i) {
    std::vector<EventEntry> events;
    const int64_t base_us = static_cast<int64_t>(random() % kDay);
    for (uint32_t n = 0; n < kRing + 40; ++n)
      events.push_back(random_event(schema, base_us + static_cast<int64_t>(random() % (3 * kHour)), random));
    std::sort(events.begin(), events.end(), [](const EventEntry& a, const EventEntry& b) {
      return std::make_pair(a.event_time_us, a.fingerprint) < std::make_pair(b.event_time_us, b.fingerprint);
    });
    const Record in_order = record_of(schema, events);
    Record shuffled;
    std::vector<EventEntry> order = events;
    std::shuffle(order.begin(), order.end(), random);
    std::vector<EventEntry> late;
    for (const EventEntry& event : order) {
      if (shuffled.apply(schema, event) != Code::kOk) late.push_back(event);
    }
    if (late.empty()) CHECK(shuffled.bytes == in_order.bytes);
    // What was refused as too late is nothing that an ordered run holds one by one.
    const WindowParts parts(schema, in_order.data());
    for (const EventEntry& event : late) CHECK(event.event_time_us <= load_le<int64_t>(parts.entries + entry::kTime));
  }
}

TEST(tiled_windows_are_off_by_less_than_a_24th_at_each_end) {
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schemas[] = {compiled(customer_spec()), compiled(terminal_spec())};
  int approximate = 0, exact = 0;
  for (int i = 0; i < check::scaled(8); ++i) {
    const ViewSchema& schema = schemas[i % 2];
    const int64_t lateness_us = schema.spec().lateness_us;
    const std::vector<EventEntry> events = busy_stream(schema, 4000, 0, i % 2 ? 8 * kMinute : 2 * kMinute, random);
    Record record;
    size_t next = 0;
    for (const EventEntry& event : events) {
      REQUIRE(record.apply(schema, event) == Code::kOk);
      if (++next % 97 != 0) continue;
      const std::vector<EventEntry> known(events.begin(), events.begin() + static_cast<ptrdiff_t>(next));
      const int64_t span_us = schema.horizon_us() / 4 + lateness_us;
      const int64_t t_us = event.event_time_us - lateness_us + static_cast<int64_t>(random() % static_cast<uint64_t>(span_us));
      const Folded folded = fold(schema, record.data(), t_us);
      const int64_t head_us = t_us - schema.spec().delay_us;
      (folded.result.is_approximate ? approximate : exact) += 1;
      if (!folded.result.is_approximate && !folded.result.is_saturated) {
        check_same(folded.values, reference_fold(schema, known, t_us), "not flagged");
      }
      for (size_t a = 0; a < schema.spec().aggregates.size(); ++a) {
        const AggregateSpec& aggregate = schema.spec().aggregates[a];
        if (aggregate.op != AggregateOp::kCount) continue;
        const int64_t slack_us = aggregate.window_us / 24, head_slack_us = schema.windows_us()[0] / 24;
        const int64_t tail_us = head_us - aggregate.window_us;
        const int64_t low = static_cast<int64_t>(events_between(schema, known, tail_us, head_us - head_slack_us, nullptr).size());
        const int64_t high = static_cast<int64_t>(events_between(schema, known, tail_us - slack_us, head_us, nullptr).size());
        CHECK(folded.values[a].int64 >= low && folded.values[a].int64 <= high);
      }
    }
    CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
    CHECK(record.tile_count() > 0 && record.tile_count() <= schema.tiles_max());
  }
  CHECK(approximate > 0 && exact > 0);
}

TEST(every_aggregate_of_a_tiled_window_is_that_of_a_window_with_moved_ends) {
  // The tiles that a fold takes whole are found from the bytes; the reference then folds exactly those events.
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schema = compiled(customer_spec());
  for (int i = 0; i < check::scaled(6); ++i) {
    const std::vector<EventEntry> events = busy_stream(schema, 3000, -kDay, 3 * kMinute, random);
    const Record record = record_of(schema, events);
    const WindowParts parts(schema, record.data());
    for (int repeat = 0; repeat < 10; ++repeat) {
      const int64_t t_us = events.back().event_time_us - kHour + static_cast<int64_t>(random() % (3 * kDay));
      const Folded folded = fold(schema, record.data(), t_us);
      for (size_t a = 0; a < schema.spec().aggregates.size(); ++a) {
        const AggregateSpec& aggregate = schema.spec().aggregates[a];
        if (aggregate.op == AggregateOp::kDistinct) continue;
        int64_t from_us = t_us - aggregate.window_us, to_us = t_us;
        for (uint32_t n = 0; n < parts.tile_count; ++n) {
          const uint8_t* at = parts.tiles + size_t{n} * schema.tile_bytes();
          const int64_t first_us = load_le<int64_t>(at + tile::kFirst), last_us = load_le<int64_t>(at + tile::kLast);
          if (last_us > t_us && first_us <= t_us) to_us = std::min(to_us, first_us - 1);
          if (last_us > t_us - aggregate.window_us && last_us <= t_us) from_us = std::min(from_us, first_us - 1);
        }
        const Value expected = aggregate_of(aggregate, events_between(schema, events, from_us, to_us, nullptr), t_us);
        if (!is_same(folded.values[a], expected))
          check::fail(__FILE__, __LINE__,
                      "aggregate " + std::to_string(a) + ": " + text_of(folded.values[a]) + " instead of " + text_of(expected));
      }
    }
  }
}

TEST(the_ring_holds_exactly_its_size) {
  for (uint32_t ring : {kRing, kRing + 1, limits::kExactEventsMax}) {
    ViewSpec spec = amount_spec();
    spec.exact_events_max = ring;
    const ViewSchema schema = compiled(spec);
    Record record;
    for (uint32_t i = 0; i + 1 < ring; ++i) REQUIRE(record.apply(schema, event_at(1000 + 10 * i, i + 1)) == Code::kOk);
    Record other = record;
    CHECK_EQ(record.entry_count(), ring - 1);
    CHECK(other.apply(schema, event_at(5, 9'000'000)) == Code::kOk);            // K - 1 entries: room for an older one
    CHECK(other.apply(schema, event_at(4, 9'000'001)) == Code::kEventTooLate);  // K: a repeat could not be told
    CHECK(other.apply(schema, event_at(5, 9'000'000)) == Code::kEventDuplicate);
    CHECK(record.apply(schema, event_at(1000 + 10 * ring, 9'000'002)) == Code::kOk);
    CHECK_EQ(record.entry_count(), ring);
    CHECK_EQ(record.tile_count(), 0u);
    CHECK(record.apply(schema, event_at(1000 + 10 * ring, 9'000'001)) == Code::kOk);  // same microsecond, smaller fingerprint
    CHECK_EQ(record.entry_count(), ring);
    CHECK_EQ(record.tile_count(), 1u);
    const std::vector<uint8_t> before = record.bytes;
    CHECK(record.apply(schema, event_at(1000, 1)) == Code::kEventTooLate);         // the one that went into the tile
    CHECK(record.apply(schema, event_at(1010, 2)) == Code::kEventDuplicate);       // the oldest that stayed
    CHECK(record.apply(schema, event_at(2'000'000, 2)) == Code::kEventDuplicate);  // the same id with another time
    CHECK(record.bytes == before);
    CHECK_EQ(fold(schema, record.data(), 1000 + 10 * ring).values[0].int64, int64_t{ring} + 1);
  }
}

TEST(what_no_window_can_reach_goes_away) {
  ViewSpec spec = customer_spec();
  const ViewSchema schema = compiled(spec);
  const int64_t width_us = schema.tiers().back().width_us;
  std::mt19937_64 random = check::random_engine();
  Record record = record_of(schema, busy_stream(schema, 2000, 0, kMinute, random));
  CHECK(record.tile_count() > 0);
  const int64_t newest_us = load_le<int64_t>(record.data() + header::kNewestTime);
  CHECK(record.apply(schema, event_at(newest_us + schema.horizon_us() + width_us, 1)) == Code::kOk);
  CHECK_EQ(record.entry_count(), 1u);
  CHECK_EQ(record.tile_count(), 0u);
  CHECK_EQ(record.bytes.size(), size_t{kRecordHeaderBytes} + schema.entry_bytes());
  const int64_t cut_us = expiry_cut_us(schema, newest_us + schema.horizon_us() + width_us);
  CHECK(record.apply(schema, event_at(cut_us - 1, 2)) == Code::kEventTooLate);
  CHECK(record.apply(schema, event_at(cut_us, 3)) == Code::kOk);
  CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
}

TEST(a_fold_further_back_than_the_record_reaches_says_so) {
  const ViewSchema schema = compiled(amount_spec());
  Record record;
  CHECK(record.apply(schema, event_at(100 * kDay, 1)) == Code::kOk);
  CHECK(!fold(schema, record.data(), 100 * kDay).result.is_approximate);
  CHECK(fold(schema, record.data(), 90 * kDay).result.is_approximate);
  CHECK_EQ(fold(schema, record.data(), 90 * kDay).values[4].int64, 0);
  CHECK_EQ(fold(schema, record.data(), 101 * kDay).result.age_us, kDay);
}

TEST(sums_past_int64_become_null_and_say_why) {
  ViewSpec spec = amount_spec();
  for (AggregateSpec& aggregate : spec.aggregates) {
    if (aggregate.op == AggregateOp::kCount) aggregate = {AggregateOp::kSum, 0, aggregate.window_us};
  }
  const ViewSchema schema = compiled(spec);
  const int64_t top = std::numeric_limits<int64_t>::max();
  Record record;
  EventEntry event = event_at(0, 1);
  event.columns[0] = Value::of(top);
  CHECK(record.apply(schema, event) == Code::kOk);
  CHECK_EQ(fold(schema, record.data(), kDay - 1).values[0].int64, top);
  event = event_at(1, 2);
  event.columns[0] = Value::of(int64_t{1});
  CHECK(record.apply(schema, event) == Code::kOk);
  const Folded folded = fold(schema, record.data(), kDay - 1);
  CHECK(folded.values[0].is_null());
  CHECK(folded.result.rejected == Code::kIntegerOverflow);
  CHECK_EQ(folded.values[1].float64, std::ldexp(1.0, 62));  // the average is no problem
  CHECK_EQ(fold(schema, record.data(), kDay).values[0].int64, 1);
  // In tiles the sum has 128 bits: no number of events can spoil it, and it comes back into range with its window.
  for (uint32_t i = 0; i < 3 * kRing; ++i) {
    event = event_at(2 + i, 100 + i);
    event.columns[0] = Value::of(i % 2 ? top : -top);
    CHECK(record.apply(schema, event) == Code::kOk);
  }
  CHECK(record.tile_count() > 0);
  CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
  CHECK(fold(schema, record.data(), kHour).values[0].is_null());
  event = event_at(kHour / 2, 7);
  event.columns[0] = Value::of(int64_t{-2});
  CHECK(record.apply(schema, event) == Code::kOk);
  CHECK_EQ(fold(schema, record.data(), kHour).values[0].int64, top - 1);
}

TEST(labels_count_when_they_are_known_and_old_enough) {
  const ViewSchema schema = compiled(terminal_spec());
  EventEntry event = event_at(0, 1);
  Record record;
  CHECK(record.apply(schema, event) == Code::kOk);
  const auto rate_at = [&](int64_t t_us) { return fold(schema, record.data(), t_us).values[1]; };
  CHECK(rate_at(7 * kDay - 1).is_null());    // not in the window yet
  CHECK_EQ(rate_at(7 * kDay).float64, 0.0);  // unlabelled past the delay: genuine
  event.is_fraud = 1;
  event.label_time_us = 7 * kDay + kHour;
  CHECK(record.apply(schema, event) == Code::kOk);  // a late label finds its event
  CHECK(record.apply(schema, event) == Code::kEventDuplicate);
  CHECK_EQ(rate_at(7 * kDay + kHour - 1).float64, 0.0);  // not known yet
  CHECK_EQ(rate_at(7 * kDay + kHour).float64, 1.0);
  const std::vector<uint8_t> before = record.bytes;
  EventEntry older = event;
  older.is_fraud = 0;
  older.label_time_us = 7 * kDay;
  CHECK(record.apply(schema, older) == Code::kEventDuplicate);  // the newest label stands
  EventEntry unlabelled = event_at(0, 1);
  CHECK(record.apply(schema, unlabelled) == Code::kEventDuplicate);
  CHECK(record.bytes == before);
  older.label_time_us = 8 * kDay;  // reversed
  CHECK(record.apply(schema, older) == Code::kOk);
  CHECK_EQ(rate_at(8 * kDay - 1).float64, 0.0);
  CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
  // The same labels in another order: the same bytes.
  Record other;
  CHECK(other.apply(schema, older) == Code::kOk);
  CHECK(other.apply(schema, event) == Code::kEventDuplicate);
  CHECK(other.bytes == record.bytes);
}

TEST(a_label_changes_its_event_and_adds_none) {
  const ViewSchema schema = compiled(terminal_spec());
  Record record;
  EventEntry label = event_at(kHour, 1);
  label.is_label = true;
  label.is_fraud = 1;
  label.label_time_us = 8 * kDay;
  CHECK(record.apply(schema, label) == Code::kEventUnknown);  // no record
  CHECK(record.apply(schema, event_at(kHour, 2)) == Code::kOk);
  CHECK(record.apply(schema, label) == Code::kEventUnknown);  // another event's record
  CHECK(record.apply(schema, event_at(kMinute, 1)) == Code::kOk);
  const std::vector<uint8_t> before = record.bytes;
  CHECK(record.apply(schema, label) == Code::kEventUnknown);  // that event, at another time
  CHECK(record.bytes == before);
  label.event_time_us = kMinute;
  CHECK(record.apply(schema, label) == Code::kOk);
  CHECK(record.apply(schema, label) == Code::kEventDuplicate);
  label.is_fraud = 0;
  CHECK(record.apply(schema, label) == Code::kEventTooLate);  // of the same time fraud stands
  label.label_time_us = 9 * kDay;
  CHECK(record.apply(schema, label) == Code::kOk);
  label.is_fraud = 1;
  label.label_time_us = 8 * kDay;
  CHECK(record.apply(schema, label) == Code::kEventTooLate);  // a newer one stands
  CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
}

TEST(a_label_of_an_event_that_a_tile_holds_comes_too_late) {
  const ViewSchema schema = compiled(terminal_spec());
  Record record;
  for (uint32_t i = 0; i <= kRing; ++i) CHECK(record.apply(schema, event_at(i, i + 1)) == Code::kOk);
  const std::vector<uint8_t> before = record.bytes;
  EventEntry label = event_at(0, 1);  // the one that left the ring
  label.is_label = true;
  label.is_fraud = 1;
  CHECK(record.apply(schema, label) == Code::kEventTooLate);
  CHECK(record.bytes == before);
  label = event_at(1, 2);  // the oldest in it
  label.is_label = true;
  label.is_fraud = 1;
  CHECK(record.apply(schema, label) == Code::kOk);
}

// --- fences

// As a writer does with one message of a topic.
Code apply_placed(const ViewSchema& schema, Record& record, EventEntry event, const Fence& place,
                  LateEvents late = LateEvents::kApply) {
  event.place = place;
  event.late = late;
  const Code code = record.apply(schema, event);
  if (code == Code::kOk) move_fence(record.bytes.data(), event.is_label ? FenceKind::kLabels : FenceKind::kEvents, place);
  return code;
}

EventEntry label_of(EventEntry event, bool is_fraud, bool was_fraud, int64_t label_time_us) {
  event.is_label = true;
  event.is_fraud = is_fraud ? 1 : 0;
  event.was_fraud = was_fraud ? 1 : 0;
  event.label_time_us = label_time_us;
  return event;
}

// A full ring, one event in a tile, all from source 5 at offsets 0, 1, 2 ...: times 0, 1000, 2000 ...
Record fenced_record(const ViewSchema& schema) {
  Record record;
  for (uint32_t i = 0; i <= kRing; ++i) CHECK(apply_placed(schema, record, event_at(1000 * i, i + 1), {5, 1, i}) == Code::kOk);
  CHECK_EQ(record.tile_count(), 1u);
  return record;
}

TEST(with_fences_a_state_depends_on_no_order_at_all) {
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schemas[] = {compiled(customer_spec()), compiled(terminal_spec())};
  size_t late = 0;
  for (int i = 0; i < check::scaled(12); ++i) {
    const ViewSchema& schema = schemas[i % 2];
    std::vector<EventEntry> events =
        busy_stream(schema, kRing + random() % 1500, -5 * kDay, i % 2 ? 5 * kMinute : kMinute, random);
    const Record in_order = record_of(schema, events);
    std::shuffle(events.begin(), events.end(), random);
    Record record;
    for (size_t n = 0; n < events.size(); ++n) {
      Record refusing = record;
      const Fence place = {9, 0, static_cast<int64_t>(n)};
      late += apply_placed(schema, refusing, events[n], place, LateEvents::kRefuse) == Code::kEventTooLate;
      REQUIRE(apply_placed(schema, record, events[n], place) == Code::kOk);
    }
    CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
    CHECK(record.without_fences() == in_order.bytes);
    const std::vector<uint8_t> before = record.bytes;
    for (size_t n = 0; n < events.size(); ++n) {
      CHECK(apply_placed(schema, record, events[n], {9, 0, static_cast<int64_t>(n)}) == Code::kEventDuplicate);
    }
    CHECK(record.bytes == before);
  }
  CHECK(late > 0);
}

TEST(an_event_older_than_the_ring_goes_in_only_where_the_fence_has_not_come) {
  const ViewSchema schema = compiled(amount_spec());
  Record record = fenced_record(schema);
  const EventEntry late = event_at(500, 9'000'000);
  const int64_t newest = kRing;
  const std::vector<uint8_t> before = record.bytes;
  CHECK(record.apply(schema, late) == Code::kEventTooLate);                              // from no topic
  CHECK(apply_placed(schema, record, late, {6, 1, newest + 1}) == Code::kEventTooLate);  // from another
  CHECK(apply_placed(schema, record, late, {5, 1, newest + 1}, LateEvents::kRefuse) == Code::kEventTooLate);
  CHECK(apply_placed(schema, record, late, {5, 1, newest}) == Code::kEventDuplicate);
  CHECK(apply_placed(schema, record, late, {5, 0, newest + 1}) == Code::kEventDuplicate);  // of a leader before
  CHECK(record.bytes == before);
  CHECK(apply_placed(schema, record, late, {5, 2, 0}) ==
        Code::kOk);  // of a leader after: its log was cut, and goes on from there
  CHECK(apply_placed(schema, record, late, {5, 2, 0}) == Code::kEventDuplicate);
  CHECK_EQ(fold(schema, record.data(), 1000 * kRing).values[0].int64, int64_t{kRing} + 2);
  CHECK_EQ(static_cast<int>(record.validate(schema)), 0);

  Record fenceless;  // as a file loaded it: nobody knows what of the topic is in it
  for (uint32_t i = 0; i <= kRing; ++i) CHECK(fenceless.apply(schema, event_at(1000 * i, i + 1)) == Code::kOk);
  CHECK(apply_placed(schema, fenceless, late, {5, 1, 7}) == Code::kEventTooLate);
}

TEST(what_the_ring_can_tell_no_fence_overrules) {
  const ViewSchema schema = compiled(amount_spec());
  Record record = fenced_record(schema);
  CHECK(apply_placed(schema, record, event_at(1500, 9'000'000), {5, 0, 0}) == Code::kOk);  // a topic made anew loses nothing
  CHECK(apply_placed(schema, record, event_at(1500, 9'000'000), {5, 1, 9'999}) == Code::kEventDuplicate);
  const Fence fence = fence_of(record.data(), FenceKind::kEvents);
  CHECK(fence.source == 5 && fence.epoch == 1 && fence.offset == kRing);
}

TEST(what_has_expired_is_a_repeat_or_too_late) {
  const ViewSchema schema = compiled(amount_spec());
  Record record = fenced_record(schema);
  REQUIRE(apply_placed(schema, record, event_at(100 * kDay, 9'000'000), {5, 1, 10'000}) == Code::kOk);
  const std::vector<uint8_t> before = record.bytes;
  CHECK(apply_placed(schema, record, event_at(0, 1), {5, 1, 0}) == Code::kEventDuplicate);
  CHECK(apply_placed(schema, record, event_at(0, 1), {5, 1, 10'001}) == Code::kEventTooLate);
  CHECK(record.bytes == before);
}

TEST(a_fence_moves_forward_within_its_source) {
  const ViewSchema schema = compiled(amount_spec());
  Record record;
  REQUIRE(record.apply(schema, event_at(0, 1)) == Code::kOk);
  const auto moved = [&](const Fence& place) {
    move_fence(record.bytes.data(), FenceKind::kEvents, place);
    const Fence fence = fence_of(record.data(), FenceKind::kEvents);
    return std::make_tuple(fence.source, fence.epoch, fence.offset);
  };
  CHECK(moved({}) == std::make_tuple(0u, 0u, int64_t{0}));
  CHECK(moved({3, 2, 10}) == std::make_tuple(3u, 2u, int64_t{10}));
  CHECK(moved({3, 2, 9}) == std::make_tuple(3u, 2u, int64_t{10}));
  CHECK(moved({3, 1, 11}) == std::make_tuple(3u, 2u, int64_t{10}));
  CHECK(moved({4, 9, 99}) == std::make_tuple(3u, 2u, int64_t{10}));  // a record keeps its first source
  CHECK(moved({3, 3, 0}) == std::make_tuple(3u, 3u, int64_t{0}));
  CHECK_EQ(fence_of(record.data(), FenceKind::kLabels).source, 0u);
}

TEST(a_label_changes_the_frauds_of_a_tile_once) {
  const ViewSchema schema = compiled(terminal_spec());
  Record record = fenced_record(schema);
  const EventEntry tiled = event_at(0, 1);
  const auto frauds = [&] { return load_le<uint64_t>(WindowParts(schema, record.data()).tiles + tile::kFraudCount); };
  std::vector<uint8_t> before = record.bytes;
  EventEntry unsaid = label_of(tiled, true, false, 8 * kDay);
  unsaid.was_fraud = -1;
  CHECK(apply_placed(schema, record, unsaid, {8, 0, 1}) == Code::kEventTooLate);
  CHECK(record.apply(schema, label_of(tiled, true, false, 8 * kDay)) ==
        Code::kEventTooLate);  // from no topic: it may be a repeat
  CHECK(apply_placed(schema, record, label_of(tiled, false, true, 8 * kDay), {8, 0, 1}) == Code::kEventTooLate);  // it was none
  CHECK(apply_placed(schema, record, label_of(tiled, false, false, 8 * kDay), {8, 0, 1}) == Code::kEventDuplicate);
  CHECK(apply_placed(schema, record, label_of(event_at(-kDay, 1), true, false, 8 * kDay), {8, 0, 1}) == Code::kEventUnknown);
  CHECK(record.bytes == before);

  CHECK(apply_placed(schema, record, label_of(tiled, true, false, 8 * kDay), {8, 0, 1}) == Code::kOk);
  CHECK_EQ(frauds(), 1u);
  CHECK_EQ(fold(schema, record.data(), 8 * kDay).values[3].float64, 1.0 / (kRing + 1));
  CHECK_EQ(fold(schema, record.data(), 8 * kDay - 1).values[3].float64, 0.0);  // nobody knew yet
  before = record.bytes;
  CHECK(apply_placed(schema, record, label_of(tiled, true, false, 8 * kDay), {8, 0, 1}) == Code::kEventDuplicate);
  CHECK(apply_placed(schema, record, label_of(tiled, true, false, 8 * kDay), {8, 0, 2}) ==
        Code::kEventTooLate);  // one event, one fraud
  CHECK(apply_placed(schema, record, label_of(tiled, false, true, 9 * kDay), {7, 0, 2}) == Code::kEventTooLate);  // another topic
  CHECK(record.bytes == before);

  CHECK(apply_placed(schema, record, label_of(tiled, false, true, 9 * kDay), {8, 0, 2}) == Code::kOk);
  CHECK_EQ(frauds(), 0u);
  CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
}

TEST(labels_in_tiles_give_the_state_that_labels_in_time_give) {
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schema = compiled(terminal_spec());
  for (int i = 0; i < check::scaled(6); ++i) {
    std::vector<EventEntry> events = busy_stream(schema, kRing + 1 + random() % 800, 0, 10 * kMinute, random);
    Record unlabelled;
    for (EventEntry event : events) {
      event.is_fraud = -1;
      CHECK(unlabelled.apply(schema, event) == Code::kOk);
    }
    const Record labelled = record_of(schema, events);
    REQUIRE(labelled.tile_count() > 0);
    std::shuffle(events.begin(), events.end(), random);
    for (int repeat = 0; repeat < 2; ++repeat) {
      int64_t offset = 0;
      for (const EventEntry& event : events) {
        if (event.is_fraud < 0) continue;
        const EventEntry label = label_of(event, event.is_fraud > 0, false, event.label_time_us);
        const Code code = apply_placed(schema, unlabelled, label, {8, 0, ++offset});
        CHECK(code == Code::kEventDuplicate || (repeat == 0 && code == Code::kOk));
      }
      CHECK(unlabelled.without_fences() == labelled.bytes);
    }
  }
}

TEST(a_tile_holds_its_frauds_back_until_all_their_labels_are_known) {
  ViewSpec spec = terminal_spec();
  const ViewSchema schema = compiled(spec);
  Record record;
  for (uint32_t i = 0; i < kRing + 10; ++i) {
    EventEntry event = event_at(i, i + 1);
    event.is_fraud = 1;
    event.label_time_us = i == 3 ? 10 * kDay : 7 * kDay + i;
    CHECK(record.apply(schema, event) == Code::kOk);
  }
  CHECK_EQ(record.tile_count(), 1u);
  const int64_t t_us = 7 * kDay + kHour;
  Folded folded = fold(schema, record.data(), t_us);
  CHECK_EQ(folded.values[0].int64, int64_t{kRing} + 10);
  CHECK_EQ(folded.values[1].float64, static_cast<double>(kRing) / (kRing + 10));
  CHECK(folded.result.is_approximate);
  folded = fold(schema, record.data(), 10 * kDay);
  CHECK_EQ(folded.values[3].float64, 1.0);
  CHECK(!folded.result.is_approximate);
}

TEST(distinct_is_exact_in_the_ring_and_a_flagged_bound_past_it) {
  ViewSpec spec = customer_spec();
  spec.aggregates = {{AggregateOp::kDistinct, 3, kDay}, {AggregateOp::kDistinct, 3, kHour}};
  const ViewSchema schema = compiled(spec);
  Record record;
  for (uint32_t i = 0; i < kRing + 50; ++i) {
    EventEntry event = event_at(static_cast<int64_t>(i) * kMinute, i + 1);
    event.columns[3] = Value::of(static_cast<int64_t>(i));  // 0 is a value like any other
    CHECK(record.apply(schema, event) == Code::kOk);
    const Folded folded = fold(schema, record.data(), event.event_time_us);
    CHECK_EQ(folded.values[0].int64, static_cast<int64_t>(std::min(i + 1, kRing)));
    CHECK_EQ(folded.result.is_saturated, i >= kRing);
  }
  const Folded late = fold(schema, record.data(), static_cast<int64_t>(kRing + 49) * kMinute + 23 * kHour + kHour / 2);
  CHECK(!late.result.is_saturated);  // the tiles have left the window
}

TEST(the_current_transaction_counts_once) {
  const ViewSchema schema = compiled(amount_spec());
  Record record;
  EventEntry current = event_at(kDay, 42);
  current.columns[0] = Value::of(int64_t{100});
  CHECK_EQ(fold(schema, record.data(), kDay, &current).values[0].int64, 1);
  CHECK(record.apply(schema, current) == Code::kOk);
  CHECK_EQ(fold(schema, record.data(), kDay, &current).values[0].int64, 1);  // a retry after ingestion
  CHECK_EQ(fold(schema, record.data(), kDay, nullptr).values[0].int64, 1);
  EventEntry other = event_at(kDay, 43);
  other.columns[0] = Value::of(int64_t{300});
  const Folded folded = fold(schema, record.data(), kDay, &other);
  CHECK_EQ(folded.values[0].int64, 2);
  CHECK_EQ(folded.values[1].float64, 200.0);
  ViewSpec without = amount_spec();
  without.includes_current = false;
  CHECK_EQ(fold(compiled(without), record.data(), kDay, &other).values[0].int64, 1);
  CHECK_EQ(fold(compiled(without), record.data(), kDay, &current).values[0].int64, 0);  // left out all the same
}

TEST(zeros_have_one_sign_and_bad_values_are_refused) {
  const ViewSchema schema = compiled(customer_spec());
  Record record, other;
  EventEntry event = event_at(0, 1);
  event.columns[1] = Value::of(-0.0);
  CHECK(record.apply(schema, event) == Code::kOk);
  event.columns[1] = Value::of(0.0);
  CHECK(other.apply(schema, event) == Code::kOk);
  CHECK(record.bytes == other.bytes);
  const std::vector<uint8_t> before = record.bytes;
  event.fingerprint = 2;
  event.columns[1] = Value::of(std::nan(""));
  CHECK(record.apply(schema, event) == Code::kNotFinite);
  event.columns[1] = Value::of(int64_t{1});
  CHECK(record.apply(schema, event) == Code::kWrongType);
  event.columns[1] = Value();
  event.event_time_us = limits::kTimeUsMax + 1;
  CHECK(record.apply(schema, event) == Code::kBadTimestamp);
  CHECK(record.bytes == before);
  event.event_time_us = limits::kTimeUsMax;  // the whole range works: no arithmetic overflows
  CHECK(record.apply(schema, event) == Code::kOk);
  CHECK_EQ(static_cast<int>(record.validate(schema)), 0);
  for (int64_t t_us : {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()})
    fold(schema, record.data(), t_us);
  Record oldest;
  CHECK(oldest.apply(schema, event_at(limits::kTimeUsMin, 1)) == Code::kOk);
  CHECK_EQ(static_cast<int>(oldest.validate(schema)), 0);
  CHECK_EQ(fold(schema, oldest.data(), limits::kTimeUsMin).values[0].int64, 1);
}

// --- tiers

TEST(tiers_nest_and_stay_within_a_24th_of_the_windows_they_serve) {
  std::mt19937_64 random = check::random_engine();
  int compiled_count = 0;
  for (int i = 0; i < check::scaled(300); ++i) {
    ViewSpec spec = amount_spec();
    spec.aggregates.clear();
    const size_t windows = 1 + random() % limits::kWindowsMax;
    for (size_t w = 0; w < windows; ++w) {
      spec.aggregates.push_back({AggregateOp::kCount, kNoColumn,
                                 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(kMinute << (random() % 16)))});
    }
    spec.delay_us = random() % 2 ? 0 : static_cast<int64_t>(random() % (10 * kDay));
    spec.lateness_us = random() % 2 ? 0 : static_cast<int64_t>(random() % kDay);
    ViewSchema schema;
    if (!ViewSchema::compile(spec, &schema).ok()) continue;  // too many tiles; has its own test
    ++compiled_count;
    CHECK(schema.tiles_max() <= limits::kTilesMax);
    const std::vector<TileTier>& tiers = schema.tiers();
    CHECK_EQ(tiers[0].age_us_min, 0);
    for (size_t t = 0; t < tiers.size(); ++t) {
      if (t > 0) CHECK(tiers[t].width_us % tiers[t - 1].width_us == 0 && tiers[t].age_us_min > tiers[t - 1].age_us_min);
      for (int64_t window_us : schema.windows_us()) {
        const bool can_still_cut = spec.delay_us + window_us + spec.lateness_us > tiers[t].age_us_min;
        if (can_still_cut) CHECK(tiers[t].width_us <= std::max<int64_t>(window_us / 24, 1));
      }
    }
    // A pure function of (time, newest), coarser with age, and whole tiles move together.
    for (int repeat = 0; repeat < 20; ++repeat) {
      const int64_t time_us = static_cast<int64_t>(random() % (400 * kDay)) - 200 * kDay;
      const int64_t newest_us = time_us + static_cast<int64_t>(random() % static_cast<uint64_t>(schema.horizon_us() + 1));
      const uint32_t tier = tier_of(schema, time_us, newest_us);
      CHECK(tier_of(schema, time_us, newest_us + 1 + static_cast<int64_t>(random() % kDay)) >= tier);
      CHECK(tier_of(schema, time_us - static_cast<int64_t>(random() % kDay), newest_us) >= tier);
      const int64_t start_us = floor_to(time_us, tiers[tier].width_us);
      CHECK_EQ(tier_of(schema, start_us, newest_us), tier);
      CHECK_EQ(tier_of(schema, start_us + tiers[tier].width_us - 1, newest_us), tier);
    }
  }
  CHECK(compiled_count > 20);
  CHECK_EQ(floor_to(-1, 10), -10);
  CHECK_EQ(floor_to(-10, 10), -10);
  CHECK_EQ(floor_to(9, 10), 0);
}

TEST(a_record_never_outgrows_its_stated_bound) {
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schema = compiled(customer_spec());
  Record record;
  int64_t time_us = 0;
  uint32_t tiles_most = 0;
  for (int i = 0; i < 20000; ++i) {  // at least one event in every finest tile
    time_us += static_cast<int64_t>(random() % static_cast<uint64_t>(schema.tiers()[0].width_us));
    REQUIRE(record.apply(schema, random_event(schema, time_us, random)) == Code::kOk);
    tiles_most = std::max(tiles_most, record.tile_count());
    CHECK(record.bytes.size() <= schema.record_bytes_max());
  }
  CHECK(tiles_most > 30 && tiles_most <= schema.tiles_max());
}

// --- views

TEST(views_that_cannot_be_are_refused_by_name) {
  const auto refusal_of = [](void (*change)(ViewSpec&)) {
    ViewSpec spec = terminal_spec("terminal_risk");
    spec.columns = {{ColumnSource::kRequestFeature, 0, Dtype::kFloat64}, {ColumnSource::kEntity, 1, Dtype::kString}};
    change(spec);
    ViewSchema schema;
    const Status status = ViewSchema::compile(spec, &schema);
    CHECK(status.ok() || (status.code == Code::kPlanInvalid && status.detail.find("terminal_risk") != std::string::npos));
    return status.detail;
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  CHECK_EQ(refusal_of([](ViewSpec&) {}), std::string());
  CHECK(has(refusal_of([](ViewSpec& s) { s.delay_us = 0; }), "label delay"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.uses_labels = false; }), "reads the label"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.exact_events_max = 255; }), "256 to 4096"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.exact_events_max = 4097; }), "256 to 4096"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.aggregates.clear(); }), "aggregates"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.aggregates.push_back({AggregateOp::kSum, 0, kDay}); }), "minor units"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.aggregates.push_back({AggregateOp::kMax, 1, kDay}); }), "string"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.aggregates.push_back({AggregateOp::kMax, 2, kDay}); }), "needs a column"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.aggregates.push_back({AggregateOp::kCount, 0, kDay}); }), "no column"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.aggregates.push_back({AggregateOp::kCount, kNoColumn, 0}); }), "window"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.aggregates.push_back({AggregateOp::kCount, kNoColumn, limits::kWindowUsMax + 1}); }),
            "window"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.columns.resize(9, s.columns[0]); }), "8 columns"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.lateness_us = -1; }), "lateness"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.attributes = {{"x", Dtype::kInt64}}; }), "attributes"));
  CHECK(has(refusal_of([](ViewSpec& s) {
              for (int64_t w = 1; w <= 6; ++w) s.aggregates.push_back({AggregateOp::kCount, kNoColumn, w * kDay + kHour});
            }),
            "different windows"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.aggregates.push_back({AggregateOp::kCount, kNoColumn, kMinute}); }), "tiles"));
  CHECK(has(refusal_of([](ViewSpec& s) { s.kind = ViewKind::kAttributes; }), "attribute"));
  ViewSpec twice = attribute_spec("terminal_risk");
  twice.attributes.push_back(twice.attributes[0]);
  ViewSchema schema;
  CHECK(has(ViewSchema::compile(twice, &schema).detail, "twice"));
}

// --- checks on load

TEST(each_kind_of_damage_has_its_own_code) {
  const ViewSchema schema = compiled(terminal_spec());
  const Record record = record_of(schema, {event_at(5, 1), event_at(5, 2), event_at(9, 3)});
  const std::vector<uint8_t> good = record.sealed();
  CHECK(validate_record(good.data(), good.size(), schema, 7) == Code::kOk);
  const auto code_of = [&](std::vector<uint8_t> bytes, bool is_sealed_again) {
    if (is_sealed_again) seal_record(bytes.data());
    return validate_record(bytes.data(), bytes.size(), schema, 7);
  };
  const auto changed = [&](uint32_t offset, uint8_t by = 1) {
    auto bytes = good;
    bytes[offset] ^= by;
    return bytes;
  };
  CHECK(code_of(changed(header::kMagic), false) == Code::kRecordMagic);
  CHECK(code_of(changed(header::kFormat), true) == Code::kRecordVersion);
  CHECK(code_of(changed(header::kRecordBytes, 8), false) == Code::kRecordLength);
  CHECK(code_of(changed(header::kCrc), false) == Code::kRecordChecksum);
  CHECK(code_of(changed(200), false) == Code::kRecordChecksum);
  CHECK(code_of(changed(header::kViewHash), true) == Code::kRecordView);
  CHECK(code_of(changed(header::kEntityDigest), true) == Code::kRecordEntity);
  for (uint32_t offset : {header::kValidation, header::kKind, header::kFlags, header::kEntryCount, header::kTileCount,
                          header::kHeapBytes, header::kNewestTime, kRecordHeaderBytes + entry::kNulls,
                          kRecordHeaderBytes + entry::kReserved, kRecordHeaderBytes + entry::kLabelTime}) {
    CHECK_EQ(reason_of(code_of(changed(offset), true)), std::string("RECORD_LAYOUT"));
  }
  CHECK(code_of(changed(kRecordHeaderBytes + entry::kFingerprint, 2), true) == Code::kRecordLayout);  // no longer in order
  CHECK(code_of(changed(kRecordHeaderBytes + entry::kLabel, 3), true) == Code::kRecordLayout);
  CHECK(code_of(changed(header::kFences), true) == Code::kOk);  // free to use
  CHECK(code_of(changed(header::kComputedTime), true) == Code::kOk);
  for (size_t size = 0; size < good.size(); ++size) {
    const std::vector<uint8_t> cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    CHECK(validate_record(cut.data(), cut.size(), schema, 7) == Code::kRecordLength);
  }
  CHECK(validate_record(good.data(), good.size(), schema, 8) == Code::kRecordEntity);
  CHECK(validate_record(good.data(), good.size(), compiled(amount_spec()), 7) == Code::kRecordView);
  CHECK(entity_digest("card", "1") != entity_digest("car", "d1"));
}

TEST(no_flipped_bit_passes) {
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schema = compiled(customer_spec());
  const Record record = record_of(schema, busy_stream(schema, kRing + 100, 0, 10 * kMinute, random));
  std::vector<uint8_t> bytes = record.sealed();
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint8_t bit = static_cast<uint8_t>(1u << (random() % 8));
    bytes[i] ^= bit;
    CHECK(validate_record(bytes.data(), bytes.size(), schema, 7) != Code::kOk);
    bytes[i] ^= bit;
  }
}

TEST(whatever_passes_the_checks_is_safe_to_use) {
  // Damage behind a good checksum, as a foreign writer could make it. The sanitizers watch what follows.
  std::mt19937_64 random = check::random_engine();
  const ViewSchema schemas[] = {compiled(customer_spec()), compiled(terminal_spec())};
  int passed = 0;
  for (int i = 0; i < check::scaled(4000); ++i) {
    const ViewSchema& schema = schemas[i % 2];
    static Record seeds[2];
    if (seeds[i % 2].bytes.empty()) seeds[i % 2] = record_of(schema, busy_stream(schema, kRing + 300, 0, 10 * kMinute, random));
    std::vector<uint8_t> bytes = seeds[i % 2].sealed();
    for (uint64_t n = 1 + random() % 3; n > 0; --n) {
      const size_t at = random() % 2 ? 24 + random() % 104 : random() % bytes.size();
      bytes[at] = random() % 2 ? static_cast<uint8_t>(random()) : static_cast<uint8_t>(bytes[at] ^ (1u << (random() % 8)));
    }
    store_le<uint32_t>(bytes.data() + header::kRecordBytes, static_cast<uint32_t>(bytes.size()));
    store_le<uint64_t>(bytes.data() + header::kEntityDigest, 7);
    seal_record(bytes.data());
    if (validate_record(bytes.data(), bytes.size(), schema, 7) != Code::kOk) continue;
    ++passed;
    Record record{bytes};
    const int64_t newest_us = load_le<int64_t>(bytes.data() + header::kNewestTime);
    fold(schema, record.data(), newest_us + static_cast<int64_t>(random() % kDay));
    for (int n = 0; n < 5; ++n) {
      const int64_t time_us = std::min(limits::kTimeUsMax, newest_us + static_cast<int64_t>(random() % (20 * kDay)) - kDay);
      EventEntry event = random_event(schema, time_us, random);
      event.place = {fence_of(record.data(), FenceKind::kEvents).source, UINT32_MAX, static_cast<int64_t>(random())};
      event.late = LateEvents::kApply;
      record.apply(schema, event);
      EventEntry label = label_of(event, random() % 2, random() % 2, event.event_time_us);
      label.event_time_us -= static_cast<int64_t>(random() % (40 * kDay));
      label.place = {fence_of(record.data(), FenceKind::kLabels).source, UINT32_MAX, static_cast<int64_t>(random())};
      record.apply(schema, label);
    }
    fold(schema, record.data(), newest_us);
  }
  CHECK(passed > 0);
}

// --- attributes

TEST(attributes_keep_types_nulls_and_text) {
  const ViewSchema schema = compiled(attribute_spec());
  std::vector<uint8_t> bytes(kAttributeRecordBytesMax);
  const std::string longest(limits::kStringValueBytesMax, 'x');
  Value values[5] = {Value::of(-0.0), Value(), Value::of(true), Value::of(std::string_view("gold")),
                     Value::of(std::string_view(longest))};
  CHECK(build_attribute_record(schema, 7, 10 * kDay, values, bytes.data()) == Code::kOk);
  bytes.resize(record_bytes(bytes.data()));
  seal_record(bytes.data());
  CHECK(validate_record(bytes.data(), bytes.size(), schema, 7) == Code::kOk);
  std::vector<char> arena(limits::kAttributesMax * limits::kStringValueBytesMax);
  Value found[5];
  FoldResult result;
  read_attributes(schema, bytes.data(), 40 * kDay, found, &result, arena.data());
  CHECK(result.is_found && !result.is_stale && result.age_us == 30 * kDay);
  CHECK(found[0].dtype == Dtype::kFloat64 && found[0].float64 == 0.0 && !std::signbit(found[0].float64));
  CHECK(found[1].is_null() && found[2].boolean && found[3].string() == "gold" && found[4].string() == longest);
  read_attributes(schema, bytes.data(), 40 * kDay + 1, found, &result, arena.data());
  CHECK(result.is_stale);

  for (size_t i = header::kValidation; i < bytes.size(); ++i) {  // whatever the damage, reading what passes is safe
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<uint8_t> damaged = bytes;
      damaged[i] = static_cast<uint8_t>(damaged[i] ^ (1u << bit));
      if (i >= header::kFences && i < kRecordHeaderBytes) continue;
      seal_record(damaged.data());
      if (validate_record(damaged.data(), damaged.size(), schema, 7) == Code::kOk) {
        read_attributes(schema, damaged.data(), 0, found, &result, arena.data());
      }
    }
  }

  std::vector<uint8_t> other(kAttributeRecordBytesMax);
  CHECK(build_attribute_record(schema, 7, 10 * kDay, values, other.data()) == Code::kOk);
  CHECK(compare_attribute_records(bytes.data(), other.data()) == Code::kEventDuplicate);
  values[1] = Value::of(int64_t{1});
  CHECK(build_attribute_record(schema, 7, 10 * kDay, values, other.data()) == Code::kOk);
  CHECK(compare_attribute_records(bytes.data(), other.data()) == Code::kOk);
  CHECK(build_attribute_record(schema, 7, 10 * kDay - 1, values, other.data()) == Code::kOk);
  CHECK(compare_attribute_records(bytes.data(), other.data()) == Code::kEventTooLate);
  const std::string too_long = longest + "x";
  values[4] = Value::of(std::string_view(too_long));
  CHECK(build_attribute_record(schema, 7, 0, values, other.data()) == Code::kTooLong);
  values[4] = Value::of(1.0);
  CHECK(build_attribute_record(schema, 7, 0, values, other.data()) == Code::kWrongType);
}

ASSAY_TEST_MAIN
