// The audit log and the engine that records its scores: who waits for what, and what happens when there is no room. Time stands still
// and the log writes when told, but for the storm at the end.
#include "core/audit/audit_log.h"

#include <thread>

#include "audit_fixture.h"
#include "check.h"
#include "core/base/card_numbers.h"
#include "core/base/hash.h"
#include "infer_fixture.h"

using namespace fixture;

namespace {

const std::string kKey(32, 'k');

struct Logged {
  PuppetDisk disk;
  std::shared_ptr<AuditLog> log;

  explicit Logged(AuditLevel level = AuditLevel::kSpool, WhenFull when_full = WhenFull::kRefuse, uint64_t bytes_max = 16 << 20,
                  bool has_thread = false, bool has_sink = false, int64_t memory_rest_us = 2'400,
                  int64_t hung_us = 3'600'000'000) {
    SpoolOptions spool_options;
    spool_options.bytes_max = bytes_max;
    spool_options.is_durable = level == AuditLevel::kFsync;
    spool_options.has_sink = has_sink;
    std::unique_ptr<Spool> spool;
    const Status status = Spool::open(spool_options, std::make_unique<PuppetFiles>(disk), kNowUs, &spool);
    if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
    AuditOptions options;
    options.level = level;
    options.when_full = when_full;
    options.full_one_in = 2;
    options.has_thread = has_thread;
    options.memory_rest_us = memory_rest_us;
    options.hung_us = hung_us;
    options.inputs = "full";
    options.software = "test";
    log = std::make_shared<AuditLog>(options, std::move(spool));
    if (!log->start().ok()) check::fail(__FILE__, __LINE__, "start");
  }

  EngineOptions engine_options(AuditPolicy policy = {}) const {
    policy.key = kKey;
    EngineOptions options = House::small();
    options.audit = {log, policy};
    return options;
  }

  // The fields of every record of this kind (AuditRecord's field), oldest first.
  std::vector<std::vector<Field>> records(uint32_t kind) {
    whole = read_log(disk);
    CHECK(whole.why == Code::kOk);
    std::vector<std::vector<Field>> found;
    for (const Read& read : whole.records) {
      if (const auto field = find_field(fields_of(read.record), kind)) found.push_back(fields_of(field->bytes));
    }
    return found;
  }
  std::vector<std::vector<Field>> scores() { return records(2); }

  WholeLog whole;  // what records() points into
};

std::string text_of(const std::vector<Field>& fields, uint32_t number) {
  const auto field = find_field(fields, number);
  return field ? std::string(field->bytes) : std::string();
}
uint64_t value_of(const std::vector<Field>& fields, uint32_t number) {
  const auto field = find_field(fields, number);
  return field ? field->value : 0;
}
double double_of(const std::vector<Field>& fields, uint32_t number) {
  const uint64_t bits = value_of(fields, number);
  double value;
  std::memcpy(&value, &bits, 8);
  return value;
}

// Fills the log's present segments with records of nobody until it is in this state.
void fill_until(Logged& logged, const char* state_name, SpoolState state) {
  const std::string record(60'000, 'x');
  for (int i = 0; i < 2000 && logged.log->stats().spool.state != state; ++i) {
    logged.log->append_record(record);
    logged.log->step();
  }
  if (logged.log->stats().spool.state != state) check::fail(__FILE__, __LINE__, state_name);
}

}  // namespace

// --- who waits

TEST(a_score_waits_until_its_record_is_written) {
  for (const AuditLevel level : {AuditLevel::kSpool, AuditLevel::kFsync}) {
    Logged logged(level);
    House house(logged.engine_options());
    CHECK(house.add(house.lane_spec()).ok());
    CHECK(house.score(600).code == Code::kOk);
    CHECK_EQ(house.step(), 1u);
    CHECK_EQ(house.drain(), 0u);
    CHECK(logged.scores().empty());
    const int syncs = logged.disk.syncs;
    logged.log->step();
    CHECK_EQ(logged.disk.syncs - syncs, level == AuditLevel::kFsync ? 1 : 0);
    CHECK_EQ(house.drain(), 1u);
    CHECK_EQ(parse_response(house.answers[1].payload).score, 600 / 1024.0);
    CHECK_EQ(logged.scores().size(), 1u);
  }
}

TEST(at_level_memory_nobody_waits) {
  Logged logged(AuditLevel::kMemory);
  House house(logged.engine_options());
  CHECK(house.add(house.lane_spec()).ok());
  CHECK(house.score(600).code == Code::kOk);
  CHECK_EQ(house.step(), 1u);
  CHECK_EQ(house.drain(), 1u);
  CHECK(logged.scores().empty());
  logged.log->step();
  CHECK_EQ(logged.scores().size(), 1u);
}

TEST(rows_of_one_batch_are_committed_together_and_joined_in_order) {
  Logged logged(AuditLevel::kFsync);
  House house(logged.engine_options());
  CHECK(house.add(house.lane_spec()).ok());
  CHECK(house.batch({score_request(1), without_ratio(2), score_request(3)}).code == Code::kOk);
  CHECK_EQ(house.step(), 2u);
  const int syncs = logged.disk.syncs;
  logged.log->step();
  CHECK_EQ(logged.disk.syncs - syncs, 1);
  const std::vector<Row> rows = parse_batch(house.answer(1).payload);
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].has_score && rows[2].has_score && rows[1].reason == "INVALID_REQUEST");
  const auto scores = logged.scores();
  REQUIRE(scores.size() == 2);
  CHECK_EQ(text_of(scores[0], 2), "tx-1");
  CHECK_EQ(text_of(scores[1], 2), "tx-3");
}

TEST(a_row_that_is_run_at_once_waits_too) {
  for (const AuditLevel level : {AuditLevel::kMemory, AuditLevel::kSpool}) {
    Logged logged(level);
    House house(logged.engine_options());
    LaneSpec spec = house.lane_spec();
    spec.inline_runner = house.make_runner(house.fake);
    spec.options.inline_overrun_ns = kMs;
    CHECK(house.add(std::move(spec)).ok());
    const Submission submission = house.score(600);
    CHECK(submission.code == Code::kOk);
    CHECK_EQ(submission.is_complete, level == AuditLevel::kMemory);
    if (submission.is_complete) {
      CHECK(house.engine.finish(submission.call).code == Code::kOk);
    } else {
      CHECK_EQ(house.drain(), 0u);
      logged.log->step();
      CHECK_EQ(house.drain(), 1u);
    }
    logged.log->step();
    CHECK_EQ(house.engine.stats().inline_rows, 1u);
    CHECK_EQ(logged.scores().size(), 1u);
  }
}

TEST(who_leaves_or_expires_while_it_waits_frees_its_slot_when_the_record_is_written) {
  for (const bool is_expired : {false, true}) {
    Logged logged;
    House house(logged.engine_options());
    CHECK(house.add(house.lane_spec()).ok());
    const Submission submission = house.score(600);
    house.step();
    CHECK(is_expired ? house.engine.expire(submission.call) : house.engine.cancel(submission.call));
    CHECK_EQ(house.engine.stats().slots_used, 1u);
    logged.log->step();
    CHECK_EQ(house.drain(), 0u);
    CHECK_EQ(house.engine.stats().slots_used, 0u);
    CHECK_EQ(logged.scores().size(), 1u);  // it was scored, and that is on record
  }
}

TEST(an_engine_that_stops_answers_who_waits) {
  Logged logged;
  House house(logged.engine_options());
  CHECK(house.add(house.lane_spec()).ok());
  house.score(600);
  house.step();
  house.engine.stop();
  CHECK(house.answer(1).code == Code::kOk);
  CHECK_EQ(logged.scores().size(), 1u);
}

// --- what stands in a record

TEST(a_record_says_what_was_scored_and_how) {
  Logged logged;
  House house(logged.engine_options());
  LaneSpec spec = house.lane_spec();
  spec.runtime = "runtime 1";
  CHECK(house.add(std::move(spec)).ok());
  house.score(900);
  house.clock.advance_ns(5 * kMs);
  house.step();
  logged.log->step();
  const auto lineages = logged.records(1);
  REQUIRE(lineages.size() == 1);
  CHECK_EQ(text_of(lineages[0], 7), "runtime 1");
  CHECK_EQ(text_of(fields_of(text_of(lineages[0], 2)), 1), "fraud");
  const auto scores = logged.scores();
  REQUIRE(scores.size() == 1);
  const std::vector<Field>& score = scores[0];
  CHECK_EQ(value_of(score, 1), value_of(lineages[0], 1));
  CHECK_EQ(text_of(score, 2), "tx-900");
  CHECK_EQ(value_of(score, 3), 1'522'540'831'000'000u);
  CHECK(static_cast<int64_t>(value_of(score, 4)) > 1'600'000'000'000'000);  // this machine's clock
  CHECK_EQ(double_of(score, 5), 900 / 1024.0);
  CHECK_EQ(value_of(score, 6), static_cast<uint64_t>(Decision::kDecline));
  CHECK_EQ(text_of(score, 7).size(), house.reader->plan().row_bytes());
  int64_t amount = 0;
  std::memcpy(&amount, text_of(score, 7).data() + house.reader->plan().segments()[2].offset_bytes, 8);
  CHECK_EQ(amount, 900);
  CHECK(text_of(score, 8).empty());
  CHECK_EQ(value_of(score, 13), 1u);
  CHECK_EQ(value_of(score, 16), static_cast<uint64_t>(CallKind::kUnary));
  std::vector<uint64_t> stages;
  for (std::string bytes = text_of(score, 12); !bytes.empty();) {
    uint64_t value = 0;
    size_t used = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes[used++]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    bytes.erase(0, used);
    stages.push_back(value);
  }
  CHECK(stages == std::vector<uint64_t>({0, 0, 5 * kMs, 0, 0}));
}

TEST(inputs_are_kept_sampled_or_digested) {
  for (const AuditInputs inputs : {AuditInputs::kFull, AuditInputs::kSample, AuditInputs::kDigest}) {
    Logged logged;
    AuditPolicy policy;
    policy.inputs = inputs;
    policy.sample_one_in = 2;
    House house(logged.engine_options(policy));
    CHECK(house.add(house.lane_spec()).ok());
    for (int amount = 1; amount <= 20; ++amount) {
      house.score(amount);
      house.step();
    }
    logged.log->step();
    house.drain();
    size_t rows = 0;
    for (const auto& score : logged.scores()) {
      const std::string row = text_of(score, 7), digest = text_of(score, 8);
      CHECK_EQ(row.empty(), digest.size() == 16);
      if (row.empty()) continue;
      ++rows;
      CHECK(inputs != AuditInputs::kSample || xxh64(text_of(score, 2)) % 2 == 0);
    }
    CHECK(inputs == AuditInputs::kFull ? rows == 20 : inputs == AuditInputs::kDigest ? rows == 0 : rows > 2 && rows < 18);
  }
}

TEST(a_row_without_an_id_is_sampled_by_itself) {
  for (const char* id : {"", "call-1"}) {
    Logged logged;
    AuditPolicy policy;
    policy.inputs = AuditInputs::kSample;
    policy.sample_one_in = 2;
    InferHouse house(logged.engine_options(policy));
    CHECK(house.infer({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, {}, id).code == Code::kOk);
    while (house.run() > 0) {}
    logged.log->step();
    house.drain();
    size_t rows = 0;
    for (const auto& score : logged.scores()) rows += text_of(score, 7).empty() ? 0 : 1;
    CHECK_EQ(logged.scores().size(), 16u);
    CHECK(*id == '\0' ? rows > 2 && rows < 14 : rows == 0 || rows == 16);  // of one call: all or none
  }
}

TEST(a_digest_is_keyed_blake2b_of_the_row_and_its_missing_bits) {
  std::string rows[2], digests[2];
  for (int i = 0; i < 2; ++i) {
    Logged logged;
    AuditPolicy policy;
    policy.inputs = i == 0 ? AuditInputs::kFull : AuditInputs::kDigest;
    House house(logged.engine_options(policy));
    CHECK(house.add(house.lane_spec()).ok());
    house.score(77);
    house.step();
    logged.log->step();
    house.drain();
    const auto scores = logged.scores();
    REQUIRE(scores.size() == 1);
    rows[i] = text_of(scores[0], 7);
    digests[i] = text_of(scores[0], 8);
    if (i == 0) {
      std::string missing = text_of(scores[0], 9);
      missing.resize(8, '\0');
      const Digest16 digest = blake2b<16>(rows[0] + missing, kKey);
      digests[0].assign(reinterpret_cast<const char*>(digest.data()), digest.size());
    }
  }
  CHECK(rows[1].empty() && digests[0] == digests[1]);
}

TEST(card_numbers_become_tokens) {
  const auto tokenise = [](std::string_view text) {
    std::string out;
    const bool is_found = append_tokenised(text, kKey, out);
    CHECK_EQ(is_found, out != text);
    return out;
  };
  for (const char* card :
       {"4111111111111111", "4111-1111-1111-1111", "4111 1111 1111 1111", "4111 - 1111 - 1111 - 1111",
        "\xef\xbc\x94\xef\xbc\x91\xef\xbc\x91\xef\xbc\x91 1111 1111 1111", "378282246310005", "5555555555554444"}) {
    for (const char* before : {"", "order ", "x-", "12-", "2026-03-01-"}) {
      for (const char* after : {"", "-7", " x"}) {
        const std::string text = std::string(before) + card + after;
        const std::string tokenised = tokenise(text);
        CHECK(tokenised.find("card-") != std::string::npos);
        CHECK(tokenised.find("1111") == std::string::npos && tokenised.find("2822") == std::string::npos &&
              tokenised.find("5555") == std::string::npos);
      }
    }
  }
  CHECK_EQ(tokenise("4111111111111111"), tokenise("4111111111111111"));
  CHECK(tokenise("4111111111111111") == tokenise("4111-1111-1111-1111"));
  CHECK(tokenise("5555555555554444") != tokenise("4111111111111111"));
  // Glued to other digits: the run as a whole, so that what stands beside the number does not tell it.
  for (const std::string& glued :
       {std::string("41111111111111110001"), std::string("202603014111111111111111"), std::string("14111111111111111"),
        std::string("41111111111111117"), std::string("41111111111111115555555555554444"), std::string("00004111111111111111"),
        "2026" + std::string("378282246310005") + "9", std::string(200, '9') + "4111111111111111"}) {
    const std::string tokenised = tokenise("id:" + glued + "x");
    CHECK_EQ(tokenised.size(), std::string("id:card-x").size() + 24);
  }
  CHECK(tokenise("41111111111111110001") != tokenise("41111111111111110002"));
  // Gujarati, Vai, segmented.
  for (const std::string& zero : {std::string("\xe0\xab\xa6"), std::string("\xea\x98\xa0"), std::string("\xf0\x9f\xaf\xb0")}) {
    std::string digits;
    for (const char digit : std::string_view("4111111111111111")) {
      digits += zero;
      digits.back() = static_cast<char>(digits.back() + (digit - '0'));
    }
    CHECK_EQ(tokenise(digits), tokenise("4111111111111111"));
  }
  for (const char* other : {"", "tx-1", "4111111111111112", "123456789012", "12345678901234567890", "a4b1c1d1e1f1g1h1i1j1k1l1m1",
                            "c0ffee00-1234-4abc-9def-001122334455"})
    CHECK_EQ(tokenise(other), other);
}

TEST(every_segment_has_the_lineages_that_its_scores_refer_to) {
  Logged logged(AuditLevel::kSpool, WhenFull::kRefuse, 16 << 20);
  House house(logged.engine_options());
  CHECK(house.add(house.lane_spec("fraud"), true).ok());
  CHECK(house.add(house.lane_spec("other")).ok());
  for (int i = 0; i < 60; ++i) {
    logged.log->append_record(std::string(60'000, 'x'));
    house.score(i);
    house.score(i, with_model("other"));
    house.step("fraud");
    house.step("other");
    logged.log->step();
    house.drain();
  }
  CHECK(logged.disk.segments().size() >= 3);
  size_t scores = 0;
  for (const std::string& name : logged.disk.segments()) {
    SegmentReader reader;
    REQUIRE(SegmentReader::open(logged.disk.files.at(name).bytes, &reader) == Code::kOk);
    std::vector<uint64_t> known;
    for (Block block; reader.next(true, &block);) {
      for (std::string_view payload = block.payload, record; next_record(payload, &record);) {
        if (record[0] == 'x') continue;
        const std::vector<Field> fields = fields_of(record);
        if (const auto lineage = find_field(fields, 1)) known.push_back(value_of(fields_of(lineage->bytes), 1));
        if (const auto score = find_field(fields, 2)) {
          ++scores;
          CHECK(std::find(known.begin(), known.end(), value_of(fields_of(score->bytes), 1)) != known.end());
        }
      }
    }
    CHECK(known.size() <= 2);
  }
  CHECK_EQ(scores, 120u);
}

TEST(checkpoints_stand_at_the_beginning_and_the_end) {
  Logged logged;
  logged.log->append_record("x");
  logged.log->close();
  logged.log->close();
  const auto checkpoints = logged.records(6);
  REQUIRE(checkpoints.size() == 2);
  CHECK_EQ(value_of(checkpoints[0], 1), static_cast<uint64_t>(CheckpointReason::kStart));
  CHECK_EQ(value_of(checkpoints[1], 1), static_cast<uint64_t>(CheckpointReason::kEnd));
  CHECK_EQ(value_of(checkpoints[1], 3), 2u);
  CHECK_EQ(text_of(checkpoints[1], 6), "spool");
  CHECK_EQ(text_of(checkpoints[1], 8), "test");
  CHECK(!logged.log->append_record("y"));
}

// --- no room

TEST(without_room_new_calls_are_refused_and_those_under_way_recorded) {
  Logged logged(AuditLevel::kSpool, WhenFull::kRefuse, 4 << 20, false, true);
  House house(logged.engine_options());
  CHECK(house.add(house.lane_spec()).ok());
  house.score(1);  // under way
  fill_until(logged, "reserve", SpoolState::kReserve);
  CHECK(logged.log->is_refusing());
  CHECK(logged.log->stats().last_error.find("the oldest segment waits to be shipped") != std::string::npos);
  const Submission refused = house.score(2);
  CHECK(refused.code == Code::kAuditUnavailable && reason(refused) == "AUDIT_UNAVAILABLE");
  CHECK_EQ(reason(house.batch({score_request(3)})), "AUDIT_UNAVAILABLE");
  house.step();
  logged.log->step();
  CHECK(house.answer(1).code == Code::kOk);
  CHECK_EQ(logged.scores().size(), 1u);

  // And again as soon as there is room.
  logged.log->set_shipped(logged.log->stats().spool.next_sequence - 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(600));  // the disk is asked twice a second, by the real clock
  logged.log->step();
  CHECK(!logged.log->is_refusing());
  CHECK(house.score(4).code == Code::kOk);
  house.step();
  logged.log->step();
  house.drain();
  const auto checkpoints = logged.records(6);
  std::vector<uint64_t> reasons;
  for (const auto& checkpoint : checkpoints) reasons.push_back(value_of(checkpoint, 1));
  CHECK(std::find(reasons.begin(), reasons.end(), static_cast<uint64_t>(CheckpointReason::kRoomAgain)) != reasons.end());
}

TEST(when_the_reserve_is_full_too_a_row_under_way_fails_or_is_answered) {
  for (const WhenFull when_full : {WhenFull::kRefuse, WhenFull::kSample}) {
    Logged logged(AuditLevel::kSpool, when_full, 4 << 20, false, true);
    House house(logged.engine_options());
    CHECK(house.add(house.lane_spec()).ok());
    house.score(1);
    fill_until(logged, "full", SpoolState::kFull);
    house.step();
    logged.log->step();
    Answer& answer = house.answer(1);
    if (when_full == WhenFull::kRefuse) {
      CHECK(answer.code == Code::kAuditUnavailable && reason_in(answer.rpc_status) == "AUDIT_UNAVAILABLE");
      CHECK_EQ(house.score(2).code == Code::kAuditUnavailable, true);
    } else {
      CHECK(answer.code == Code::kOk && !logged.log->is_refusing());
      CHECK_EQ(logged.log->stats().counts.dropped[static_cast<size_t>(AuditDrop::kFull)], 1u);
      CHECK(house.score(2).code == Code::kOk);
      house.step();
      house.drain();
    }
  }
}

TEST(a_record_that_nobody_waits_for_is_counted_where_it_is_lost) {
  for (const WhenFull when_full : {WhenFull::kRefuse, WhenFull::kSample}) {
    Logged logged(AuditLevel::kFsync, when_full, 4 << 20, false, true);
    fill_until(logged, "full", SpoolState::kFull);
    const auto failed = [&] { return logged.log->stats().counts.dropped[static_cast<size_t>(AuditDrop::kFailed)]; };
    const uint64_t before = failed(), recorded = logged.log->stats().counts.recorded;
    const bool is_refused = when_full == WhenFull::kRefuse;
    for (int i = 0; i < 3; ++i) CHECK(logged.log->append_record("label"));
    logged.log->step();
    CHECK_EQ(failed() - before, 3u);
    CHECK_EQ(logged.log->commit({"one", "two"}), !is_refused);
    CHECK_EQ(failed() - before, is_refused ? 3u : 5u);
    CHECK_EQ(logged.log->stats().counts.recorded, recorded);
  }
}

TEST(what_is_committed_is_on_the_disk) {
  for (const AuditLevel level : {AuditLevel::kMemory, AuditLevel::kFsync}) {
    Logged logged(level);
    std::vector<std::string> records(5, std::string(60'000, 'x'));  // several chunks
    records.push_back("last");
    const int syncs = logged.disk.syncs;
    CHECK(logged.log->commit(records) && logged.log->commit({}));
    logged.log->step();
    CHECK_EQ(logged.disk.syncs > syncs, level == AuditLevel::kFsync);
    CHECK_EQ(logged.log->stats().counts.recorded, 1 + records.size());
  }
}

TEST(in_the_reserve_one_score_in_some_is_recorded) {
  Logged logged(AuditLevel::kSpool, WhenFull::kSample, 4 << 20, false, true);
  House house(logged.engine_options());
  CHECK(house.add(house.lane_spec()).ok());
  fill_until(logged, "reserve", SpoolState::kReserve);
  for (int amount = 1; amount <= 40; ++amount) {
    CHECK(house.score(amount).code == Code::kOk);
    house.step();
    logged.log->step();
  }
  house.drain();
  CHECK_EQ(house.answers.size(), 40u);
  const size_t recorded = logged.scores().size();
  CHECK(recorded > 5 && recorded < 35);
  CHECK_EQ(recorded + logged.log->stats().counts.dropped[static_cast<size_t>(AuditDrop::kSampled)], 40u);
}

TEST(a_block_that_fails_goes_to_the_next_segment_and_its_rows_never_notice) {
  for (const bool is_sync : {false, true}) {
    Logged logged(AuditLevel::kFsync);
    House house(logged.engine_options());
    CHECK(house.add(house.lane_spec()).ok());
    house.score(1);
    house.step();
    (is_sync ? logged.disk.sync_error : logged.disk.write_error) = EIO;
    logged.log->step();
    CHECK(house.answer(1).code == Code::kOk);
    CHECK_EQ(logged.scores().size(), 1u);
    const AuditStats stats = logged.log->stats();
    CHECK_EQ(stats.spool.write_failures + stats.spool.sync_failures, 1u);
    CHECK(!stats.last_error.empty() && !logged.log->is_refusing());
  }
}

TEST(the_buffer_has_an_end) {
  Logged logged(AuditLevel::kMemory, WhenFull::kSample);
  const std::string record(60'000, 'x');
  size_t taken = 0;
  while (logged.log->append_record(record)) ++taken;
  const AuditStats stats = logged.log->stats();
  CHECK(stats.buffer_bytes <= stats.buffer_bytes_max && stats.buffer_bytes + record.size() + 3 > stats.buffer_bytes_max);
  CHECK_EQ(stats.counts.dropped[static_cast<size_t>(AuditDrop::kBuffer)], 1u);
  logged.log->step();
  CHECK(logged.log->append_record(record));
  CHECK(taken > 100);
}

TEST(at_level_memory_a_full_buffer_fails_rows_or_is_counted) {
  for (const WhenFull when_full : {WhenFull::kRefuse, WhenFull::kSample}) {
    Logged logged(AuditLevel::kMemory, when_full);
    House house(logged.engine_options());
    CHECK(house.add(house.lane_spec()).ok());
    while (logged.log->append_record(std::string(60'000, 'x'))) {}
    while (logged.log->append_record("x")) {}
    house.score(1);
    house.step();
    const bool is_refused = when_full == WhenFull::kRefuse;
    CHECK(house.answer(1).code == (is_refused ? Code::kAuditUnavailable : Code::kOk));
    // Two labels above, and the score where it was given.
    CHECK_EQ(logged.log->stats().counts.dropped[static_cast<size_t>(AuditDrop::kBuffer)], is_refused ? 2u : 3u);
  }
}

// --- threads

// A sink that can be waited for.
struct Waiting final : CommitSink {
  std::mutex mutex;
  std::condition_variable told;
  size_t rows = 0;
  void committed(const uint32_t*, size_t count, Code outcome) noexcept override {
    const std::lock_guard<std::mutex> lock(mutex);
    if (outcome == Code::kOk) rows += count;
    told.notify_all();
  }
  void wait_for(size_t count) {
    std::unique_lock<std::mutex> lock(mutex);
    told.wait(lock, [&] { return rows >= count; });
  }
};

// The writer rests for an hour: what comes meanwhile is one group, and only close() ends the rest.
TEST(at_memory_the_writer_lets_a_group_gather) {
  Logged logged(AuditLevel::kMemory, WhenFull::kRefuse, 16 << 20, true, false, 3'600'000'000);
  const uint64_t blocks_before = logged.log->stats().blocks;
  CHECK(logged.log->append_record("first"));
  logged.log->flush();
  for (int i = 0; i < 3; ++i) CHECK(logged.log->append_record("later"));
  logged.log->close();
  CHECK_EQ(logged.log->stats().blocks - blocks_before, 3u);  // the first, those that gathered, the last checkpoint
  CHECK_EQ(logged.log->stats().counts.recorded, 1u + 3 + 2);
}

// Its disk does not come back from a sync.
TEST(a_write_that_hangs_is_as_no_room) {
  Logged logged(AuditLevel::kFsync, WhenFull::kRefuse, 16 << 20, true, false, 0, /*hung_us=*/0);
  std::mutex mutex;
  std::condition_variable changed;
  bool hangs = true, is_hanging = false;
  logged.disk.on_sync = [&] {
    std::unique_lock<std::mutex> lock(mutex);
    is_hanging = hangs;
    changed.notify_all();
    changed.wait(lock, [&] { return !hangs; });
  };
  std::thread waits([&] { CHECK(logged.log->commit({"hangs"})); });
  {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return is_hanging; });
  }
  CHECK(logged.log->append_record("sees it"));
  CHECK(logged.log->is_refusing());
  CHECK(logged.log->stats().spool.state == SpoolState::kFull);
  CHECK(logged.log->stats().last_error.find("has not come back") != std::string::npos);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    hangs = false;
  }
  changed.notify_all();
  waits.join();
  logged.log->close();
  CHECK(logged.log->stats().counts.recorded >= 3);
}

TEST(where_rows_wait_the_writer_does_not_rest) {
  for (const AuditLevel level : {AuditLevel::kSpool, AuditLevel::kFsync}) {
    Logged logged(level, WhenFull::kRefuse, 16 << 20, true, false, 3'600'000'000);
    Waiting waiting;
    const std::vector<uint32_t> rows(64);
    std::string records;
    for (size_t i = 0; i < rows.size(); ++i) append_record("one of a crowd", records);
    for (size_t i = 1; i <= 20; ++i) {  // it would wait for an hour
      CHECK(logged.log->append(records, 64, nullptr, rows.data(), rows.size(), &waiting));
      waiting.wait_for(i * rows.size());
    }
  }
}

TEST(under_load_every_answered_score_is_on_record_once) {
  for (const AuditLevel level : {AuditLevel::kMemory, AuditLevel::kSpool, AuditLevel::kFsync}) {
    Logged logged(level, WhenFull::kRefuse, 64 << 20, true);
    const int rows = check::scaled(600);
    {
      House house(logged.engine_options());
      LaneSpec spec = house.lane_spec();
      spec.has_threads = true;
      spec.runners.push_back(house.make_runner(house.fake));
      CHECK(house.add(std::move(spec)).ok());
      std::atomic<int> next{0};
      std::vector<std::thread> threads;
      std::mutex mutex;
      std::map<uint64_t, int> accepted;
      for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {
          for (int amount = next++; amount < rows;) {
            const Submission submission = house.engine.submit_score(score_request(amount), house.context(), &house.queue,
                                                                    static_cast<uint64_t>(amount) + 1);
            if (submission.code != Code::kOk) {
              std::this_thread::yield();
              continue;
            }
            amount = next++;
          }
        });
      }
      size_t answered = 0;
      while (answered < static_cast<size_t>(rows)) answered += house.drain();
      for (std::thread& thread : threads) thread.join();
      for (const auto& [token, answer] : house.answers) CHECK(answer.code == Code::kOk);
    }
    logged.log->close();
    std::map<std::string, int> found;
    for (const auto& score : logged.scores()) ++found[text_of(score, 2)];
    CHECK_EQ(found.size(), static_cast<size_t>(rows));
    for (const auto& [id, count] : found) CHECK_EQ(count, 1);
  }
}

ASSAY_TEST_MAIN
