#include "core/load/load_run.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/load/call_headers.h"
#include "core/load/load_client.h"

namespace assay::load {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kSpinNs = 200'000;  // longer than a sleeping thread takes to wake up
// To wake up for each of many calls would take the core from whoever shares it: the server, more often than not. What it makes
// calls late is counted, in their latencies and in the lag.
constexpr int64_t kGatherNs = 100'000;
constexpr double kGatherRateMin = 10'000;      // calls a second of one thread: fewer are sent one by one
constexpr int64_t kStartDelayNs = 10'000'000;  // for all threads to be there

double thread_cpu_s() noexcept {
  timespec used{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

Status wrong(std::string detail) { return Status(Code::kInvalidRequest, std::move(detail)); }

Status check_numbers(const LoadOptions& options) {
  using Limits = LoadLimits;
  const bool is_open = options.arrivals != static_cast<uint8_t>(ArrivalKind::kClosedLoop);
  const uint64_t open_calls = uint64_t{options.connections} * options.streams;
  if (options.arrivals > static_cast<uint8_t>(ArrivalKind::kPoisson)) return wrong("arrivals: no such kind");
  if (options.threads < 1 || options.threads > Limits::kThreadsMax) return wrong("threads: expected 1 to 64");
  if (options.connections < options.threads || options.connections > Limits::kConnectionsMax) {
    return wrong("connections: expected as many as threads or more, up to 4,096");
  }
  if (options.streams < 1 || options.streams > Limits::kStreamsMax) return wrong("streams: expected 1 to 4,096");
  if (open_calls > Limits::kOpenCallsMax) return wrong("connections x streams: expected at most 1,048,576");
  if (is_open && !(options.rate_per_s >= 0.001 && options.rate_per_s <= Limits::kRateMax)) {
    return wrong("rate: expected 0.001 to 10,000,000 calls a second");
  }
  if (options.backlog_max < 1 || options.backlog_max > Limits::kBacklogMax)
    return wrong("backlog: expected 1 to 16,777,216 calls");
  const auto is_time = [](int64_t ns) { return ns >= 0 && ns <= Limits::kDurationNsMax; };
  if (!is_time(options.duration_ns) || options.duration_ns == 0) return wrong("duration: expected more than 0 and up to a day");
  if (!is_time(options.warm_up_ns) || !is_time(options.drain_ns_max) || !is_time(options.timeout_ns)) {
    return wrong("warm-up, drain and timeout: expected 0 up to a day");
  }
  return {};
}

}  // namespace

class LoadRun::Impl {
 public:
  Impl(LoadOptions options, std::shared_ptr<const MessageFile> messages)
      : options_(std::move(options)),
        messages_(std::move(messages)),
        series_(options_.threads, static_cast<size_t>(total_ns() / kSecondNs) + 2) {}

  ~Impl() {
    stop();
    join();
  }

  Status start() {
    phase_ = LoadPhase::kConnecting;
    Target target;
    Status status = find_target(options_.target, &target);
    if (status.ok()) status = find_address(target, options_.connect_timeout_ns, &settings_.address);
    if (status.ok()) status = make_call_headers(options_, target, &settings_.headers);
    if (!status.ok()) return status;
    settings_.streams_max = options_.streams;
    settings_.timeout_ns = options_.timeout_ns;
    status = make_streams(target);
    if (status.ok()) status = connect(target);
    if (status.ok()) run();
    return status;
  }

  LoadProgress progress() const {
    LoadProgress found;
    found.phase = phase_.load();
    if (found.phase < LoadPhase::kWarmUp) return found;
    const int64_t now_ns = clock_.now_ns();
    found.elapsed_s = static_cast<double>(std::max<int64_t>(now_ns - start_ns_, 0)) * 1e-9;
    if (found.phase != LoadPhase::kEnded) found.phase = phase_at(now_ns);
    for (const auto& client : clients_) {
      const LiveCounts& live = client->tally().live();
      found.sent += live.sent.get();
      found.ended += live.ended.get();
      found.ok += live.ok.get();
      found.in_flight += live.in_flight.get();
      found.backlog += live.backlog.get();
    }
    found.last_second = series_.last();
    return found;
  }

  void stop() {
    is_stopping_ = true;
    if (phase_.load() < LoadPhase::kWarmUp) return;  // run() looks
    for (const auto& client : clients_) client->stop();
  }

  bool wait(int64_t timeout_ns) {
    std::unique_lock<std::mutex> lock(mutex_);
    return ended_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), [&] { return running_ == 0; });
  }

  LoadResult result() {
    join();
    series_.finish();
    LoadResult result;
    result.duration_s = static_cast<double>(options_.duration_ns) * 1e-9;
    for (const auto& client : clients_) add(*client, &result);
    for (const Outcome outcome :
         {Outcome::kDeadlineExceeded, Outcome::kReset, Outcome::kConnectionLost, Outcome::kTimedOut, Outcome::kUnanswered}) {
      result.lost += result.outcomes[static_cast<size_t>(outcome)];
    }
    result.lost += result.dropped + result.unsent;
    for (const double cpu_s : cpu_s_) result.cpu_s += cpu_s;
    result.seconds = series_.seconds();
    return result;
  }

  size_t message_count() const noexcept { return messages_->count(); }

 private:
  int64_t total_ns() const noexcept { return options_.warm_up_ns + options_.duration_ns + options_.drain_ns_max; }

  LoadPhase phase_at(int64_t now_ns) const noexcept {
    if (now_ns < window_.start_ns) return LoadPhase::kWarmUp;
    return now_ns < window_.end_ns ? LoadPhase::kMeasuring : LoadPhase::kDraining;
  }

  Status make_streams(const Target& target) {
    if (!options_.is_tls) {
      stream_maker_ = std::make_unique<PlainStreamMaker>();
    } else {
      std::shared_ptr<const TlsClientContext> context;
      const Status status =
          TlsClientContext::make({options_.tls_authorities, options_.tls_certificate, options_.tls_key}, &context);
      if (!status.ok()) return status;
      const std::string& name = options_.tls_server_name.empty() ? target.host : options_.tls_server_name;
      stream_maker_ = std::make_unique<TlsStreamMaker>(std::move(context), name.empty() ? "localhost" : name);
    }
    settings_.stream_maker = stream_maker_.get();
    return {};
  }

  Status connect(const Target& target) {
    for (uint32_t i = 0; i < options_.threads; ++i) {
      auto client = std::make_unique<LoadClient>(share_of(i), settings_, messages_, series_, clock_);
      const Status status = client->connect(options_.connect_timeout_ns);
      if (!status.ok()) return Status(status.code, target.text + ": " + status.detail);
      clients_.push_back(std::move(client));
    }
    return {};
  }

  // Connections, arrivals, messages and the backlog are dealt out evenly.
  ClientShare share_of(uint32_t thread) const noexcept {
    const uint32_t threads = options_.threads;
    ClientShare share;
    share.connections = options_.connections / threads + (thread < options_.connections % threads);
    share.arrivals = static_cast<ArrivalKind>(options_.arrivals);
    share.rate_per_s = options_.rate_per_s / threads;
    share.phase = static_cast<double>(thread) / threads;
    share.seed = options_.seed + thread * 0x9e3779b97f4a7c15;
    share.backlog_max = static_cast<size_t>((options_.backlog_max + threads - 1) / threads);
    share.spin_ns = options_.spins ? kSpinNs : 0;
    share.gather_ns = !options_.spins && share.rate_per_s > kGatherRateMin ? kGatherNs : 0;
    share.drain_ns_max = options_.drain_ns_max;
    share.is_shuffled = options_.is_shuffled;
    share.first_message = messages_->count() * thread / threads;
    return share;
  }

  void run() {
    start_ns_ = clock_.now_ns() + kStartDelayNs;
    window_.start_ns = start_ns_ + options_.warm_up_ns;
    window_.end_ns = window_.start_ns + options_.duration_ns;
    for (const auto& client : clients_) client->begin(start_ns_, window_);
    cpu_s_.assign(clients_.size(), 0);
    running_ = clients_.size();
    phase_ = LoadPhase::kWarmUp;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for whoever made the run
    for (size_t i = 0; i < clients_.size(); ++i) threads_.emplace_back([this, i] { run_client(i); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (is_stopping_) stop();
  }

  void run_client(size_t index) {
    LoadClient& client = *clients_[index];
    double cpu_at_start_s = -1, cpu_at_end_s = -1;
    while (client.turn(true)) {
      const int64_t now_ns = clock_.now_ns();
      if (cpu_at_start_s < 0 && now_ns >= window_.start_ns) cpu_at_start_s = thread_cpu_s();
      if (cpu_at_end_s < 0 && now_ns >= window_.end_ns) cpu_at_end_s = thread_cpu_s();
    }
    if (cpu_at_end_s < 0) cpu_at_end_s = thread_cpu_s();
    cpu_s_[index] = cpu_at_start_s < 0 ? 0 : cpu_at_end_s - cpu_at_start_s;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      --running_;
      if (running_ == 0) phase_ = LoadPhase::kEnded;
    }
    ended_.notify_all();
  }

  void join() {
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  static void add(const LoadClient& client, LoadResult* result) {
    const Counted& counted = client.tally().counted();
    const LiveCounts& live = client.tally().live();
    const Window& window = client.tally().window();
    result->duration_s =
        std::min(result->duration_s, static_cast<double>(std::max<int64_t>(window.end_ns - window.start_ns, 0)) * 1e-9);
    result->ok.merge(counted.ok);
    result->failed.merge(counted.failed);
    uint64_t ended = 0;
    for (size_t i = 0; i < kOutcomeCount; ++i) {
      ended += counted.outcomes[i];
      result->outcomes[i] += counted.outcomes[i];
      if (result->messages[i].empty()) result->messages[i] = counted.messages[i];
    }
    result->ok_in_window += counted.ok_in_window;
    result->unsent += client.unsent();
    if (const OpenLoop* const open = client.open_loop()) {
      result->offered += open->offered();
      result->dropped += open->dropped();
      result->lag.merge(open->lag());
    } else {
      result->offered += ended;
    }
    result->in_flight_max += live.in_flight_max.get();
    result->reconnects += live.reconnects.get();
    result->sent += live.sent.get();
    result->sent_bytes += live.sent_bytes.get();
    result->received_bytes += live.received_bytes.get();
    if (result->failure.empty()) result->failure = client.failure();
  }

  const LoadOptions options_;
  const SystemClock clock_;
  std::shared_ptr<const MessageFile> messages_;
  std::unique_ptr<StreamMaker> stream_maker_;
  ConnectionSettings settings_;
  SecondSeries series_;
  std::vector<std::unique_ptr<LoadClient>> clients_;
  std::atomic<LoadPhase> phase_{LoadPhase::kNew};  // from kWarmUp on, clients_ stays as it is
  std::atomic<bool> is_stopping_{false};
  int64_t start_ns_ = 0;
  Window window_;
  std::vector<double> cpu_s_;  // of each thread; its own until it ends
  std::mutex mutex_;
  std::condition_variable ended_;
  size_t running_ = 0;  // guarded by mutex_
  std::vector<std::thread> threads_;
};

LoadRun::LoadRun(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LoadRun::~LoadRun() = default;

Status LoadRun::create(LoadOptions options, std::unique_ptr<LoadRun>* out) noexcept {
  Status status = check_numbers(options);
  if (status.ok()) status = check_call_headers(options);
  std::shared_ptr<const MessageFile> messages;
  if (status.ok()) status = MessageFile::read(options.messages, &messages);
  if (!status.ok()) return status;
  out->reset(new LoadRun(std::make_unique<Impl>(std::move(options), std::move(messages))));
  return {};
}

Status LoadRun::start() noexcept { return impl_->start(); }
LoadProgress LoadRun::progress() const noexcept { return impl_->progress(); }
void LoadRun::stop() noexcept { impl_->stop(); }
bool LoadRun::wait(int64_t timeout_ns) noexcept { return impl_->wait(timeout_ns); }
LoadResult LoadRun::result() noexcept { return impl_->result(); }
size_t LoadRun::message_count() const noexcept { return impl_->message_count(); }

}  // namespace assay::load
