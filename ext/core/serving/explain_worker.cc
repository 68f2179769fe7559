#include "core/serving/explain_worker.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <new>
#include <system_error>

#include "core/base/alt_stack.h"
#include "core/base/signals_blocked.h"

namespace assay {
namespace {

constexpr int kLowestPriority = 19;  // of nice; idle by the kernel's book would be never on a busy machine
// Without memory there is no explanation, and a score all the same.
ExplainResult try_to_explain(const ExplainJob& job) noexcept {
  try {
    return explain_row(job);
  } catch (const std::bad_alloc&) { return {}; }
}

// For this thread. Where the kernel will not, it stays what it is: more in the way, not wrong.
void become_nice() noexcept { setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kLowestPriority); }

}  // namespace

ExplainResult explain_row(const ExplainJob& job) {
  thread_local explain::Attribution found;
  job.model->explainer->explain(job.row.data(), job.players, &found);
  return tell_explanation(job, found);
}

ExplainWorker::~ExplainWorker() { ASSAY_ASSERT(!thread_.joinable()); }

Status ExplainWorker::start() {
  if (thread_.joinable()) thread_.join();  // it has ended
  const SignalsBlocked blocked;
  is_alive_.store(true, std::memory_order_release);
  state_ = State::kIdle;
  try {
    thread_ = std::thread([this] {
      const AltStack stack;
      become_nice();
      serve();
      is_alive_.store(false, std::memory_order_release);
      tell();
    });
    pthread_setname_np(thread_.native_handle(), "assay-shapley");
  } catch (const std::system_error& error) {
    is_alive_.store(false, std::memory_order_release);
    return Status(Code::kIo, std::string("a thread for explanations could not be started: ") + error.what());
  }
  return Status();
}

void ExplainWorker::stop() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool ExplainWorker::is_idle() const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return state_ == State::kIdle && is_alive();
}

void ExplainWorker::give(ExplainJob job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ASSAY_ASSERT(state_ == State::kIdle);
    job_ = std::move(job);
    state_ = State::kBusy;
  }
  work_.notify_one();
}

bool ExplainWorker::take(int64_t, ExplainResult* result) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (state_ != State::kDone) return false;
  *result = std::move(result_);
  state_ = State::kIdle;
  return true;
}

// --- on the thread

void ExplainWorker::serve() noexcept {
  ExplainJob job;
  while (wait_for_job(&job)) {
    const int64_t began_ns = clock_.now_ns();
    const ExplainFaults::Fault fault = faults_ != nullptr ? faults_->next() : ExplainFaults::Fault::kNone;
    if (fault == ExplainFaults::Fault::kEnds) return;
    ExplainResult result = fault == ExplainFaults::Fault::kWrong ? ExplainResult() : try_to_explain(job);
    result.took_ns = clock_.now_ns() - began_ns;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      result_ = std::move(result);
      state_ = State::kDone;
    }
    tell();
  }
}

bool ExplainWorker::wait_for_job(ExplainJob* job) {
  std::unique_lock<std::mutex> lock(mutex_);
  work_.wait(lock, [this] { return is_stopping_ || state_ == State::kBusy; });
  if (is_stopping_) return false;
  *job = std::move(job_);
  return true;
}

void ExplainWorker::tell() noexcept {
  const uint64_t one = 1;
  (void)!write(done_fd_, &one, sizeof one);
}

}  // namespace assay
