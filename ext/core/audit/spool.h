// Spool: the segments of one writer in one directory. Appends blocks, rotates, and keeps within bytes_max whatever happens.
//
// The next segment is always there already, allocated: the spare. So a disk that fills up is noticed a whole segment early, and what
// is under way then still has a place.
//
//   kWriting  there is a spare, or one could be made               --the spare cannot be made again-->  kReserve
//   kReserve  writes into what was the spare, and none is behind   --it is full, or failed-->          kFull
//   kFull     nothing can be appended                              --a spare could be made (tend(), append())-->  kWriting
//
// A spare cannot be made where the disk has no room, or where bytes_max is reached and the oldest segment may not go: with a sink it
// may once everything in it was shipped, without one always (the spool is a ring then, and what is dropped is counted).
//
// A block that could not be written, or not synced, is as if it had never been: its segment is closed where the block before it ended
// (a file whose fsync failed is never trusted again), and the caller appends it anew, to the next segment.
//
// THREADS. One: the audit log's writer. Bytes are the caller's.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "core/audit/segment_layout.h"
#include "core/audit/spool_files.h"
#include "core/base/status.h"

namespace assay::audit {

struct SpoolOptions {
  uint64_t bytes_max = 1 << 30;  // of all files together; at least 4 * kSegmentBytesMin
  bool has_sink = false;         // segments wait until they were shipped
  bool is_durable = false;       // every block is synced before append() returns
  int64_t age_us_max = 0;        // older ones go as soon as they may; 0: only when room is needed
  KeyId key_id{};
};

enum class SpoolState : uint8_t { kWriting = 0, kReserve = 1, kFull = 2 };

struct SpoolStats {
  SpoolState state = SpoolState::kFull;
  uint64_t bytes = 0;          // of all segments and the spare
  uint64_t segments = 0;       // without the spare
  uint64_t next_sequence = 1;  // of the next record
  uint64_t shipped_sequence = 0;
  uint64_t unshipped_bytes = 0;       // of the segments with records that were not shipped: what may not make way
  int64_t oldest_unshipped_us = 0;    // when the segment of the oldest record that was not shipped was begun; 0: all were
  uint64_t ring_dropped_records = 0;  // gave way to newer ones, never shipped
  uint64_t write_failures = 0, sync_failures = 0, allocation_failures = 0;
  uint64_t lost_records = 0;  // found when the spool was opened: before sound ones, or before a segment without a beginning
  uint64_t torn_bytes = 0;    // found then behind the last sound block, and in segments without a beginning
};

class SegmentReader;

class Spool {
 public:
  // Takes up where the last writer ended, behind the last sound block, so that no sequence is given twice: damage before it stays
  // damage for whoever reads the log. Newest segments that do not begin as one (a power cut took their headers) are put aside.
  // Without room for a segment it begins as kFull. kIo; kSegmentVersion: a later format.
  static Status open(const SpoolOptions& options, std::unique_ptr<SpoolFiles> files, int64_t now_us, std::unique_ptr<Spool>* out);
  ~Spool();  // without close(): as if the process had been killed
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Whether a payload of this size fits into the present segment. False: rotate() first.
  bool fits(size_t payload_bytes) const noexcept;
  // Ends the present segment and begins the next. kAuditUnavailable: there is none.
  Status rotate(int64_t now_us);
  // Appends one block. REQUIRES: fits(). Not kOk: nothing was appended, and nothing fits() any more.
  Status append(std::string_view payload, uint32_t records, int64_t now_us);

  // What must be done from time to time, at least once a second: makes the spare, removes what may go. `now_us`: the time of day at
  // open(), and since then a clock that does not jump; the ages of segments count by it.
  void tend(int64_t now_us);
  // Everything up to here has reached the sink.
  void set_shipped(uint64_t sequence) noexcept;
  // Syncs, and gives back what is allocated beyond the last block. Nothing may be appended after.
  void close() noexcept;

  uint64_t next_sequence() const noexcept { return next_sequence_; }
  SpoolState state() const noexcept { return stats_.state; }
  SpoolStats stats() const noexcept;
  // Why the last spare could not be made, unless kWriting.
  const std::string& no_spare() const noexcept { return no_spare_; }

  static std::string segment_name(uint64_t first_sequence);
  // A name that segment_name() gives. False: another file.
  static bool parse_segment_name(std::string_view name, uint64_t* first_sequence) noexcept;

 private:
  struct Segment {
    uint64_t first_sequence = 0;
    uint64_t end_sequence = 0;  // of the record after its last
    uint64_t bytes = 0;         // of the file
    int64_t made_us = 0;
    int64_t changed_us = 0;  // by tend()'s clock
  };

  Spool(const SpoolOptions& options, std::unique_ptr<SpoolFiles> files);
  Status recover();
  Status recover_last(bool* is_found);
  void go_on_behind(const SegmentReader& reader, size_t used_bytes);
  void leave_headless(std::string_view bytes, size_t used_bytes);
  void put_aside(const std::string& name, size_t used_bytes);
  bool make_spare();
  bool make_room();
  bool may_remove_oldest() const noexcept;
  bool remove_oldest();
  Status begin_segment(int64_t now_us);
  void end_segment(bool is_cut);
  void settle_state() noexcept;

  const SpoolOptions options_;
  const uint64_t segment_bytes_;
  const std::unique_ptr<SpoolFiles> files_;
  LogId log_id_{};
  std::deque<Segment> segments_;  // the last one is written to while file_ >= 0
  int file_ = -1;                 // of segments_.back(); -1: none is open
  uint64_t offset_ = 0;           // where its next block goes
  int spare_ = -1;                // -1: there is none
  int64_t tended_us_ = 0;         // of the last tend()
  static constexpr int64_t kNeverUs = INT64_MIN;
  int64_t spare_tried_us_ = kNeverUs;
  std::string no_spare_;  // why the last one could not be made
  uint64_t next_sequence_ = 1;
  Digest32 chain_{};
  std::string block_;               // scratch
  std::vector<std::string> aside_;  // files that were put aside at an earlier start
  uint64_t shipped_sequence_ = 0;
  SpoolStats stats_;  // what is counted, and the state
};

}  // namespace assay::audit
