// EventLog: events of a file in (event_time, transaction_id) order, ready to be applied or replayed.
//
// Keeps each line's text (in blocks) and a 24-byte index entry; sorts once. Memory: the file's size + 24 bytes an event.
// Ties within one microsecond go by precedes() below; the same id twice stays in the order of the file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/features/event_writer.h"
#include "core/features/feature_reader.h"

namespace assay {

// The order of transaction ids: decimal ids (digits only, of any length) first, by number, and where "7" and "007" are one number
// the shorter first; then all other strings, shorter first, then by bytes. A strict total order.
bool precedes(std::string_view a, std::string_view b) noexcept;

struct EventRejection {
  uint64_t line = 0;           // from 1
  uint64_t offset_bytes = 0;   // of the line's start in the input
  std::string transaction_id;  // printable; empty if unknown
  std::vector<Violation> violations;
};

// What became of events, each counted once. Calls add to it.
struct IngestReport {
  uint64_t event_count = 0;     // given to the writer
  uint64_t recorded_count = 0;  // at least one view changed, and none has to do without it
  uint64_t duplicate_count = 0;
  uint64_t late_count = 0;        // too late for at least one view, whatever the others did: that view has to do without it
  uint64_t refused_count = 0;     // the store said no (full, overflow)
  Code refused_code = Code::kOk;  // the first such reason
};

class EventLog {
 public:
  // `ahead_us_max`: an event whose time, or label_time, is further ahead of this machine's clock is rejected (EVENT_IN_FUTURE);
  // 0: any time goes, for a replay.
  explicit EventLog(std::shared_ptr<const FeaturePlan> plan, int64_t ahead_us_max = 0);
  ~EventLog();

  // Appends whole lines (ends with '\n' or is the last). Bad lines are kept out and reported, at most `rejections_max` of the log
  // in full; the count is exact. Empty lines are skipped, '\r' before '\n' is white space. Not thread-safe.
  // `places`: where a topic has them, one a line; null: they are from no topic. Of one log, all or none are.
  void append(std::string_view lines, size_t rejections_max, const Fence* places = nullptr);

  uint64_t event_count() const noexcept;
  uint64_t rejected_count() const noexcept;
  const std::vector<EventRejection>& rejections() const noexcept;
  // How many of the events that were taken had an int64 for this float64 feature (accept_int).
  uint64_t accepted_ints(size_t feature) const noexcept;

  // Not thread-safe. May be called again after more was appended.
  void sort();
  // How many events are before `time_us`: the place of the first at or after it. Call after sort().
  uint64_t position_at(int64_t time_us) const noexcept;
  // Applies events [from, to) in order, then moves the fences of their records. Call after sort(). Events from a topic must be
  // applied in one call with all before them in their partition that were not, or a fence passes those.
  void ingest(const EventWriter& writer, uint64_t from, uint64_t to, IngestReport* report) const;
  // For events [from, to): score's read first, then write (replay = score, then apply). Rows go to rows[(i - from) * row_bytes]; an
  // event whose row cannot be made (violations: a feature or an entity that scoring needs is missing, or read() refused) has
  // valid[i - from] 0 and zeros for a row and a mask, and is still applied. `missing`: where RowOut::missing of every row goes, one
  // after the other; null: nowhere. REQUIRES: reader and writer have this log's plan.
  void replay(const FeatureReader& reader, const EventWriter& writer, uint64_t from, uint64_t to, uint8_t* rows, uint8_t* valid,
              int64_t* event_times_us, IngestReport* report, uint64_t* missing = nullptr) const;
  // Adds the records that events [from, to) would change; many of them more than once.
  void add_records(const EventWriter& writer, uint64_t from, uint64_t to, std::vector<RecordRef>* records) const;
  // transaction_id of event i in order; valid while the log lives.
  std::string_view transaction_id(uint64_t index) const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace assay
