// The near-cache: what is kept is found, within a strict limit of bytes; S3-FIFO against a model; leases; threads.
#include <array>
#include <atomic>
#include <list>
#include <map>
#include <thread>

#include "check.h"
#include "core/features/near_cache.h"
#include "core/features/s3_fifo.h"
#include "record_fixture.h"

using namespace assay;

namespace {

NearRecord record_of(const std::string& bytes, int64_t fetched_ns = 0) {
  return {std::make_shared<const std::string>(bytes), fetched_ns};
}

bool has(S3Fifo& fifo, const std::string& key) {
  NearRecord found;
  return fifo.find(key, 0, &found);
}

// S3-FIFO written for reading: lists, searched from one end to the other.
class Model {
 public:
  Model(uint64_t bytes_max, size_t ghost_count) : bytes_max_(bytes_max), ghost_count_(ghost_count) {}

  const std::string* find(const std::string& key) {
    for (std::list<Entry>* queue : {&small_, &main_}) {
      for (Entry& entry : *queue) {
        if (entry.key != key) continue;
        entry.found_count = std::min(entry.found_count + 1, 3);
        return &entry.bytes;
      }
    }
    return nullptr;
  }

  bool put(const std::string& key, const std::string& bytes) {
    Entry added{key, bytes, 0};
    bool is_main = false, is_known = false;
    for (std::list<Entry>* queue : {&small_, &main_}) {
      for (auto at = queue->begin(); at != queue->end(); ++at) {
        if (at->key != key) continue;
        added.found_count = at->found_count;
        is_main = queue == &main_;
        is_known = true;
        queue->erase(at);
        break;
      }
    }
    if (!is_known) is_main = take_ghost(key);
    if (size(added) > bytes_max_) return false;
    while (this->bytes() + size(added) > bytes_max_) evict();
    (is_main ? main_ : small_).push_back(added);
    return true;
  }

  bool erase(const std::string& key) {
    const size_t before = count();
    const auto is_it = [&](const Entry& entry) { return entry.key == key; };
    small_.remove_if(is_it);
    main_.remove_if(is_it);
    return count() < before;
  }

  uint64_t bytes() const { return sum(small_) + sum(main_); }
  size_t count() const { return small_.size() + main_.size(); }
  uint64_t evicted_count = 0;

 private:
  struct Entry {
    std::string key, bytes;
    int found_count = 0;
  };
  static uint64_t size(const Entry& entry) { return S3Fifo::kEntryBytes + entry.key.size() + entry.bytes.size(); }
  static uint64_t sum(const std::list<Entry>& queue) {
    uint64_t bytes = 0;
    for (const Entry& entry : queue) bytes += size(entry);
    return bytes;
  }

  void evict() {
    if (main_.empty() || (!small_.empty() && sum(small_) >= bytes_max_ / 10)) {
      Entry oldest = small_.front();
      small_.pop_front();
      if (oldest.found_count >= 2) {
        oldest.found_count = 0;
        main_.push_back(oldest);
        return;
      }
      ghosts_[xxh64(oldest.key) % ghost_count_] = {xxh64(oldest.key) >> 32, ++ghost_number_};
      ++evicted_count;
      return;
    }
    Entry oldest = main_.front();
    main_.pop_front();
    if (oldest.found_count == 0) {
      ++evicted_count;
    } else {
      --oldest.found_count;
      main_.push_back(oldest);
    }
  }

  bool take_ghost(const std::string& key) {
    const auto at = ghosts_.find(xxh64(key) % ghost_count_);
    if (at == ghosts_.end() || at->second.first != xxh64(key) >> 32) return false;
    if (ghost_number_ - at->second.second >= std::max<size_t>(count(), 1)) return false;
    ghosts_.erase(at);
    return true;
  }

  const uint64_t bytes_max_;
  const size_t ghost_count_;
  std::list<Entry> small_, main_;  // oldest first
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> ghosts_;
  uint64_t ghost_number_ = 0;
};

constexpr uint64_t kGhostBytes = 64 * 8;  // of the smallest tables

}  // namespace

TEST(what_is_put_is_found_until_it_is_erased) {
  S3Fifo fifo(1 << 16);
  CHECK(fifo.put("a", record_of("one", 7)));
  CHECK(fifo.put("b", {nullptr, 8}));  // the store has none
  NearRecord found;
  REQUIRE(fifo.find("a", 0, &found));
  CHECK_EQ(*found.bytes, "one");
  CHECK_EQ(found.fetched_ns, 7);
  REQUIRE(fifo.find("b", 0, &found));
  CHECK(found.bytes == nullptr);
  CHECK(fifo.put("a", record_of("two", 9)));
  REQUIRE(fifo.find("a", 0, &found));
  CHECK_EQ(*found.bytes, "two");
  CHECK_EQ(fifo.entry_count(), 2u);
  CHECK(fifo.erase("a"));
  CHECK(!fifo.erase("a"));
  CHECK(!has(fifo, "a"));
  CHECK_EQ(*found.bytes, "two");  // who has it may go on reading
  CHECK_EQ(fifo.bytes(), kGhostBytes + S3Fifo::kEntryBytes + 1);
}

TEST(the_limit_holds_to_the_byte) {
  const uint64_t room = 2 * (S3Fifo::kEntryBytes + 1 + 100);
  S3Fifo fifo(kGhostBytes + room);
  CHECK(fifo.put("a", record_of(std::string(100, 'x'))));
  CHECK(fifo.put("b", record_of(std::string(100, 'x'))));
  CHECK_EQ(fifo.bytes(), kGhostBytes + room);  // full, and both are there
  CHECK(has(fifo, "a") && has(fifo, "b"));
  CHECK(fifo.put("b", record_of(std::string(101, 'x'))));  // one byte more
  CHECK(!has(fifo, "a"));
  CHECK(has(fifo, "b"));
  CHECK_EQ(fifo.evicted_count(), 1u);
  const std::string largest(room - S3Fifo::kEntryBytes - 1, 'x');
  CHECK(fifo.put("c", record_of(largest)));
  CHECK_EQ(fifo.bytes(), kGhostBytes + room);
  CHECK_EQ(fifo.entry_count(), 1u);
  CHECK(!fifo.put("c", record_of(largest + 'x')));  // and what was there is gone: it is older
  CHECK_EQ(fifo.entry_count(), 0u);
  CHECK_EQ(fifo.bytes(), kGhostBytes);
}

TEST(a_scan_pushes_nothing_popular_out) {
  S3Fifo fifo(1 << 16);  // 170 entries of 380 bytes
  const auto put = [&](const std::string& key) { fifo.put(key, record_of(std::string(90, 'x'))); };
  for (int i = 0; i < 100; ++i) {
    put("popular-" + std::to_string(i));
    for (int found = 0; found < 2; ++found) CHECK(has(fifo, "popular-" + std::to_string(i)));
  }
  for (int i = 0; i < 20'000; ++i) put("once-" + std::to_string(i));
  for (int i = 0; i < 100; ++i) CHECK(has(fifo, "popular-" + std::to_string(i)));
}

TEST(what_is_too_old_is_not_found) {
  S3Fifo fifo(1 << 16);
  NearRecord found;
  const auto put_and_find = [&](const std::string& key, int64_t since_ns, bool is_found) {
    fifo.put(key, record_of(std::string(90, 'x'), 5));
    for (int times = 0; times < 3; ++times) CHECK_EQ(fifo.find(key, since_ns, &found), is_found);
  };
  put_and_find("young", 5, true);
  put_and_find("old", 6, false);
  for (int i = 0; i < 20'000; ++i) fifo.put("once-" + std::to_string(i), record_of(std::string(90, 'x')));
  CHECK(has(fifo, "young"));
  CHECK(!has(fifo, "old"));
}

TEST(a_key_that_comes_back_soon_stays) {
  S3Fifo fifo(1 << 20);
  const auto put = [&](const std::string& key) { fifo.put(key, record_of(std::string(90, 'x'))); };
  put("back");
  for (int i = 0; fifo.evicted_count() == 0; ++i) put("filler-" + std::to_string(i));  // the first to leave is "back"
  put("back");
  put("new");
  for (int i = 0; i < 20'000; ++i) put("once-" + std::to_string(i));
  CHECK(has(fifo, "back"));
  CHECK(!has(fifo, "new"));
}

TEST(it_does_what_the_model_does) {
  auto random = check::random_engine();
  const uint64_t room = 12'000;
  S3Fifo fifo(kGhostBytes + room);
  Model model(room, 64);
  for (int step = 0; step < check::scaled(20'000); ++step) {
    const std::string key = "k" + std::to_string(random() % 3 == 0 ? random() % 400 : random() % 20);
    const uint64_t mood = random() % 20;
    if (mood == 0) {
      CHECK_EQ(fifo.erase(key), model.erase(key));
    } else if (mood < 8) {
      const std::string bytes(random() % 50 == 0 ? 11'000 + random() % 1'500 : random() % 300,
                              static_cast<char>('a' + random() % 26));
      CHECK_EQ(fifo.put(key, record_of(bytes)), model.put(key, bytes));
    } else {
      NearRecord found;
      const std::string* const expected = model.find(key);
      CHECK_EQ(fifo.find(key, 0, &found), expected != nullptr);
      if (expected != nullptr && found.bytes != nullptr) CHECK_EQ(*found.bytes, *expected);
    }
    CHECK_EQ(fifo.bytes(), kGhostBytes + model.bytes());
    CHECK_EQ(fifo.entry_count(), model.count());
    CHECK_EQ(fifo.evicted_count(), model.evicted_count);
    if (check::failures() > 0) return;
  }
}

TEST(a_cache_of_no_bytes_is_off) {
  NearCache cache(0);
  CHECK(!cache.is_on());
  cache.forget("k");
  CHECK_EQ(cache.stats().bytes, 0u);
}

TEST(what_was_read_before_a_write_is_not_kept_after_it) {
  NearCache cache(NearCache::kBytesMin);
  NearRecord found;
  const uint64_t before = cache.lease("k");
  cache.keep("k", before, "old", 1);
  REQUIRE(cache.find("k", 0, &found));
  CHECK_EQ(*found.bytes, "old");
  cache.forget("k");
  CHECK(!cache.find("k", 0, &found));
  cache.keep("k", before, "old", 1);  // a fetch that was on its way
  CHECK(!cache.find("k", 0, &found));
  cache.keep("k", cache.lease("k"), "new", 2);
  REQUIRE(cache.find("k", 0, &found));
  CHECK_EQ(*found.bytes, "new");
  cache.keep("none", cache.lease("none"), {}, 3);
  REQUIRE(cache.find("none", 0, &found));
  CHECK(found.bytes == nullptr);
}

TEST(a_full_cache_stays_within_its_bytes) {
  auto random = check::random_engine();
  NearCache cache(NearCache::kBytesMin);
  for (int i = 0; i < check::scaled(5'000); ++i) {
    const std::string key = "k" + std::to_string(i);
    cache.keep(key, cache.lease(key), std::string(random() % 3'000, 'x'), i);
    CHECK(cache.stats().bytes <= NearCache::kBytesMin);
  }
  const NearCacheStats stats = cache.stats();
  CHECK(stats.evicted_count > 0);
  CHECK(stats.bytes > NearCache::kBytesMin / 2);
  CHECK_EQ(stats.bytes_max, NearCache::kBytesMin);
  cache.keep("large", cache.lease("large"), std::string(NearCache::kBytesMin / 16, 'x'), 0);  // more than a shard has
  NearRecord found;
  CHECK(!cache.find("large", 0, &found));
}

TEST(one_hash_is_one_kind_of_bytes) {
  NearCache cache(NearCache::kBytesMin);
  ViewSpec spec = fixture::customer_spec();
  CHECK(cache.add_view(fixture::compiled(spec)).ok());
  CHECK(cache.add_view(fixture::compiled(spec)).ok());
  spec.exact_events_max *= 2;
  const Status other = cache.add_view(fixture::compiled(spec));
  CHECK(other.code == Code::kPlanInvalid);
  CHECK(other.detail.find("view \"customer\"") != std::string::npos);
  for (size_t i = 1; i < limits::kViewsMax * limits::kLanesMax; ++i) {
    CHECK(cache.add_view(fixture::compiled(fixture::customer_spec("view_" + std::to_string(i)))).ok());
  }
  CHECK(cache.add_view(fixture::compiled(fixture::customer_spec("one_too_many"))).code == Code::kPlanInvalid);
}

// Writers of the store, those who fetch and those who look, side by side. Each record says whose it is and how often it was
// written; who looks after a write never finds what was there before it.
TEST(threads_side_by_side) {
  NearCache cache(NearCache::kBytesMin);
  constexpr size_t kKeys = 64;
  std::array<std::atomic<uint64_t>, kKeys> store{}, told{};  // what is there; what its writer was told of
  std::atomic<bool> is_over{false};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(check::seed() + t);
      while (!is_over.load()) {
        const size_t k = random() % kKeys;
        const std::string key = "key-" + std::to_string(k);
        const uint64_t written = told[k].load();
        NearRecord found;
        if (cache.find(key, 0, &found)) {
          const size_t comma = found.bytes->find(',');
          CHECK_EQ(found.bytes->substr(0, comma), key);
          CHECK(std::stoull(found.bytes->substr(comma + 1)) >= written);
        } else {
          const uint64_t lease = cache.lease(key);
          cache.keep(key, lease, key + "," + std::to_string(store[k].load()), 0);
        }
      }
    });
  }
  std::mt19937_64 random(check::seed() + 100);
  for (int i = 0; i < check::scaled(20'000); ++i) {
    const size_t k = random() % kKeys;
    const std::string key = "key-" + std::to_string(k);
    const uint64_t next = store[k].load() + 1;
    store[k].store(next);
    cache.forget(key);
    told[k].store(next);
    if (i % 64 == 0) CHECK(cache.stats().bytes <= NearCache::kBytesMin);
  }
  is_over.store(true);
  for (std::thread& thread : threads) thread.join();
}

ASSAY_TEST_MAIN
