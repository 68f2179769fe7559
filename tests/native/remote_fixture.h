// A store elsewhere and a house that reads from it, for the tests of look-ups.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "core/features/event_writer.h"
#include "core/serving/lookups.h"
#include "serving_fixture.h"

namespace fixture {

using namespace assay;

inline constexpr int64_t kTimeout = 50 * kMs;

inline EngineOptions stepping() {
  EngineOptions options = House::small();
  options.lookup_timeout_ns_max = kTimeout;
  options.has_lookup_thread = false;
  return options;
}

// Inputs of views take a default where there is no record; "ratio_input" has none.
inline std::shared_ptr<const FeaturePlan> make_plan(WhenNull of_views = WhenNull::kDefault) {
  PlanSpec spec = plan_spec();
  for (InputSpec& input : spec.inputs) {
    if (spec.nodes[input.node].kind == NodeKind::kView) input.when_null = of_views;
  }
  spec.inputs[1].when_null = WhenNull::kError;  // "ratio_input"
  std::shared_ptr<const FeaturePlan> plan;
  CHECK(FeaturePlan::compile(std::move(spec), &plan).ok());
  return plan;
}

// A store elsewhere: records by key. Filled through an embedded one.
class FakeStore {
 public:
  explicit FakeStore(std::shared_ptr<const FeaturePlan> plan) : plan_(plan), embedded(std::make_shared<EmbeddedStore>(1 << 22)) {
    REQUIRE(EventWriter::create(plan, embedded, {}, &writer_).ok());
  }
  void record(const std::string& id, int64_t time_us, int64_t amount, const std::string& customer = "596") {
    Transaction event;
    event.clear(plan_->spec().entities.size(), plan_->spec().request_features.size());
    event.id = id;
    event.event_time_us = time_us;
    event.entities[0] = customer;
    event.entities[1] = "3156";
    event.features[static_cast<size_t>(plan_->find_feature("amount_minor"))] = Value::of(amount);
    std::vector<RecordRef> records;
    writer_->add_records_of(event, &records);
    CHECK(writer_->write(event) == Code::kOk);
    for (const RecordRef& record : records) {
      std::string sealed;
      if (writer_->take_changed_record(record.view_index, record.entity_id, {}, 7, &sealed)) records_[record.key] = sealed;
    }
  }
  std::vector<FetchedRecord> fetch(const std::vector<std::string>& keys) const {
    std::vector<FetchedRecord> found(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      if (const auto at = records_.find(keys[i]); at != records_.end()) found[i].bytes = at->second;
    }
    return found;
  }
  std::map<std::string, std::string>& records() { return records_; }
  const std::string& key_of(uint64_t number) const {
    return std::next(records_.begin(), static_cast<ptrdiff_t>(number % records_.size()))->first;
  }

 private:
  std::shared_ptr<const FeaturePlan> plan_;
  std::shared_ptr<const EventWriter> writer_;
  std::map<std::string, std::string> records_;

 public:
  std::shared_ptr<EmbeddedStore> embedded;
};

inline constexpr int64_t kRequestTimeUs = 1'522'540'831 * int64_t{1'000'000};

inline FakeStore filled_store(const std::shared_ptr<const FeaturePlan>& plan) {
  FakeStore store(plan);
  for (int i = 0; i < 40; ++i) store.record("past-" + std::to_string(i), kRequestTimeUs - (i + 1) * 1'800'000'000ll, 100 + i);
  return store;
}

// A house whose lane reads from elsewhere.
struct RemoteHouse : House {
  explicit RemoteHouse(EngineOptions options = stepping(), WhenNull of_views = WhenNull::kDefault,
                       std::vector<int64_t> near_ages_ns = {})
      : House(options), plan(make_plan(of_views)) {
    reader = FeatureReader::create_remote(plan, std::move(near_ages_ns));
    REQUIRE(add(lane_spec()).ok());
  }
  std::unique_ptr<LookupBatch> take(size_t rows_max = 64) { return engine.take_lookups(rows_max, false); }
  uint32_t looking_up() const { return engine.stats().looking_up_rows; }

  std::shared_ptr<const FeaturePlan> plan;
};

inline bool has_degradation(const Answer& answer, const char* detail) { return answer.payload.find(detail) != std::string::npos; }

}  // namespace fixture
