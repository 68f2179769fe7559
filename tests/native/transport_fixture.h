// What tests of the transport's connections share: an HTTP/2 client that does as it is told, and an I/O thread that turns when told.
#pragma once

#include <dirent.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/transport/io_thread.h"
#include "core/transport/message_frame.h"
#include "core/transport/plain_stream.h"
#include "core/transport/transport_options.h"
#include "serving_fixture.h"

namespace fixture {

constexpr char kScore[] = "/assay.v1.ScoringService/Score";
constexpr char kScoreBatch[] = "/assay.v1.ScoringService/ScoreBatch";
constexpr char kScoreStream[] = "/assay.v1.ScoringService/ScoreStream";

inline size_t descriptor_count() {
  size_t count = 0;
  DIR* const directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

inline std::string message_of(std::string_view payload) {
  std::string bytes;
  append_message(payload, &bytes);
  return bytes;
}

// One call as its client sees it.
struct ClientCall {
  std::map<std::string, std::string> headers, trailers;
  std::string body;
  bool is_closed = false;
  uint32_t error_code = 0;  // of its end

  // -1: no status came.
  int grpc_status() const {
    const auto& block = trailers.count("grpc-status") != 0 ? trailers : headers;
    const auto found = block.find("grpc-status");
    return found == block.end() ? -1 : std::stoi(found->second);
  }
  std::vector<std::string> messages() const {
    std::vector<std::string> found;
    for (size_t at = 0; at + kMessagePrefixBytes <= body.size();) {
      const size_t size = read_message_prefix(body.data() + at).payload_bytes;
      found.push_back(body.substr(at + kMessagePrefixBytes, size));
      at += kMessagePrefixBytes + size;
    }
    return found;
  }
};

struct ClientSettings {
  uint32_t stream_window = 65'535;
  bool consumes = true;  // false: credit is given back by hand
};

// Over a socket that does not block, which it owns. Moves bytes in write() and read() alone.
class Client {
 public:
  using Fields = std::vector<std::pair<std::string, std::string>>;

  // `stream`: over `fd`; null: its bytes as they are.
  explicit Client(int fd, const ClientSettings& settings = {}, std::unique_ptr<ByteStream> stream = nullptr)
      : fd_(fd), stream_(stream != nullptr ? std::move(stream) : std::make_unique<PlainStream>(fd)) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, settings.consumes ? 0 : 1);
    nghttp2_session_client_new2(&session_, callbacks, this, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry entries[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings.stream_window}};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries, 1);
  }
  ~Client() {
    nghttp2_session_del(session_);
    leave();
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Sends the headers, then `bytes` of a body; `is_whole`: and the end.
  int32_t call(const std::string& path, const std::string& bytes, bool is_whole = true, const Fields& more = {}) {
    Fields fields = {{":method", "POST"}, {":scheme", "http"}, {":path", path},
                     {":authority", "x"}, {"te", "trailers"},  {"content-type", "application/grpc"}};
    fields.insert(fields.end(), more.begin(), more.end());
    std::vector<nghttp2_nv> pairs;
    for (const auto& [name, value] : fields) {
      pairs.push_back({bytes_of(name), bytes_of(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    auto request = std::make_unique<Request>();
    request->bytes = bytes;
    request->is_whole = is_whole;
    nghttp2_data_provider source{};
    source.source.ptr = request.get();
    source.read_callback = read_request;
    const int32_t id = nghttp2_submit_request(session_, nullptr, pairs.data(), pairs.size(), &source, nullptr);
    requests_[id] = std::move(request);
    calls[id];
    return id;
  }
  void send(int32_t id, const std::string& bytes, bool is_whole) {
    requests_[id]->bytes += bytes;
    requests_[id]->is_whole = is_whole;
    nghttp2_session_resume_data(session_, id);
  }
  void cancel(int32_t id) { nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL); }
  void set_window(uint32_t bytes) {
    const nghttp2_settings_entry entries[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, bytes}};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries, 1);
  }
  // From now on the test writes its frames itself, and of the server's only GOAWAY is looked at.
  void become_raw() { is_raw_ = true; }

  // Everything that the session has for the server, as far as the socket takes it. False: the connection is over.
  bool write() {
    if (fd_ < 0) return false;
    if (is_raw_) return true;
    const uint8_t* data = nullptr;
    for (ssize_t size = 0; (size = nghttp2_session_mem_send(session_, &data)) > 0;) {
      out_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    if (out_.empty()) return true;
    size_t sent = 0;
    const IoResult result = stream_->write(reinterpret_cast<const uint8_t*>(out_.data()), out_.size(), &sent);
    out_.erase(0, sent);
    return result == IoResult::kOk || result == IoResult::kBlocked;
  }
  // What the server has sent, at most so many bytes. False: the connection is over.
  bool read(size_t bytes_max = SIZE_MAX) {
    while (fd_ >= 0 && bytes_max > 0) {
      uint8_t buffer[16384];
      size_t got = 0;
      const IoResult result = stream_->read(buffer, std::min(sizeof buffer, bytes_max), &got);
      if (result == IoResult::kBlocked) return true;
      if (result != IoResult::kOk) {
        is_over = true;
        leave();  // as clients do
        return false;
      }
      received_bytes += got;
      bytes_max -= got;
      if (is_raw_) {
        read_raw({reinterpret_cast<const char*>(buffer), got});
      } else if (nghttp2_session_mem_recv(session_, buffer, got) < 0) {
        return false;
      }
    }
    return fd_ >= 0;
  }
  void leave() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  int fd() const { return fd_; }

  std::map<int32_t, ClientCall> calls;
  size_t received_bytes = 0;
  bool is_over = false;  // the server has closed
  int goaway_count = 0;
  int32_t goaway_last_id = INT32_MAX;  // calls up to it are answered
  uint32_t goaway_error = 0;
  std::string goaway_text;

 private:
  struct Request {
    std::string bytes;
    bool is_whole = false;
  };

  // Frames of the server begin where those that the session has read end.
  void read_raw(std::string_view bytes) {
    in_.append(bytes);
    while (in_.size() >= 9) {
      const auto byte = [&](size_t at) { return static_cast<uint32_t>(static_cast<uint8_t>(in_[at])); };
      const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
      if (in_.size() < 9 + size) return;
      if (byte(3) == NGHTTP2_GOAWAY) {
        ++goaway_count;
        goaway_error = byte(13) << 24 | byte(14) << 16 | byte(15) << 8 | byte(16);
      }
      in_.erase(0, 9 + size);
    }
  }

  static uint8_t* bytes_of(const std::string& text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data())); }
  static Client& self(void* user) { return *static_cast<Client*>(user); }
  static ssize_t read_request(nghttp2_session*, int32_t, uint8_t* data, size_t size, uint32_t* flags, nghttp2_data_source* source,
                              void*) {
    auto& request = *static_cast<Request*>(source->ptr);
    const size_t count = std::min(size, request.bytes.size());
    if (count == 0 && !request.is_whole) return NGHTTP2_ERR_DEFERRED;
    std::memcpy(data, request.bytes.data(), count);
    request.bytes.erase(0, count);
    if (request.bytes.empty() && request.is_whole) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(count);
  }
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size, const uint8_t* value,
                       size_t value_size, uint8_t, void* user) {
    ClientCall& call = self(user).calls[frame->hd.stream_id];
    auto& block = frame->headers.cat == NGHTTP2_HCAT_RESPONSE ? call.headers : call.trailers;
    block[std::string(reinterpret_cast<const char*>(name), name_size)].assign(reinterpret_cast<const char*>(value), value_size);
    return 0;
  }
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type != NGHTTP2_GOAWAY) return 0;
    ++self(user).goaway_count;
    self(user).goaway_error = frame->goaway.error_code;
    self(user).goaway_last_id = frame->goaway.last_stream_id;
    self(user).goaway_text.assign(reinterpret_cast<const char*>(frame->goaway.opaque_data), frame->goaway.opaque_data_len);
    return 0;
  }
  static int on_data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
    self(user).calls[id].body.append(reinterpret_cast<const char*>(data), size);
    return 0;
  }
  static int on_close(nghttp2_session*, int32_t id, uint32_t error_code, void* user) {
    self(user).calls[id].is_closed = true;
    self(user).calls[id].error_code = error_code;
    return 0;
  }

  int fd_;
  std::unique_ptr<ByteStream> stream_;
  nghttp2_session* session_ = nullptr;
  std::string out_, in_;
  bool is_raw_ = false;
  std::map<int32_t, std::unique_ptr<Request>> requests_;
};

// Two ends of a stream that do not block.
inline std::pair<int, int> make_pair_of_sockets(int buffer_bytes = 0) {
  int fds[2];
  ASSAY_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
  if (buffer_bytes > 0) {
    for (const int fd : fds) ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
  }
  return {fds[0], fds[1]};
}

// An I/O thread that is none: the test turns its loop. One lane, which runs when it is stepped. Time stands still.
struct TurnHouse {
  explicit TurnHouse(TransportOptions wanted = {}) : options(std::move(wanted)) {
    ASSAY_ASSERT(house.add(house.lane_spec(), true).ok());
    ASSAY_ASSERT(thread.open().ok());
  }
  ~TurnHouse() {
    thread.stop();
    step();
  }

  std::unique_ptr<Client> connect(const ClientSettings& settings = {}, int buffer_bytes = 0) {
    const auto [server, client] = make_pair_of_sockets(buffer_bytes);
    thread.adopt(server);
    auto made = std::make_unique<Client>(client, settings);
    settle(*made);
    return made;
  }
  void turn(int count = 4) {
    for (int i = 0; i < count; ++i) thread.loop().turn(0);
  }
  // Moves bytes to and fro until nothing moves any more. `reads`: the client reads its answers.
  void settle(Client& client, bool reads = true) {
    for (int quiet = 0; quiet < 3;) {
      const size_t before = client.received_bytes;
      client.write();
      turn();
      if (reads) client.read();
      quiet = client.received_bytes == before ? quiet + 1 : 0;
    }
  }
  // Runs what is queued, and has the thread hear of it.
  size_t step() {
    size_t rows = 0;
    while (const size_t ran = house.step()) rows += ran;
    turn();
    return rows;
  }
  // Nothing of any call is left: in the engine, in the transport, in memory.
  bool is_clean() {
    step();
    return house.engine.stats().slots_used == 0 && thread.calls().size() == 0 && thread.held_bytes() == 0 &&
           counters.waiting_calls.get() == 0 && counters.open_streams.get() == 0;
  }
  // Nor of any connection.
  bool is_empty() { return is_clean() && thread.connection_count() == 0 && thread.loop().timers().size() == 0; }

  const TransportOptions options;
  House house;
  TransportCounters counters;
  Denials denials;
  IoThread thread{house.engine, house.clock, options, counters, denials};
};

}  // namespace fixture
