#include "core/transport/connection_watch.h"

#include <algorithm>

namespace assay {
namespace {

constexpr int kPingStrikesMax = 2;               // as gRPC's own servers have it
constexpr int64_t kNoticeNsMax = 1'000'000'000;  // for the answer to the notice's ping

}  // namespace

ConnectionWatch::ConnectionWatch(Watched& watched, TimerHeap& timers, const TransportOptions& options, int64_t now_ns,
                                 double age_share)
    : watched_(watched), timers_(timers), options_(options), heard_ns_(now_ns) {
  timers_.set(handshake_, now_ns + options_.handshake_ns_max);
  if (options_.age_ns_max > 0) {
    timers_.set(age_, now_ns + static_cast<int64_t>(static_cast<double>(options_.age_ns_max) * (0.9 + 0.2 * age_share)));
  }
}

ConnectionWatch::~ConnectionWatch() {
  for (Timer* timer : {static_cast<Timer*>(&handshake_), static_cast<Timer*>(&silence_), static_cast<Timer*>(&idle_),
                       static_cast<Timer*>(&age_), static_cast<Timer*>(&leave_), static_cast<Timer*>(&grace_)}) {
    timers_.cancel(*timer);
  }
}

void ConnectionWatch::on_settings(int64_t now_ns) {
  if (state_ != State::kAccepted) return;
  state_ = State::kOpen;
  timers_.cancel(handshake_);
  timers_.set(silence_, now_ns + options_.keepalive_ns);
  on_streams(0, now_ns);
}

void ConnectionWatch::on_streams(size_t count, int64_t now_ns) {
  if (options_.idle_ns_max == 0) return;
  if (count > 0) {
    timers_.cancel(idle_);
  } else if (state_ == State::kOpen) {
    timers_.set(idle_, now_ns + options_.idle_ns_max);
  }
}

bool ConnectionWatch::on_client_ping(int64_t now_ns) noexcept {
  const bool is_early = client_pinged_ns_ != 0 && now_ns - client_pinged_ns_ < options_.ping_interval_ns_min;
  client_pinged_ns_ = now_ns;
  if (is_early) {
    ++ping_strikes_;
  } else {
    ping_strikes_ = 0;
  }
  return ping_strikes_ <= kPingStrikesMax;
}

void ConnectionWatch::send_away(int64_t now_ns, int64_t grace_ns, const char* why) {
  if (state_ == State::kAccepted) return watched_.kill(CloseReason::kDrained);
  const int64_t end_ns = now_ns + grace_ns;
  if (!grace_.is_set() || end_ns < grace_.due_ns()) timers_.set(grace_, end_ns);
  if (is_leaving()) return;
  state_ = State::kNoticed;
  why_ = why;
  timers_.cancel(idle_);
  timers_.cancel(age_);
  timers_.set(leave_, now_ns + kNoticeNsMax);
  watched_.send_notice();
}

void ConnectionWatch::on_notice_answered(int64_t now_ns) {
  if (state_ == State::kNoticed) on_leave_time(now_ns);
}

void ConnectionWatch::on_handshake_time(int64_t) noexcept { watched_.kill(CloseReason::kHandshake); }

void ConnectionWatch::on_silence_time(int64_t now_ns) noexcept {
  if (pinged_ns_ != 0 && heard_ns_ <= pinged_ns_) return watched_.kill(CloseReason::kKeepalive);
  const bool is_silent = now_ns - heard_ns_ >= options_.keepalive_ns;
  pinged_ns_ = is_silent ? now_ns : 0;
  timers_.set(silence_, is_silent ? now_ns + options_.keepalive_timeout_ns : heard_ns_ + options_.keepalive_ns);
  if (is_silent) watched_.send_ping();
}

void ConnectionWatch::on_idle_time(int64_t now_ns) noexcept { send_away(now_ns, options_.age_grace_ns, "connection idle"); }

void ConnectionWatch::on_age_time(int64_t now_ns) noexcept { send_away(now_ns, options_.age_grace_ns, "max_age"); }

void ConnectionWatch::on_leave_time(int64_t) noexcept {
  state_ = State::kLeaving;
  timers_.cancel(leave_);
  watched_.send_goaway(why_);
}

void ConnectionWatch::on_grace_time(int64_t) noexcept { watched_.kill(CloseReason::kGrace); }

}  // namespace assay
