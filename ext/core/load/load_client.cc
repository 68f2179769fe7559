#include "core/load/load_client.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/base/seeded_random.h"

namespace assay::load {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr int kEventsMax = 64;
constexpr int64_t kWaitNsMax = 100'000'000;
constexpr int64_t kTickNs = 1'000'000;          // where calls have a timeout
constexpr int64_t kAwayNsMax = 10'000'000'000;  // without any connection before a run gives up
constexpr int64_t kStopDrainNsMax = 1'000'000'000;

}  // namespace

LoadClient::LoadClient(const ClientShare& share, const ConnectionSettings& settings, std::shared_ptr<const MessageFile> messages,
                       SecondSeries& series, const Clock& clock)
    : share_(share),
      clock_(clock),
      messages_(std::move(messages)),
      tally_(series),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      timer_fd_(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)),
      read_buffer_(kReadBytes),
      random_state_(share.seed),
      next_message_(share.first_message % messages_->count()),
      drain_ns_max_(share.drain_ns_max),
      tick_ns_(settings.timeout_ns > 0 ? kTickNs : kWaitNsMax) {
  ASSAY_ASSERT(epoll_fd_ >= 0 && timer_fd_ >= 0);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // told once a time it was set for, so that it need not be read
  ASSAY_ASSERT(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, timer_fd_, &event) == 0);
  for (uint32_t i = 0; i < share.connections; ++i) {
    connections_.push_back(std::make_unique<LoadConnection>(settings, tally_, epoll_fd_, read_buffer_));
  }
}

LoadClient::~LoadClient() {
  connections_.clear();
  ::close(timer_fd_);
  ::close(epoll_fd_);
}

Status LoadClient::connect(int64_t timeout_ns) {
  const int64_t give_up_ns = clock_.now_ns() + timeout_ns;
  for (auto& connection : connections_) {
    connection->connect(clock_.now_ns());
    touch(*connection);
  }
  next_tick_ns_ = give_up_ns;
  size_t open_count = 0;
  while (open_count < connections_.size()) {
    now_ns_ = clock_.now_ns();
    flush();
    open_count = 0;
    for (auto& connection : connections_) {
      if (connection->state() == LoadConnection::State::kDown) return Status(Code::kIo, connection->failure());
      open_count += connection->state() == LoadConnection::State::kOpen;
    }
    if (now_ns_ > give_up_ns) return Status(Code::kIo, "no answer to the connection: does it speak HTTP/2 (gRPC)?");
    if (open_count < connections_.size()) wait(true);
  }
  return {};
}

void LoadClient::begin(int64_t start_ns, const Window& window) {
  start_ns_ = start_ns;
  end_ns_ = window.end_ns;
  tally_.begin(start_ns, window);
  next_tick_ns_ = start_ns;  // touches all connections
  if (share_.arrivals == ArrivalKind::kClosedLoop) return;
  const ArrivalSchedule schedule(share_.arrivals, share_.rate_per_s, start_ns, end_ns_, share_.seed, share_.phase);
  open_.emplace(schedule, share_.backlog_max, window);
}

bool LoadClient::turn(bool may_wait) {
  now_ns_ = clock_.now_ns();
  tally_.advance(now_ns_);
  if (is_stopping_.load(std::memory_order_relaxed) && !is_stopped_) take_stop();
  if (now_ns_ >= next_tick_ns_) tick();
  send();
  flush();
  if (is_over()) return false;
  wait(may_wait);
  return true;
}

// --- implementation ---

void LoadClient::send() {
  if (now_ns_ < start_ns_) return;
  if (open_) return send_open();
  if (now_ns_ >= end_ns_) return;
  for (LoadConnection* const connection : touched_) send_closed(*connection);
}

void LoadClient::send_open() {
  open_->advance(now_ns_);
  if (open_->backlog() > 0 && ++next_connection_ == connections_.size()) next_connection_ = 0;
  while (open_->backlog() > 0) {
    LoadConnection* const connection = find_room();
    if (connection == nullptr) break;
    open_call(*connection, open_->take());
    touch(*connection);
  }
  tally_.live().backlog.set(open_->backlog());
}

void LoadClient::send_closed(LoadConnection& connection) {
  while (connection.room() > 0) open_call(connection, now_ns_);
}

// Connections take turns: what one turn sends goes to one of them, as long as it has room. Null: all streams are busy.
LoadConnection* LoadClient::find_room() noexcept {
  for (size_t tried = 0; tried < connections_.size(); ++tried) {
    LoadConnection& connection = *connections_[next_connection_];
    if (connection.room() > 0) return &connection;
    if (++next_connection_ == connections_.size()) next_connection_ = 0;
  }
  return nullptr;
}

void LoadClient::open_call(LoadConnection& connection, int64_t intended_ns) {
  connection.open_call(next_frame(), intended_ns, now_ns_);
}

std::string_view LoadClient::next_frame() noexcept {
  const size_t index = next_message_;
  if (share_.is_shuffled) {
    next_message_ = random_next(random_state_) % messages_->count();
  } else if (++next_message_ == messages_->count()) {
    next_message_ = 0;
  }
  return messages_->frame(index);
}

void LoadClient::flush() {
  for (LoadConnection* const connection : touched_) {
    connection->is_touched = false;
    connection->flush(now_ns_);
    if (connection->state() == LoadConnection::State::kDown) next_tick_ns_ = now_ns_;
  }
  touched_.clear();
}

void LoadClient::tick() {
  bool is_away = true;
  bool is_mending = false;
  for (auto& connection : connections_) {
    connection->tick(now_ns_);
    touch(*connection);
    const bool is_open = connection->state() == LoadConnection::State::kOpen;
    is_away &= !is_open;
    is_mending |= !is_open;
  }
  away_since_ns_ = is_away ? (away_since_ns_ < 0 ? now_ns_ : away_since_ns_) : -1;
  next_tick_ns_ = now_ns_ + (is_mending ? kTickNs : tick_ns_);
}

void LoadClient::wait(bool may_wait) {
  const int64_t wake = may_wait ? wake_ns() : 0;
  const bool is_waiting = wake > now_ns_;
  if (is_waiting) arm(wake);
  epoll_event events[kEventsMax];
  const int count = epoll_wait(epoll_fd_, events, kEventsMax, is_waiting ? static_cast<int>(kWaitNsMax / 1'000'000) : 0);
  now_ns_ = clock_.now_ns();
  for (int i = 0; i < count; ++i) {
    auto* const connection = static_cast<LoadConnection*>(events[i].data.ptr);
    if (connection == nullptr) continue;  // the timer
    connection->on_ready(events[i].events, now_ns_);
    touch(*connection);
    if (connection->state() == LoadConnection::State::kDown) next_tick_ns_ = now_ns_;
    if (i + 1 < count) now_ns_ = clock_.now_ns();
  }
}

int64_t LoadClient::wake_ns() const noexcept {
  int64_t wake = std::min(now_ns_ + kWaitNsMax, next_tick_ns_);
  if (open_) wake = std::min(wake, open_->next_ns() + share_.gather_ns - share_.spin_ns);
  for (const int64_t edge : {start_ns_, tally_.window().start_ns, end_ns_, end_ns_ + drain_ns_max_}) {
    if (edge > now_ns_) wake = std::min(wake, edge);
  }
  return wake;
}

void LoadClient::arm(int64_t wake_ns) noexcept {
  if (wake_ns == armed_ns_) return;
  armed_ns_ = wake_ns;
  itimerspec when{};
  when.it_value.tv_sec = wake_ns / 1'000'000'000;
  when.it_value.tv_nsec = wake_ns % 1'000'000'000;
  ASSAY_ASSERT(timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &when, nullptr) == 0);
}

void LoadClient::touch(LoadConnection& connection) {
  if (connection.is_touched) return;
  connection.is_touched = true;
  touched_.push_back(&connection);
}

void LoadClient::take_stop() noexcept {
  is_stopped_ = true;
  end_ns_ = std::min(end_ns_, now_ns_);
  drain_ns_max_ = std::min(drain_ns_max_, kStopDrainNsMax);
  tally_.cut(end_ns_);
  if (open_) open_->end(end_ns_);
}

bool LoadClient::is_over() {
  const bool has_sent_all = now_ns_ >= end_ns_ && (!open_ || open_->backlog() == 0);
  if (has_sent_all && tally_.live().in_flight.get() == 0) return true;
  if (away_since_ns_ >= 0 && now_ns_ - away_since_ns_ >= kAwayNsMax) {
    failure_ = "no connection for 10 seconds: " + connections_.front()->failure();
  } else if (now_ns_ < end_ns_ + drain_ns_max_) {
    return false;
  }
  abandon();
  return true;
}

// What is still open or waiting has no answer.
void LoadClient::abandon() {
  tally_.cut(now_ns_ + 1);  // what was due now has been taken
  for (auto& connection : connections_) connection->close(Outcome::kUnanswered, connection->failure(), now_ns_);
  while (open_ && open_->backlog() > 0) unsent_ += tally_.window().contains(open_->take());
  tally_.live().backlog.set(0);
}

}  // namespace assay::load
