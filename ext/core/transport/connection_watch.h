// ConnectionWatch: when a connection is greeted, pinged, asked to go away and closed.
//
//   accepted --settings--> open --age, idleness, drain--> noticed --the client's ping answer, or a wait--> leaving --calls end, or grace--> closed
//      `-- no settings in time: closed          `-- silent: pinged; still silent: closed
#pragma once

#include <cstdint>

#include "core/transport/close_reason.h"
#include "core/transport/timer_heap.h"
#include "core/transport/transport_options.h"

namespace assay {

// What the watch may ask of its connection.
class Watched {
 public:
  virtual void send_ping() noexcept = 0;
  virtual void send_notice() noexcept = 0;                 // GOAWAY without an end, and a ping: the client opens no more streams
  virtual void send_goaway(const char* why) noexcept = 0;  // GOAWAY with the last stream that is answered
  virtual void kill(CloseReason why) noexcept = 0;         // closes now; may destroy the watch

 protected:
  ~Watched() = default;
};

class ConnectionWatch {
 public:
  // `age_share`: 0..1, spreads the age of connections over 0.9 to 1.1 of the limit.
  ConnectionWatch(Watched& watched, TimerHeap& timers, const TransportOptions& options, int64_t now_ns, double age_share);
  ~ConnectionWatch();

  void on_bytes(int64_t now_ns) noexcept { heard_ns_ = now_ns; }
  void on_settings(int64_t now_ns);
  void on_streams(size_t count, int64_t now_ns);  // open streams, whenever that turns 0 or was 0
  void on_notice_answered(int64_t now_ns);        // the ping of send_notice()
  // The server sent headers or data: a ping beside them is how clients measure the path, and no strike.
  void on_answer_sent() noexcept { client_pinged_ns_ = 0; }
  // False: the client pings more often than it may, and was told so before.
  bool on_client_ping(int64_t now_ns) noexcept;
  // Asks the client to go; its calls get `grace_ns`. `why` is a literal, for the client's log.
  void send_away(int64_t now_ns, int64_t grace_ns, const char* why);
  bool is_leaving() const noexcept { return state_ >= State::kNoticed; }

 private:
  enum class State : uint8_t { kAccepted, kOpen, kNoticed, kLeaving };
  void on_handshake_time(int64_t now_ns) noexcept;
  void on_silence_time(int64_t now_ns) noexcept;
  void on_idle_time(int64_t now_ns) noexcept;
  void on_age_time(int64_t now_ns) noexcept;
  void on_leave_time(int64_t now_ns) noexcept;
  void on_grace_time(int64_t now_ns) noexcept;

  Watched& watched_;
  TimerHeap& timers_;
  const TransportOptions& options_;
  State state_ = State::kAccepted;
  int64_t heard_ns_;
  int64_t pinged_ns_ = 0;  // 0: no ping is out
  int64_t client_pinged_ns_ = 0;
  const char* why_ = "";
  int ping_strikes_ = 0;
  MemberTimer<ConnectionWatch, &ConnectionWatch::on_handshake_time> handshake_{*this};
  MemberTimer<ConnectionWatch, &ConnectionWatch::on_silence_time> silence_{*this};
  MemberTimer<ConnectionWatch, &ConnectionWatch::on_idle_time> idle_{*this};
  MemberTimer<ConnectionWatch, &ConnectionWatch::on_age_time> age_{*this};
  MemberTimer<ConnectionWatch, &ConnectionWatch::on_leave_time> leave_{*this};
  MemberTimer<ConnectionWatch, &ConnectionWatch::on_grace_time> grace_{*this};
};

}  // namespace assay
