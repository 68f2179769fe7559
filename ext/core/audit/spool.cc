#include "core/audit/spool.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "core/audit/segment_reader.h"
#include "core/audit/segment_writer.h"

namespace assay::audit {
namespace {

constexpr char kSpareName[] = "spare";
constexpr std::string_view kSuffix = ".audit";
constexpr char kAsideSuffix[] = ".torn";
constexpr size_t kDigits = 20;              // of a sequence, so that names sort as numbers do
constexpr uint64_t kSegmentsPerSpool = 16;  // at least, so that little goes at once
constexpr uint64_t kSegmentBytesUsual = 16 << 20;
constexpr int64_t kSpareRetryUs = 500'000;

Status refused(const char* what, int error) {
  return Status(Code::kAuditUnavailable, std::string(what) + ": " + std::strerror(error));
}

bool is_aside(std::string_view name) noexcept {
  const size_t at = name.rfind(kAsideSuffix);
  uint64_t sequence = 0;
  return at != std::string_view::npos && Spool::parse_segment_name(name.substr(0, at), &sequence);
}

// Reads on to the last sound block, over what is damaged. Returns how many records that was.
uint64_t read_to_end(std::string_view bytes, SegmentReader* reader) noexcept {
  uint64_t lost_records = 0;
  for (Block block;;) {
    while (reader->next(true, &block)) {}
    const size_t from = reader->offset();
    const uint64_t expected = reader->next_sequence();
    if (reader->why() == Code::kSegmentVersion) return lost_records;
    if (!find_block(bytes.substr(from), bytes.size() - from, expected, UINT64_MAX, &block)) return lost_records;
    lost_records += block.first_sequence - expected;
    block.offset += from;
    reader->resume(block);
  }
}

LogId make_log_id() {
  LogId id;
  ASSAY_ASSERT(getrandom(id.data(), id.size(), 0) == static_cast<ssize_t>(id.size()));
  return id;
}

}  // namespace

Spool::Spool(const SpoolOptions& options, std::unique_ptr<SpoolFiles> files)
    : options_(options),
      segment_bytes_(std::clamp<uint64_t>(options.bytes_max / kSegmentsPerSpool, kSegmentBytesMin, kSegmentBytesUsual)),
      files_(std::move(files)) {}

Spool::~Spool() {
  if (file_ >= 0) files_->close(file_);
  if (spare_ >= 0) files_->close(spare_);
}

Status Spool::open(const SpoolOptions& options, std::unique_ptr<SpoolFiles> files, int64_t now_us, std::unique_ptr<Spool>* out) {
  if (options.bytes_max < 4 * kSegmentBytesMin) return Status(Code::kPlanInvalid, "audit.spool_bytes_max: at least 4 MiB");
  std::unique_ptr<Spool> spool(new Spool(options, std::move(files)));
  Status status = spool->recover();
  if (!status.ok()) return status;
  spool->tended_us_ = now_us;
  if (spool->make_spare() && spool->rotate(now_us).ok()) spool->tend(now_us);
  spool->settle_state();
  *out = std::move(spool);
  return Status();
}

// --- what was there before

Status Spool::recover() {
  std::vector<FileEntry> entries;
  if (const int error = files_->list(entries); error != 0) return Status(Code::kIo, std::strerror(error));
  for (const FileEntry& entry : entries) {
    Segment segment;
    if (parse_segment_name(entry.name, &segment.first_sequence)) {
      segment.bytes = entry.bytes;
      segment.made_us = segment.changed_us = entry.changed_us;
      segments_.push_back(segment);
    } else if (entry.name == kSpareName) {
      files_->remove(entry.name);
    } else if (is_aside(entry.name)) {
      aside_.push_back(entry.name);
    }
  }
  std::sort(segments_.begin(), segments_.end(),
            [](const Segment& a, const Segment& b) { return a.first_sequence < b.first_sequence; });
  for (size_t i = 0; i + 1 < segments_.size(); ++i) segments_[i].end_sequence = segments_[i + 1].first_sequence;
  bool is_found = false;
  while (!is_found && !segments_.empty()) {
    if (Status status = recover_last(&is_found); !status.ok()) return status;
  }
  if (!is_found) log_id_ = make_log_id();
  return Status();
}

// The newest segment: the log goes on behind it (is_found), or it is none and put aside.
Status Spool::recover_last(bool* is_found) {
  const std::string name = segment_name(segments_.back().first_sequence);
  std::string bytes;
  if (const int error = files_->read(name, kSegmentBytesMax, bytes); error != 0)
    return Status(Code::kIo, name + ": " + std::strerror(error));
  SegmentReader reader;
  Code code = SegmentReader::open(bytes, &reader);
  *is_found = code == Code::kOk;
  if (*is_found) {
    stats_.lost_records += read_to_end(bytes, &reader);
    code = reader.why();
  }
  if (code == Code::kSegmentVersion) return Status(code, name);
  const size_t used_bytes = bytes.find_last_not_of('\0') + 1;
  *is_found ? go_on_behind(reader, used_bytes) : leave_headless(bytes, used_bytes);
  return Status();
}

void Spool::go_on_behind(const SegmentReader& reader, size_t used_bytes) {
  Segment& last = segments_.back();
  log_id_ = reader.header().log_id;
  last.end_sequence = reader.next_sequence();
  if (next_sequence_ > last.end_sequence && next_sequence_ > 1) stats_.lost_records += next_sequence_ - last.end_sequence;
  next_sequence_ = std::max(next_sequence_, last.end_sequence);
  if (chain_ == Digest32{}) chain_ = reader.chain();
  const size_t torn_bytes = used_bytes - std::min(used_bytes, reader.offset());
  stats_.torn_bytes += torn_bytes;
  const std::string name = segment_name(last.first_sequence);
  if (last.end_sequence > last.first_sequence) {
    const size_t kept_bytes = std::max(used_bytes, reader.offset());
    if (kept_bytes < last.bytes && files_->truncate(name, kept_bytes) == 0) last.bytes = kept_bytes;
    return;
  }
  torn_bytes > 0 ? put_aside(name, used_bytes) : static_cast<void>(files_->remove(name));  // its name is the next one's
  segments_.pop_back();
}

// Nothing tells which log its blocks are of, so they are not read; their sequences are not given again.
void Spool::leave_headless(std::string_view bytes, size_t used_bytes) {
  const uint64_t first_sequence = segments_.back().first_sequence;
  next_sequence_ = std::max(next_sequence_, first_sequence);
  for (Block block; find_block(bytes, bytes.size(), next_sequence_, UINT64_MAX, &block);) {
    next_sequence_ = block.first_sequence + block.record_count;
    chain_ = block.chain;
    bytes.remove_prefix(block.offset + block_bytes(block.payload.size()));
  }
  stats_.torn_bytes += used_bytes;
  put_aside(segment_name(first_sequence), used_bytes);
  segments_.pop_back();
}

// For whoever wants to know what became of a disk; what was aside before makes way.
void Spool::put_aside(const std::string& name, size_t used_bytes) {
  for (const std::string& before : std::exchange(aside_, {})) files_->remove(before);
  files_->truncate(name, used_bytes);
  files_->rename(name, name + kAsideSuffix);
}

// --- blocks

bool Spool::fits(size_t payload_bytes) const noexcept {
  return file_ >= 0 && offset_ + block_bytes(payload_bytes) <= segments_.back().bytes;
}

Status Spool::append(std::string_view payload, uint32_t records, int64_t now_us) {
  ASSAY_ASSERT(fits(payload.size()));
  Digest32 chain = chain_;
  encode_block(payload, next_sequence_, records, now_us, chain, block_);
  const char* what = "a block of the audit spool could not be written";
  int error = files_->write(file_, offset_, block_);
  if (error != 0) {
    ++stats_.write_failures;
  } else if (options_.is_durable && (error = files_->sync(file_)) != 0) {
    what = "a block of the audit spool could not be synced";
    ++stats_.sync_failures;
  }
  if (error != 0) {
    end_segment(true);
    settle_state();
    return refused(what, error);
  }
  chain_ = chain;
  offset_ += block_.size();
  next_sequence_ += records;
  segments_.back().end_sequence = next_sequence_;
  segments_.back().changed_us = tended_us_;
  return Status();
}

Status Spool::rotate(int64_t now_us) {
  if (file_ >= 0) end_segment(false);
  if (spare_ < 0) make_spare();
  const Status status =
      spare_ >= 0 ? begin_segment(now_us) : Status(Code::kAuditUnavailable, "the audit spool has no room for another segment");
  settle_state();
  return status;
}

// Turns the spare into the segment of the next records.
Status Spool::begin_segment(int64_t now_us) {
  const std::string name = segment_name(next_sequence_);
  const int file = spare_;
  spare_ = -1;
  int error = files_->write(file, 0, encode_header({next_sequence_, now_us, log_id_, options_.key_id, chain_}));
  if (error == 0 && options_.is_durable) error = files_->sync(file);
  if (error == 0) error = files_->rename(kSpareName, name);
  if (error == 0 && options_.is_durable) error = files_->sync_directory();
  if (error != 0) {
    ++stats_.write_failures;
    files_->close(file);
    files_->remove(kSpareName);
    files_->remove(name);
    return refused("a segment of the audit spool could not be begun", error);
  }
  file_ = file;
  offset_ = kSegmentHeaderBytes;
  segments_.push_back({next_sequence_, next_sequence_, segment_bytes_, now_us, tended_us_});
  return Status();
}

// `is_cut`: behind the last sound block may stand what counts as never written.
void Spool::end_segment(bool is_cut) {
  files_->close(file_);
  file_ = -1;
  Segment& ended = segments_.back();
  const std::string name = segment_name(ended.first_sequence);
  if (ended.end_sequence == ended.first_sequence) {  // empty, and the next one's name
    files_->remove(name);
    segments_.pop_back();
  } else if (is_cut && files_->truncate(name, offset_) == 0) {
    ended.bytes = offset_;
  }
}

// --- room

void Spool::tend(int64_t now_us) {
  tended_us_ = now_us;
  while (options_.age_us_max > 0 && may_remove_oldest() && segments_.front().changed_us < now_us - options_.age_us_max) {
    if (!remove_oldest()) break;
  }
  if (spare_ < 0) make_spare();
  settle_state();
}

bool Spool::make_spare() {
  if (spare_tried_us_ != kNeverUs && tended_us_ < spare_tried_us_ + kSpareRetryUs) return false;
  if (make_room()) {
    const int error = files_->create(kSpareName, segment_bytes_, &spare_);
    if (error == 0) {
      spare_tried_us_ = kNeverUs;
      return true;
    }
    spare_ = -1;
    no_spare_ = std::string("no room for another segment: ") + std::strerror(error);
  } else {
    no_spare_ = "audit.spool_bytes_max is reached, and the oldest segment waits to be shipped";
  }
  ++stats_.allocation_failures;
  spare_tried_us_ = tended_us_;
  return false;
}

// Within bytes_max, for one segment more.
bool Spool::make_room() {
  while (stats().bytes + segment_bytes_ > options_.bytes_max) {
    if (!may_remove_oldest() || !remove_oldest()) return false;
  }
  return true;
}

bool Spool::may_remove_oldest() const noexcept {
  if (segments_.size() <= (file_ >= 0 ? 1 : 0)) return false;
  return !options_.has_sink || segments_.front().end_sequence <= shipped_sequence_ + 1;
}

bool Spool::remove_oldest() {
  const Segment& oldest = segments_.front();
  if (const int error = files_->remove(segment_name(oldest.first_sequence)); error != 0 && error != ENOENT) return false;
  const uint64_t kept_from = std::max(oldest.first_sequence, shipped_sequence_ + 1);
  if (oldest.end_sequence > kept_from) stats_.ring_dropped_records += oldest.end_sequence - kept_from;
  segments_.pop_front();
  return true;
}

void Spool::set_shipped(uint64_t sequence) noexcept {
  shipped_sequence_ = std::max(shipped_sequence_, std::min(sequence, next_sequence_ - 1));
}

void Spool::settle_state() noexcept {
  stats_.state = file_ < 0 && spare_ < 0 ? SpoolState::kFull : spare_ < 0 ? SpoolState::kReserve : SpoolState::kWriting;
}

void Spool::close() noexcept {
  if (file_ >= 0) {
    files_->sync(file_);
    end_segment(true);
  }
  if (spare_ >= 0) {
    files_->close(spare_);
    spare_ = -1;
    files_->remove(kSpareName);
  }
  files_->sync_directory();
  settle_state();
}

SpoolStats Spool::stats() const noexcept {
  SpoolStats stats = stats_;
  stats.bytes = spare_ >= 0 ? segment_bytes_ : 0;
  for (const Segment& segment : segments_) {
    stats.bytes += segment.bytes;
    if (segment.end_sequence <= shipped_sequence_ + 1) continue;
    stats.unshipped_bytes += segment.bytes;
    if (stats.oldest_unshipped_us == 0) stats.oldest_unshipped_us = segment.made_us;
  }
  stats.segments = segments_.size();
  stats.next_sequence = next_sequence_;
  stats.shipped_sequence = shipped_sequence_;
  return stats;
}

// --- names

std::string Spool::segment_name(uint64_t first_sequence) {
  char name[kDigits + kSuffix.size() + 1];
  std::snprintf(name, sizeof name, "%020" PRIu64 ".audit", first_sequence);
  return name;
}

bool Spool::parse_segment_name(std::string_view name, uint64_t* first_sequence) noexcept {
  if (name.size() != kDigits + kSuffix.size() || name.substr(kDigits) != kSuffix) return false;
  uint64_t value = 0;
  for (const char digit : name.substr(0, kDigits)) {
    if (digit < '0' || digit > '9' || __builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, static_cast<uint64_t>(digit - '0'), &value))
      return false;
  }
  *first_sequence = value;
  return value > 0;
}

}  // namespace assay::audit
