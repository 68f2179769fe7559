// What tests of the audit log share: a disk in memory that fails when told, and a folder of the real one.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/audit/segment_reader.h"
#include "core/audit/segment_writer.h"
#include "core/audit/spool.h"

namespace fixture {

using namespace assay;
using namespace assay::audit;

constexpr int64_t kNowUs = 1'700'000'000'000'000;
constexpr int64_t kSecondUs = 1'000'000;

// Files that survive their Spool, as a disk does; what was synced survives cut_power() too.
class PuppetDisk {
 public:
  struct File {
    std::string bytes, synced;
    bool is_name_synced = false;
  };

  std::map<std::string, File> files;
  uint64_t bytes_max = UINT64_MAX;                          // of all files: more is ENOSPC
  int write_error = 0, sync_error = 0, truncate_error = 0;  // of the next call, which takes it away
  int writes = 0, syncs = 0;
  std::function<void()> on_sync = [] {};

  uint64_t used() const {
    uint64_t sum = 0;
    for (const auto& [name, file] : files) sum += file.bytes.size();
    return sum;
  }
  // Every file is what was last synced; files whose name was not are gone.
  void cut_power() {
    for (auto at = files.begin(); at != files.end();) {
      if (!at->second.is_name_synced) {
        at = files.erase(at);
        continue;
      }
      at->second.bytes = at->second.synced;
      ++at;
    }
  }
  std::vector<std::string> segments() const {
    std::vector<std::string> names;
    uint64_t sequence = 0;
    for (const auto& [name, file] : files) {
      if (Spool::parse_segment_name(name, &sequence)) names.push_back(name);
    }
    return names;
  }
};

class PuppetFiles final : public SpoolFiles {
 public:
  explicit PuppetFiles(PuppetDisk& disk) : disk_(disk) {}

  int list(std::vector<FileEntry>& out) override {
    out.clear();
    for (const auto& [name, file] : disk_.files) out.push_back({name, file.bytes.size(), kNowUs});
    return 0;
  }
  int create(const std::string& name, uint64_t bytes, int* file) override {
    if (disk_.files.count(name) != 0) return EEXIST;
    if (disk_.used() + bytes > disk_.bytes_max) return ENOSPC;
    disk_.files[name].bytes.assign(bytes, '\0');
    open_.push_back(name);
    *file = static_cast<int>(open_.size() - 1);
    return 0;
  }
  int write(int file, uint64_t offset, std::string_view bytes) override {
    ++disk_.writes;
    if (const int error = std::exchange(disk_.write_error, 0); error != 0) {
      at(file).bytes.replace(offset, bytes.size() / 2, bytes.substr(0, bytes.size() / 2));  // half of it got there
      return error;
    }
    if (offset + bytes.size() > at(file).bytes.size()) std::abort();  // past what was allocated
    at(file).bytes.replace(offset, bytes.size(), bytes);
    return 0;
  }
  int sync(int file) override {
    ++disk_.syncs;
    disk_.on_sync();
    if (const int error = std::exchange(disk_.sync_error, 0); error != 0) return error;
    at(file).synced = at(file).bytes;
    return 0;
  }
  void close(int) override {}
  int sync_directory() override {
    for (auto& [name, file] : disk_.files) file.is_name_synced = true;
    return 0;
  }
  int rename(const std::string& from, const std::string& to) override {
    auto node = disk_.files.extract(from);
    if (node.empty()) return ENOENT;
    node.key() = to;
    node.mapped().is_name_synced = false;
    disk_.files.insert(std::move(node));
    for (std::string& name : open_) {
      if (name == from) name = to;
    }
    return 0;
  }
  int remove(const std::string& name) override { return disk_.files.erase(name) == 0 ? ENOENT : 0; }
  int truncate(const std::string& name, uint64_t bytes) override {
    if (const int error = std::exchange(disk_.truncate_error, 0); error != 0) return error;
    PuppetDisk::File& file = disk_.files.at(name);
    file.bytes.resize(bytes);
    file.synced = file.bytes;
    return 0;
  }
  int read(const std::string& name, uint64_t bytes_max, std::string& out) override {
    const auto found = disk_.files.find(name);
    if (found == disk_.files.end()) return ENOENT;
    if (found->second.bytes.size() > bytes_max) return EFBIG;
    out = found->second.bytes;
    return 0;
  }

 private:
  PuppetDisk::File& at(int file) { return disk_.files.at(open_[static_cast<size_t>(file)]); }

  PuppetDisk& disk_;
  std::vector<std::string> open_;  // by handle
};

// A record as read back.
struct Read {
  uint64_t sequence = 0;
  std::string record;
};

// What a whole log says: segment by segment, each up to where the next one begins. `why`: of the first segment that is not sound up
// to there; its name too.
struct WholeLog {
  std::vector<Read> records;
  Code why = Code::kOk;
  std::string where;
};

inline WholeLog read_log(const std::map<std::string, std::string>& segments) {
  WholeLog log;
  Digest32 chain{};
  LogId log_id{};
  for (auto at = segments.begin(); at != segments.end(); ++at) {
    SegmentReader reader;
    log.why = SegmentReader::open(at->second, &reader);
    log.where = at->first;
    if (log.why != Code::kOk) return log;
    if (at == segments.begin()) log_id = reader.header().log_id;
    if (at != segments.begin() && (reader.header().chain != chain || reader.header().log_id != log_id)) {
      log.why = Code::kSegmentChain;
      return log;
    }
    uint64_t end_sequence = UINT64_MAX;
    if (std::next(at) != segments.end()) Spool::parse_segment_name(std::next(at)->first, &end_sequence);
    Block block;
    while (reader.next_sequence() < end_sequence && reader.next(true, &block)) {
      uint64_t sequence = block.first_sequence;
      for (std::string_view payload = block.payload, record; next_record(payload, &record); ++sequence)
        log.records.push_back({sequence, std::string(record)});
    }
    log.why = reader.next_sequence() < end_sequence ? reader.why() : Code::kOk;
    if (end_sequence != UINT64_MAX && reader.next_sequence() != end_sequence && log.why == Code::kOk)
      log.why = Code::kSegmentSequence;
    if (log.why != Code::kOk && end_sequence != UINT64_MAX) return log;
    chain = reader.chain();
  }
  return log;
}

inline WholeLog read_log(const PuppetDisk& disk) {
  std::map<std::string, std::string> segments;
  for (const std::string& name : disk.segments()) segments[name] = disk.files.at(name).bytes;
  return read_log(segments);
}

inline std::string payload_of(const std::vector<std::string>& records) {
  std::string payload;
  for (const std::string& record : records) append_record(record, payload);
  return payload;
}

// A folder of the real disk, gone in the end.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/assay-audit-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace fixture
