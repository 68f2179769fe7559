// AuditLog: records of scores on their way to the spool, and the calls that wait until they are there.
//
// Threads that score append() encoded records to a bounded buffer: one copy, one lock. The writer, a thread of its own, takes all that
// has gathered, writes it as blocks, and tells `CommitSink` of the rows that waited (group commit: while one block is written, the next
// gathers). By level a row waits
//
//   memory  for nothing: what is still in the buffer is lost if the process dies
//   spool   until the kernel has its record: lost if the machine dies within seconds
//   fsync   until the disk has it
//
// At kMemory, where nobody waits, the writer begins the next group no sooner than memory_rest_us after it began the one before, and
// nobody wakes it meanwhile: writes and wakes are shared by more records. (Where rows wait, such a rest cost more than it saved.)
//
// NO ROOM (SpoolState other than kWriting; a write that hangs counts as kFull). kRefuse: is_refusing() turns new calls away, rows
// under way are recorded in what was the spare, and fail (kAuditUnavailable) if that fills up too. kSample: scores are given all the
// same; one in full_one_in is recorded while the reserve lasts, the others are counted as dropped.
//
// THREADS. append(), admits(), stats(): any. One mutex, held for a copy of at most kAppendBytesMax.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/audit/checkpoint.h"
#include "core/audit/spool.h"

namespace assay::audit {

enum class WhenFull : uint8_t { kRefuse = 0, kSample = 1 };

struct AuditOptions {
  AuditLevel level = AuditLevel::kSpool;
  WhenFull when_full = WhenFull::kRefuse;
  uint32_t full_one_in = 100;  // kSample: of the transactions while the reserve lasts
  size_t buffer_bytes_max = 16 << 20;
  int64_t memory_rest_us = 2'400;
  int64_t hung_us = 5'000'000;  // a write that takes longer is not waited for by new calls
  bool has_thread = true;       // false (tests): step() writes
  std::string inputs;           // what scores record of their rows: full, sample or digest. For checkpoints
  std::string software;         // who writes: versions. For checkpoints
};

// A record that others refer to by number: where the model of a score comes from. Written into every segment before the first record
// that refers to it, so that a segment can be read alone.
struct Lineage {
  uint32_t number = 0;  // unique in this process
  std::string record;   // an AuditRecord
};

// Who waits for records to be written. Called by the writer, without a lock of the log.
class CommitSink {
 public:
  virtual ~CommitSink() = default;
  // Rows whose records are where the level wants them (kOk), or are not and must not be answered (kAuditUnavailable).
  virtual void committed(const uint32_t* rows, size_t count, Code outcome) noexcept = 0;
};

// What to do with a row's record.
enum class Admit : uint8_t { kRecord, kSkip, kRefuse };

struct AuditStats {
  SpoolStats spool;
  AuditCounts counts;
  uint64_t blocks = 0;
  uint64_t buffer_bytes = 0, buffer_bytes_max = 0;  // what waits to be written
  bool is_refusing = false;
  std::string last_error;  // why there is no room; while there is some, the newest failure; empty: none
};

inline constexpr size_t kAppendBytesMax = 96 << 10;  // of one append(); what scores has to cut a large batch

class AuditLog {
 public:
  AuditLog(const AuditOptions& options, std::unique_ptr<Spool> spool);
  ~AuditLog();  // close()s
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  // Starts the writer. Once, before the first append(). kIo.
  Status start();
  AuditLevel level() const noexcept { return options_.level; }
  // Whether rows wait for the writer.
  bool is_awaited() const noexcept { return options_.level != AuditLevel::kMemory; }
  // Whether new calls are to be turned away.
  bool is_refusing() const noexcept { return options_.when_full == WhenFull::kRefuse && !has_room(); }

  // Whether everything is recorded; otherwise admit() says.
  bool has_room() const noexcept { return state_.load(std::memory_order_relaxed) == SpoolState::kWriting; }
  // Whether a score is given though its record is lost.
  bool gives_unrecorded() const noexcept { return options_.when_full == WhenFull::kSample; }
  // For the row of a transaction with this hash. kSkip is counted as dropped: the caller answers without a record.
  Admit admit(uint64_t transaction_hash) noexcept;
  // Takes `count` records (segment_writer.h's append_record() of each) of one lineage. REQUIRES: at most kAppendBytesMax. With
  // is_awaited(), `rows` wait and `sink` is told of them, perhaps before this returns; otherwise they are not looked at. False: there
  // was no room; nothing is kept, and by when_full the caller fails the rows or answers them (they are counted).
  bool append(std::string_view records, uint32_t count, const std::shared_ptr<const Lineage>& lineage, const uint32_t* rows,
              size_t row_count, CommitSink* sink) noexcept;
  // A record of another kind, for which nobody waits; of this lineage, if it refers to one. False: no room.
  bool append_record(std::string_view record, const std::shared_ptr<const Lineage>& lineage = nullptr) noexcept;
  // The same of several, each at most kRecordBytesMax; comes back once they are where the level wants them. False: they are not,
  // and what they tell must be refused. (By kSample it need not be: they are counted as dropped, and this is true.) May block.
  bool commit(const std::vector<std::string>& records) noexcept;

  // The sink has everything up to here.
  void set_shipped(uint64_t sequence) noexcept;

  // Waits until everything appended before was written, or has failed. May block.
  void flush() noexcept;
  // Writes what is left, closes the spool. Idempotent. May block.
  void close() noexcept;

  // Without a thread: writes what has gathered, and does what is due.
  void step() noexcept;
  AuditStats stats() const;

 private:
  struct Append {
    size_t end_bytes = 0;  // in Gathered::records
    size_t end_rows = 0;   // in Gathered::rows
    uint32_t count = 0;
    std::shared_ptr<const Lineage> lineage;  // null: its records refer to none
    CommitSink* sink = nullptr;
  };
  struct Gathered {
    std::string records;
    std::vector<Append> appends;
    std::vector<uint32_t> rows;
    void clear() noexcept;
  };
  // Appends that are written together.
  struct Span {
    size_t begin = 0, end = 0;              // in Gathered::appends
    size_t begin_bytes = 0, end_bytes = 0;  // in Gathered::records
    size_t begin_rows = 0, end_rows = 0;    // in Gathered::rows
    uint32_t count = 0;
  };

  bool commit_chunk(std::string_view records, uint32_t count) noexcept;
  bool is_hung() const noexcept;  // REQUIRES: mutex_
  bool gather(std::string_view records, Append append, const uint32_t* rows, size_t row_count) noexcept;
  void run() noexcept;
  void rest(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point begun) noexcept;
  void take_and_write(std::unique_lock<std::mutex>& lock) noexcept;
  void write_all(Gathered& gathered) noexcept;
  static Span next_span(const Gathered& gathered, const Span& before) noexcept;
  void write_span(const Gathered& gathered, const Span& span) noexcept;
  Status try_span(const Gathered& gathered, const Span& span) noexcept;
  void build_payload(const Gathered& gathered, const Span& span);
  void settle(const Gathered& gathered, const Span& span, bool is_written) noexcept;
  void write_checkpoint(CheckpointReason reason) noexcept;
  int64_t age_now_us() const noexcept;
  void tend() noexcept;
  void publish() noexcept;
  void drop(AuditDrop cause, uint64_t count) noexcept {
    dropped_[static_cast<size_t>(cause)].fetch_add(count, std::memory_order_relaxed);
  }

  const AuditOptions options_;
  const int64_t wall_offset_us_;                         // of the wall clock when this began, over the monotonic one
  std::atomic<SpoolState> state_{SpoolState::kWriting};  // as calls see it
  std::array<std::atomic<uint64_t>, static_cast<size_t>(AuditDrop::kCount_)> dropped_{};
  std::atomic<uint64_t> shipped_sequence_{0};

  // --- the writer's
  const std::unique_ptr<Spool> spool_;
  std::vector<uint32_t> described_;  // numbers of the lineages that the present segment has
  std::string payload_;
  uint32_t payload_records_ = 0;
  uint64_t recorded_ = 0, blocks_ = 0;
  uint64_t checkpoint_recorded_ = 0;  // at the last checkpoint
  int64_t checkpoint_us_ = 0;         // by age_now_us()
  std::string error_;
  Gathered writing_;

  mutable std::mutex mutex_;
  std::condition_variable work_;                         // for the writer
  std::condition_variable idle_;                         // for flush()
  Gathered gathering_;                                   // guarded by mutex_
  AuditStats stats_;                                     // guarded by mutex_; as of the writer's last look
  bool is_writing_ = false;                              // guarded by mutex_
  std::chrono::steady_clock::time_point writing_since_;  // guarded by mutex_
  bool is_resting_ = false;                              // guarded by mutex_
  bool is_closing_ = false;                              // guarded by mutex_
  bool is_closed_ = false;                               // of who closes
  std::thread thread_;                                   // last: it uses all of the above
};

}  // namespace assay::audit
