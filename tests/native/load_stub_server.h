// A gRPC server of one thread that answers every call with the same bytes, for tests of the load generator. It can stall, and the
// last part of a method says how it fails: Ok, Unavailable (trailers only), Late (status after data), NoStatus, NoMessage, Http503,
// Reset, Silent.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace stub {

struct Behaviour {
  uint32_t streams_max = 1000;  // SETTINGS_MAX_CONCURRENT_STREAMS
  uint64_t goaway_after = 0;    // calls of a connection, then GOAWAY; 0: never
  uint64_t hang_up_after = 0;   // calls of a connection, then it is closed; 0: never
  bool keeps_messages = false;  // for bodies()
  std::string greeting;         // sent instead of HTTP/2
};

class Server;

struct Stream {
  std::string path;
  std::string timeout;
  std::string extra;
  std::string body;
};

struct Connection {
  Connection(Server& server, int fd) : server(server), fd(fd) {}
  ~Connection() {
    nghttp2_session_del(session);
    ::close(fd);
  }
  Server& server;
  int fd;
  nghttp2_session* session = nullptr;
  std::string out;
  uint64_t calls = 0;
  bool is_ending = false;
  std::unordered_map<int32_t, std::unique_ptr<Stream>> streams;
};

class Server {
 public:
  // `unix_path` empty: a port of loopback.
  explicit Server(Behaviour behaviour = {}, const std::string& unix_path = {})
      : behaviour_(std::move(behaviour)), unix_path_(unix_path) {
    if (unix_path.empty()) {
      listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t size = sizeof address;
      ASSAY_ASSERT(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
      ASSAY_ASSERT(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
      port_ = ntohs(address.sin_port);
    } else {
      listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strncpy(address.sun_path, unix_path.c_str(), sizeof address.sun_path - 1);
      ::unlink(unix_path.c_str());
      ASSAY_ASSERT(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    }
    ASSAY_ASSERT(::listen(listener_, 64) == 0);
  }
  ~Server() {
    pause();
    connections_.clear();
    ::close(listener_);
    if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
  }

  std::string target() const { return unix_path_.empty() ? "127.0.0.1:" + std::to_string(port_) : "unix:" + unix_path_; }
  // Serves in a thread of its own until pause().
  void serve() {
    is_serving_ = true;
    thread_ = std::thread([this] {
      while (is_serving_.load()) step(20);
    });
  }
  void pause() {
    is_serving_ = false;
    if (thread_.joinable()) thread_.join();
  }
  // Nobody listens any more, and all connections end. REQUIRES: it does not serve.
  void leave() {
    connections_.clear();
    ::shutdown(listener_, SHUT_RDWR);
  }
  // The serving thread sleeps so long, once: from stalled_from_ns to woke_ns. At stalled_to_ns it has answered what waited.
  void stall(int64_t ns) { stall_ns_ = ns; }
  std::atomic<int64_t> stalled_from_ns{0}, woke_ns{0}, stalled_to_ns{0};
  std::atomic<uint64_t> call_count{0}, connection_count{0};
  std::vector<std::string> bodies;  // after pause(), where it keeps messages
  std::string last_timeout, last_extra;

  // Serves what is ready; waits at most so long for it.
  void step(int wait_ms) {
    const int64_t ns = stall_ns_.exchange(0);
    if (ns > 0) {
      stalled_from_ns = assay::SystemClock::instance().now_ns();
      std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
      woke_ns = assay::SystemClock::instance().now_ns();
    }
    serve_ready(wait_ms);
    if (ns > 0) stalled_to_ns = assay::SystemClock::instance().now_ns();
  }

 private:
  static constexpr char kAnswer[] = "\0\0\0\0\4\10\1\20\2";  // four bytes behind gRPC's five
  static constexpr size_t kAnswerBytes = sizeof kAnswer - 1;

  void serve_ready(int wait_ms) {
    std::vector<pollfd> waiting{{listener_, POLLIN, 0}};
    for (const auto& connection : connections_) {
      waiting.push_back({connection->fd, static_cast<short>(connection->out.empty() ? POLLIN : POLLIN | POLLOUT), 0});
    }
    if (::poll(waiting.data(), waiting.size(), wait_ms) <= 0) return;
    std::vector<std::unique_ptr<Connection>> kept;
    for (size_t i = 0; i < connections_.size(); ++i) {
      if (waiting[i + 1].revents == 0 || serve_connection(*connections_[i])) kept.push_back(std::move(connections_[i]));
    }
    connections_ = std::move(kept);
    if (waiting[0].revents != 0) accept();
  }

  void accept() {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ++connection_count;
    connections_.push_back(std::make_unique<Connection>(*this, fd));
    Connection& connection = *connections_.back();
    if (!behaviour_.greeting.empty()) {
      connection.out = behaviour_.greeting;
      return;
    }
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_server_new(&connection.session, callbacks, &connection);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry entries[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, behaviour_.streams_max}};
    nghttp2_submit_settings(connection.session, NGHTTP2_FLAG_NONE, entries, 1);
    nghttp2_session_set_local_window_size(connection.session, NGHTTP2_FLAG_NONE, 0, 1 << 30);
    write(connection);
  }

  // False: the connection is over.
  bool serve_connection(Connection& connection) {
    static thread_local std::vector<uint8_t> buffer(256 << 10);
    const ssize_t got = ::recv(connection.fd, buffer.data(), buffer.size(), 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return false;
    if (got > 0 && connection.session != nullptr && nghttp2_session_mem_recv(connection.session, buffer.data(), got) < 0)
      return false;
    return write(connection) && !connection.is_ending;
  }

  bool write(Connection& connection) {
    const uint8_t* data = nullptr;
    ssize_t size = 0;
    while (connection.session != nullptr && (size = nghttp2_session_mem_send(connection.session, &data)) > 0) {
      connection.out.append(reinterpret_cast<const char*>(data), size);
    }
    if (!connection.out.empty()) {
      const ssize_t sent = ::send(connection.fd, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return false;
      if (sent > 0) connection.out.erase(0, sent);
    }
    return connection.session == nullptr || nghttp2_session_want_read(connection.session) ||
           nghttp2_session_want_write(connection.session);
  }

  static nghttp2_nv field(const char* name, const char* value) {
    const auto bytes = [](const char* text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text)); };
    return {bytes(name), bytes(value), std::strlen(name), std::strlen(value),
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
  }

  void answer(Connection& connection, int32_t stream, const Stream& asked) {
    ++call_count;
    ++connection.calls;
    last_timeout = asked.timeout;
    last_extra = asked.extra;
    if (behaviour_.keeps_messages) bodies.push_back(asked.body);
    const std::string how = asked.path.substr(asked.path.rfind('/') + 1);
    const nghttp2_nv ok[] = {field(":status", "200"), field("content-type", "application/grpc")};
    if (how == "Unavailable") {
      const nghttp2_nv fields[] = {ok[0], ok[1], field("grpc-status", "14"), field("grpc-message", "full%3A come back")};
      nghttp2_submit_response(connection.session, stream, fields, 4, nullptr);
    } else if (how == "Http503") {
      const nghttp2_nv fields[] = {field(":status", "503")};
      nghttp2_submit_response(connection.session, stream, fields, 1, nullptr);
    } else if (how == "NoStatus") {
      nghttp2_submit_response(connection.session, stream, ok, 2, nullptr);
    } else if (how == "NoMessage") {
      const nghttp2_nv fields[] = {ok[0], ok[1], field("grpc-status", "0")};
      nghttp2_submit_response(connection.session, stream, fields, 3, nullptr);
    } else if (how == "Reset") {
      nghttp2_submit_rst_stream(connection.session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_INTERNAL_ERROR);
    } else if (how != "Silent") {
      nghttp2_data_provider body{};
      body.source.ptr = how == "Late" ? this : nullptr;
      body.read_callback = read_answer;
      nghttp2_submit_response(connection.session, stream, ok, 2, &body);
    }
    if (behaviour_.goaway_after > 0 && connection.calls == behaviour_.goaway_after) {
      nghttp2_submit_goaway(connection.session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_NO_ERROR, nullptr, 0);
    }
    connection.is_ending = behaviour_.hang_up_after > 0 && connection.calls >= behaviour_.hang_up_after;
  }

  static ssize_t read_answer(nghttp2_session* session, int32_t stream, uint8_t* buffer, size_t, uint32_t* flags,
                             nghttp2_data_source* source, void*) {
    std::memcpy(buffer, kAnswer, kAnswerBytes);
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    const nghttp2_nv fields[] = {field("grpc-status", source->ptr == nullptr ? "0" : "13")};
    nghttp2_submit_trailer(session, stream, fields, 1);
    return kAnswerBytes;
  }
  static Stream* stream_of(nghttp2_session* session, int32_t stream) {
    return static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, stream));
  }
  static int on_begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* context) {
    auto& stream = static_cast<Connection*>(context)->streams[frame->hd.stream_id];
    stream = std::make_unique<Stream>();
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream.get());
    return 0;
  }
  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void*) {
    Stream& stream = *stream_of(session, frame->hd.stream_id);
    const std::string_view text(reinterpret_cast<const char*>(name), name_size);
    const std::string_view found(reinterpret_cast<const char*>(value), value_size);
    if (text == ":path") stream.path = found;
    if (text == "grpc-timeout") stream.timeout = found;
    if (text == "x-extra") stream.extra = found;
    return 0;
  }
  static int on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void*) {
    stream_of(session, id)->body.append(reinterpret_cast<const char*>(data), size);
    return 0;
  }
  static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* context) {
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 || frame->hd.stream_id == 0) return 0;
    Connection& connection = *static_cast<Connection*>(context);
    if (const Stream* const stream = stream_of(session, frame->hd.stream_id))
      connection.server.answer(connection, frame->hd.stream_id, *stream);
    return 0;
  }
  static int on_close(nghttp2_session*, int32_t id, uint32_t, void* context) {
    static_cast<Connection*>(context)->streams.erase(id);
    return 0;
  }

  const Behaviour behaviour_;
  const std::string unix_path_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::atomic<bool> is_serving_{false};
  std::atomic<int64_t> stall_ns_{0};
  std::thread thread_;
};

}  // namespace stub
