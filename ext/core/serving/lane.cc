#include "core/serving/lane.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <system_error>

#include "core/base/alt_stack.h"
#include "core/base/black_box.h"
#include "core/base/signals_blocked.h"

namespace assay {
namespace {

bool is_model_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > limits::kNameBytesMax) return false;
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool is_inner = c == '.' || c == '_' || c == '-';
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (is_inner && i > 0))) return false;
  }
  return true;
}

Status unsupported(std::string detail) { return Status(Code::kModelUnsupported, std::move(detail)); }

Status check_spec(const LaneSpec& spec) {
  if (!is_model_name(spec.model)) {
    return unsupported("model: a name is 1 to 64 characters of a-z 0-9 . _ - and starts with a letter or digit");
  }
  if (spec.version.empty() || spec.version.size() > limits::kNameBytesMax) return unsupported("version: must be 1 to 64 bytes");
  if (spec.version[0] == '@') return unsupported("version: must not begin with @, which is for labels");
  if (spec.reader == nullptr) return Status(Code::kPlanInvalid, "reader: a lane needs a feature plan bound to a store");
  if (spec.runners.empty()) return unsupported("runners: a lane needs at least one");
  for (const auto& runner : spec.runners) {
    if (runner == nullptr || runner->rows_max() == 0) return unsupported("runners: each must take at least one row");
  }
  if (spec.standbys.size() != (spec.card == nullptr ? 0 : spec.runners.size())) {
    return unsupported("standbys: a card wants one for each runner, the CPU none");
  }
  for (size_t i = 0; i < spec.standbys.size(); ++i) {
    if (spec.standbys[i] == nullptr || spec.standbys[i]->rows_max() < spec.runners[i]->rows_max()) {
      return unsupported("standbys: each must take as many rows as its runner");
    }
  }
  for (const Threshold& threshold : spec.thresholds) {
    if (!std::isfinite(threshold.minimum)) return unsupported("thresholds: every minimum must be finite");
  }
  if (Status drift = check_drift_spec(spec.drift, spec.reader->plan()); !drift.ok()) return drift;
  InferSchema schema;
  Status infer = InferSchema::make(spec.reader->plan(), spec.infer_inputs, spec.infer_outputs, &schema);
  if (!infer.ok()) return infer;
  if (spec.reader->plan().is_tensors_only() && schema.outputs.empty()) return Status(Code::kInferUnsupported);
  const LaneOptions& options = spec.options;
  if (options.batch_rows_max == 0) return unsupported("batch_rows_max: must be at least 1");
  if (options.queue_rows_max == 0) return unsupported("queue_rows_max: must be at least 1");
  if (options.timeout_ns_default <= 0) return unsupported("timeout_ns_default: must be positive");
  if (options.queue_delay_ns_max < 0 || options.queue_delay_ns_max >= options.timeout_ns_default) {
    return unsupported("queue_delay_ns_max: must be 0 or more and below the default timeout");
  }
  if (spec.inline_runner != nullptr && options.inline_overrun_ns <= 0) {
    return unsupported("inline_overrun_ns: must be positive with an inline runner");
  }
  if (options.ageing_ns < 0) return unsupported("ageing_ns: must not be negative");
  return Status();
}

Scoring make_scoring(LaneSpec& spec) {
  std::stable_sort(spec.thresholds.begin(), spec.thresholds.end(),
                   [](const Threshold& a, const Threshold& b) { return a.minimum < b.minimum; });
  return {!spec.reader->plan().is_tensors_only(), spec.score_output, spec.score_column, std::move(spec.thresholds)};
}

InferSchema make_infer_schema(const LaneSpec& spec) {
  InferSchema schema;
  const Status made = InferSchema::make(spec.reader->plan(), spec.infer_inputs, spec.infer_outputs, &schema);
  ASSAY_ASSERT(made.ok());  // check_spec() made it too
  if (spec.explained != nullptr) schema.explained_elements = spec.explained->element_inputs.size();
  return schema;
}

std::unique_ptr<DriftCounts> make_drift(const DriftSpec& spec, const FeaturePlan& plan, const Scoring& scoring) {
  if (!spec.is_on) return nullptr;
  std::vector<double> minimums;
  for (const Threshold& threshold : scoring.thresholds) minimums.push_back(threshold.minimum);
  return std::make_unique<DriftCounts>(spec, plan, std::move(minimums));
}

// For this thread. Where the kernel will not, it stays what it is: slower for others, not wrong.
void become_idle() noexcept {
  sched_param none{};
  pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
}

std::unique_ptr<const ScoreAudit> make_audit(const LaneHome& home, const LaneSpec& spec, std::string_view runtime) {
  if (home.audit == nullptr) return nullptr;
  return std::make_unique<const ScoreAudit>(*home.audit, *home.commits, spec, runtime);
}

std::shared_ptr<LaneExplanations> make_explained(const LaneSpec& spec) {
  return spec.explained != nullptr ? std::make_shared<LaneExplanations>(spec.explained) : nullptr;
}

std::shared_ptr<const LaneName> make_name(LaneSpec& spec) {
  const uint16_t black_box_model = black_box::add_model(spec.model, spec.version, spec.model_sha256);
  return std::make_shared<const LaneName>(LaneName{std::move(spec.model), std::move(spec.version), black_box_model});
}

}  // namespace

LaneTicket::~LaneTicket() {
  if (lane_ != nullptr) lane_->return_ticket();
}

LaneTicket LaneTicket::another() const noexcept {
  lane_->issue_ticket();
  return LaneTicket(lane_);
}

Status Lane::create(LaneSpec spec, const LaneHome& home, std::shared_ptr<Lane>* out) {
  Status status = check_spec(spec);
  if (!status.ok()) return status;
  std::vector<std::unique_ptr<Runner>> runners = std::move(spec.runners);
  const bool has_threads = spec.has_threads;
  std::shared_ptr<Lane> lane(new Lane(spec, home));
  if (!lane->memory_.is_allocated()) {
    return Status(Code::kIo, "no memory for the rows of this model: lower `slots` (slots * row stride bytes are needed)");
  }
  lane->rows_max_ = lane->options_.batch_rows_max;
  for (size_t i = 0; i < runners.size(); ++i) {
    const auto rows_max = static_cast<uint32_t>(std::min<size_t>(lane->options_.batch_rows_max, runners[i]->rows_max()));
    lane->rows_max_ = std::min(lane->rows_max_, rows_max);
    if (spec.card == nullptr) {
      lane->runs_.push_back(lane->make_run(std::move(runners[i]), nullptr, rows_max));
      continue;
    }
    status = lane->add_card_run(spec.card, std::move(runners[i]), std::move(spec.standbys[i]), rows_max);
    if (!status.ok()) return status;
  }
  if (spec.inline_runner != nullptr) {
    auto run = lane->make_run(std::move(spec.inline_runner), nullptr, 1);
    lane->inline_run_ = std::make_unique<InlineRun>(std::move(run), lane->options_.inline_overrun_ns);
  }
  if (!has_threads) lane->step_batch_ = std::make_unique<FormedBatch>(lane->runs_[0]->rows_max());
  *out = std::move(lane);
  return Status();
}

Lane::Lane(LaneSpec& spec, const LaneHome& home)
    : audit_(make_audit(home, spec, spec.runtime)),
      standby_audit_(spec.card == nullptr ? nullptr : make_audit(home, spec, spec.standby_runtime)),
      name_(make_name(spec)),
      provenance_(encode_provenance(name_->model, name_->version, spec.model_sha256, spec.reader->plan())),
      options_(spec.options),
      has_threads_(spec.has_threads),
      is_background_(spec.is_background),
      has_inline_run_(spec.inline_runner != nullptr),
      reader_(spec.reader),
      scoring_(make_scoring(spec)),
      infer_schema_(make_infer_schema(spec)),
      memory_(reader_->plan(), infer_schema_.output_bytes, home.calls.slab().size()),
      drift_(make_drift(spec.drift, reader_->plan(), scoring_)),
      explained_(make_explained(spec)),
      explanations_(home.explanations),
      calls_(home.calls),
      clock_(home.clock),
      queue_(std::min(spec.options.queue_rows_max, home.calls.slab().size())),
      former_(spec.options.queue_delay_ns_max, spec.options.ageing_ns) {}

Status Lane::add_card_run(const std::shared_ptr<Card>& card, std::unique_ptr<Runner> runner, std::unique_ptr<Runner> standby,
                          uint32_t rows_max) {
  try {
    auto run = std::make_unique<CardRun>(card, std::move(runner), model(), version(), rows_max, clock_);
    runs_.push_back(make_run(std::move(standby), std::move(run), rows_max));
  } catch (const std::system_error& error) {
    return Status(Code::kIo, std::string("a card's thread could not be started: ") + error.what());
  }
  return Status();
}

std::unique_ptr<BatchRun> Lane::make_run(std::unique_ptr<Runner> runner, std::unique_ptr<CardRun> card, uint32_t rows_max) {
  DriftShard* const drift = drift_ != nullptr ? drift_->add_shard() : nullptr;
  const RunAudit audit{card == nullptr ? audit_.get() : standby_audit_.get(), audit_.get()};
  const RunLane lane{memory_,    scoring_,     infer_schema_, audit, metrics_, drift, reader_->plan().row_bytes(),
                     explained_, explanations_};
  return std::make_unique<BatchRun>(std::move(runner), std::move(card), rows_max, lane, calls_, clock_);
}

std::vector<Decision> Lane::decisions() const {
  std::vector<Decision> decisions;
  for (const Threshold& threshold : scoring_.thresholds) decisions.push_back(threshold.decision);
  return decisions;
}

Lane::~Lane() { ASSAY_ASSERT(threads_.empty() && queue_.size() == 0); }

Status Lane::start() {
  if (!has_threads_) return Status();
  const SignalsBlocked blocked;
  threads_.reserve(runs_.size());
  try {
    for (auto& run : runs_) {
      threads_.emplace_back([this, &run] {
        const AltStack stack;
        // With a remote store, look-up threads, which clients wait for, take this lane's lock too.
        if (is_background_ && !reader_->is_remote()) become_idle();
        serve(*run);
      });
      pthread_setname_np(threads_.back().native_handle(), is_background_ ? "assay-shadowrun" : "assay-runner");
    }
  } catch (const std::system_error& error) {
    abort();
    join();
    return Status(Code::kIo, std::string("a runner thread could not be started: ") + error.what());
  }
  return Status();
}

void Lane::return_ticket() noexcept {
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake = tickets_.fetch_sub(1, std::memory_order_relaxed) == 1 && is_closing_;
  }
  if (wake) work_.notify_all();
}

bool Lane::try_issue_ticket() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_closing_ || is_aborted_) return false;
  issue_ticket();
  return true;
}

Code Lane::enqueue(LaneTicket ticket, QueuedRow* rows, uint32_t count, Priority priority, CompletionList& completions) noexcept {
  const std::shared_ptr<Lane> self = ticket.use();  // the runners may answer and free the call before this returns
  ASSAY_ASSERT(self.get() == this);
  for (uint32_t i = 0; i < count; ++i) rows[i].latest_start_ns = former_.latest_start_ns(rows[i].queued_ns, rows[i].deadline_ns);
  thread_local std::vector<QueuedRow> evicted;
  if (evicted.size() < count) evicted.resize(count);
  uint32_t evicted_count = 0;
  Code code = Code::kOk;
  bool wake = false, wake_all = false;
  calls_.counters().queued_rows.add(count);  // before the runners may subtract
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_all = tickets_.fetch_sub(1, std::memory_order_relaxed) == 1 && is_closing_;
    const bool was_empty = queue_.size() == 0;
    const int64_t latest_start_ns = queue_.latest_start_ns();
    if (is_aborted_) {
      code = Code::kDraining;
    } else if (!has_time(priority, rows[0].deadline_ns - rows[0].queued_ns)) {
      code = Code::kQueueTooLong;
    } else if (!queue_.push(rows, count, priority_index(priority), evicted.data(), &evicted_count)) {
      code = Code::kQueueFull;
    } else {
      wake = should_wake(was_empty, latest_start_ns);
    }
    tell_ahead();
  }
  if (wake_all) {
    work_.notify_all();
  } else if (wake) {
    work_.notify_one();
  }
  const uint32_t left_out = code == Code::kOk ? evicted_count : count;
  if (left_out > 0) calls_.counters().queued_rows.subtract(left_out);
  for (uint32_t i = 0; i < evicted_count; ++i) calls_.finish_row(evicted[i].slot, Code::kShed, completions);
  return code;
}

int64_t Lane::oldest_queued_ns(int64_t now_ns) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t oldest_ns = now_ns;
  for (size_t priority = 0; priority < kPriorityCount; ++priority) {
    if (queue_.size(priority) > 0) oldest_ns = std::min(oldest_ns, queue_.front(priority).queued_ns);
  }
  return now_ns - oldest_ns;
}

// Less than a batch ahead is nobody's trouble, and costs no lock.
Code Lane::check_wait(Priority priority, int64_t time_left_ns) noexcept {
  if (ahead_.load(std::memory_order_relaxed) < rows_max_) return Code::kOk;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_aborted_) return Code::kDraining;  // join() takes the runners away
  return has_time(priority, time_left_ns) ? Code::kOk : Code::kQueueTooLong;
}

// REQUIRES: mutex_ is held, the lane is not aborted.
bool Lane::has_time(Priority priority, int64_t time_left_ns) const noexcept {
  const uint32_t ahead = running_rows_ + BatchFormer::rows_before(queue_, priority_index(priority));
  return pace_.has_time(ahead, runs_.size(), time_left_ns);
}

// The batch has been run. REQUIRES: mutex_ is held.
void Lane::end_batch(const FormedBatch& batch, uint32_t rows_max, int64_t run_ns) noexcept {
  if (batch.rows.empty()) return;
  const auto rows = static_cast<uint32_t>(batch.rows.size());
  running_rows_ -= rows;
  pace_.learn(rows, rows_max, run_ns);
  tell_ahead();
}

InlineOutcome Lane::run_inline(const QueuedRow& row, Priority priority) noexcept {
  if (!has_inline_run_ || !take_inline_run(priority, row.queued_ns)) return InlineOutcome::kNotRun;
  Slot& slot = calls_.slab()[row.slot];
  const bool is_explained = __builtin_expect(slot.explanation != nullptr, 0) && explanations_.may_wait(row.slot, *explained_);
  const bool is_replied = (audit_ != nullptr && audit_->is_awaited()) || is_explained;
  move_slot(slot, SlotState::kQueued);
  calls_.open_one(row.slot, is_replied);
  inline_run_->run(row);
  give_back_inline_run(row.queued_ns, clock_.now_ns());
  return is_replied ? InlineOutcome::kReplied : InlineOutcome::kComplete;
}

bool Lane::take_inline_run(Priority priority, int64_t now_ns) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_aborted_) return false;  // join() may have destroyed it
  for (size_t index = 0; index <= priority_index(priority); ++index) {
    if (queue_.size(index) > 0) return false;
  }
  return inline_run_->try_take(now_ns);
}

void Lane::give_back_inline_run(int64_t started_ns, int64_t ended_ns) noexcept {
  bool is_overrun = false, wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_overrun = inline_run_->give_back(started_ns, ended_ns);
    wake = is_aborted_;  // join() may be waiting
  }
  if (wake) work_.notify_all();
  calls_.counters().inline_rows.add(1);
  if (is_overrun) calls_.counters().inline_overruns.add(1);
}

// Whether rows that just came give an idle runner something to do or an earlier time to do it.
bool Lane::should_wake(bool was_empty, int64_t latest_start_before_ns) const noexcept {
  if (idle_runners_ == 0) return false;
  return options_.queue_delay_ns_max == 0 || was_empty || queue_.size() >= rows_max_ ||
         queue_.latest_start_ns() < latest_start_before_ns;
}

void Lane::serve(BatchRun& run) noexcept {
  FormedBatch batch(run.rows_max());
  int64_t formed_ns = 0;
  while (wait_and_form(batch, run.rows_max(), &formed_ns)) run.run(batch, formed_ns);
}

// Waits for the next batch and takes it; `batch` and `formed_ns` are those of the one before, which has been run. False: the lane
// has ended.
bool Lane::wait_and_form(FormedBatch& batch, uint32_t rows_max, int64_t* formed_ns) noexcept {
  bool wake_another = false;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    end_batch(batch, rows_max, clock_.now_ns() - *formed_ns);
    for (;;) {
      if (is_aborted_) return false;
      const bool is_ending = is_closing_ && tickets_.load(std::memory_order_relaxed) == 0;
      if (is_ending && queue_.size() == 0) return false;
      const int64_t now_ns = clock_.now_ns();
      const int64_t form_at_ns = is_closing_ && queue_.size() > 0 ? INT64_MIN : former_.form_at_ns(queue_, rows_max);
      if (form_at_ns <= now_ns) {
        *formed_ns = now_ns;
        break;
      }
      ++idle_runners_;
      if (form_at_ns == INT64_MAX) {
        work_.wait(lock);
      } else {
        work_.wait_for(lock, std::chrono::nanoseconds(form_at_ns - now_ns));
      }
      --idle_runners_;
    }
    form(batch, rows_max, *formed_ns);
    wake_another = idle_runners_ > 0 && queue_.size() > 0;
  }
  if (wake_another) work_.notify_one();  // it takes what this batch left, or waits for its time
  return true;
}

// REQUIRES: mutex_ is held.
void Lane::form(FormedBatch& batch, uint32_t rows_max, int64_t now_ns) noexcept {
  batch.clear();
  const uint32_t before = queue_.size();
  former_.form(queue_, calls_.slab(), now_ns, rows_max, batch);
  running_rows_ += static_cast<uint32_t>(batch.rows.size());
  tell_ahead();
  calls_.counters().queued_rows.subtract(before - queue_.size());
}

size_t Lane::step() noexcept {
  if (has_threads_ || is_stepping_.exchange(true, std::memory_order_acquire)) return 0;
  FormedBatch& batch = *step_batch_;
  const int64_t now_ns = clock_.now_ns();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    batch.clear();
    if (former_.form_at_ns(queue_, runs_[0]->rows_max()) <= now_ns) form(batch, runs_[0]->rows_max(), now_ns);
  }
  const size_t rows = batch.rows.size();
  runs_[0]->run(batch, now_ns);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    end_batch(batch, runs_[0]->rows_max(), clock_.now_ns() - now_ns);
  }
  is_stepping_.store(false, std::memory_order_release);
  return rows;
}

void Lane::close() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_closing_ = true;
  }
  work_.notify_all();
  if (!has_threads_) {
    ASSAY_ASSERT(!is_stepping_.exchange(true));
    serve(*runs_[0]);  // this thread is its runner to the end
  }
  join();
}

void Lane::abort() noexcept {
  std::vector<QueuedRow> left;
  left.reserve(queue_.rows_max());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_aborted_ = true;
    for (size_t priority = 0; priority < kPriorityCount; ++priority) {
      while (queue_.size(priority) > 0) left.push_back(queue_.pop_front(priority));
    }
    tell_ahead();
    calls_.counters().queued_rows.subtract(left.size());
  }
  work_.notify_all();
  CompletionList completions;
  for (const QueuedRow& row : left) calls_.finish_row(row.slot, Code::kCancelled, completions);
  completions.flush();
}

void Lane::join() noexcept {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (has_inline_run_) {
    std::unique_lock<std::mutex> lock(mutex_);
    work_.wait(lock, [this] { return !inline_run_->is_taken(); });
  }
  inline_run_.reset();
  runs_.clear();  // sessions and their buffers go now, not when the last answer is encoded
}

}  // namespace assay
