// The least that answers gRPC calls on nghttp2: one thread, epoll, the same bytes to whoever asks. What the transport itself costs is
// measured against it.
//
//   bare_echo RESPONSE_FILE      prints its port, serves until it is killed
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

namespace {

std::string response;  // framed

nghttp2_nv field(const char* name, const char* value) {
  auto bytes = [](const char* text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text)); };
  return {bytes(name), bytes(value), std::strlen(name), std::strlen(value), NGHTTP2_NV_FLAG_NONE};
}

ssize_t read_body(nghttp2_session* session, int32_t id, uint8_t* data, size_t size, uint32_t* flags, nghttp2_data_source*, void*) {
  if (size < response.size()) return NGHTTP2_ERR_CALLBACK_FAILURE;
  std::memcpy(data, response.data(), response.size());
  *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
  const nghttp2_nv trailers[] = {field("grpc-status", "0")};
  nghttp2_submit_trailer(session, id, trailers, 1);
  return static_cast<ssize_t>(response.size());
}

int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void*) {
  const bool is_request = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
  if (!is_request || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
  const nghttp2_nv headers[] = {field(":status", "200"), field("content-type", "application/grpc")};
  nghttp2_data_provider body{};
  body.read_callback = read_body;
  return nghttp2_submit_response(session, frame->hd.stream_id, headers, 2, &body);
}

// False: the connection is over.
bool serve(int fd, nghttp2_session* session) {
  std::array<uint8_t, 65536> buffer;
  const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
  if (got <= 0 || nghttp2_session_mem_recv(session, buffer.data(), static_cast<size_t>(got)) < 0) return false;
  std::string out;
  const uint8_t* data = nullptr;
  for (ssize_t size = 0; (size = nghttp2_session_mem_send(session, &data)) > 0;) {
    out.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
  }
  return out.empty() || ::send(fd, out.data(), out.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(out.size());
}

nghttp2_session* greet(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session* session = nullptr;
  nghttp2_session_server_new(&session, callbacks, nullptr);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, nullptr, 0);
  return session;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  const std::string message{std::istreambuf_iterator<char>(file), {}};
  const uint32_t size = ::htonl(static_cast<uint32_t>(message.size()));
  response = std::string(1, '\0') + std::string(reinterpret_cast<const char*>(&size), 4) + message;
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener, 64) != 0) return 1;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  std::printf("%d\n", ::ntohs(address.sin_port));
  std::fflush(stdout);

  const int epoll = ::epoll_create1(0);
  std::map<int, nghttp2_session*> sessions;
  const auto watch = [epoll](int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  };
  watch(listener);
  for (;;) {
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll, events.data(), 64, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == listener) {
        const int client = ::accept(listener, nullptr, nullptr);
        if (client < 0) continue;
        sessions[client] = greet(client);
        watch(client);
      } else if (!serve(fd, sessions[fd])) {
        nghttp2_session_del(sessions[fd]);
        sessions.erase(fd);
        ::close(fd);
      }
    }
  }
}
