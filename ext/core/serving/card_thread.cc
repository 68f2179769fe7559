#include "core/serving/card_thread.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>

#include "core/base/alt_stack.h"
#include "core/base/signals_blocked.h"

namespace assay {

CardThread::CardThread(std::unique_ptr<Runner> runner, const Clock& clock) : shared_(std::make_shared<Shared>()), clock_(clock) {
  shared_->runner = std::move(runner);
  const SignalsBlocked blocked;
  thread_ = std::thread([shared = shared_] {
    const AltStack stack;
    serve(*shared);
  });
  pthread_setname_np(thread_.native_handle(), "assay-card");
}

CardThread::~CardThread() {
  bool is_idle = false;
  {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    is_idle = shared_->state != State::kRunning;
    shared_->state = State::kEnding;
  }
  shared_->changed.notify_all();
  if (is_idle) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

std::optional<Status> CardThread::run(size_t count, int64_t give_up_ns) noexcept {
  std::unique_lock<std::mutex> lock(shared_->mutex);
  ASSAY_ASSERT(!is_given_up_ && shared_->state == State::kIdle);
  shared_->count = count;
  shared_->state = State::kRunning;
  shared_->changed.notify_all();
  while (shared_->state == State::kRunning) {
    const int64_t left_ns = give_up_ns - clock_.now_ns();
    if (left_ns <= 0) {
      is_given_up_ = true;
      return std::nullopt;
    }
    shared_->changed.wait_for(lock, std::chrono::nanoseconds(left_ns));
  }
  shared_->state = State::kIdle;
  return std::move(shared_->status);
}

std::optional<Status> CardThread::take_late() noexcept {
  const std::lock_guard<std::mutex> lock(shared_->mutex);
  if (!is_given_up_ || shared_->state != State::kDone) return std::nullopt;
  is_given_up_ = false;
  shared_->state = State::kIdle;
  return std::move(shared_->status);
}

void CardThread::serve(Shared& shared) noexcept {
  std::unique_lock<std::mutex> lock(shared.mutex);
  for (;;) {
    shared.changed.wait(lock, [&] { return shared.state == State::kRunning || shared.state == State::kEnding; });
    if (shared.state == State::kEnding) return;
    lock.unlock();
    Status status = shared.runner->run(shared.count);
    lock.lock();
    if (shared.state == State::kEnding) return;
    shared.status = std::move(status);
    shared.state = State::kDone;
    shared.changed.notify_all();
  }
}

}  // namespace assay
