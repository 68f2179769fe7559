// LoadConnection: one HTTP/2 connection of a load run, with at most `streams_max` unary gRPC calls open.
//
//   DOWN -> CONNECTING -> GREETING -> OPEN -> LEAVING -> DOWN
//
// GREETING waits for the server's SETTINGS: until then nobody knows how many streams it takes, or that it speaks HTTP/2 at all.
// LEAVING (a GOAWAY came, or stream numbers ran out) opens no calls and ends with its last one. A connection that left connects
// again at once, one that broke after 10 ms, then twice as long each time up to a second. One thread's.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/load/outcome.h"
#include "core/load/stream_maker.h"
#include "core/load/tally.h"
#include "core/load/target.h"
#include "core/transport/byte_stream.h"

namespace assay::load {

struct Header {
  std::string name;
  std::string value;
};

// What all connections of a run share. Must outlive them.
struct ConnectionSettings {
  Address address;
  std::vector<Header> headers;  // of each call, in order, pseudo-headers first
  uint32_t streams_max = 1;
  int64_t timeout_ns = 0;  // calls are reset this long after they were sent; 0: never
  const StreamMaker* stream_maker = nullptr;
};

class LoadConnection {
 public:
  enum class State : uint8_t { kDown, kConnecting, kGreeting, kOpen, kLeaving };

  // `epoll_fd` tells events with this object as data.ptr. `read_buffer` is shared by the thread's connections.
  LoadConnection(const ConnectionSettings& settings, Tally& tally, int epoll_fd, std::vector<uint8_t>& read_buffer);
  ~LoadConnection();
  LoadConnection(const LoadConnection&) = delete;
  LoadConnection& operator=(const LoadConnection&) = delete;

  State state() const noexcept { return state_; }
  const std::string& failure() const noexcept { return failure_; }  // why it went DOWN last

  void connect(int64_t now_ns);  // REQUIRES: DOWN
  // How many calls may be opened now.
  uint32_t room() const noexcept;
  // Opens a call that sends `frame` (which must outlive it). Nothing is written before flush(). REQUIRES: room() > 0.
  void open_call(std::string_view frame, int64_t intended_ns, int64_t now_ns);
  void on_ready(uint32_t events, int64_t now_ns);
  void flush(int64_t now_ns);
  // Resets calls that are over their timeout; gives up a greeting that takes too long; connects again when it is time.
  void tick(int64_t now_ns);
  // Ends the connection, and all open calls with `outcome`.
  void close(Outcome outcome, std::string why, int64_t now_ns);

  // For the owner's list of connections that may have something to send.
  bool is_touched = false;

 private:
  struct Call {
    int64_t intended_ns = 0;
    int64_t sent_ns = 0;
    const char* body = nullptr;
    size_t body_bytes = 0;
    size_t body_at = 0;
    size_t answer_bytes = 0;
    int32_t stream = 0;
    int32_t http_status = 0;
    int32_t grpc_status = -1;
    bool is_open = false;
    bool is_timed_out = false;
    std::string message;
    Call* older = nullptr;  // in the list of calls by time of sending
    Call* newer = nullptr;
  };
  struct Callbacks;  // nghttp2's

  void make_session();
  void on_connected(int64_t now_ns);
  bool has_more_to_write() const noexcept;  // REQUIRES: there is a session
  void write_all();
  void receive();
  void lose();
  bool take(const uint8_t* data, size_t size);
  void pull();
  void watch() noexcept;
  void leave() noexcept;
  void end_call(Call& call, Outcome outcome);
  static Outcome outcome_of(const Call& call, uint32_t error_code) noexcept;
  void append(Call& call) noexcept;
  void unlink(Call& call) noexcept;

  const ConnectionSettings& settings_;
  Tally& tally_;
  const int epoll_fd_;
  std::vector<uint8_t>& read_buffer_;
  std::vector<nghttp2_nv> headers_;  // views of settings_.headers

  State state_ = State::kDown;
  int fd_ = -1;
  std::unique_ptr<ByteStream> stream_;
  nghttp2_session* session_ = nullptr;
  uint32_t watched_ = 0;  // events that epoll was asked for
  std::vector<uint8_t> out_;
  size_t out_at_ = 0;  // what is before it has been written
  bool is_blocked_ = false;

  std::vector<Call> calls_;
  std::vector<Call*> free_;
  Call* oldest_ = nullptr;  // of those that may time out
  Call* newest_ = nullptr;
  uint32_t open_count_ = 0;
  uint32_t opened_count_ = 0;  // of this session
  uint32_t peer_streams_ = 0;  // that the server takes

  int64_t now_ns_ = 0;  // while nghttp2 calls back
  int64_t begun_ns_ = 0;
  int64_t retry_ns_ = 0;
  int64_t retry_delay_ns_ = 0;
  bool has_been_open_ = false;
  std::string failure_;
};

}  // namespace assay::load
