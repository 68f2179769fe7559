// What the tests of the serving room share: a clock that jumps when told, a runner that obeys, a house around one engine.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/serving/engine.h"
#include "wire_fixture.h"

namespace fixture {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000 * kMs;

// Stands still until told; can also jump at a chosen reading, which puts a deadline between two checks of one call.
class JumpingClock final : public Clock {
 public:
  int64_t now_ns() const noexcept override {
    if (readings_left_.load() > 0 && readings_left_.fetch_sub(1) == 1) now_ns_ += jump_ns_;
    return now_ns_;
  }
  void advance_ns(int64_t delta_ns) noexcept { now_ns_ += delta_ns; }
  // The `reading`-th reading from now, and all later ones, are `delta_ns` later.
  void jump_at(int reading, int64_t delta_ns) noexcept {
    jump_ns_ = delta_ns;
    readings_left_ = reading;
  }
  bool has_jumped() const noexcept { return readings_left_.load() == 0; }

 private:
  mutable std::atomic<int64_t> now_ns_{kSecond};
  mutable std::atomic<int> readings_left_{0};
  std::atomic<int64_t> jump_ns_{0};
};

// What a fake runner does. Shared with the test; set the functions before the lane runs.
class Fake {
 public:
  size_t rows_max = 64;
  TensorType output_type = TensorType::kFloat64;
  std::function<void(const std::vector<int64_t>&)> on_gather = [](const auto&) {};
  std::function<bool(const std::vector<int64_t>&)> is_failing = [](const auto&) { return false; };
  std::function<double(int64_t)> score = [](int64_t amount) { return static_cast<double>(amount) / 1024.0; };

  void hold() {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_held_ = true;
  }
  void release() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_held_ = false;
    }
    changed_.notify_all();
  }
  // Waits until this many runs are held at once. False: not within 20 s.
  bool wait_running(size_t runs) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return running_ >= runs; });
  }
  std::vector<std::vector<int64_t>> batches() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return batches_;
  }

  void begin_run(const std::vector<int64_t>& amounts) {
    std::unique_lock<std::mutex> lock(mutex_);
    batches_.push_back(amounts);
    ++running_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !is_held_; });
    --running_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool is_held_ = false;
  size_t running_ = 0;
  std::vector<std::vector<int64_t>> batches_;  // amounts of each run
};

// Knows a row by its amount. Output 0 has two columns: the amount's score and its negative.
class FakeRunner final : public Runner {
 public:
  FakeRunner(std::shared_ptr<Fake> fake, uint32_t amount_offset) : fake_(std::move(fake)), amount_offset_(amount_offset) {}
  size_t rows_max() const noexcept override { return fake_->rows_max; }
  void gather(const uint8_t* const* rows, size_t count) noexcept override {
    amounts_.resize(count);
    for (size_t i = 0; i < count; ++i) std::memcpy(&amounts_[i], rows[i] + amount_offset_, sizeof(int64_t));
    fake_->on_gather(amounts_);
  }
  Status run(size_t count) noexcept override {
    ASSAY_ASSERT(count == amounts_.size() && count >= 1 && count <= rows_max());
    fake_->begin_run(amounts_);
    if (fake_->is_failing(amounts_)) return Status(Code::kModelRunFailed, "told to fail");
    bytes_.clear();
    for (const int64_t amount : amounts_) {
      append(fake_->score(amount));
      append(-fake_->score(amount));
    }
    return Status();
  }
  OutputView output(size_t index) const noexcept override {
    if (index != 0) return {};
    return {fake_->output_type, bytes_.data(), 2};
  }

 private:
  template <typename T>
  void put(T value) {
    bytes_.insert(bytes_.end(), reinterpret_cast<char*>(&value), reinterpret_cast<char*>(&value) + sizeof value);
  }
  void append(double value) {
    switch (fake_->output_type) {
      case TensorType::kFloat32: return put(static_cast<float>(value));
      case TensorType::kFloat64: return put(value);
      case TensorType::kInt32: return put(static_cast<int32_t>(value));
      case TensorType::kInt64: return put(static_cast<int64_t>(value));
      case TensorType::kBool: return put(static_cast<uint8_t>(value != 0));
    }
  }

  const std::shared_ptr<Fake> fake_;
  const uint32_t amount_offset_;
  std::vector<int64_t> amounts_;
  std::vector<char> bytes_;
};

// --- requests and answers ---

inline std::string score_request(int64_t amount, const std::string& more = {}) {
  return delimited(1, "tx-" + std::to_string(amount)) + delimited(2, timestamp(1'522'540'831, 0)) + entity("customer_id", "596") +
         entity("terminal_id", "3156") + feature_entry("amount_minor", integer(amount)) +
         feature_entry("ratio", fixed64(1, 0.5)) + more;
}
inline std::string without_ratio(int64_t amount) {  // decodes; its model input is null, which is an error in this house
  return delimited(1, "tx-" + std::to_string(amount)) + delimited(2, timestamp(1'522'540'831, 0)) + entity("customer_id", "596") +
         entity("terminal_id", "3156") + feature_entry("amount_minor", integer(amount));
}
inline std::string with_model(std::string_view model) { return delimited(5, model); }
inline std::string with_version(std::string_view version) { return delimited(6, version); }
inline std::string with_priority(uint64_t priority) { return number(7, priority); }
inline std::string with_timeout_ms(int64_t ms) {
  return delimited(8, number(1, static_cast<uint64_t>(ms / 1000)) + number(2, static_cast<uint64_t>(ms % 1000 * kMs)));
}
inline std::string batch_request(const std::vector<std::string>& rows, const std::string& more = {}) {
  std::string bytes;
  for (const std::string& row : rows) bytes += delimited(1, row);
  return bytes + more;
}

struct Field {
  uint32_t number = 0;
  uint64_t value = 0;
  std::string_view bytes;
};

// Any message's fields. The input is our own encoder's: no checks.
inline std::vector<Field> fields_of(std::string_view message) {
  std::vector<Field> fields;
  size_t at = 0;
  const auto read_varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(message[at++]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const uint64_t key = read_varint();
    Field field;
    field.number = static_cast<uint32_t>(key >> 3);
    if ((key & 7) == 0) field.value = read_varint();
    if ((key & 7) == 1) {
      std::memcpy(&field.value, message.data() + at, 8);
      at += 8;
    }
    if ((key & 7) == 2) {
      const uint64_t size = read_varint();
      field.bytes = message.substr(at, size);
      at += size;
    }
    fields.push_back(field);
  }
  return fields;
}
inline std::optional<Field> find_field(const std::vector<Field>& fields, uint32_t number) {
  for (const Field& field : fields)
    if (field.number == number) return field;
  return std::nullopt;
}

// A row's answer, from a ScoreResponse, ScoreResult or ScoreStreamResponse.
struct Row {
  std::string id;
  bool has_score = false;
  double score = 0.0;
  uint64_t decision = 0;
  std::string provenance;
  std::string timings;
  int grpc = 0;        // of its status
  std::string reason;  // of its ErrorInfo
};
inline std::string reason_in(std::string_view rpc_status) {
  for (const Field& field : fields_of(rpc_status)) {
    if (field.number != 3) continue;  // details: Any{type_url = 1, value = 2}
    const std::vector<Field> any = fields_of(field.bytes);
    if (find_field(any, 1)->bytes != "type.googleapis.com/google.rpc.ErrorInfo") continue;
    const std::vector<Field> info = fields_of(find_field(any, 2)->bytes);
    return std::string(find_field(info, 1)->bytes);
  }
  return {};
}
inline Row parse_response(std::string_view message) {
  const std::vector<Field> fields = fields_of(message);
  Row row;
  if (const auto id = find_field(fields, 1)) row.id = id->bytes;
  if (const auto score = find_field(fields, 2)) {
    row.has_score = true;
    std::memcpy(&row.score, &score->value, 8);
  }
  if (const auto decision = find_field(fields, 3)) row.decision = decision->value;
  if (const auto provenance = find_field(fields, 4)) row.provenance = provenance->bytes;
  if (const auto timings = find_field(fields, 10)) row.timings = timings->bytes;
  return row;
}
inline Row parse_result(std::string_view message) {
  const std::vector<Field> fields = fields_of(message);
  Row row;
  if (const auto response = find_field(fields, 3)) row = parse_response(response->bytes);
  if (const auto status = find_field(fields, 2)) {
    if (const auto code = find_field(fields_of(status->bytes), 1)) row.grpc = static_cast<int>(code->value);
    row.reason = reason_in(status->bytes);
  }
  if (const auto id = find_field(fields, 1)) row.id = id->bytes;
  return row;
}
inline std::vector<Row> parse_batch(std::string_view message) {
  std::vector<Row> rows;
  for (const Field& field : fields_of(message))
    if (field.number == 2) rows.push_back(parse_result(field.bytes));
  return rows;
}

inline bool mentions(const std::string& bytes, const char* text) { return bytes.find(text) != std::string::npos; }

// --- the house ---

inline std::shared_ptr<const FeatureReader> make_reader() {
  PlanSpec spec = plan_spec();
  spec.inputs[1].when_null = WhenNull::kError;  // "ratio_input"
  std::shared_ptr<const FeaturePlan> compiled;
  std::shared_ptr<const FeatureReader> reader;
  Status status = FeaturePlan::compile(std::move(spec), &compiled);
  if (status.ok()) status = FeatureReader::create(compiled, std::make_shared<EmbeddedStore>(1 << 20), &reader);
  if (!status.ok()) std::fprintf(stderr, "fixture: %s\n", status.detail.c_str());
  return reader;
}

// An engine with its clock, one reply queue and one fake model. The destructor checks that nothing leaked.
struct House {
  explicit House(EngineOptions options = small()) : engine(options, clock), queue(options.slots) {}
  ~House() {
    fake->release();
    engine.stop();
    drain();
    engine.check_idle();
  }
  // Named, not in braces: a new option in the middle of EngineOptions must not become another's value.
  static EngineOptions sized(uint32_t slots, uint32_t batch_call_rows_max, int64_t timeout_ns_max = 60 * kSecond) {
    EngineOptions options;
    options.slots = slots;
    options.batch_call_rows_max = batch_call_rows_max;
    options.timeout_ns_max = timeout_ns_max;
    return options;
  }
  static EngineOptions small() { return sized(64, 16); }

  LaneSpec lane_spec(const std::string& model = "fraud", const std::string& version = "1") const {
    LaneSpec spec;
    spec.model = model;
    spec.version = version;
    spec.model_sha256 = std::string(64, 'b');
    spec.reader = reader;
    spec.runners.push_back(make_runner(fake));
    spec.has_threads = false;
    spec.thresholds = {{0.75, Decision::kDecline}, {0.5, Decision::kReview}};
    return spec;
  }
  std::unique_ptr<Runner> make_runner(std::shared_ptr<Fake> which) const {
    return std::make_unique<FakeRunner>(std::move(which), reader->plan().segments()[2].offset_bytes);  // tensor "integers"
  }
  Status add(LaneSpec spec, bool is_default = false) { return engine.add_lane(std::move(spec), is_default); }

  CallContext context() const { return {clock.now_ns(), 0}; }
  Submission score(int64_t amount, const std::string& more = {}) {
    return engine.submit_score(score_request(amount, more), context(), &queue, ++token);
  }
  Submission batch(const std::vector<std::string>& rows, const std::string& more = {}) {
    return engine.submit_batch(batch_request(rows, more), context(), &queue, ++token);
  }
  Submission stream(const std::string& request) {
    return engine.submit_stream(delimited(1, request), context(), &queue, ++token);
  }

  size_t step(const char* model = "fraud", const char* version = "1") { return engine.step(model, version); }
  // Finishes everything that has completed. Adds to `answers`.
  size_t drain() {
    std::vector<Completion> completions;
    queue.drain(completions);
    for (const Completion& completion : completions) answers[completion.token] = engine.finish(completion.call);
    return completions.size();
  }
  Answer& answer(uint64_t of_token) {
    drain();
    return answers[of_token];
  }

  JumpingClock clock;
  Engine engine;
  CompletionQueue queue;
  std::shared_ptr<Fake> fake = std::make_shared<Fake>();
  std::shared_ptr<const FeatureReader> reader = make_reader();
  uint64_t token = 0;
  std::map<uint64_t, Answer> answers;
};

inline std::string reason(const Submission& submission) { return reason_in(submission.rpc_status); }

}  // namespace fixture
