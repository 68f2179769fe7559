#include "core/serving/explanations.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <system_error>

#include "core/base/alt_stack.h"
#include "core/base/signals_blocked.h"
#include "core/serving/explain_worker.h"
#include "core/serving/lane.h"
#include "core/serving/sampling_desk.h"

namespace assay {
namespace {

// What is left of a call's time when its explanation is given up: to record the score, encode the answer and send it. A part of its
// time, for an answer of many rows takes longer.
constexpr int64_t kAnswerNs = 1'000'000;
constexpr int64_t kAnswerPart = 8;
// How often the thread looks after its workers where nothing else wakes it.
constexpr int64_t kLookNs = 1'000'000'000;

timespec time_until(int64_t time_ns, int64_t now_ns) noexcept {
  const int64_t left_ns = std::clamp<int64_t>(time_ns - now_ns, 0, kLookNs);
  return {static_cast<time_t>(left_ns / 1'000'000'000), static_cast<long>(left_ns % 1'000'000'000)};
}

ExplainResult became(ExplanationStatus status) {
  ExplainResult result;
  result.status = status;
  return result;
}

}  // namespace

Explanations::Explanations(const ExplainOptions& options, Calls& calls, const Clock& clock)
    : options_(options), calls_(calls), clock_(clock), wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), recorder_(calls, clock) {
  ASSAY_ASSERT(wake_fd_ >= 0);
  wakes_.push_back({wake_fd_, POLLIN, 0});
  for (uint32_t i = 0; i < std::max(1u, options_.threads); ++i) {
    asked_.places.emplace_back();
    asked_.places.back().desk = std::make_unique<SamplingDesk>(calls_, clock_);
    wakes_.push_back({asked_.places.back().desk->fd(), POLLIN, 0});
  }
}

Explanations::~Explanations() {
  stop();
  close(wake_fd_);
}

Status Explanations::enable() {
  const std::lock_guard<std::mutex> lock(enabling_);
  if (!options_.has_threads || thread_.joinable() || is_stopping_) return Status();
  for (uint32_t i = 0; i < std::max(1u, options_.threads); ++i) {
    computed_.places.emplace_back();
    computed_.places.back().desk = std::make_unique<ExplainWorker>(wake_fd_, clock_, options_.faults.get());
    if (Status started = computed_.places.back().desk->start(); !started.ok()) return started;
  }
  const SignalsBlocked blocked;
  try {
    thread_ = std::thread([this] {
      const AltStack stack;
      serve();
    });
    pthread_setname_np(thread_.native_handle(), "assay-explain");
  } catch (const std::system_error& error) {
    return Status(Code::kIo, std::string("the thread of explanations could not be started: ") + error.what());
  }
  return Status();
}

// --- where rows are scored

bool Explanations::may_wait(uint32_t row, const LaneExplanations& lane) noexcept {
  const Slot& slot = calls_.slab()[row];
  RowExplanation& explanation = *slot.explanation;
  if (explanation.request.is_later) return false;
  const int64_t now_ns = clock_.now_ns();
  explanation.refusal = refusal_by_load(lane, rank_of(slot), now_ns, deadline_of(slot, explanation.request, now_ns));
  return explanation.refusal == ExplanationStatus::kNone;
}

bool Explanations::offer(uint32_t row, const std::shared_ptr<LaneExplanations>& lane, const RecordedLane& recorded,
                         size_t row_bytes) noexcept {
  Slot& slot = calls_.slab()[row];
  RowExplanation& explanation = *slot.explanation;
  const ExplainRequest& request = explanation.request;
  const int64_t now_ns = clock_.now_ns();
  const int64_t deadline_ns = deadline_of(slot, request, now_ns);
  const Priority rank = rank_of(slot);
  explanation.status = ExplanationStatus::kNotWanted;
  if (request.wants(slot.score, slot.decision)) {
    explanation.status = explanation.refusal;
    if (explanation.status == ExplanationStatus::kNone) explanation.status = refusal(*lane, rank, now_ns, deadline_ns);
  }
  if (explanation.status == ExplanationStatus::kNone) {
    try {
      std::unique_ptr<Task> task = make_task(row, lane, recorded, row_bytes, deadline_ns);
      explanation.status = request.is_later ? ExplanationStatus::kLater : ExplanationStatus::kNone;
      // Before: it may end, and its slot be another's, while this thread is still on its way back.
      const bool waits = !request.is_later;
      if (waits) move_slot(slot, SlotState::kExplaining);
      const bool is_queued = push(std::move(task));
      if (is_queued && waits) return true;
      if (!is_queued) explanation.status = ExplanationStatus::kShed;
    } catch (const std::bad_alloc&) { explanation.status = ExplanationStatus::kShed; }
  }
  if (explanation.status != ExplanationStatus::kLater) lane->count(explanation.status);
  return false;
}

// Whom it goes before: who waits for a score goes before what comes later, whoever asked for that.
Priority Explanations::rank_of(const Slot& slot) const noexcept {
  return slot.explanation->request.is_later ? Priority::kBulk : calls_.slab()[slot.head].priority;
}

// Bulk rows, for which nobody waits, have the time that their call has.
int64_t Explanations::deadline_of(const Slot& slot, const ExplainRequest& request, int64_t now_ns) const noexcept {
  if (request.is_later) return now_ns + options_.later_ns_max;
  const Slot& head = calls_.slab()[slot.head];
  const int64_t call_ns = head.deadline_ns - std::max(kAnswerNs, (head.deadline_ns - now_ns) / kAnswerPart);
  return head.priority == Priority::kBulk ? call_ns : std::min(call_ns, now_ns + options_.inline_ns_max);
}

// kNone: it is to be taken.
ExplanationStatus Explanations::refusal(LaneExplanations& lane, Priority rank, int64_t now_ns, int64_t deadline_ns) noexcept {
  const ExplanationStatus by_load = refusal_by_load(lane, rank, now_ns, deadline_ns);
  if (by_load != ExplanationStatus::kNone) return by_load;
  const bool has_worker = lane.model->is_asked() || breaker_.allows(now_ns);
  return has_worker && lane.breaker.allows(now_ns) ? ExplanationStatus::kNone : ExplanationStatus::kSuspended;
}

ExplanationStatus Explanations::refusal_by_load(const LaneExplanations& lane, Priority rank, int64_t now_ns,
                                                int64_t deadline_ns) const noexcept {
  if (is_stopping_.load(std::memory_order_relaxed)) return ExplanationStatus::kShed;
  if (deadline_ns <= now_ns) return ExplanationStatus::kLate;
  const Line& line = line_of(lane);
  if (line.rows_before(kPriorityCount - 1) >= options_.queue_rows_max) return ExplanationStatus::kShed;
  const int64_t ahead = line.rows_before(priority_index(rank));
  // One alone is always tried: what was slow once, or got no processor, must have a chance to show that it is quick.
  const int64_t wait_ns = (ahead + 1) * line.row_ns.load(std::memory_order_relaxed) / std::max(1u, options_.threads);
  if (ahead > 0 && now_ns + wait_ns > deadline_ns) return ExplanationStatus::kShed;
  return ExplanationStatus::kNone;
}

int64_t Explanations::wall_us_of(int64_t stamp_ns) const noexcept { return wall_now_us() - (clock_.now_ns() - stamp_ns) / 1000; }

std::unique_ptr<Explanations::Task> Explanations::make_task(uint32_t row, const std::shared_ptr<LaneExplanations>& lane,
                                                            const RecordedLane& recorded, size_t row_bytes,
                                                            int64_t deadline_ns) const {
  const Slot& slot = calls_.slab()[row];
  const ExplainRequest& request = slot.explanation->request;
  if (request.is_later) slot.explanation->received_us = wall_us_of(slot.stamps[static_cast<size_t>(Stamp::kReceived)]);
  const uint8_t* const bytes = recorded.memory.row(row);
  const std::shared_ptr<Lane>& its_lane = calls_.slab()[slot.head].lane;
  ExplainJob job;
  job.model = lane->model;
  job.row.assign(bytes, bytes + row_bytes);
  job.players = request.players;
  job.top_k = request.top_k;
  job.has_tensors = request.tensors != 0;
  job.score = slot.score;
  job.lane = lane->model->is_asked() ? its_lane : nullptr;
  job.deadline_ns = deadline_ns;
  std::string record_head = request.is_later ? recorded.audit->explanation_head(slot) : std::string();
  return std::make_unique<Task>(Task{request.is_later ? kNoSlot : row, rank_of(slot), deadline_ns, its_lane, lane, recorded,
                                     std::move(job), std::move(record_head)});
}

// False: there is no room, and the task is gone.
bool Explanations::push(std::unique_ptr<Task> task) {
  {
    Line& line = line_of(*task->explanations);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (line.rows_before(kPriorityCount - 1) >= options_.queue_rows_max) return false;
    const size_t index = priority_index(task->rank);
    new_[index].push_back(std::move(task));
    line.rows[index].fetch_add(1, std::memory_order_relaxed);
  }
  tell();
  return true;
}

void Explanations::tell() noexcept {
  const uint64_t one = 1;
  (void)!write(wake_fd_, &one, sizeof one);  // full: it is readable anyway
}

// --- a line

uint32_t Explanations::Line::rows_before(size_t priority) const noexcept {
  uint32_t before = 0;
  for (size_t i = 0; i <= priority; ++i) before += rows[i].load(std::memory_order_relaxed);
  return before;
}

bool Explanations::Line::is_stuck(int64_t now_ns) const noexcept {
  return !places.empty() && std::all_of(places.begin(), places.end(), [now_ns](const Place& place) {
    return place.is_busy && now_ns - place.given_ns >= kStuckNs;
  });
}

bool Explanations::Line::has_waiting() const noexcept {
  return std::any_of(waiting.begin(), waiting.end(), [](const auto& tasks) { return !tasks.empty(); });
}

// Interactive rows first. Null: none waits.
std::unique_ptr<Explanations::Task> Explanations::Line::next() noexcept {
  for (auto& tasks : waiting) {
    if (tasks.empty()) continue;
    std::unique_ptr<Task> task = std::move(tasks.front());
    tasks.pop_front();
    return task;
  }
  return nullptr;
}

int64_t Explanations::Line::next_deadline_ns() const noexcept {
  int64_t next_ns = INT64_MAX;
  for (const auto& tasks : waiting) {
    for (const auto& task : tasks) next_ns = std::min(next_ns, task->deadline_ns);
  }
  for (const Place& place : places) {
    if (place.task != nullptr) next_ns = std::min(next_ns, place.task->deadline_ns);
  }
  return next_ns;
}

// --- on the thread

void Explanations::serve() noexcept {
  while (!is_stopping_.load(std::memory_order_acquire)) {
    look();
    await();
  }
}

// Until somebody tells, a model has answered or time is up.
void Explanations::await() noexcept {
  const int64_t deadline_ns = std::min(computed_.next_deadline_ns(), asked_.next_deadline_ns());
  const timespec left = time_until(deadline_ns, clock_.now_ns());
  ppoll(wakes_.data(), wakes_.size(), &left, nullptr);  // a millisecond more, as poll() counts, may be all that a call has
  uint64_t ignored = 0;
  (void)!read(wake_fd_, &ignored, sizeof ignored);  // before the look: what comes after it wakes again
}

size_t Explanations::look() noexcept {
  take_new();
  const int64_t now_ns = clock_.now_ns();
  size_t ended = 0;
  for (Line* const line : {&computed_, &asked_}) {
    ended += take_results(*line, now_ns);
    ended += give_up_late(*line, now_ns);
  }
  tend_workers();
  for (Line* const line : {&computed_, &asked_}) give_work(*line);
  completions_.flush();
  return ended;
}

void Explanations::take_new() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < kPriorityCount; ++i) {
    for (auto& task : new_[i]) {
      Line& line = line_of(*task->explanations);
      line.waiting[i].push_back(std::move(task));
    }
    new_[i].clear();
  }
}

size_t Explanations::take_results(Line& line, int64_t now_ns) noexcept {
  size_t ended = 0;
  ExplainResult result;
  for (Place& place : line.places) {
    if (!place.desk->take(now_ns, &result)) continue;  // an idle desk is asked, too: what it gave up may have ended meanwhile
    place.is_busy = false;
    if (&line == &computed_) breaker_.succeeded();
    if (place.task == nullptr) continue;  // given up
    settle(std::move(place.task), std::move(result));
    ++ended;
  }
  return ended;
}

void Explanations::settle(std::unique_ptr<Task> task, ExplainResult result) noexcept {
  std::atomic<int64_t>& average = line_of(*task->explanations).row_ns;
  const int64_t row_ns = average.load(std::memory_order_relaxed);
  average.store(row_ns == 0 ? result.took_ns : row_ns + (result.took_ns - row_ns) / 8, std::memory_order_relaxed);
  Breaker& breaker = task->explanations->breaker;
  if (result.status == ExplanationStatus::kGiven) breaker.succeeded();
  if (result.status == ExplanationStatus::kWithheld && !has_tensors(*task)) breaker.failed(clock_.now_ns());
  end(std::move(task), std::move(result));
}

// Whoever sends tensors may send such as nobody can explain (NaN, infinity): that says nothing of the model.
bool Explanations::has_tensors(const Task& task) const noexcept {
  return task.row != kNoSlot && calls_.slab()[task.row].explanation->request.tensors != 0;
}

// Whether its call was not cancelled; one that comes later is waited for by the audit log, as long as that holds up nobody.
bool Explanations::is_awaited(const Task& task) const noexcept {
  if (task.row != kNoSlot) return !calls_.slab().is_abandoned(calls_.slab()[task.row].head);
  return !is_draining_.load(std::memory_order_relaxed) || !task.explanations->model->is_asked();
}

// The rows of a call that nobody waits for any more, too.
size_t Explanations::give_up_late(Line& line, int64_t now_ns) noexcept {
  size_t ended = 0;
  const bool is_stuck = &line == &computed_ && line.is_stuck(now_ns);
  for (auto& tasks : line.waiting) {
    for (auto at = tasks.begin(); at != tasks.end();) {
      const bool is_late = (*at)->deadline_ns <= now_ns;
      if (!is_late && is_awaited(**at)) {
        ++at;
        continue;
      }
      if (is_late && is_stuck) breaker_.failed(now_ns);
      end(std::move(*at), became(ExplanationStatus::kLate));
      at = tasks.erase(at);
      ++ended;
    }
  }
  for (Place& place : line.places) {
    const bool is_alive = place.desk->is_alive();
    if (place.task == nullptr || (is_alive && place.task->deadline_ns > now_ns && is_awaited(*place.task))) continue;
    if (!is_alive) breaker_.failed(now_ns);
    place.desk->hurry();
    end(std::move(place.task), became(ExplanationStatus::kLate));
    ++ended;
  }
  return ended;
}

// Starts those anew that have ended; while nothing is taken because they do so time and again, only for what was taken as a trial.
void Explanations::tend_workers() noexcept {
  const bool is_wanted = !breaker_.is_open() || computed_.has_waiting();
  for (Place& place : computed_.places) {
    if (place.desk->is_alive()) continue;
    place.is_busy = false;
    if (is_wanted) (void)place.desk->start();
  }
}

void Explanations::give_work(Line& line) noexcept {
  for (Place& place : line.places) {
    if (place.is_busy || !place.desk->is_idle()) continue;
    place.task = line.next();
    if (place.task == nullptr) return;
    place.desk->give(std::move(place.task->job));
    place.is_busy = true;
    place.given_ns = clock_.now_ns();
  }
}

void Explanations::end(std::unique_ptr<Task> task, ExplainResult result) noexcept {
  line_of(*task->explanations).rows[priority_index(task->rank)].fetch_sub(1, std::memory_order_relaxed);
  task->explanations->count(result.status);
  if (task->row == kNoSlot) {
    if (result.status == ExplanationStatus::kGiven) task->recorded.audit->append_explanation(task->record_head, result.record);
    return;
  }
  Slot& slot = calls_.slab()[task->row];
  slot.explanation->status = result.status;
  slot.explanation->answer = std::move(result.answer);
  slot.explanation->record = std::move(result.record);
  slot.stamp(Stamp::kExplained) = slot.stamp(Stamp::kCommitted) = clock_.now_ns();
  recorder_.end(task->recorded, {task->row}, completions_);
}

// --- the end

void Explanations::drain() noexcept {
  is_draining_.store(true, std::memory_order_relaxed);
  tell();
}

void Explanations::stop() noexcept {
  {
    const std::lock_guard<std::mutex> lock(enabling_);
    is_stopping_.store(true, std::memory_order_release);
  }
  tell();
  if (thread_.joinable()) thread_.join();
  take_new();
  for (Line* const line : {&computed_, &asked_}) end_all(*line);
  completions_.flush();
  for (Line* const line : {&computed_, &asked_}) {
    for (Place& place : line->places) place.desk->stop();
  }
}

// Nothing that is on its way is explained any more, but every row ends.
void Explanations::end_all(Line& line) noexcept {
  while (std::unique_ptr<Task> task = line.next()) end(std::move(task), became(ExplanationStatus::kShed));
  for (Place& place : line.places) {
    if (place.task != nullptr) end(std::move(place.task), became(ExplanationStatus::kShed));
  }
}

size_t Explanations::step() noexcept {
  take_new();
  const int64_t now_ns = clock_.now_ns();
  size_t ended = take_results(asked_, now_ns);
  for (Line* const line : {&computed_, &asked_}) ended += give_up_late(*line, now_ns);
  ended += compute_waiting();
  give_work(asked_);
  completions_.flush();
  return ended;
}

// On this thread.
size_t Explanations::compute_waiting() noexcept {
  size_t ended = 0;
  while (std::unique_ptr<Task> task = computed_.next()) {
    const ExplainJob job = std::move(task->job);
    settle(std::move(task), explain_row(job));
    ++ended;
  }
  return ended;
}

ExplainStats Explanations::stats() const noexcept {
  ExplainStats stats;
  const std::lock_guard<std::mutex> lock(enabling_);
  stats.queued_rows = computed_.rows_before(kPriorityCount - 1) + asked_.rows_before(kPriorityCount - 1);
  for (const Place& place : computed_.places) stats.threads += place.desk->is_alive();
  stats.is_suspended = breaker_.is_open();
  return stats;
}

}  // namespace assay
