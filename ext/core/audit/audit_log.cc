#include "core/audit/audit_log.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <optional>
#include <system_error>

#include "core/audit/segment_writer.h"
#include "core/base/alt_stack.h"
#include "core/base/clock.h"
#include "core/base/signals_blocked.h"

namespace assay::audit {
namespace {

constexpr auto kTendInterval = std::chrono::seconds(1);
constexpr int64_t kCheckpointIntervalUs = 60'000'000;
constexpr size_t kSpanLineagesMax = 2;  // so that their records fit into the block beside the others
constexpr size_t kVarintBytesMax = 3;   // of a record's length
constexpr size_t kSpanBytesMax = kPayloadBytesMax - kSpanLineagesMax * (kRecordBytesMax + kVarintBytesMax);
static_assert(kAppendBytesMax <= kSpanBytesMax);

int64_t monotonic_us() noexcept { return SystemClock::instance().now_ns() / 1000; }

// One row, that of a thread that waits for it.
class Waiter final : public CommitSink {
 public:
  void committed(const uint32_t*, size_t, Code outcome) noexcept override {
    const std::lock_guard<std::mutex> lock(mutex_);
    outcome_ = outcome;
    told_.notify_one();  // under the lock: once it is free, the waiter may be gone
  }
  Code wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    told_.wait(lock, [this] { return outcome_.has_value(); });
    return *outcome_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable told_;
  std::optional<Code> outcome_;
};

}  // namespace

void AuditLog::Gathered::clear() noexcept {
  records.clear();
  appends.clear();
  rows.clear();
}

AuditLog::AuditLog(const AuditOptions& options, std::unique_ptr<Spool> spool)
    : options_(options), wall_offset_us_(wall_now_us() - monotonic_us()), spool_(std::move(spool)) {
  write_checkpoint(CheckpointReason::kStart);
  publish();
}

AuditLog::~AuditLog() { close(); }

Status AuditLog::start() {
  if (!options_.has_thread) return Status();
  const SignalsBlocked blocked;
  try {
    thread_ = std::thread([this] { run(); });
    pthread_setname_np(thread_.native_handle(), "assay-audit");
  } catch (const std::system_error& error) {
    return Status(Code::kIo, std::string("the audit writer's thread could not be started: ") + error.what());
  }
  return Status();
}

// --- from any thread

Admit AuditLog::admit(uint64_t transaction_hash) noexcept {
  const SpoolState state = state_.load(std::memory_order_relaxed);
  if (__builtin_expect(state == SpoolState::kWriting, 1)) return Admit::kRecord;
  const bool is_full = state == SpoolState::kFull;
  if (options_.when_full == WhenFull::kRefuse) return is_full ? Admit::kRefuse : Admit::kRecord;
  if (!is_full && transaction_hash % std::max(1u, options_.full_one_in) == 0) return Admit::kRecord;
  drop(is_full ? AuditDrop::kFull : AuditDrop::kSampled, 1);
  return Admit::kSkip;
}

bool AuditLog::append(std::string_view records, uint32_t count, const std::shared_ptr<const Lineage>& lineage,
                      const uint32_t* rows, size_t row_count, CommitSink* sink) noexcept {
  ASSAY_ASSERT(records.size() <= kAppendBytesMax);
  Append append;
  append.count = count;
  append.lineage = lineage;
  append.sink = is_awaited() ? sink : nullptr;
  const bool is_given = sink == nullptr || gives_unrecorded();
  if (gather(records, std::move(append), rows, is_awaited() ? row_count : 0)) return true;
  if (is_given) drop(AuditDrop::kBuffer, count);
  return false;
}

bool AuditLog::append_record(std::string_view record, const std::shared_ptr<const Lineage>& lineage) noexcept {
  std::string framed;
  audit::append_record(record, framed);
  return append(framed, 1, lineage, nullptr, 0, nullptr);
}

bool AuditLog::commit(const std::vector<std::string>& records) noexcept {
  std::string chunk;
  uint32_t count = 0;
  bool is_kept = true;
  for (const std::string& record : records) {
    if (chunk.size() + record.size() + kVarintBytesMax > kAppendBytesMax) {
      is_kept &= commit_chunk(chunk, count);
      chunk.clear();
      count = 0;
    }
    audit::append_record(record, chunk);
    ++count;
  }
  return (count == 0 || commit_chunk(chunk, count)) && is_kept;
}

bool AuditLog::commit_chunk(std::string_view records, uint32_t count) noexcept {
  Waiter waiter;
  const uint32_t row = 0;
  if (!append(records, count, nullptr, &row, 1, &waiter)) return gives_unrecorded();
  if (!is_awaited()) return true;
  if (!options_.has_thread) step();
  return waiter.wait() == Code::kOk;
}

// Whether the write under way takes too long.
bool AuditLog::is_hung() const noexcept {
  return is_writing_ && std::chrono::steady_clock::now() - writing_since_ >= std::chrono::microseconds(options_.hung_us);
}

bool AuditLog::gather(std::string_view records, Append append, const uint32_t* rows, size_t row_count) noexcept {
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_hung()) state_.store(SpoolState::kFull, std::memory_order_relaxed);  // until it comes back
    Gathered& to = gathering_;
    append.end_bytes = to.records.size() + records.size();
    append.end_rows = to.rows.size() + row_count;
    if (is_closing_ || append.end_bytes > options_.buffer_bytes_max) return false;
    try {
      to.rows.insert(to.rows.end(), rows, rows + row_count);
      to.records.append(records);
      to.appends.push_back(std::move(append));
    } catch (const std::bad_alloc&) {
      to.rows.resize(to.appends.empty() ? 0 : to.appends.back().end_rows);
      to.records.resize(to.appends.empty() ? 0 : to.appends.back().end_bytes);
      return false;
    }
    wake = to.appends.size() == 1 && !is_writing_ && !is_resting_;
  }
  if (wake) work_.notify_one();
  return true;
}

void AuditLog::set_shipped(uint64_t sequence) noexcept { shipped_sequence_.store(sequence, std::memory_order_relaxed); }

void AuditLog::flush() noexcept {
  if (!options_.has_thread) return step();
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [this] { return gathering_.appends.empty() && !is_writing_; });
}

AuditStats AuditLog::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  AuditStats stats = stats_;
  if (is_hung()) {
    stats.spool.state = SpoolState::kFull;
    stats.last_error = "a write of the audit spool has not come back for seconds";
  }
  for (size_t i = 0; i < dropped_.size(); ++i) stats.counts.dropped[i] = dropped_[i].load(std::memory_order_relaxed);
  stats.buffer_bytes = gathering_.records.size();
  stats.buffer_bytes_max = options_.buffer_bytes_max;
  stats.is_refusing = is_refusing();
  return stats;
}

void AuditLog::close() noexcept {
  if (is_closed_) return;
  is_closed_ = true;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_closing_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
  step();
  write_checkpoint(CheckpointReason::kEnd);
  spool_->close();
  publish();
}

// --- the writer

void AuditLog::run() noexcept {
  const AltStack stack;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_closing_) {
    if (gathering_.appends.empty()) work_.wait_for(lock, kTendInterval);
    const auto begun = std::chrono::steady_clock::now();
    const bool has_work = !gathering_.appends.empty();
    take_and_write(lock);
    if (has_work && !is_awaited()) rest(lock, begun);
  }
}

// Until the next group may begin, or the log is closed.
void AuditLog::rest(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point begun) noexcept {
  is_resting_ = true;
  work_.wait_until(lock, begun + std::chrono::microseconds(options_.memory_rest_us), [this] { return is_closing_; });
  is_resting_ = false;
}

void AuditLog::step() noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  take_and_write(lock);
}

// Takes what has gathered and writes it without the lock, which is held again in the end.
void AuditLog::take_and_write(std::unique_lock<std::mutex>& lock) noexcept {
  std::swap(gathering_, writing_);
  is_writing_ = true;
  writing_since_ = std::chrono::steady_clock::now();
  lock.unlock();
  write_all(writing_);
  tend();
  publish();
  lock.lock();
  is_writing_ = false;
  if (gathering_.appends.empty()) idle_.notify_all();
}

void AuditLog::write_all(Gathered& gathered) noexcept {
  Span span;
  while ((span = next_span(gathered, span)).count > 0) write_span(gathered, span);
  gathered.clear();
}

// The next appends that fit into one block together, with the lineages that they refer to.
AuditLog::Span AuditLog::next_span(const Gathered& gathered, const Span& before) noexcept {
  Span span{before.end, before.end, before.end_bytes, before.end_bytes, before.end_rows, before.end_rows, 0};
  std::array<const Lineage*, kSpanLineagesMax> lineages{};
  size_t lineage_count = 0;
  for (; span.end < gathered.appends.size(); ++span.end) {
    const Append& append = gathered.appends[span.end];
    if (span.count > 0 && append.end_bytes - span.begin_bytes > kSpanBytesMax) break;
    const Lineage* const lineage = append.lineage.get();
    const bool is_new = lineage != nullptr && std::find(lineages.begin(), lineages.begin() + lineage_count, lineage) ==
                                                  lineages.begin() + lineage_count;
    if (is_new && lineage_count == kSpanLineagesMax) break;
    if (is_new) lineages[lineage_count++] = lineage;
    span.end_bytes = append.end_bytes;
    span.end_rows = append.end_rows;
    span.count += append.count;
  }
  return span;
}

// A segment that fails is given up; what it did not take goes to the next one, once.
void AuditLog::write_span(const Gathered& gathered, const Span& span) noexcept {
  Status status = try_span(gathered, span);
  if (!status.ok()) {
    error_ = status.detail;
    status = try_span(gathered, span);
  }
  if (!status.ok()) error_ = status.detail;
  settle(gathered, span, status.ok());
}

Status AuditLog::try_span(const Gathered& gathered, const Span& span) noexcept {
  const int64_t now_us = wall_now_us();
  build_payload(gathered, span);
  if (!spool_->fits(payload_.size())) {
    described_.clear();
    if (Status status = spool_->rotate(now_us); !status.ok()) return status;
    build_payload(gathered, span);
  }
  Status status = spool_->append(payload_, payload_records_, now_us);
  if (!status.ok()) return status;
  for (size_t i = span.begin; i < span.end; ++i) {
    const Lineage* const lineage = gathered.appends[i].lineage.get();
    if (lineage != nullptr && std::find(described_.begin(), described_.end(), lineage->number) == described_.end())
      described_.push_back(lineage->number);
  }
  recorded_ += payload_records_;
  ++blocks_;
  return status;
}

void AuditLog::build_payload(const Gathered& gathered, const Span& span) {
  payload_.clear();
  payload_records_ = span.count;
  const Lineage* last = nullptr;
  for (size_t i = span.begin; i < span.end; ++i) {
    const Lineage* const lineage = gathered.appends[i].lineage.get();
    if (lineage == nullptr || lineage == last) continue;
    last = lineage;
    if (std::find(described_.begin(), described_.end(), lineage->number) != described_.end()) continue;
    bool is_repeat = false;
    for (size_t j = span.begin; j < i && !is_repeat; ++j) is_repeat = gathered.appends[j].lineage.get() == lineage;
    if (is_repeat) continue;
    audit::append_record(lineage->record, payload_);
    ++payload_records_;
  }
  payload_.append(gathered.records, span.begin_bytes, span.end_bytes - span.begin_bytes);
}

// Tells those who wait. Where nobody does, or by kSample, what a lost record tells of has happened all the same.
void AuditLog::settle(const Gathered& gathered, const Span& span, bool is_written) noexcept {
  const bool is_answered = is_written || options_.when_full == WhenFull::kSample;
  const Code outcome = is_answered ? Code::kOk : Code::kAuditUnavailable;
  size_t begin = span.begin_rows;
  for (size_t i = span.begin; i < span.end; ++i) {
    const Append& append = gathered.appends[i];
    if (!is_written && (is_answered || append.sink == nullptr)) drop(AuditDrop::kFailed, append.count);
    const bool is_last = i + 1 == span.end || gathered.appends[i + 1].sink != append.sink;
    if (!is_last) continue;
    if (append.sink != nullptr && append.end_rows > begin)
      append.sink->committed(gathered.rows.data() + begin, append.end_rows - begin, outcome);
    begin = append.end_rows;
  }
}

void AuditLog::write_checkpoint(CheckpointReason reason) noexcept {
  const int64_t now_us = wall_now_us();
  AuditCounts counts;
  counts.recorded = recorded_;
  for (size_t i = 0; i < dropped_.size(); ++i) counts.dropped[i] = dropped_[i].load(std::memory_order_relaxed);
  counts.ring_dropped = spool_->stats().ring_dropped_records;
  Gathered own;
  audit::append_record(encode_checkpoint(reason, now_us, counts, options_.level, options_.inputs, options_.software),
                       own.records);
  Append append;
  append.end_bytes = own.records.size();
  append.count = 1;
  own.appends.push_back(append);
  const Span span = next_span(own, {});
  const Status status = try_span(own, span);  // what could not be said now, the next one says
  if (!status.ok()) error_ = status.detail;
  checkpoint_us_ = age_now_us();
  checkpoint_recorded_ = recorded_;
}

// A wall clock that is set ahead makes nothing old.
int64_t AuditLog::age_now_us() const noexcept { return monotonic_us() + wall_offset_us_; }

// Room, and what is due.
void AuditLog::tend() noexcept {
  const int64_t now_us = age_now_us();
  spool_->set_shipped(shipped_sequence_.load(std::memory_order_relaxed));
  spool_->tend(now_us);
  const bool had_room = state_.load(std::memory_order_relaxed) == SpoolState::kWriting;
  const bool has_room = spool_->state() == SpoolState::kWriting;
  if (had_room != has_room) write_checkpoint(has_room ? CheckpointReason::kRoomAgain : CheckpointReason::kNoRoom);
  const bool is_due = now_us - checkpoint_us_ >= kCheckpointIntervalUs && recorded_ > checkpoint_recorded_;
  if (is_due) write_checkpoint(CheckpointReason::kMinute);
}

// What others see of the writer.
void AuditLog::publish() noexcept {
  const SpoolState state = spool_->state();
  state_.store(state, std::memory_order_relaxed);
  const std::lock_guard<std::mutex> lock(mutex_);
  stats_.spool = spool_->stats();
  stats_.counts.recorded = recorded_;
  stats_.counts.ring_dropped = stats_.spool.ring_dropped_records;
  stats_.blocks = blocks_;
  stats_.last_error = state == SpoolState::kWriting ? error_ : spool_->no_spare();
}

}  // namespace assay::audit
