#include "core/serving/shadow.h"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>
#include <system_error>

#include "core/base/alt_stack.h"
#include "core/base/signals_blocked.h"
#include "core/serving/admission.h"
#include "core/serving/calls.h"
#include "core/serving/lane.h"
#include "core/serving/route.h"

namespace assay {
namespace {

constexpr std::string_view kSalt = "@shadow";
constexpr uint64_t kStopToken = UINT64_MAX;
// How long the first of a batch waits for others. A wake costs the champion's thread more than its copy: so at most a few hundred a
// second.
constexpr std::chrono::milliseconds kGather{2};
// After a batch the thread rests so many times as long as that took. On a machine with time to spare a batch is quick, and so is the
// rest; on a busy one the idle runner waits for its turn, and the rest grows: the champion's caches are its own most of the time.
constexpr int kRest = 4;
constexpr std::chrono::milliseconds kRestMax{20};

// For want of room, time, a store or a log: nothing of it is the model's doing.
bool is_shed(Code code) noexcept {
  switch (code) {
    case Code::kDeadlineExceeded:
    case Code::kShed:
    case Code::kSlotsExhausted:
    case Code::kQueueFull:
    case Code::kQueueTooLong:
    case Code::kDraining:
    case Code::kStoreUnavailable:
    case Code::kAuditUnavailable:
    case Code::kCancelled: return true;
    default: return false;
  }
}

}  // namespace

ShadowCopy::~ShadowCopy() { shadow->held_bytes_.fetch_sub(bytes.size(), std::memory_order_relaxed); }

Shadow::Shadow(std::shared_ptr<Lane> lane, ShadowShare share, CompletionQueue& replies, Admission& admission, Calls& calls)
    : lane_(std::move(lane)), share_(std::move(share)), replies_(replies), admission_(admission), calls_(calls) {
  begun_.reserve(kBatch);
}

Shadow::~Shadow() { ASSAY_ASSERT(!thread_.joinable()); }

Status Shadow::start() {
  const SignalsBlocked blocked;
  try {
    thread_ = std::thread([this] {
      const AltStack stack;
      serve();
    });
    pthread_setname_np(thread_.native_handle(), "assay-shadow");
  } catch (const std::system_error& error) {
    return Status(Code::kIo, std::string("the shadow's thread could not be started: ") + error.what());
  }
  return Status();
}

bool Shadow::is_wanted(std::string_view id) const noexcept {
  return share_.share >= 1.0 || is_in_share(lane_->model(), kSalt, id, share_.share);
}

std::unique_ptr<ShadowCopy> Shadow::copy(CallKind kind, std::string_view bytes) noexcept {
  if (has_room_.load(std::memory_order_relaxed)) {
    if (held_bytes_.fetch_add(bytes.size(), std::memory_order_relaxed) + bytes.size() <= kHeldBytesMax) {
      try {
        return std::make_unique<ShadowCopy>(shared_from_this(), kind, bytes);
      } catch (const std::bad_alloc&) {}
    }
    held_bytes_.fetch_sub(bytes.size(), std::memory_order_relaxed);
  }
  shed_rows_.add(1);
  return nullptr;
}

void Shadow::offer(std::unique_ptr<ShadowCopy> copy, double score, Decision decision) noexcept {
  copy->score = score;
  copy->decision = decision;
  const std::shared_ptr<Shadow> shadow = copy->shadow;
  if (!shadow->enqueue(copy)) shadow->shed_rows_.add(1);
}

bool Shadow::enqueue(std::unique_ptr<ShadowCopy>& copy) noexcept {
  bool is_wake_due = false;
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_draining_ || queue_.size() >= kQueueMax) return false;
    queue_.push_back(std::move(copy));
    note_room();
    is_wake_due = !is_resting_ && (queue_.size() == 1 || queue_.size() == kBatch);
  } catch (const std::bad_alloc&) { return false; }
  if (is_wake_due) work_.notify_one();
  return true;
}

// REQUIRES: mutex_ is held.
void Shadow::note_room() noexcept { has_room_.store(!is_draining_ && queue_.size() < kQueueMax, std::memory_order_relaxed); }

void Shadow::drain() noexcept {
  std::deque<std::unique_ptr<ShadowCopy>> dropped;  // goes after the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  is_draining_ = true;
  queue_.swap(dropped);
  note_room();
}

void Shadow::stop() noexcept {
  drain();
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  work_.notify_one();
  const Completion stop{kStopToken, 0};
  replies_.push(&stop, 1);
  thread_.join();
  std::vector<Completion> left;
  replies_.drain(left);  // the queue is used again: nothing of this shadow stays in it
}

ShadowStats Shadow::stats() const {
  ShadowStats stats;
  {
    const std::lock_guard<std::mutex> lock(compared_mutex_);
    stats = compared_;
  }
  stats.model = lane_->model();
  stats.version = lane_->version();
  stats.share = share_.share;
  stats.failed_rows = failed_rows_.get();
  stats.shed_rows = shed_rows_.get();
  stats.held_bytes = held_bytes_.load(std::memory_order_relaxed);
  return stats;
}

// --- on the thread

void Shadow::serve() noexcept {
  std::vector<std::unique_ptr<ShadowCopy>> copies;
  copies.reserve(kBatch);
  while (take(copies)) {
    const auto began = std::chrono::steady_clock::now();
    begun_.clear();
    left_ = 0;
    for (auto& copy : copies) begin(std::move(copy));
    copies.clear();
    await_begun();
    rest(std::chrono::steady_clock::now() - began);
  }
}

void Shadow::rest(std::chrono::nanoseconds worked) {
  std::unique_lock<std::mutex> lock(mutex_);
  is_resting_ = true;
  work_.wait_for(lock, std::min<std::chrono::nanoseconds>(kRest * worked, kRestMax), [this] { return is_stopping_.load(); });
  is_resting_ = false;
}

// Waits for work. False: the end.
bool Shadow::take(std::vector<std::unique_ptr<ShadowCopy>>& copies) {
  std::unique_lock<std::mutex> lock(mutex_);
  work_.wait(lock, [this] { return is_stopping_ || !queue_.empty(); });
  work_.wait_for(lock, kGather, [this] { return is_stopping_ || queue_.size() >= kBatch; });
  if (is_stopping_) return false;
  while (!queue_.empty() && copies.size() < kBatch) {
    copies.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  note_room();
  return true;
}

void Shadow::begin(std::unique_ptr<ShadowCopy> copy) {
  const SlabUse use = calls_.slab().use();
  if (use.used > calls_.slab().size() / 2) return shed_rows_.add(1);
  const Submission submission = admission_.submit_shadow(*copy, &replies_, begun_.size());
  if (submission.code != Code::kOk) return (is_shed(submission.code) ? shed_rows_ : failed_rows_).add(1);
  begun_.push_back({submission.call, std::move(copy)});
  ++left_;
}

// Until all have ended. A run that hangs holds this up; champions, and other shadows, go on.
void Shadow::await_begun() noexcept {
  std::vector<Completion> completions;
  while (left_ > 0) {
    if (is_stopping_) leave_begun();
    if (left_ == 0) return;
    pollfd readable{replies_.fd(), POLLIN, 0};
    poll(&readable, 1, -1);
    replies_.drain(completions);
    for (const Completion& completion : completions) settle(completion);
  }
}

// Gives up what still runs. What does not let itself be given up has ended, and its completion is on its way here.
void Shadow::leave_begun() noexcept {
  for (Begun& begun : begun_) {
    if (begun.copy == nullptr || !calls_.cancel(begun.call)) continue;
    begun.copy.reset();
    --left_;
  }
}

void Shadow::settle(const Completion& completion) noexcept {
  if (completion.token == kStopToken || !calls_.claim(completion.call)) return;
  const uint32_t head = slot_of(completion.call);
  const Slot& slot = calls_.slab()[head];
  const std::unique_ptr<ShadowCopy> copy = std::move(begun_[completion.token].copy);
  if (slot.outcome == Code::kOk) {
    compare(*copy, slot.score, slot.decision);
  } else {
    (is_shed(slot.outcome) ? shed_rows_ : failed_rows_).add(1);
  }
  calls_.release(head);
  --left_;
}

void Shadow::compare(const ShadowCopy& copy, double score, Decision decision) noexcept {
  const double difference = score - copy.score;
  const auto bound = std::lower_bound(kShadowDifferenceBounds.begin(), kShadowDifferenceBounds.end(), std::abs(difference));
  const std::lock_guard<std::mutex> lock(compared_mutex_);
  ++compared_.compared_rows;
  compared_.difference_sum += difference;
  ++compared_.differences[static_cast<size_t>(bound - kShadowDifferenceBounds.begin())];
  ++compared_.decisions[static_cast<size_t>(copy.decision)][static_cast<size_t>(decision)];
}

}  // namespace assay
