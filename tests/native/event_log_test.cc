// EventLog: order, rejections, and replay = score, then apply.
#include "core/features/event_log.h"

#include <algorithm>

#include "check.h"
#include "core/features/event_json.h"
#include "sample_plan.h"

using namespace assay;

namespace {

std::string time_text(int64_t seconds) {  // of 2018-04, from its first second on
  char text[32];
  std::snprintf(text, sizeof text, "2018-04-%02dT%02d:%02d:%02dZ", static_cast<int>(1 + seconds / 86'400 % 30),
                static_cast<int>(seconds / 3600 % 24), static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
  return text;
}

std::string line(const std::string& id, int64_t seconds, int customer = 1, int terminal = 1, int amount = 100) {
  return R"({"transaction_id":")" + id + R"(","event_time":")" + time_text(seconds) + R"(","entities":{"customer_id":")" +
         std::to_string(customer) + R"(","terminal_id":")" + std::to_string(terminal) + R"("},"features":{"amount_minor":)" +
         std::to_string(amount) + R"(},"is_fraud":)" + (amount % 7 == 0 ? "true" : "false") + "}\n";
}

struct Bound {
  explicit Bound(std::shared_ptr<const FeaturePlan> p) : plan(std::move(p)), store(std::make_shared<EmbeddedStore>(64 << 20)) {
    CHECK(FeatureReader::create(plan, store, &reader).ok());
    CHECK(EventWriter::create(plan, store, {}, &writer).ok());
  }
  std::shared_ptr<const FeaturePlan> plan;
  std::shared_ptr<EmbeddedStore> store;
  std::shared_ptr<const FeatureReader> reader;
  std::shared_ptr<const EventWriter> writer;
};

struct Replayed {
  std::vector<uint8_t> rows, valid;
  std::vector<int64_t> times_us;
  std::vector<uint64_t> missing;
  IngestReport report;
};

Replayed replay(const EventLog& log, const Bound& bound, uint64_t chunk) {
  Replayed result;
  const size_t row_bytes = bound.plan->row_bytes();
  const uint64_t count = log.event_count();
  result.rows.assign(count * row_bytes, 0xee);
  result.valid.assign(count, 2);
  result.times_us.assign(count, 0);
  const size_t mask_words = (bound.plan->spec().inputs.size() + 63) / 64;
  result.missing.assign(count * mask_words, UINT64_MAX);
  for (uint64_t from = 0; from < count; from += chunk) {
    log.replay(*bound.reader, *bound.writer, from, std::min(count, from + chunk), result.rows.data() + from * row_bytes,
               result.valid.data() + from, result.times_us.data() + from, &result.report,
               result.missing.data() + from * mask_words);
  }
  return result;
}

std::vector<std::string> ids(const EventLog& log) {
  std::vector<std::string> list;
  for (uint64_t i = 0; i < log.event_count(); ++i) list.emplace_back(log.transaction_id(i));
  return list;
}

// `count` events in a random order.
std::string random_lines(int count, std::mt19937_64& random) {
  std::vector<std::string> lines;
  for (int i = 0; i < count; ++i) {
    lines.push_back(line(std::to_string(i), static_cast<int64_t>(random() % 2'000'000), static_cast<int>(random() % 5),
                         static_cast<int>(random() % 5), static_cast<int>(random() % 10'000)));
  }
  std::shuffle(lines.begin(), lines.end(), random);
  std::string text;
  for (const std::string& one : lines) text += one;
  return text;
}

}  // namespace

// Events of a topic that come together are applied in the order of their times; their fence moves once all are in.
TEST(places_decide_about_events_that_are_older_than_the_ring) {
  const auto plan = sample::demo_plan();
  const auto store = std::make_shared<EmbeddedStore>(64 << 20);
  std::shared_ptr<const EventWriter> writer;
  REQUIRE(EventWriter::create(plan, store, {0, LateEvents::kApply, {}}, &writer).ok());
  const uint32_t ring = limits::kExactEventsMax;  // at least the ring of every view
  const auto ingest = [&](const std::vector<std::pair<int, int64_t>>& events, int64_t first_offset, bool has_places = true) {
    std::string lines;
    std::vector<Fence> places;
    for (const auto& [id, seconds] : events) {
      lines += line(std::to_string(id), seconds);
      places.push_back({1, 0, first_offset++});
    }
    EventLog log(plan);
    log.append(lines, 10, has_places ? places.data() : nullptr);
    log.sort();
    IngestReport report;
    log.ingest(*writer, 0, log.event_count(), &report);
    return report;
  };
  std::vector<std::pair<int, int64_t>> many;
  for (uint32_t i = 0; i < ring + 10; ++i) many.push_back({static_cast<int>(i), 10'000 + i});
  CHECK_EQ(ingest(many, 0).recorded_count, uint64_t{ring} + 10);
  const int64_t next = ring + 10;
  // The newest in the topic is the oldest in time, and the other way round.
  CHECK_EQ(ingest({{-1, 20'000}, {-2, 9'001}, {-3, 9'000}}, next).recorded_count, 3u);
  CHECK_EQ(ingest({{-1, 20'000}, {-2, 9'001}, {-3, 9'000}}, next).duplicate_count, 3u);
  CHECK_EQ(ingest(many, 0).duplicate_count, uint64_t{ring} + 10);
  CHECK_EQ(ingest({{-4, 9'002}}, 0, false).late_count, 1u);
  CHECK_EQ(ingest({{-4, 9'002}}, next + 3).recorded_count, 1u);
}

// A terminal's events come from partitions of which one may lag, while each customer's come in order.
TEST(an_event_that_is_late_for_one_view_is_counted_as_late_though_another_takes_it) {
  const Bound bound(sample::demo_plan());
  EventLog newer(bound.plan), late(bound.plan);
  const uint32_t count = limits::kExactEventsMax + 1;  // more than the terminal's record keeps one by one
  std::string lines;
  for (uint32_t i = 0; i < count; ++i) lines += line(std::to_string(i), 10'000 + i, 1, 1);
  newer.append(lines, 10);
  newer.sort();
  IngestReport report;
  newer.ingest(*bound.writer, 0, count, &report);
  REQUIRE(report.recorded_count == count && report.late_count == 0);

  late.append(line("another customer's", 9'000, 2, 1) + line("of another terminal too", 9'001, 2, 2), 10);
  late.sort();
  late.ingest(*bound.writer, 0, 2, &report);
  CHECK_EQ(report.late_count, 1u);
  CHECK_EQ(report.recorded_count, uint64_t{count} + 1);
  CHECK_EQ(report.event_count, uint64_t{count} + 2);
  CHECK_EQ(bound.store->stats().event_count, 2 * uint64_t{count} + 3);  // both are with their customer
  CHECK_EQ(bound.store->stats().late_count, 1u);
  CHECK_EQ(replay(late, bound, 2).report.late_count, 1u);  // a repeat for the customer
  CHECK_EQ(replay(late, Bound(bound.plan), 2).report.late_count, 0u);

  // Alone, as RecordEvents writes it, it is asked whether it changed anything.
  Transaction event;
  std::string scratch, alone = line("alone", 9'002, 3, 1);
  Violations violations;
  alone.pop_back();
  REQUIRE(decode_event_json(alone, *bound.plan, event, scratch, violations));
  CHECK(bound.writer->write(event) == Code::kOk);
  CHECK(bound.writer->write(event) == Code::kEventTooLate);
}

TEST(ids_have_one_order) {
  const std::vector<std::string> ordered = {
      "0", "00", "1", "01", "2",  "9",  "10", "010", "123456789012345678901234567890", "123456789012345678901234567891",
      "a", "b",  "z", "-1", "1a", "a1", "aa", "abc"};
  for (size_t i = 0; i < ordered.size(); ++i) {
    for (size_t j = 0; j < ordered.size(); ++j) {
      if (precedes(ordered[i], ordered[j]) != (i < j)) check::fail(__FILE__, __LINE__, ordered[i] + " < " + ordered[j]);
    }
  }
  CHECK(precedes("a", "\xc3\xa9"));                                                  // shorter first
  CHECK(precedes("z\xc2\x80", "z\xc3\xa9") && !precedes("z\xc3\xa9", "z\xc2\x80"));  // bytes are unsigned
}

TEST(events_sort_by_time_then_id) {
  EventLog log(sample::demo_plan());
  log.append(line("10", 5) + line("b", 5) + line("9", 5) + line("x", 4) + line("a", 5) + line("\\u0031\\u0031", 5) + line("1", 6),
             10);
  CHECK_EQ(log.rejected_count(), 0u);
  log.sort();
  CHECK(ids(log) == (std::vector<std::string>{"x", "9", "10", "11", "a", "b", "1"}));
  log.append(line("8", 5), 10);
  log.sort();
  CHECK(ids(log) == (std::vector<std::string>{"x", "8", "9", "10", "11", "a", "b", "1"}));
}

TEST(bad_lines_are_reported_and_the_rest_kept) {
  EventLog log(sample::demo_plan());
  const std::string good = line("1", 1);
  std::string typed = line("2", 2);
  typed.replace(typed.find(":100}"), 5, ":100.0}");
  const std::string overlong = "{\"x\":\"" + std::string(limits::kEventLineBytesMax, 'x') + "\"}\n";
  const std::string first = good + "\n \r\n" + typed;
  log.append(first, 3);
  log.append(overlong + "garbage 4111111111111111\n" + line("3", 3).insert(line("3", 3).size() - 1, "\r") + "{}\n" + "{\"last\":",
             3);
  CHECK_EQ(log.event_count(), 2u);
  CHECK_EQ(log.rejected_count(), 5u);
  REQUIRE(log.rejections().size() == 3);
  CHECK_EQ(log.rejections()[0].line, 4u);
  CHECK_EQ(log.rejections()[0].offset_bytes, good.size() + 1 + 3);
  CHECK_EQ(log.rejections()[0].transaction_id, "2");
  REQUIRE(log.rejections()[0].violations.size() == 1);
  CHECK(log.rejections()[0].violations[0].code == Code::kWrongType);
  CHECK_EQ(log.rejections()[0].violations[0].field, "features[\"amount_minor\"]");
  CHECK_EQ(log.rejections()[1].line, 5u);
  CHECK_EQ(log.rejections()[1].offset_bytes, first.size());
  CHECK(log.rejections()[1].violations[0].code == Code::kTooLong);
  CHECK_EQ(log.rejections()[2].line, 6u);
  CHECK_EQ(log.rejections()[2].transaction_id, "");
  CHECK(log.rejections()[2].violations[0].description.find("4111") == std::string::npos);
}

// It was decoded, then refused by the writer: one line ended the load of a whole file.
TEST(a_time_ahead_of_the_clock_is_a_rejection_of_its_line) {
  const auto known_at = [](const char* time) {
    std::string text = line("2", 2);
    return text.insert(text.rfind('}'), std::string(",\"label_time\":\"") + time + '"');
  };
  std::string ahead = line("1", 1);
  ahead.replace(ahead.find("2018"), 4, "2999");
  EventLog log(sample::demo_plan(), limits::kAheadUsMax);
  log.append(line("0", 1) + ahead + known_at("2018-04-09T00:00:00Z") + known_at("2999-01-01T00:00:00Z"), 4);
  CHECK_EQ(log.event_count(), 2u);
  REQUIRE(log.rejections().size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    const EventRejection& rejection = log.rejections()[i];
    CHECK_EQ(rejection.line, i == 0 ? 2u : 4u);
    REQUIRE(rejection.violations.size() == 1);
    CHECK(rejection.violations[0].code == Code::kEventInFuture);
    CHECK_EQ(rejection.violations[0].field, i == 0 ? "event_time" : "label_time");
  }
}

TEST(accepted_integers_are_counted_once_an_event) {
  PlanSpec spec = sample::demo_spec();
  spec.request_features.push_back(sample::feature("reading", Dtype::kFloat64, false));
  spec.request_features.back().accept_int = true;
  const Bound bound(sample::compile(std::move(spec)));
  const auto with_reading = [](const std::string& id, const std::string& reading) {
    std::string text = line(id, 10);
    return text.replace(text.find("},\"is_fraud"), 1, ",\"reading\":" + reading + "}");
  };
  EventLog log(bound.plan);
  log.append(with_reading("1", "5") + with_reading("2", "5.0") + with_reading("3", "9007199254740993") + line("4", 20), 4);
  log.append(with_reading("5", "-3"), 4);
  CHECK_EQ(log.event_count(), 4u);
  log.sort();
  replay(log, bound, 2);  // decodes again
  CHECK_EQ(log.accepted_ints(1), 2u);
  CHECK_EQ(log.accepted_ints(0), 0u);
  CHECK_EQ(bound.plan->accepted_ints().count(1), 0u);  // that is of who takes events one by one
}

TEST(replay_is_score_then_apply) {
  std::mt19937_64 random = check::random_engine();
  const std::string text = random_lines(check::scaled(2'000), random);
  EventLog log(sample::demo_plan());
  log.append(text, 10);
  CHECK_EQ(log.rejected_count(), 0u);
  log.sort();

  // One by one, by hand.
  Bound by_hand(sample::demo_plan());
  const size_t row_bytes = by_hand.plan->row_bytes();
  std::vector<uint8_t> expected(log.event_count() * row_bytes);
  Transaction event;
  std::string scratch;
  Violations violations;
  const std::unique_ptr<ReadScratch> reading(new ReadScratch);
  std::vector<uint64_t> expected_missing(log.event_count());
  uint64_t imputed[1];
  FoldResult views[2];
  std::vector<std::pair<std::pair<int64_t, int64_t>, std::string>> sorted;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const std::string one = text.substr(at, end - at);
    REQUIRE(decode_event_json(one, *by_hand.plan, event, scratch, violations));
    sorted.push_back({{event.event_time_us, std::stoll(std::string(event.id))}, one});
    at = end + 1;
  }
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i) {
    REQUIRE(decode_event_json(sorted[i].second, *by_hand.plan, event, scratch, violations));
    CHECK(log.transaction_id(i) == event.id);
    const RowOut out = {expected.data() + i * row_bytes, &expected_missing[i], imputed, views};
    CHECK(by_hand.reader->read(event, *reading, out, violations));
    CHECK(by_hand.writer->write(event) == Code::kOk);
  }

  const Bound whole(sample::demo_plan()), pieces(sample::demo_plan());
  const Replayed at_once = replay(log, whole, log.event_count());
  const Replayed in_pieces = replay(log, pieces, 97);
  CHECK(at_once.rows == expected);
  CHECK(in_pieces.rows == expected);
  CHECK(at_once.missing == expected_missing && in_pieces.missing == expected_missing);
  CHECK(std::count(expected_missing.begin(), expected_missing.end(), 0u) < static_cast<int64_t>(log.event_count()));
  CHECK_EQ(std::count(at_once.valid.begin(), at_once.valid.end(), 1), static_cast<int64_t>(log.event_count()));
  CHECK(std::is_sorted(at_once.times_us.begin(), at_once.times_us.end()));
  CHECK_EQ(in_pieces.report.event_count, log.event_count());
  CHECK_EQ(in_pieces.report.recorded_count, log.event_count());

  // Ingestion leaves the same state: replaying once more over it gives what replaying over the replayed store gives.
  const Bound ingested(sample::demo_plan());
  IngestReport report;
  log.ingest(*ingested.writer, 0, log.event_count(), &report);
  CHECK_EQ(report.recorded_count, log.event_count());
  const Replayed again = replay(log, ingested, 1'000), after = replay(log, whole, 1'000);
  CHECK(again.rows == after.rows);
  CHECK_EQ(again.report.recorded_count, 0u);
  CHECK_EQ(again.report.duplicate_count + again.report.late_count, log.event_count());
}

TEST(a_time_has_a_place_among_the_events) {
  EventLog log(sample::demo_plan());
  log.append(line("3", 20) + line("1", 10) + line("2", 10), 10);
  log.sort();
  const Bound bound(sample::demo_plan());
  const Replayed result = replay(log, bound, 10);
  const int64_t first_us = result.times_us.front(), last_us = result.times_us.back();
  CHECK_EQ(log.position_at(first_us - 1), 0u);
  CHECK_EQ(log.position_at(first_us), 0u);
  CHECK_EQ(log.position_at(first_us + 1), 2u);
  CHECK_EQ(log.position_at(last_us), 2u);
  CHECK_EQ(log.position_at(last_us + 1), 3u);
  CHECK_EQ(EventLog(sample::demo_plan()).position_at(0), 0u);
}

TEST(an_event_that_cannot_be_scored_is_still_applied) {
  EventLog log(sample::demo_plan());
  std::string no_terminal = R"({"transaction_id":"1","event_time":"2018-04-01T00:00:00Z",)"
                            R"("entities":{"customer_id":"1"},"features":{"amount_minor":300}})";
  log.append(no_terminal + "\n" + line("2", 60, 1, 1, 100), 10);
  log.sort();
  REQUIRE(log.event_count() == 2);
  const Bound bound(sample::demo_plan());
  const Replayed result = replay(log, bound, 10);
  CHECK(result.valid == (std::vector<uint8_t>{0, 1}));
  CHECK_EQ(result.missing[0], 0u);
  CHECK(std::all_of(result.rows.begin(), result.rows.begin() + bound.plan->row_bytes(), [](uint8_t byte) { return byte == 0; }));
  float count, average;
  std::memcpy(&count, result.rows.data() + bound.plan->row_bytes() + 3 * 4, 4);
  std::memcpy(&average, result.rows.data() + bound.plan->row_bytes() + 4 * 4, 4);
  CHECK_EQ(count, 2.0f);
  CHECK_EQ(average, 2.0f);
  CHECK_EQ(result.report.recorded_count, 2u);
}

TEST(duplicates_and_refusals_are_counted) {
  EventLog log(sample::demo_plan());
  log.append(line("1", 1) + line("2", 2) + line("1", 1), 10);
  log.sort();
  const Bound bound(sample::demo_plan());
  IngestReport report;
  log.ingest(*bound.writer, 0, 2, &report);
  log.ingest(*bound.writer, 2, 3, &report);
  CHECK_EQ(report.event_count, 3u);
  CHECK_EQ(report.recorded_count, 2u);
  CHECK_EQ(report.duplicate_count, 1u);

  const auto plan = sample::demo_plan();
  std::shared_ptr<const EventWriter> cramped;
  REQUIRE(EventWriter::create(plan, std::make_shared<EmbeddedStore>(1), {}, &cramped).ok());
  IngestReport refused;
  log.ingest(*cramped, 0, 3, &refused);
  CHECK_EQ(refused.refused_count, 3u);
  CHECK(refused.refused_code == Code::kStoreFull);
}

ASSAY_TEST_MAIN
