// EventWriter: the one way into the store. Events and attributes are checked against a plan and applied to its views.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/features/embedded_store.h"
#include "core/features/plan.h"
#include "core/features/record_key.h"
#include "core/features/transaction.h"

namespace assay {

// Turns a transaction into what one window view stores of it. Shared by the writer and by the fold of the current transaction.
// The label counts from event_time + the view's delay (an inline label; a late one has its own time).
EventEntry entry_of(const Transaction& transaction, const ViewSchema& schema) noexcept;

// The same into `entry`, with the fingerprint (xxh64 of the transaction's id) made once for all views.
void fill_entry(const Transaction& transaction, const ViewSchema& schema, uint64_t fingerprint, EventEntry& entry) noexcept;

// One fence of one record, to be moved on.
struct FenceMove {
  uint32_t view_id = 0;  // of the store
  std::string entity_id;
  Fence place;
};

// What became of one event in all the views that take it.
struct EventOutcome {
  Code code = Code::kOk;
  bool is_late = false;  // it came too late for some view, also where another one took it and `code` is kOk
};

struct WriterOptions {
  // How far ahead of this machine's clock a time may be (limits::kAheadUsMax); 0: any. A record's windows end at its newest event: one
  // dated hours ahead expires all that short windows hold, and real events are too late until then. So only a replay into a store of
  // its own leaves this open.
  int64_t ahead_us_max = 0;
  LateEvents late = LateEvents::kRefuse;
  // By view of the plan: whether events and labels are not for it, as when a new view is filled beside others that are in use.
  std::array<bool, limits::kViewsMax> left_out{};
};

class EventWriter {
 public:
  static Status create(std::shared_ptr<const FeaturePlan> plan, std::shared_ptr<EmbeddedStore> store,
                       const WriterOptions& options, std::shared_ptr<const EventWriter>* out);

  // Applies the event to every window view whose entity it names. kOk: at least one view changed. kEventDuplicate: all had it.
  // kEventTooLate: none changed and at least one could not take it. kEventInFuture: nothing changed. kStoreFull, kIntegerOverflow:
  // some view refused; what other views took stays (a repeat completes it). An event that no view stores anything of changes
  // nothing, so it is kEventDuplicate. REQUIRES: the event has passed its decoder. Thread-safe.
  //
  // `moves`: gets the fences that the event moves on. move_fences() is called once all events that came together are written, for
  // they may be written in another order than their topic has them.
  //
  // A label (is_label) goes to the views that use labels and adds no event: kEventTooLate where in some view the event is in a tile
  // or a newer label stands, kEventUnknown where some view does not hold the event; other views may have taken it (a repeat
  // completes it).
  EventOutcome write(const Transaction& event, std::vector<FenceMove>* moves) const noexcept;
  void move_fences(FenceKind kind, const std::vector<FenceMove>& moves) const noexcept;
  // An event that came alone: its fences are moved.
  Code write(const Transaction& event) const noexcept;

  // Attributes of one entity of an attribute view of the plan. values: one per attribute, typed as declared or null; -0.0 is
  // stored as +0.0. What the store says (put_attributes), or before it is asked: kPlanInvalid (no such attribute view),
  // kMissingEntity (no id), kTooLong (id or text), kBadTimestamp, kWrongType, kNotFinite. Thread-safe.
  Code write_attributes(size_t view_index, std::string_view entity_id, int64_t time_us, const Value* values) const noexcept;

  const FeaturePlan& plan() const noexcept { return *plan_; }

  // --- for records of a remote store: bring them, write, and take back what changed
  // Adds the records that the event would change.
  void add_records_of(const Transaction& event, std::vector<RecordRef>* records) const;
  RecordRef record_of(size_t view_index, std::string_view entity_id) const;
  // EmbeddedStore::put_record, by view of the plan.
  Code put_record(size_t view_index, std::string_view entity_id, std::string_view sealed) const noexcept;
  // The record if it says something else than `before` (empty: there was none), sealed with the time. False: it does not.
  bool take_changed_record(size_t view_index, std::string_view entity_id, std::string_view before, int64_t now_us,
                           std::string* sealed) const;

 private:
  EventWriter() = default;
  bool is_in_future(int64_t time_us) const noexcept;
  // Whether the view stores anything of the event.
  bool takes(size_t view_index, const Transaction& event) const noexcept;

  std::shared_ptr<const FeaturePlan> plan_;
  std::shared_ptr<EmbeddedStore> store_;
  std::array<uint32_t, limits::kViewsMax> view_ids_{};
  WriterOptions options_;
};

}  // namespace assay
