// Snapshots: whole or refused, written atomically, and nothing is believed before it is checked.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "core/features/snapshot.h"
#include "record_fixture.h"

using namespace assay;
using namespace assay::fixture;

namespace {

constexpr uint64_t kRoom = 64 << 20;

// A directory that goes away with its files.
class Scratch {
 public:
  Scratch() {
    char name[] = "/tmp/assay_snapshot_test.XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  ~Scratch() {
    for (const std::string& name : files()) ::unlink((directory_ + "/" + name).c_str());
    ::rmdir(directory_.c_str());
  }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    DIR* stream = ::opendir(directory_.c_str());
    while (dirent* found = ::readdir(stream)) {
      if (found->d_name[0] != '.') names.push_back(found->d_name);
    }
    ::closedir(stream);
    return names;
  }

 private:
  std::string directory_;
};

std::vector<uint8_t> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_bytes(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

Status load_bytes(const std::string& path, const std::vector<uint8_t>& bytes, EmbeddedStore& store) {
  write_bytes(path, bytes);
  return store.load(path, {});
}

struct Stores {
  ViewSchema customer = compiled(customer_spec()), profile = compiled(attribute_spec());
  uint32_t by_customer = 0, of_profile = 0;

  void add_views(EmbeddedStore& store) {
    CHECK(store.add_view(customer, "customer_id", &by_customer).ok());
    CHECK(store.add_view(profile, "customer_id", &of_profile).ok());
  }

  // Every entity has an event; whose the others are is random.
  void fill(EmbeddedStore& store, int entities, int events, std::mt19937_64& random) const {
    for (int i = 0; i < events; ++i) {
      const EventEntry event = random_event(customer, static_cast<int64_t>(i) * kMinute, random);
      const uint64_t whose = i < entities ? static_cast<uint64_t>(i) : random() % static_cast<uint64_t>(entities);
      CHECK(store.apply(by_customer, "c" + std::to_string(whose), event) == Code::kOk);
    }
    for (int i = 0; i < entities; ++i) {
      const Value values[5] = {Value::of(i + 0.5), Value::of(int64_t{i}), Value(), Value::of(std::string_view("gold")), Value()};
      CHECK(store.put_attributes(of_profile, "c" + std::to_string(i), i, values) == Code::kOk);
    }
  }

  // Everything that the store says of these entities, as text.
  std::string content(const EmbeddedStore& store, int entities, int64_t t_us) const {
    std::string text;
    std::vector<char> arena(limits::kAttributesMax * limits::kStringValueBytesMax);
    for (int i = 0; i < entities; ++i) {
      for (uint32_t view : {by_customer, of_profile}) {
        std::vector<Value> values((view == by_customer ? customer : profile).output_count());
        FoldResult result;
        FoldRequest request;
        request.event_time_us = t_us;
        store.fold(view, "c" + std::to_string(i), request, values.data(), &result, arena.data());
        for (const Value& value : values)
          text += (value.dtype == Dtype::kString ? std::string(value.string()) : text_of(value)) + " ";
        text += std::to_string(result.is_found) + std::to_string(result.age_us) + "\n";
      }
    }
    return text;
  }
};

}  // namespace

TEST(what_was_saved_is_loaded) {
  std::mt19937_64 random = check::random_engine();
  const Scratch scratch;
  Stores stores;
  EmbeddedStore store(kRoom);
  stores.add_views(store);
  stores.fill(store, 20, 12000, random);  // some in tiles
  CHECK(store.stats().tiled_event_count > 0);
  uint64_t reported = 0, total = 0;
  CHECK(store
            .save(scratch.path("a"),
                  [&](uint64_t done, uint64_t all) {
                    reported = done;
                    total = all;
                  })
            .ok());
  CHECK_EQ(reported, 40u);
  CHECK_EQ(total, 40u);
  const std::string expected = stores.content(store, 21, 12010 * kMinute);
  for (bool views_first : {true, false}) {
    EmbeddedStore loaded(kRoom);
    if (views_first) stores.add_views(loaded);
    const Status status = loaded.load(scratch.path("a"), [&](uint64_t done, uint64_t all) {
      reported = done;
      total = all;
    });
    CHECK_EQ(status.detail, std::string());
    CHECK(reported == total && total == bytes_of(scratch.path("a")).size());
    if (!views_first) stores.add_views(loaded);
    CHECK(stores.content(loaded, 21, 12010 * kMinute) == expected);
    CHECK_EQ(loaded.stats().record_count, 40u);
    // It goes on as the first would.
    const EventEntry event = random_event(stores.customer, 30000 * kMinute, random);
    CHECK(loaded.apply(stores.by_customer, "c1", event) == Code::kOk);
    CHECK(loaded.apply(stores.by_customer, "c1", event) == Code::kEventDuplicate);
    CHECK(loaded.load(scratch.path("a"), {}).code == Code::kInvalidRequest);  // only into an empty store
    CHECK(loaded.apply(stores.by_customer, "c2", event) == Code::kOk);        // and it still takes events
  }
  struct stat facts{};
  CHECK(::stat(scratch.path("a").c_str(), &facts) == 0 && (facts.st_mode & 077) == 0);  // entity ids are nobody else's business
  CHECK_EQ(scratch.files().size(), 1u);
}

TEST(an_empty_store_is_a_snapshot_too) {
  const Scratch scratch;
  EmbeddedStore store(kRoom), loaded(kRoom);
  CHECK(store.save(scratch.path("a"), {}).ok());
  CHECK(loaded.load(scratch.path("a"), {}).ok());
  CHECK_EQ(loaded.stats().record_count, 0u);
  CHECK_EQ(loaded.stats().bytes, 0u);
}

TEST(records_of_views_that_nobody_added_are_kept) {
  std::mt19937_64 random = check::random_engine();
  const Scratch scratch;
  Stores stores;
  EmbeddedStore first(kRoom);
  stores.add_views(first);
  stores.fill(first, 10, 500, random);
  const std::string expected = stores.content(first, 10, 510 * kMinute);
  CHECK(first.save(scratch.path("a"), {}).ok());
  EmbeddedStore second(kRoom);  // knows another view only
  uint32_t other = 0;
  CHECK(second.add_view(compiled(amount_spec()), "card", &other).ok());
  CHECK(second.load(scratch.path("a"), {}).ok());
  CHECK(second.apply(other, "1", event_at(0, 1)) == Code::kOk);
  CHECK(second.save(scratch.path("b"), {}).ok());
  EmbeddedStore third(kRoom);
  CHECK(third.load(scratch.path("b"), {}).ok());
  stores.add_views(third);
  CHECK(stores.content(third, 10, 510 * kMinute) == expected);
  CHECK_EQ(third.stats().record_count, 21u);
}

TEST(a_file_cut_anywhere_is_refused) {
  std::mt19937_64 random = check::random_engine();
  const Scratch scratch;
  Stores stores;
  EmbeddedStore store(kRoom);
  stores.add_views(store);
  stores.fill(store, 3, 8, random);
  CHECK(store.save(scratch.path("a"), {}).ok());
  const std::vector<uint8_t> good = bytes_of(scratch.path("a"));
  EmbeddedStore loaded(kRoom);
  for (size_t size = 0; size < good.size(); ++size) {
    const Status status = load_bytes(scratch.path("b"), {good.begin(), good.begin() + static_cast<ptrdiff_t>(size)}, loaded);
    CHECK_EQ(reason_of(status.code), std::string("SNAPSHOT_TRUNCATED"));
    CHECK(status.detail.find("byte ") != std::string::npos);
  }
  CHECK_EQ(loaded.stats().record_count, 0u);  // nothing of it stayed
  CHECK_EQ(loaded.stats().bytes, 0u);
  std::vector<uint8_t> longer = good;
  longer.push_back(0);
  CHECK(load_bytes(scratch.path("b"), longer, loaded).code == Code::kSnapshotChecksum);
  CHECK(load_bytes(scratch.path("b"), good, loaded).ok());
}

TEST(every_flipped_bit_is_refused_with_the_right_code) {
  std::mt19937_64 random = check::random_engine();
  const Scratch scratch;
  Stores stores;
  EmbeddedStore store(kRoom);
  stores.add_views(store);
  stores.fill(store, 2, 6, random);
  CHECK(store.save(scratch.path("a"), {}).ok());
  const std::vector<uint8_t> good = bytes_of(scratch.path("a"));
  EmbeddedStore loaded(kRoom);
  for (size_t i = 0; i < good.size(); ++i) {
    std::vector<uint8_t> bad = good;
    bad[i] = static_cast<uint8_t>(bad[i] ^ (1u << (random() % 8)));
    const std::string expected = i < 8 ? "SNAPSHOT_MAGIC" : i < 12 ? "SNAPSHOT_VERSION" : "SNAPSHOT_CHECKSUM";
    CHECK_EQ(reason_of(load_bytes(scratch.path("b"), bad, loaded).code), expected);
  }
  CHECK_EQ(loaded.stats().bytes, 0u);
}

TEST(a_missing_or_extra_frame_is_noticed) {
  std::mt19937_64 random = check::random_engine();
  const Scratch scratch;
  Stores stores;
  EmbeddedStore store(kRoom);
  stores.add_views(store);
  stores.fill(store, 4, 20, random);
  CHECK(store.save(scratch.path("a"), {}).ok());
  const std::vector<uint8_t> good = bytes_of(scratch.path("a"));
  std::vector<std::pair<size_t, size_t>> frames;  // offset, bytes
  for (size_t at = 16; at < good.size();) {
    const size_t bytes = 16 + load_le<uint32_t>(good.data() + at + 4);
    frames.push_back({at, bytes});
    at += bytes;
  }
  CHECK_EQ(frames.size(), 2 + 8 + 1u);
  EmbeddedStore loaded(kRoom);
  for (const auto& [at, bytes] : frames) {
    const auto from = good.begin() + static_cast<ptrdiff_t>(at), to = from + static_cast<ptrdiff_t>(bytes);
    std::vector<uint8_t> without(good.begin(), from), twice(good.begin(), to);
    without.insert(without.end(), to, good.end());
    twice.insert(twice.end(), from, good.end());
    CHECK(!load_bytes(scratch.path("b"), without, loaded).ok());
    CHECK(!load_bytes(scratch.path("b"), twice, loaded).ok());
  }
  CHECK_EQ(loaded.stats().bytes, 0u);
}

TEST(a_record_behind_good_checksums_is_still_checked) {
  // What a buggy or hostile writer could make: every checksum right, the content wrong.
  const Scratch scratch;
  Stores stores;
  const Record record = [&] {
    Record made;
    made.apply(stores.customer, event_at(5, 1), entity_digest("customer_id", "c1"));
    made.apply(stores.customer, event_at(6, 2), entity_digest("customer_id", "c1"));
    return made;
  }();
  const auto load_changed = [&](const std::string& id, uint32_t offset, uint8_t by, bool views_first) {
    std::vector<uint8_t> bytes = record.bytes;
    bytes[offset] ^= by;
    seal_record(bytes.data());
    SnapshotWriter writer;
    CHECK(writer.open(scratch.path("c")).ok());
    CHECK(writer.add_view(stores.customer.spec().view_hash, "customer_id").ok());
    CHECK(writer.add_record(0, id, bytes.data(), static_cast<uint32_t>(bytes.size())).ok());
    CHECK(writer.finish().ok());
    EmbeddedStore loaded(kRoom);
    uint32_t view = 0;
    if (views_first) CHECK(loaded.add_view(stores.customer, "customer_id", &view).ok());
    Status status = loaded.load(scratch.path("c"), {});
    if (status.ok() && !views_first) {
      status = loaded.add_view(stores.customer, "customer_id", &view);
      if (!status.ok()) {  // and the store is still of use for others
        CHECK(loaded.add_view(compiled(amount_spec()), "k", &view).ok());
      }
    }
    return status.code;
  };
  for (bool views_first : {true, false}) {
    CHECK(load_changed("c1", 0, 0, views_first) == Code::kOk);
    CHECK(load_changed("c2", 0, 0, views_first) == Code::kRecordEntity);
    CHECK(load_changed("c1", header::kFormat, 2, views_first) == Code::kRecordVersion);
    CHECK(load_changed("c1", header::kViewHash, 1, views_first) == Code::kRecordView);
    CHECK(load_changed("c1", kRecordHeaderBytes + entry::kTime, 7, views_first) == Code::kRecordLayout ||
          load_changed("c1", kRecordHeaderBytes + entry::kLabel, 1, views_first) == Code::kRecordLayout);
    CHECK(load_changed("c1", kRecordHeaderBytes + entry::kReserved, 1, views_first) == Code::kRecordLayout);
  }
}

TEST(a_snapshot_that_does_not_fit_is_refused_whole) {
  std::mt19937_64 random = check::random_engine();
  const Scratch scratch;
  Stores stores;
  EmbeddedStore store(kRoom);
  stores.add_views(store);
  stores.fill(store, 20, 500, random);
  CHECK(store.save(scratch.path("a"), {}).ok());
  EmbeddedStore small(20000);
  CHECK(small.load(scratch.path("a"), {}).code == Code::kStoreFull);
  CHECK_EQ(small.stats().record_count, 0u);
  CHECK_EQ(small.stats().bytes, 0u);
  uint32_t view = 0;
  CHECK(small.add_view(stores.customer, "customer_id", &view).ok());
  CHECK(small.apply(view, "c1", event_at(0, 1)) == Code::kOk);
}

TEST(what_is_no_regular_file_is_neither_replaced_nor_waited_for) {
  Scratch scratch;
  const std::string pipe = scratch.path("pipe");
  CHECK_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EmbeddedStore store(kRoom);
  CHECK_EQ(store.load(pipe, {}).code, Code::kIo);  // and does not wait for a writer
  CHECK_EQ(store.save(pipe, {}).code, Code::kIo);
  struct stat facts{};
  CHECK_EQ(::lstat(pipe.c_str(), &facts), 0);
  CHECK(S_ISFIFO(facts.st_mode));
  for (const std::string& path : {std::string(), scratch.path(std::string("a\0b", 3))}) {
    CHECK_EQ(store.save(path, {}).code, Code::kIo);
    CHECK_EQ(store.load(path, {}).code, Code::kIo);
  }
  CHECK_EQ(scratch.files().size(), 1u);
}

TEST(a_failed_save_leaves_the_old_snapshot_and_no_other_file) {
  std::mt19937_64 random = check::random_engine();
  const Scratch scratch;
  Stores stores;
  EmbeddedStore store(kRoom);
  stores.add_views(store);
  stores.fill(store, 20, 400, random);
  CHECK(store.save(scratch.path("a"), {}).ok());
  const std::vector<uint8_t> before = bytes_of(scratch.path("a"));
  CHECK(store.apply(stores.by_customer, "c1", random_event(stores.customer, 500 * kMinute, random)) == Code::kOk);

  const auto old_action = ::signal(SIGXFSZ, SIG_IGN);  // a full disk, as far as write() can tell
  rlimit limit{};
  CHECK(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlimit tight{1000, limit.rlim_max};
  CHECK(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
  const Status full = store.save(scratch.path("a"), {});
  CHECK(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  ::signal(SIGXFSZ, old_action);
  CHECK(full.code == Code::kIo && full.detail.find("cannot write") != std::string::npos);
  CHECK(bytes_of(scratch.path("a")) == before);
  CHECK_EQ(scratch.files().size(), 1u);

  CHECK(store.save(scratch.path("no such directory/a"), {}).code == Code::kIo);
  CHECK(::mkdir(scratch.path("d").c_str(), 0700) == 0);
  CHECK(store.save(scratch.path("d"), {}).code == Code::kIo);  // a directory is in the way
  CHECK(::rmdir(scratch.path("d").c_str()) == 0);
  CHECK_EQ(scratch.files().size(), 1u);
  CHECK(store.save(scratch.path("a"), {}).ok());
  CHECK(bytes_of(scratch.path("a")) != before);

  EmbeddedStore loaded(kRoom);
  CHECK(loaded.load(scratch.path("missing"), {}).code == Code::kIo);
  CHECK(loaded.load("/dev/null", {}).code == Code::kIo);
  CHECK(loaded.load(scratch.path("a"), {}).ok());
}

ASSAY_TEST_MAIN
