// Strict JSON: what is taken, what is refused and under which name; RFC 3339 against timegm.
#include "core/features/event_json.h"

#include <cmath>
#include <ctime>
#include <memory>

#include "check.h"
#include "core/features/json_reader.h"
#include "sample_plan.h"

using namespace assay;

namespace {

constexpr const char* kLine =
    R"({"transaction_id":"1","event_time":"2018-04-01T00:00:31Z","entities":{"customer_id":"596","terminal_id":"3156"},)"
    R"("features":{"amount_minor":5716},"is_fraud":false})";
constexpr int64_t kLineTimeUs = 1522540831000000;

// amount_minor is int64 and required; the rest is optional, one of each dtype.
std::shared_ptr<const FeaturePlan> plan() {
  static const std::shared_ptr<const FeaturePlan> made = [] {
    PlanSpec spec = sample::demo_spec();
    spec.request_features.push_back(sample::feature("rate", Dtype::kFloat64, false));
    spec.request_features.push_back(sample::feature("is_online", Dtype::kBool, false));
    spec.request_features.push_back(sample::feature("channel", Dtype::kString, false));
    spec.request_features.push_back(sample::feature("mcc", Dtype::kInt64, false));
    spec.request_features.back().minimum = Value::of(int64_t{0});
    spec.request_features.back().maximum = Value::of(int64_t{9999});
    spec.request_features.push_back(sample::feature("reading", Dtype::kFloat64, false));
    spec.request_features.back().accept_int = true;
    spec.request_features.back().minimum = Value::of(-1e16);
    return sample::compile(std::move(spec));
  }();
  return made;
}
enum { kAmount, kRate, kIsOnline, kChannel, kMcc, kReading };

struct Decoded {
  bool is_good = false;
  std::unique_ptr<Transaction> event{new Transaction};
  std::string line, scratch;
  Violations violations;

  // "CODE field; CODE field"
  std::string said() const {
    std::string text;
    for (const Violation& violation : violations.list()) {
      text += (text.empty() ? "" : "; ") + std::string(reason_of(violation.code)) + " " + violation.field;
    }
    return text;
  }
};

Decoded decode(std::string line) {
  Decoded decoded;
  decoded.line = std::move(line);
  // A copy of exactly the line's size, so that ASAN sees a byte read past it.
  const std::unique_ptr<char[]> exact(new char[decoded.line.size()]);
  std::memcpy(exact.get(), decoded.line.data(), decoded.line.size());
  Violations first;
  std::string scratch;
  const bool is_good = decode_event_json({exact.get(), decoded.line.size()}, *plan(), *decoded.event, scratch, first);
  decoded.is_good = decode_event_json(decoded.line, *plan(), *decoded.event, decoded.scratch, decoded.violations);
  CHECK_EQ(is_good, decoded.is_good);
  CHECK_EQ(decoded.is_good, decoded.violations.empty());
  return decoded;
}

std::string said(const std::string& line) { return decode(line).said(); }

// An event with these features beside a good amount, or with `amount` in its place.
std::string with_features(const std::string& members) {
  return R"({"transaction_id":"1","event_time":"2018-04-01T00:00:31Z","entities":{"customer_id":"596"},"features":{)" + members +
         "}}";
}
std::string with(const std::string& member) { return with_features(R"("amount_minor":5716,)" + member); }

std::string nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
}

}  // namespace

TEST(the_documented_line) {
  const Decoded decoded = decode(kLine);
  REQUIRE(decoded.is_good);
  CHECK(decoded.event->id == "1");
  CHECK_EQ(decoded.event->event_time_us, kLineTimeUs);
  CHECK(decoded.event->entities[0] == "596");
  CHECK(decoded.event->entities[1] == "3156");
  CHECK(decoded.event->features[kAmount].dtype == Dtype::kInt64);
  CHECK_EQ(decoded.event->features[kAmount].int64, 5716);
  CHECK(decoded.event->features[kRate].is_null());
  CHECK_EQ(int{decoded.event->is_fraud}, 0);
  CHECK(decoded.event->id.data() >= decoded.line.data() && decoded.event->id.data() < decoded.line.data() + decoded.line.size());
  CHECK(decoded.scratch.empty());
}

TEST(order_white_space_and_nulls_are_free) {
  const Decoded decoded = decode(
      " { \"features\" : { \"channel\" : null , \"amount_minor\" : -0 } ,\t\"is_fraud\":null, \"entities\":{\"terminal_id\":null,"
      "\"customer_id\":\"7\"},\"event_time\":\"2018-04-01T02:00:31.5+02:00\",\"transaction_id\":\"x\" } \r");
  REQUIRE(decoded.is_good);
  CHECK_EQ(decoded.event->event_time_us, kLineTimeUs + 500'000);
  CHECK_EQ(decoded.event->features[kAmount].int64, 0);
  CHECK(decoded.event->entities[1].empty());
  CHECK_EQ(int{decoded.event->is_fraud}, -1);
  CHECK_EQ(said(R"({"transaction_id":"1","event_time":"2018-04-01T00:00:31Z","entities":{"terminal_id":"3"},"features":null})"),
           "");
}

TEST(values_keep_their_types) {
  const Decoded decoded = decode(with(R"("rate":-0.0,"is_online":true,"channel":"web","mcc":9999)"));
  REQUIRE(decoded.is_good);
  CHECK(decoded.event->features[kRate].dtype == Dtype::kFloat64);
  CHECK(!std::signbit(decoded.event->features[kRate].float64));
  CHECK(decoded.event->features[kIsOnline].dtype == Dtype::kBool && decoded.event->features[kIsOnline].boolean);
  CHECK(decoded.event->features[kChannel].string() == "web");
  CHECK_EQ(decoded.event->features[kMcc].int64, 9999);
}

TEST(an_integer_is_taken_where_it_is_accepted_and_lossless) {
  const struct {
    const char* text;
    double value;
  } taken[] = {{"1", 1.0},
               {"-7", -7.0},
               {"0", 0.0},
               {"-0", 0.0},
               {"9007199254740992", 9007199254740992.0},
               {"-9007199254740992", -9007199254740992.0}};
  for (const auto& one : taken) {
    const Decoded decoded = decode(with(std::string(R"("reading":)") + one.text));
    REQUIRE(decoded.is_good);
    CHECK(decoded.event->features[kReading].dtype == Dtype::kFloat64);
    CHECK_EQ(decoded.event->features[kReading].float64, one.value);
    CHECK(!std::signbit(decoded.event->features[kReading].float64) || one.value < 0);
    CHECK(decoded.event->accepted_ints.has(kReading) && !decoded.event->accepted_ints.has(kAmount));
  }
  for (const char* text : {"9007199254740993", "-9007199254740993", "9223372036854775807", "-9223372036854775808",
                           "99999999999999999999", "-99999999999999999999"}) {
    const Decoded decoded = decode(with(std::string(R"("reading":)") + text));
    CHECK_EQ(decoded.said(), "OUT_OF_RANGE features[\"reading\"]");
    REQUIRE(decoded.violations.list().size() == 1);
    CHECK(decoded.violations.list()[0].description.find("2^53") != std::string::npos);
  }
  const Decoded whole = decode(with(R"("reading":1.0)"));
  CHECK(whole.is_good && !whole.event->accepted_ints.has(kReading));
  CHECK_EQ(said(with(R"("reading":"1")")), "WRONG_TYPE features[\"reading\"]");
  CHECK_EQ(said(with(R"("reading":true)")), "WRONG_TYPE features[\"reading\"]");
  CHECK_EQ(said(with(R"("reading":1e999)")), "NOT_FINITE features[\"reading\"]");
  CHECK_EQ(said(with(R"("reading":-1.1e16)")), "OUT_OF_RANGE features[\"reading\"]");  // as floats are held against the range
}

TEST(a_wrong_type_is_named) {
  const Decoded decoded = decode(with_features(R"("amount_minor":5716.0)"));
  CHECK_EQ(decoded.said(), "WRONG_TYPE features[\"amount_minor\"]");
  REQUIRE(decoded.violations.list().size() == 1);
  const std::string& description = decoded.violations.list()[0].description;
  CHECK(description.find("float64") != std::string::npos && description.find("int64") != std::string::npos);
  CHECK(description.find("5716") == std::string::npos);  // never the value
  CHECK_EQ(said(with_features(R"("amount_minor":1e3)")), "WRONG_TYPE features[\"amount_minor\"]");
  CHECK_EQ(said(with_features(R"("amount_minor":"5716")")), "WRONG_TYPE features[\"amount_minor\"]");
  CHECK_EQ(said(with_features(R"("amount_minor":[5716])")), "WRONG_TYPE features[\"amount_minor\"]");
  CHECK_EQ(said(with_features(R"("amount_minor":{"a":1})")), "WRONG_TYPE features[\"amount_minor\"]");
  CHECK_EQ(said(with_features(R"("amount_minor":true)")), "WRONG_TYPE features[\"amount_minor\"]");
  CHECK_EQ(said(with(R"("rate":5716)")), "WRONG_TYPE features[\"rate\"]");
  CHECK_EQ(said(with(R"("rate":99999999999999999999)")), "WRONG_TYPE features[\"rate\"]");
  CHECK_EQ(said(with(R"("is_online":1)")), "WRONG_TYPE features[\"is_online\"]");
  CHECK_EQ(said(with(R"("channel":1e999)")), "WRONG_TYPE features[\"channel\"]");
  CHECK_EQ(said(R"({"transaction_id":1,"event_time":1522540831,)"
                R"("entities":{"customer_id":596},"features":{"amount_minor":1},"is_fraud":1})"),
           "WRONG_TYPE transaction_id; WRONG_TYPE event_time; WRONG_TYPE entities[\"customer_id\"]; WRONG_TYPE is_fraud");
  CHECK_EQ(said(R"({"transaction_id":"1","event_time":"2018-04-01T00:00:31Z",)"
                R"("entities":["customer_id"],"features":{"amount_minor":1}})"),
           "WRONG_TYPE entities; MISSING_ENTITY entities");
}

TEST(integers_end_at_int64) {
  CHECK_EQ(decode(with_features(R"("amount_minor":9223372036854775807)")).event->features[kAmount].int64, INT64_MAX);
  CHECK_EQ(decode(with_features(R"("amount_minor":-9223372036854775808)")).event->features[kAmount].int64, INT64_MIN);
  CHECK_EQ(said(with_features(R"("amount_minor":9223372036854775808)")), "INTEGER_OVERFLOW features[\"amount_minor\"]");
  CHECK_EQ(said(with_features(R"("amount_minor":-9223372036854775809)")), "INTEGER_OVERFLOW features[\"amount_minor\"]");
  CHECK_EQ(said(with_features("\"amount_minor\":1" + std::string(400, '0'))), "INTEGER_OVERFLOW features[\"amount_minor\"]");
}

TEST(floats_are_rounded_correctly_or_refused) {
  std::mt19937_64 random = check::random_engine();
  for (int i = 0; i < check::scaled(5'000); ++i) {
    uint64_t bits = random();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    char text[64];
    std::snprintf(text, sizeof text, i % 2 == 0 ? "%.17e" : "%.16e", value);
    const double expected = std::strtod(text, nullptr);
    const Decoded decoded = decode(with("\"rate\":" + std::string(text)));
    if (!std::isfinite(expected)) {
      CHECK(!decoded.is_good);
      continue;
    }
    REQUIRE(decoded.is_good);
    CHECK_EQ(decoded.event->features[kRate].float64, expected);
  }
  for (const char* huge : {"1e400", "-1e400", "1.8e308", "1e99999999999999999999", "100000.0e304"}) {
    CHECK_EQ(said(with("\"rate\":" + std::string(huge))), "NOT_FINITE features[\"rate\"]");
  }
  CHECK_EQ(said(with("\"rate\":" + std::string(310, '9') + ".5")), "NOT_FINITE features[\"rate\"]");
  for (const char* tiny :
       {"1e-400", "-1e-400", "0.0e99999", "1e-99999999999999999999", "0.00001e-330", "12345.678e-340", "2e-324"}) {
    const Decoded decoded = decode(with("\"rate\":" + std::string(tiny)));
    CHECK_EQ(decoded.said(), "");
    CHECK_EQ(decoded.event->features[kRate].float64, 0.0);
    CHECK(!std::signbit(decoded.event->features[kRate].float64));
  }
  CHECK_EQ(decode(with("\"rate\":0." + std::string(330, '0') + "1")).event->features[kRate].float64, 0.0);
  CHECK_EQ(decode(with(R"("rate":4.9e-324)")).event->features[kRate].float64, std::numeric_limits<double>::denorm_min());
  CHECK_EQ(decode(with(R"("rate":1.7976931348623157e308)")).event->features[kRate].float64, std::numeric_limits<double>::max());
}

TEST(a_label_may_say_when_it_became_known) {
  const auto with_label = [](const std::string& members) {
    std::string line = kLine;
    return line.replace(line.find(R"("is_fraud":false)"), 16, members);
  };
  CHECK_EQ(decode(kLine).event->label_time_us, Transaction::kNoTime);
  const Decoded decoded = decode(with_label(R"("label_time":"2018-04-08T12:00:00Z","is_fraud":true)"));
  CHECK(decoded.is_good);
  CHECK_EQ(decoded.event->label_time_us, kLineTimeUs + 7 * int64_t{86'400'000'000} + int64_t{43'169'000'000});
  CHECK_EQ(decode(with_label(R"("label_time":null)")).event->label_time_us, Transaction::kNoTime);
  CHECK_EQ(said(with_label(R"("label_time":"2018-04-08T12:00:00Z")")), "MISSING_FIELD is_fraud");
  CHECK(said(with_label(R"("label_time":"2018-04-01T00:00:31Z","is_fraud":true)")).empty());
  CHECK_EQ(said(with_label(R"("label_time":"2018-04-01T00:00:30.999999Z","is_fraud":true)")), "BAD_TIMESTAMP label_time");
  CHECK_EQ(said(with_label(R"("label_time":"2018-04-08","is_fraud":true)")), "BAD_TIMESTAMP label_time");
  CHECK_EQ(said(with_label(R"("label_time":1522540831,"is_fraud":true)")), "WRONG_TYPE label_time");
  CHECK_EQ(said(with_label(R"("label_time":null,"label_time":null)")), "DUPLICATE_KEY label_time");
  CHECK_EQ(said(with_label(R"("was_fraud":true)")), "INVALID_REQUEST was_fraud");  // an event was nothing before
}

TEST(a_label_alone_repeats_its_event) {
  Transaction label;
  std::string scratch;
  Violations violations;
  const auto said_of = [&](const std::string& members) {
    Decoded decoded;
    const std::string line = "{" + members + "}";
    decode_label_json(line, *plan(), label, scratch, decoded.violations);
    return decoded.said();
  };
  const std::string event = R"("transaction_id":"1","event_time":"2018-04-01T00:00:31Z","entities":{"terminal_id":"3156"})";
  CHECK_EQ(said_of(event + R"(,"is_fraud":true,"label_time":"2018-04-08T12:00:00Z")"), "");
  CHECK_EQ(int{label.is_fraud}, 1);
  CHECK_EQ(int{label.was_fraud}, -1);
  CHECK_EQ(said_of(event + R"(,"is_fraud":true,"was_fraud":false,"label_time":"2018-04-08T12:00:00Z")"), "");
  CHECK_EQ(int{label.was_fraud}, 0);
  CHECK_EQ(said_of(event + R"(,"is_fraud":false,"was_fraud":true,"label_time":"2018-04-08T12:00:00Z")"), "");
  CHECK_EQ(int{label.was_fraud}, 1);
  CHECK_EQ(said_of(event + R"(,"is_fraud":true,"was_fraud":0,"label_time":"2018-04-08T12:00:00Z")"), "WRONG_TYPE was_fraud");
  CHECK_EQ(said_of(event), "MISSING_FIELD is_fraud; MISSING_FIELD label_time");
  CHECK_EQ(said_of(event + R"(,"is_fraud":null,"label_time":"2018-04-08T12:00:00Z")"), "MISSING_FIELD is_fraud");
  CHECK_EQ(said_of(R"("is_fraud":true,"label_time":"2018-04-08T12:00:00Z")"),
           "MISSING_FIELD event_time; MISSING_FIELD transaction_id; MISSING_ENTITY entities");
  CHECK_EQ(said_of(event + R"(,"features":{"amount_minor":"1"},"is_fraud":true,"label_time":"2018-04-08T12:00:00Z")"),
           "WRONG_TYPE features[\"amount_minor\"]");
}

TEST(names_are_known_and_said_once) {
  CHECK_EQ(said(with(R"("amont":1)")), "UNKNOWN_FEATURE features[\"amont\"]");
  CHECK_EQ(said(with(R"("mcc":1,"mcc":2)")), "DUPLICATE_KEY features[\"mcc\"]");
  CHECK_EQ(said(with(R"("mcc":null,"mcc":2)")), "DUPLICATE_KEY features[\"mcc\"]");
  CHECK_EQ(said(with(R"("mcc":1,"\u006dcc":2)")), "DUPLICATE_KEY features[\"mcc\"]");  // the same name, written otherwise
  CHECK_EQ(said(R"({"transaction_id":"1","event_time":"2018-04-01T00:00:31Z",)"
                R"("entities":{"customer_id":"1","customer_id":"2","card":"3"},"features":{"amount_minor":1}})"),
           "DUPLICATE_KEY entities[\"customer_id\"]; UNKNOWN_ENTITY entities[\"card\"]");
  std::string twice = kLine;
  twice.insert(1, R"("is_fraud":true,)");
  CHECK_EQ(said(twice), "DUPLICATE_KEY is_fraud");
  std::string typo = kLine;
  typo.insert(1, R"("is_frad":[true,{"a":[1,2.5,"x",null]}],)");
  const Decoded decoded = decode(typo);
  CHECK_EQ(decoded.said(), "INVALID_REQUEST is_frad");
  CHECK(decoded.violations.list()[0].description.find("is_fraud") != std::string::npos);
  std::string empty_key = kLine;
  empty_key.insert(1, R"("":1,)");
  CHECK_EQ(said(empty_key), "INVALID_REQUEST \"\"");
}

TEST(all_violations_come_at_once) {
  CHECK_EQ(said("{}"), "MISSING_FIELD event_time; MISSING_FIELD transaction_id; MISSING_ENTITY entities");
  CHECK_EQ(
      said(R"({"event_time":"2018-04-01","entities":{"customer_id":"596","x":"1"},"features":{"rate":1,"mcc":10000}})"),
      "BAD_TIMESTAMP event_time; UNKNOWN_ENTITY entities[\"x\"]; WRONG_TYPE features[\"rate\"]; OUT_OF_RANGE features[\"mcc\"]; "
      "MISSING_FIELD transaction_id; MISSING_FEATURE features[\"amount_minor\"]");
  // A terminal's view stores no amount, so its events need none.
  CHECK_EQ(said(R"({"transaction_id":"1","event_time":"2018-04-01T00:00:31Z","entities":{"terminal_id":"596"}})"), "");
  std::string members;
  for (int i = 0; i < 100; ++i) members += (i == 0 ? "" : ",") + std::string("\"f") + std::to_string(i) + "\":1";
  const Decoded decoded = decode(with(members));
  CHECK_EQ(decoded.violations.count(), 100u);
  CHECK_EQ(decoded.violations.list().size(), limits::kViolationsMax);
}

TEST(lengths_have_limits) {
  const auto with_id = [](size_t bytes) {
    return R"({"transaction_id":")" + std::string(bytes, 'x') +
           R"(","event_time":"2018-04-01T00:00:31Z","entities":{"terminal_id":"1"}})";
  };
  CHECK_EQ(said(with_id(0)), "MISSING_FIELD transaction_id");
  CHECK_EQ(said(with_id(limits::kIdBytesMax)), "");
  CHECK_EQ(said(with_id(limits::kIdBytesMax + 1)), "TOO_LONG transaction_id");
  CHECK_EQ(said(with("\"channel\":\"" + std::string(limits::kStringValueBytesMax, 'x') + "\"")), "");
  CHECK_EQ(said(with("\"channel\":\"" + std::string(limits::kStringValueBytesMax + 1, 'x') + "\"")),
           "TOO_LONG features[\"channel\"]");
  std::string line = kLine;
  line += std::string(limits::kEventLineBytesMax - line.size(), ' ');
  CHECK_EQ(said(line), "");
  CHECK_EQ(said(line + " "), "TOO_LONG line");
  std::string empty_entity = kLine;
  empty_entity.replace(empty_entity.find("3156"), 4, "");
  CHECK_EQ(said(empty_entity), "MISSING_ENTITY entities[\"terminal_id\"]");
}

TEST(escapes_are_decoded_beside_the_line) {
  const Decoded decoded = decode(with(R"("channel":"\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\ud83d\ude00","mcc":1,"is_online":false)"));
  REQUIRE(decoded.is_good);
  CHECK(decoded.event->features[kChannel].string() == "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  const Decoded ids = decode(R"({"transaction_id":"\u0031\u0032","event_time":"2018-04-01T00:00:31\u005a",)"
                             R"("entities":{"c\u0075stomer_id":"\u0035"},"features":{"amount_minor":1}})");
  REQUIRE(ids.is_good);
  CHECK(ids.event->id == "12");
  CHECK(ids.event->entities[0] == "5");
  CHECK_EQ(said(with("\"channel\":\"\xc3\xa9\"")), "");
  for (const char* bad :
       {R"("\x")", R"("\u12")", R"("\u12g4")", R"("\ud800")", R"("\ud800x")", R"("\ud800\n")", R"("\ud800\u0041")", R"("\udc00")",
        R"("\)", "\"\\", "\"\n\"", "\"\x01\"", "\"abcdefgh\x1f\"", "\"\xc3\"", "\"\xed\xa0\x80\""}) {
    CHECK_EQ(said(with("\"channel\":" + std::string(bad))), "MALFORMED_JSON line");
  }
}

TEST(malformed_lines_are_refused_with_the_offset) {
  for (const char* bad : {"",
                          "null",
                          "[]",
                          "\"x\"",
                          "{",
                          "}",
                          "{]",
                          "{,}",
                          "{\"a\"}",
                          "{\"a\":}",
                          "{\"a\":1,}",
                          "{\"a\":1 \"b\":2}",
                          "{'a':1}",
                          "{a:1}",
                          "{\"a\":1}x",
                          "{\"a\":1}{}",
                          "{\"a\":NaN}",
                          "{\"a\":Infinity}",
                          "{\"a\":-Infinity}",
                          "{\"a\":01}",
                          "{\"a\":-}",
                          "{\"a\":1.}",
                          "{\"a\":.5}",
                          "{\"a\":+1}",
                          "{\"a\":1e}",
                          "{\"a\":1e+}",
                          "{\"a\":0x1}",
                          "{\"a\":tru}",
                          "{\"a\":nul",
                          "{\"a\":[1,]}",
                          "{\"a\":[1 2]}",
                          "{\"a\":[}",
                          "{\"a\":\"",
                          "// c\n{}",
                          "\xef\xbb\xbf{}"}) {
    CHECK_EQ(said(bad), "MALFORMED_JSON line");
  }
  CHECK_EQ(decode("{\"a\":1 \"b\":2}").violations.list()[0].description, "byte 7: expected ',' or '}'");
  CHECK_EQ(said(with_features(R"("amount_minor":NaN)")), "MALFORMED_JSON line");  // and nothing else
  // Every cut of a good line is malformed.
  const std::string line = kLine;
  for (size_t i = 0; i < line.size(); ++i) CHECK_EQ(said(line.substr(0, i)), "MALFORMED_JSON line");
}

TEST(nesting_has_a_limit) {
  const auto at_depth = [](int depth) { return said("{\"a\":" + nested(depth - 1) + "}"); };
  CHECK(at_depth(limits::kJsonDepthMax).find("INVALID_REQUEST a") != std::string::npos);
  CHECK_EQ(at_depth(limits::kJsonDepthMax + 1), "MALFORMED_JSON line");
  CHECK_EQ(at_depth(30'000), "MALFORMED_JSON line");
}

TEST(mutated_lines_never_read_past_the_end) {
  std::mt19937_64 random = check::random_engine();
  const std::string line = with(R"("rate":-12.5e-3,"is_online":true,"channel":"a\u00e9\ud83d\ude00\n","mcc":12)");
  const std::string bytes = "{}[]\",:\\u0-+.eEtfn \n\x01\x80\xc3\xff";
  int good_count = 0;
  for (int i = 0; i < check::scaled(50'000); ++i) {
    std::string mutated = line;
    const size_t change_count = 1 + random() % 3;
    for (size_t k = 0; k < change_count && !mutated.empty(); ++k) {
      const size_t at = random() % mutated.size();
      switch (random() % 4) {
        case 0: mutated.erase(at, 1 + random() % 4); break;
        case 1: mutated.insert(at, 1, bytes[random() % bytes.size()]); break;
        case 2: mutated[at] = bytes[random() % bytes.size()]; break;
        default: mutated.insert(at, mutated.substr(random() % mutated.size(), random() % 12)); break;
      }
    }
    good_count += decode(mutated).is_good ? 1 : 0;
  }
  CHECK(good_count > 0);
}

TEST(times_agree_with_timegm) {
  std::mt19937_64 random = check::random_engine();
  std::uniform_int_distribution<int64_t> seconds_between(-62'135'596'800, 253'402'300'799);
  for (int i = 0; i < check::scaled(20'000); ++i) {
    const int64_t seconds = i == 0 ? -62'135'596'800 : i == 1 ? 253'402'300'799 : i == 2 ? -1 : seconds_between(random);
    const auto local_offset_minutes = static_cast<int64_t>(random() % 2879) - 1439;
    const time_t local = static_cast<time_t>(i < 2 ? seconds : seconds + local_offset_minutes * 60);
    std::tm fields{};
    gmtime_r(&local, &fields);
    if (fields.tm_year + 1900 < 1 || fields.tm_year + 1900 > 9999) continue;
    CHECK_EQ(timegm(&fields), local);
    char text[64];
    const int digits = static_cast<int>(random() % 10);
    const auto nanos = static_cast<uint32_t>(random() % 1'000'000'000);
    uint32_t kept = nanos;
    for (int d = digits; d < 9; ++d) kept /= 10;
    int length = std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d", fields.tm_year + 1900, fields.tm_mon + 1,
                               fields.tm_mday, fields.tm_hour, fields.tm_min, fields.tm_sec);
    if (digits > 0) length += std::snprintf(text + length, sizeof text - static_cast<size_t>(length), ".%0*u", digits, kept);
    const int64_t minutes = std::llabs(local_offset_minutes);
    if (i < 2) {
      std::snprintf(text + length, sizeof text - static_cast<size_t>(length), "Z");
    } else {
      std::snprintf(text + length, sizeof text - static_cast<size_t>(length), "%c%02d:%02d", local_offset_minutes < 0 ? '-' : '+',
                    static_cast<int>(minutes / 60), static_cast<int>(minutes % 60));
    }
    uint32_t whole = kept;
    for (int d = digits; d < 9; ++d) whole *= 10;
    int64_t time_us = 0;
    CHECK(parse_rfc3339_us(text, &time_us));
    CHECK_EQ(time_us, seconds * 1'000'000 + whole / 1000);
  }
}

TEST(times_that_are_not_are_refused) {
  int64_t time_us;
  for (const char* good :
       {"2018-04-01T00:00:31Z", "2018-04-01t00:00:31z", "2018-04-01T00:00:31.123456789Z", "2018-04-01T00:00:31-00:00",
        "2000-02-29T23:59:59+23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"}) {
    CHECK(parse_rfc3339_us(good, &time_us));
  }
  for (const char* bad : {"",
                          "2018-04-01",
                          "2018-04-01T00:00:31",
                          "2018-04-01 00:00:31Z",
                          "2018-04-01T00:00Z",
                          "2018-4-1T00:00:31Z",
                          "2018-04-01T00:00:31.Z",
                          "2018-04-01T00:00:31.1234567890Z",
                          "2018-04-01T00:00:31+0200",
                          "2018-04-01T00:00:31+02",
                          "2018-04-01T00:00:31+24:00",
                          "2018-04-01T00:00:31+02:60",
                          "2018-04-01T00:00:31Zx",
                          "2018-04-01T00:00:31 Z",
                          "2018-13-01T00:00:31Z",
                          "2018-00-01T00:00:31Z",
                          "2018-04-31T00:00:31Z",
                          "2018-04-00T00:00:31Z",
                          "2100-02-29T00:00:31Z",
                          "2018-04-01T24:00:00Z",
                          "2018-04-01T00:60:00Z",
                          "2018-04-01T23:59:60Z",
                          "0000-01-01T00:00:00Z",
                          "-001-01-01T00:00:00Z",
                          "0001-01-01T00:00:00+00:01",
                          "9999-12-31T23:59:59-00:01",
                          "2018-04-01T00:00:31\xe2\x88\x92"
                          "02:00",
                          "20180401T00:00:31.5Z",
                          "2018-04-01T0a:00:31Z",
                          "2018-04-01T00:00:31,5Z"}) {
    if (parse_rfc3339_us(bad, &time_us)) check::fail(__FILE__, __LINE__, bad);
  }
}

ASSAY_TEST_MAIN
