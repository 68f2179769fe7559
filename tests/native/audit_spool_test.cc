// The audit spool: what was appended is read back, whatever the disk does; it keeps within its bytes.
#include "audit_fixture.h"
#include "check.h"

#include "core/base/blake2bp.h"
#include "core/base/hash.h"

using namespace fixture;

namespace {

SpoolOptions options_of(uint64_t mebibytes = 16) {
  SpoolOptions options;
  options.bytes_max = mebibytes << 20;
  options.is_durable = true;
  return options;
}

std::unique_ptr<Spool> open(PuppetDisk& disk, const SpoolOptions& options, int64_t now_us = kNowUs) {
  std::unique_ptr<Spool> spool;
  const Status status = Spool::open(options, std::make_unique<PuppetFiles>(disk), now_us, &spool);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return spool;
}

// As AuditLog does it: into the next segment where the present one has no room.
Status append(Spool& spool, const std::vector<std::string>& records, int64_t now_us = kNowUs) {
  const std::string payload = payload_of(records);
  if (!spool.fits(payload.size())) {
    if (Status status = spool.rotate(now_us); !status.ok()) return status;
  }
  Status status = spool.append(payload, static_cast<uint32_t>(records.size()), now_us);
  if (status.ok()) spool.tend(now_us);
  return status;
}

std::vector<std::string> some_records(size_t count, size_t bytes, char letter = 'r') {
  return std::vector<std::string>(count, std::string(bytes, letter));
}

// Fills until the first refusal. Returns how many blocks of `bytes` were taken.
size_t fill(Spool& spool, size_t bytes, size_t blocks_max, int64_t now_us = kNowUs) {
  for (size_t blocks = 0; blocks < blocks_max; ++blocks) {
    if (!append(spool, some_records(1, bytes), now_us).ok()) return blocks;
  }
  return blocks_max;
}

}  // namespace

// --- segments

TEST(a_block_is_read_back_and_the_chain_is_blake2bp_of_all_before) {
  SegmentHeader header;
  header.first_sequence = 7;
  header.made_us = kNowUs;
  header.chain.fill(9);
  std::string segment = encode_header(header), block;
  Digest32 chain = header.chain;
  encode_block(payload_of({"one", "", "three"}), 7, 3, kNowUs + 1, chain, block);
  segment += block + std::string(64, '\0');
  SegmentReader reader;
  CHECK(SegmentReader::open(segment, &reader) == Code::kOk);
  CHECK_EQ(reader.header().made_us, kNowUs);
  Block read;
  REQUIRE(reader.next(true, &read));
  CHECK_EQ(read.first_sequence, 7u);
  CHECK_EQ(read.written_us, kNowUs + 1);
  std::vector<std::string> records;
  for (std::string_view payload = read.payload, record; next_record(payload, &record);) records.emplace_back(record);
  CHECK(records == std::vector<std::string>({"one", "", "three"}));
  Blake2bp hash;
  hash.update(std::string(32, '\x09'));
  hash.update(block.substr(0, kBlockHeaderBytes + read.payload.size()));
  const Digest32 expected = hash.finish();
  CHECK(read.chain == expected && chain == expected);
  CHECK(!reader.next(true, &read) && reader.why() == Code::kOk && reader.next_sequence() == 10);
}

TEST(any_changed_byte_of_a_segment_is_noticed) {
  SegmentHeader header;
  header.first_sequence = 1;
  Digest32 chain{};
  std::string segment = encode_header(header), block;
  for (uint64_t i = 0; i < 3; ++i) {
    encode_block(payload_of({"record " + std::to_string(i)}), 1 + i, 1, kNowUs, chain, block);
    segment += block;
  }
  for (size_t i = 0; i < segment.size(); ++i) {
    std::string changed = segment;
    changed[i] = static_cast<char>(changed[i] ^ 0x10);
    SegmentReader reader;
    if (SegmentReader::open(changed, &reader) != Code::kOk) continue;
    Block read;
    size_t blocks = 0;
    while (reader.next(true, &read)) ++blocks;
    const bool is_padding = i >= kSegmentHeaderBytes && blocks == 3;  // zeros up to 8, which nothing reads
    CHECK(is_padding ? changed[i] == 0x10 : reader.why() != Code::kOk || blocks < 3);
  }
}

TEST(a_block_that_was_written_anew_with_its_checksum_breaks_the_chain) {
  SegmentHeader header;
  header.first_sequence = 1;
  Digest32 chain{}, other{};
  std::string first, forged, second;
  encode_block(payload_of({"approved"}), 1, 1, kNowUs, chain, first);
  encode_block(payload_of({"declined"}), 1, 1, kNowUs, other, forged);
  encode_block(payload_of({"next"}), 2, 1, kNowUs, chain, second);
  SegmentReader reader;
  const std::string segment = encode_header(header) + forged + second;
  REQUIRE(SegmentReader::open(segment, &reader) == Code::kOk);
  Block read;
  CHECK(reader.next(true, &read));
  CHECK(!reader.next(true, &read));
  CHECK(reader.why() == Code::kSegmentChain);
}

TEST(a_segment_of_any_bytes_is_read_to_an_end) {
  auto random = check::random_engine();
  SegmentHeader header;
  header.first_sequence = 1;
  for (int i = 0; i < check::scaled(2000); ++i) {
    Digest32 chain{};
    std::string segment = encode_header(header), block;
    encode_block(payload_of(some_records(random() % 4, random() % 300)), 1, static_cast<uint32_t>(random() % 4), kNowUs, chain,
                 block);
    segment += block;
    for (int changes = static_cast<int>(random() % 4); changes > 0; --changes)
      segment[random() % segment.size()] = static_cast<char>(random());
    segment.resize(random() % (segment.size() + 1));
    SegmentReader reader;
    if (SegmentReader::open(segment, &reader) != Code::kOk) continue;
    Block read;
    while (reader.next(random() % 2 == 0, &read)) {
      for (std::string_view payload = read.payload, record; next_record(payload, &record);)
        CHECK(record.size() <= segment.size());
    }
  }
}

TEST(a_block_is_found_behind_bytes_that_only_look_like_one) {
  Digest32 chain{};
  std::string block;
  encode_block(payload_of({"found"}), 7, 1, kNowUs, chain, block);
  std::string fake = block;
  fake[40] ^= 1;
  Block found;
  const std::string few = std::string(16, '\0') + fake + fake + block;
  REQUIRE(find_block(few, few.size(), 7, 8, &found));
  CHECK_EQ(found.offset, 16 + 2 * block.size());
  CHECK(found.first_sequence == 7 && found.record_count == 1);
  CHECK(!find_block(few, few.size(), 8, UINT64_MAX, &found) && !find_block(few, few.size(), 1, 7, &found));
  CHECK(!find_block(few, found.offset, 7, 8, &found));      // it would begin too late
  CHECK(!find_block(" " + few, few.size(), 7, 8, &found));  // not at a multiple of 8
  CHECK(!find_block(few.substr(0, few.size() - 4), few.size(), 7, 8, &found));
}

TEST(bytes_that_look_like_blocks_are_not_checked_for_ever) {
  Digest32 chain{};
  std::string block, fakes;
  encode_block(payload_of({"found"}), 7, 1, kNowUs, chain, block);
  std::string header = block.substr(0, kBlockHeaderBytes);
  const uint32_t payload_bytes = 200'000;
  std::memcpy(header.data() + 4, &payload_bytes, sizeof payload_bytes);
  for (const size_t count : {2u, 200u}) {
    fakes.clear();
    for (size_t i = 0; i < count; ++i) fakes += header;
    fakes += block + std::string(payload_bytes, '\0');
    Block found;
    CHECK_EQ(find_block(fakes, fakes.size(), 7, 8, &found), count == 2);
  }
}

// --- the spool

TEST(a_spool_goes_on_where_the_last_one_ended) {
  PuppetDisk disk;
  for (int life = 0; life < 3; ++life) {
    auto spool = open(disk, options_of());
    CHECK(spool->state() == SpoolState::kWriting);
    CHECK_EQ(spool->next_sequence(), static_cast<uint64_t>(1 + life * 3));
    CHECK(append(*spool, {"a", "b"}).ok());
    CHECK(append(*spool, {"c"}).ok());
    if (life == 1) spool->close();  // the others are killed
  }
  const WholeLog log = read_log(disk);
  CHECK(log.why == Code::kOk);
  REQUIRE(log.records.size() == 9);
  for (size_t i = 0; i < 9; ++i) CHECK_EQ(log.records[i].sequence, i + 1);
  CHECK_EQ(log.records[8].record, "c");
}

TEST(after_close_a_spool_takes_no_more_room_than_its_blocks) {
  PuppetDisk disk;
  auto spool = open(disk, options_of());
  CHECK(append(*spool, {"a"}).ok());
  spool->close();
  CHECK_EQ(disk.used(), kSegmentHeaderBytes + block_bytes(2));
  CHECK_EQ(disk.files.size(), 1u);
}

TEST(a_torn_block_is_not_read_and_the_log_goes_on_behind_it) {
  for (const bool is_cut : {false, true}) {
    PuppetDisk disk;
    {
      auto spool = open(disk, options_of());
      CHECK(append(*spool, {"kept"}).ok());
      CHECK(append(*spool, some_records(1, 5000)).ok());
    }
    std::string& bytes = disk.files.at(disk.segments()[0]).bytes;
    const size_t torn_at = kSegmentHeaderBytes + block_bytes(5) + 3000;
    is_cut ? bytes.resize(torn_at)
           : static_cast<void>(std::fill(bytes.begin() + static_cast<ptrdiff_t>(torn_at), bytes.end(), '\0'));
    auto spool = open(disk, options_of());
    CHECK_EQ(spool->next_sequence(), 2u);
    CHECK(spool->stats().torn_bytes > 2900 && spool->stats().torn_bytes <= 3000);
    CHECK(append(*spool, {"next"}).ok());
    const WholeLog log = read_log(disk);
    CHECK(log.why == Code::kOk);
    REQUIRE(log.records.size() == 2);
    CHECK_EQ(log.records[1].record, "next");
  }
}

TEST(a_segment_with_nothing_sound_in_it_is_put_aside) {
  PuppetDisk disk;
  {
    auto spool = open(disk, options_of());
    CHECK(append(*spool, {"lost"}).ok());
  }
  const std::string name = disk.segments()[0];
  disk.files.at(name).bytes[kSegmentHeaderBytes + 40] ^= 1;
  auto spool = open(disk, options_of());
  CHECK_EQ(spool->next_sequence(), 1u);
  CHECK(append(*spool, {"new"}).ok());
  CHECK(disk.files.count(name + ".torn") == 1);
  CHECK_EQ(read_log(disk).records[0].record, "new");
}

// What was acknowledged behind a damaged place stays on record, and the damage stays damage: nobody's sequence is given again.
TEST(behind_damage_the_log_goes_on_behind_the_last_sound_block) {
  for (const char* what : {"a bit", "a page of zeros", "a forged block", "the last block too"}) {
    PuppetDisk disk;
    {
      auto spool = open(disk, options_of());
      for (int i = 1; i <= 9; ++i) CHECK(append(*spool, some_records(1, 5000, static_cast<char>('0' + i))).ok());
    }
    std::string& bytes = disk.files.at(disk.segments()[0]).bytes;
    const size_t block = block_bytes(5000 + 2), third = kSegmentHeaderBytes + 2 * block;
    const bool is_torn = what == std::string("the last block too");
    if (what == std::string("a bit") || is_torn) bytes[third + 100] ^= 1;
    if (is_torn) bytes[kSegmentHeaderBytes + 8 * block + 100] ^= 1;
    if (what == std::string("a page of zeros")) std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(third), 4096, '\0');
    if (what == std::string("a forged block")) {
      Digest32 chain{};  // not that of the block before
      std::string forged;
      encode_block(payload_of(some_records(1, 5000, 'f')), 3, 1, kNowUs, chain, forged);
      bytes.replace(third, block, forged);
    }
    auto spool = open(disk, options_of());
    CHECK_EQ(spool->next_sequence(), is_torn ? 9u : 10u);
    CHECK_EQ(spool->stats().lost_records, what == std::string("a forged block") ? 0u : 1u);
    CHECK_EQ(spool->stats().torn_bytes > 0, is_torn);
    CHECK(append(*spool, {"next"}).ok());
    SegmentReader reader;  // the new segment continues the chain of the last sound block
    REQUIRE(SegmentReader::open(disk.files.at(disk.segments()[1]).bytes, &reader) == Code::kOk);
    Block last;
    const std::string_view old = disk.files.at(disk.segments()[0]).bytes;
    REQUIRE(find_block(old, old.size(), is_torn ? 8 : 9, UINT64_MAX, &last));
    CHECK(reader.header().chain == last.chain);
  }
}

TEST(newest_segments_without_a_beginning_are_put_aside) {
  for (const bool has_blocks : {false, true}) {
    PuppetDisk disk;
    {
      auto spool = open(disk, options_of(4));
      for (int i = 0; i < 45; ++i) CHECK(append(*spool, some_records(1, 60'000)).ok());
    }
    const std::vector<std::string> names = disk.segments();
    REQUIRE(names.size() == 3);
    uint64_t first = 0;
    CHECK(Spool::parse_segment_name(names[2], &first));
    for (const size_t i : {1u, 2u}) {
      std::string& bytes = disk.files.at(names[i]).bytes;
      if (has_blocks) {
        std::fill_n(bytes.begin(), kSegmentHeaderBytes, '\0');
      } else {
        bytes.clear();
      }
    }
    auto spool = open(disk, options_of(4));
    CHECK_EQ(spool->next_sequence(), has_blocks ? 46u : first);
    SegmentReader before, after;
    CHECK(SegmentReader::open(disk.files.at(names[0]).bytes, &before) == Code::kOk);
    for (Block block; before.next(true, &block);) {}
    CHECK_EQ(spool->stats().lost_records, spool->next_sequence() - before.next_sequence());
    CHECK(append(*spool, {"next"}).ok());
    REQUIRE(disk.segments().size() == 2);
    CHECK(SegmentReader::open(disk.files.at(disk.segments()[1]).bytes, &after) == Code::kOk);
    CHECK(after.header().log_id == before.header().log_id);
    CHECK_EQ(after.header().chain == before.chain(), !has_blocks);
    CHECK(disk.files.count(names[2] + ".torn") + disk.files.count(names[1] + ".torn") == 2);
  }
}

TEST(what_is_aside_makes_way_for_the_next) {
  PuppetDisk disk;
  disk.files["00000000000000000001.audit.torn"].bytes = "old";
  disk.files["00000000000000000007.audit"].bytes = std::string(kSegmentBytesMin, 'x');
  auto spool = open(disk, options_of());
  CHECK_EQ(spool->next_sequence(), 7u);
  CHECK(disk.files.count("00000000000000000001.audit.torn") == 0 && disk.files.count("00000000000000000007.audit.torn") == 1);
}

TEST(a_newest_segment_of_a_later_format_stops_the_start) {
  for (const bool is_header : {true, false}) {
    PuppetDisk disk;
    {
      auto spool = open(disk, options_of());
      CHECK(append(*spool, {"a"}).ok());
    }
    std::string& bytes = disk.files.at(disk.segments()[0]).bytes;
    const size_t at = is_header ? 0 : kSegmentHeaderBytes, length = is_header ? 124 : kBlockHeaderBytes + 2 + 32;
    bytes[at + (is_header ? 8 : 20)] ^= 2;
    const uint32_t checksum = crc32c(bytes.data() + at, length);
    std::memcpy(bytes.data() + at + length, &checksum, sizeof checksum);
    std::unique_ptr<Spool> spool;
    CHECK(Spool::open(options_of(), std::make_unique<PuppetFiles>(disk), kNowUs, &spool).code == Code::kSegmentVersion);
  }
}

TEST(what_was_appended_survives_a_power_cut_at_any_sync) {
  for (int cut_at = 1; cut_at < 60; ++cut_at) {
    PuppetDisk disk, saved;
    auto spool = open(disk, options_of(16));
    int syncs = 0;
    std::vector<std::string> acknowledged, expected;
    disk.on_sync = [&] {
      if (++syncs == cut_at) {
        saved = disk;  // before this sync has any effect
        expected = acknowledged;
      }
    };
    for (int i = 0; i < 70; ++i) {
      const std::string record = std::to_string(i) + std::string(60'000, 'x');
      if (append(*spool, {record}).ok()) acknowledged.push_back(record);
    }
    CHECK(syncs >= cut_at);
    saved.on_sync = [] {};
    saved.cut_power();
    auto after = open(saved, options_of(16));
    CHECK(append(*after, {"after"}).ok());
    const WholeLog log = read_log(saved);
    CHECK(log.why == Code::kOk);
    REQUIRE(log.records.size() > expected.size());
    for (size_t i = 0; i < expected.size(); ++i) CHECK(log.records[i].record == expected[i]);
    CHECK_EQ(log.records.back().record, "after");
  }
}

TEST(a_spool_that_does_not_sync_loses_acknowledged_records_in_that_test) {
  PuppetDisk disk;
  SpoolOptions options = options_of();
  options.is_durable = false;
  auto spool = open(disk, options);
  CHECK(append(*spool, {"acknowledged"}).ok());
  disk.cut_power();
  CHECK(read_log(disk).records.empty());
}

// --- room

TEST(without_a_sink_it_is_a_ring) {
  PuppetDisk disk;
  auto spool = open(disk, options_of(4));
  CHECK_EQ(fill(*spool, 60'000, 200), 200u);
  CHECK(spool->state() == SpoolState::kWriting);
  CHECK(disk.used() <= 4u << 20);
  CHECK(spool->stats().bytes == disk.used());
  const WholeLog log = read_log(disk);
  CHECK(log.why == Code::kOk);
  CHECK_EQ(log.records.size() + spool->stats().ring_dropped_records, 200u);
  CHECK_EQ(log.records.back().sequence, 200u);
}

TEST(with_a_sink_nothing_goes_before_it_was_shipped) {
  PuppetDisk disk;
  SpoolOptions options = options_of(4);
  options.has_sink = true;
  auto spool = open(disk, options);
  int64_t now_us = kNowUs;
  const size_t taken = fill(*spool, 60'000, 200);
  CHECK(taken > 40 && taken < 80);
  CHECK(spool->state() == SpoolState::kFull);
  CHECK(disk.used() <= 4u << 20);
  CHECK_EQ(spool->stats().ring_dropped_records, 0u);
  CHECK(spool->stats().oldest_unshipped_us != 0);
  CHECK_EQ(spool->stats().unshipped_bytes, spool->stats().bytes);
  spool->set_shipped(taken);
  spool->tend(now_us += kSecondUs);
  CHECK(spool->stats().oldest_unshipped_us == 0);
  CHECK_EQ(spool->stats().unshipped_bytes, 0u);
  CHECK(spool->stats().bytes > 0);
  CHECK(spool->state() == SpoolState::kWriting);
  CHECK(fill(*spool, 60'000, 200, now_us) > 10);
  CHECK(read_log(disk).why == Code::kOk);
  CHECK_EQ(spool->stats().ring_dropped_records, 0u);
}

TEST(a_full_disk_is_noticed_a_segment_early_and_recovered_from) {
  PuppetDisk disk;
  disk.bytes_max = 3 << 20;
  auto spool = open(disk, options_of(16));
  int64_t now_us = kNowUs;
  size_t taken = 0;
  for (; spool->state() == SpoolState::kWriting; ++taken) CHECK(append(*spool, some_records(1, 60'000)).ok());
  CHECK(spool->state() == SpoolState::kReserve);
  const size_t in_reserve = fill(*spool, 60'000, 100);
  CHECK(in_reserve >= 15);  // a whole segment
  CHECK(spool->state() == SpoolState::kFull);
  CHECK(spool->stats().allocation_failures > 0);
  spool->tend(now_us += kSecondUs);
  CHECK(spool->state() == SpoolState::kFull);
  disk.bytes_max = 6 << 20;
  spool->tend(now_us += kSecondUs);
  CHECK(append(*spool, {"again"}, now_us).ok());
  CHECK(spool->state() == SpoolState::kWriting);
  const WholeLog log = read_log(disk);
  CHECK(log.why == Code::kOk);
  CHECK_EQ(log.records.size(), taken + in_reserve + 1);
}

TEST(a_full_spool_does_not_ask_the_disk_at_each_append) {
  PuppetDisk disk;
  disk.bytes_max = 0;
  auto spool = open(disk, options_of(16));
  CHECK(spool->state() == SpoolState::kFull);
  for (int i = 0; i < 100; ++i) CHECK(!append(*spool, {"a"}).ok());
  CHECK_EQ(spool->stats().allocation_failures, 1u);
}

TEST(old_segments_go_when_they_may) {
  PuppetDisk disk;
  SpoolOptions options = options_of(16);
  options.age_us_max = 100 * kSecondUs;
  auto spool = open(disk, options);
  fill(*spool, 60'000, 40);
  const size_t before = disk.segments().size();
  CHECK(before >= 3);
  spool->tend(kNowUs + 99 * kSecondUs);
  CHECK_EQ(disk.segments().size(), before);
  spool->tend(kNowUs + 101 * kSecondUs);
  CHECK_EQ(disk.segments().size(), 1u);  // the one that is written to
  CHECK(append(*spool, {"a"}).ok());
}

// Blocks bear the time of day, whatever it is set to; ages count by the clock of tend().
TEST(a_wall_clock_that_is_set_makes_nothing_old) {
  PuppetDisk disk;
  SpoolOptions options = options_of(16);
  options.age_us_max = 100 * kSecondUs;
  auto spool = open(disk, options);
  spool->tend(kNowUs);
  const std::string payload(60'000, 'a');
  for (const int64_t wall_us : {int64_t{0}, kNowUs + 1'000'000 * kSecondUs}) {
    for (int i = 0; i < 40; ++i) {
      if (!spool->fits(payload.size())) CHECK(spool->rotate(wall_us).ok());
      CHECK(spool->append(payload, 1, wall_us).ok());
      spool->tend(kNowUs + kSecondUs);
    }
  }
  const size_t before = disk.segments().size();
  CHECK(before >= 4);
  spool->tend(kNowUs + 100 * kSecondUs);
  CHECK_EQ(disk.segments().size(), before);
  spool->tend(kNowUs + 102 * kSecondUs);
  CHECK_EQ(disk.segments().size(), 1u);
}

TEST(too_few_bytes_are_refused) {
  PuppetDisk disk;
  std::unique_ptr<Spool> spool;
  SpoolOptions options = options_of(4);
  CHECK(Spool::open(options, std::make_unique<PuppetFiles>(disk), kNowUs, &spool).ok());
  options.bytes_max -= 1;
  CHECK(Spool::open(options, std::make_unique<PuppetFiles>(disk), kNowUs, &spool).code == Code::kPlanInvalid);
}

// --- disks that fail

TEST(a_write_that_fails_leaves_nothing_of_its_block) {
  for (const bool is_truncated : {true, false}) {
    PuppetDisk disk;
    auto spool = open(disk, options_of());
    CHECK(append(*spool, {"one"}).ok());
    disk.write_error = EIO;
    disk.truncate_error = is_truncated ? 0 : EIO;
    CHECK(append(*spool, {"two"}).code == Code::kAuditUnavailable);
    CHECK(!spool->fits(1));
    CHECK(append(*spool, {"two"}).ok());
    CHECK_EQ(spool->stats().write_failures, 1u);
    const WholeLog log = read_log(disk);
    CHECK(log.why == Code::kOk);
    REQUIRE(log.records.size() == 2);
    CHECK_EQ(log.records[1].record, "two");
  }
}

// Nobody knows what of a file is on the disk after its sync failed: it is never synced again, its block is written anew elsewhere.
TEST(after_a_sync_that_fails_the_block_goes_to_another_file) {
  for (const bool is_truncated : {true, false}) {
    PuppetDisk disk;
    auto spool = open(disk, options_of());
    CHECK(append(*spool, {"one"}).ok());
    disk.sync_error = EIO;
    disk.truncate_error = is_truncated ? 0 : EIO;
    CHECK(append(*spool, {"two"}).code == Code::kAuditUnavailable);
    CHECK(append(*spool, {"two"}).ok());
    CHECK_EQ(spool->stats().sync_failures, 1u);
    CHECK_EQ(disk.segments().size(), 2u);
    const WholeLog log = read_log(disk);
    CHECK(log.why == Code::kOk);
    REQUIRE(log.records.size() == 2);
    CHECK_EQ(log.records[1].sequence, 2u);
  }
}

TEST(on_a_real_disk_too) {
  const Folder folder;
  std::vector<std::string> expected;
  for (int life = 0; life < 3; ++life) {
    std::unique_ptr<SpoolFiles> files;
    REQUIRE(open_disk_files(folder.path(), &files).ok());
    std::unique_ptr<Spool> spool;
    REQUIRE(Spool::open(options_of(16), std::move(files), kNowUs, &spool).ok());
    for (int i = 0; i < 40; ++i) {
      expected.push_back(std::to_string(life) + "." + std::to_string(i) + std::string(50'000, 'x'));
      CHECK(append(*spool, {expected.back()}).ok());
    }
    if (life == 2) spool->close();
  }
  std::map<std::string, std::string> segments;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    const auto permissions = entry.status().permissions();
    CHECK((permissions & std::filesystem::perms::all) ==
          (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
    std::unique_ptr<SpoolFiles> files;
    REQUIRE(open_disk_files(folder.path(), &files).ok());
    CHECK_EQ(files->read(entry.path().filename(), 1 << 30, segments[entry.path().filename()]), 0);
  }
  const WholeLog log = read_log(segments);
  CHECK(log.why == Code::kOk);
  REQUIRE(log.records.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) CHECK(log.records[i].record == expected[i]);
}

TEST(names_sort_as_their_sequences) {
  uint64_t sequence = 0;
  CHECK_EQ(Spool::segment_name(42), "00000000000000000042.audit");
  CHECK(Spool::parse_segment_name("18446744073709551615.audit", &sequence) && sequence == UINT64_MAX);
  for (const char* other : {"18446744073709551616.audit", "0000000000000000042.audit", "00000000000000000042.audi", "spare",
                            "0000000000000000004x.audit", "00000000000000000000.audit"})
    CHECK(!Spool::parse_segment_name(other, &sequence));
}

ASSAY_TEST_MAIN
