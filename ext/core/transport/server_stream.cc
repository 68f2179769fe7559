#include "core/transport/server_stream.h"

#include <algorithm>

#include "core/base/random.h"
#include "core/transport/grpc_text.h"
#include "core/transport/io_thread.h"
#include "core/transport/message_frame.h"
#include "core/transport/nv.h"
#include "core/transport/server_connection.h"
#include "core/wire/response.h"

namespace assay {
namespace {

constexpr const char* kEncodings = "identity, deflate, gzip";  // of messages that are read
constexpr size_t kStreamBytes = 2048;                          // that one takes by itself, here and in nghttp2
constexpr size_t kGrpcMessageBytesMax = 4096;  // of grpc-message, encoded: clients limit their metadata to 8 or 16 KiB

ssize_t read_source(nghttp2_session*, int32_t, uint8_t* data, size_t size, uint32_t* flags, nghttp2_data_source* source, void*) {
  return static_cast<ServerStream*>(source->ptr)->read_output(data, size, flags);
}

}  // namespace

ServerStream::ServerStream(ServerConnection& connection, int32_t id) noexcept : connection_(connection), id_(id) {
  count_bytes();
}

ServerStream::~ServerStream() { connection_.count_bytes(counted_bytes_, 0); }

void ServerStream::count_bytes() noexcept {
  size_t bytes = kStreamBytes + request_bytes_ + output_.size();
  for (const auto& [name, value] : trailers_) bytes += name.size() + value.size();
  connection_.count_bytes(counted_bytes_, bytes);
  counted_bytes_ = bytes;
}

// --- the request's side

bool ServerStream::keep_request(size_t bytes) noexcept {
  request_bytes_ = bytes;
  count_bytes();
  return !connection_.thread().is_full();
}

void ServerStream::give_credit(size_t bytes) noexcept {
  held_credit_ -= bytes;
  connection_.consume(id_, bytes);
}

// --- the answer's side

void ServerStream::start_answer() noexcept {
  static const std::vector<nghttp2_nv> headers = {nv(":status", "200"), nv("content-type", "application/grpc"),
                                                  nv("grpc-accept-encoding", kEncodings)};
  start_answer(headers);
}

void ServerStream::start_answer(const std::vector<nghttp2_nv>& headers) noexcept {
  has_headers_ = true;
  nghttp2_data_provider source{};
  source.source.ptr = this;
  source.read_callback = read_source;
  nghttp2_submit_response(connection_.session(), id_, headers.data(), headers.size(), &source);
  connection_.wants_turn_end();
}

void ServerStream::add_message(std::string_view payload) {
  append_message(payload, output_.end());
  count_bytes();
  resume();
}

void ServerStream::add_bytes(std::string_view bytes) {
  output_.append(bytes);
  count_bytes();
  resume();
}

void ServerStream::end_ok() noexcept {
  is_ok_ = true;
  finish();
}

void ServerStream::end(GrpcCode grpc, std::string_view message, std::string_view rpc_status, uint32_t retry_ms) {
  trailers_.clear();
  trailers_.emplace_back("grpc-status", std::to_string(static_cast<int>(grpc)));
  if (!message.empty()) trailers_.emplace_back("grpc-message", encode_grpc_message(message, kGrpcMessageBytesMax));
  if (!rpc_status.empty()) trailers_.emplace_back("grpc-status-details-bin", encode_base64(rpc_status));
  // gRPC's own pushback (gRFC A6), over half to one and a half of the wait, so that clients do not come back all at once.
  if (retry_ms != 0) {
    const double wait_ms = retry_ms * (0.5 + connection_.random_share());
    trailers_.emplace_back("grpc-retry-pushback-ms", std::to_string(std::max(1, static_cast<int>(wait_ms))));
  }
  finish();
}

void ServerStream::end(const Status& status) {
  const CodeInfo& info = code_info(status.code);
  end(info.grpc, rpc_message(status), encode_rpc_status(status), info.retry_ms);
}

void ServerStream::end_as(std::vector<std::pair<std::string, std::string>> trailers) {
  trailers_ = std::move(trailers);
  finish();
}

void ServerStream::end_http(int status) {
  const std::string text = std::to_string(status);
  end_headers({nv(":status", text), nv("content-length", "0")});
}

void ServerStream::end_headers(const std::vector<nghttp2_nv>& headers) noexcept {
  is_ended_ = true;
  nghttp2_submit_response(connection_.session(), id_, headers.data(), headers.size(), nullptr);
  connection_.wants_turn_end();
}

void ServerStream::reset(uint32_t error_code) noexcept {
  is_ended_ = true;
  nghttp2_submit_rst_stream(connection_.session(), NGHTTP2_FLAG_NONE, id_, error_code);
  connection_.wants_turn_end();
}

void ServerStream::finish() noexcept {
  count_bytes();
  if (has_headers_) {
    is_ended_ = true;
    return resume();
  }
  // Encodings: whoever chose another is told what there is.
  std::vector<nghttp2_nv> fields = {nv(":status", "200"), nv("content-type", "application/grpc"),
                                    nv("grpc-accept-encoding", kEncodings)};
  if (is_ok_) trailers_.emplace_back("grpc-status", "0");
  for (const auto& [name, value] : trailers_) fields.push_back(nv(name, value));
  end_headers(fields);
}

void ServerStream::resume() noexcept {
  if (is_deferred_) {
    is_deferred_ = false;
    nghttp2_session_resume_data(connection_.session(), id_);
  }
  connection_.wants_turn_end();
}

ssize_t ServerStream::read_output(uint8_t* data, size_t size, uint32_t* flags) noexcept {
  const size_t count = output_.take(data, size);
  count_bytes();
  if (count > 0) on_written();
  if (unwritten() == 0) {
    if (is_ended_) {
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      if (!submit_trailers()) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    } else if (count == 0) {
      is_deferred_ = true;
      return NGHTTP2_ERR_DEFERRED;
    }
  }
  return static_cast<ssize_t>(count);
}

bool ServerStream::submit_trailers() noexcept {
  if (is_ok_ && trailers_.empty()) {
    static const nghttp2_nv ok[] = {nv("grpc-status", "0")};
    return nghttp2_submit_trailer(connection_.session(), id_, ok, 1) == 0;
  }
  std::vector<nghttp2_nv> fields;
  fields.reserve(trailers_.size());
  for (const auto& [name, value] : trailers_) fields.push_back(nv(name, value));
  return nghttp2_submit_trailer(connection_.session(), id_, fields.data(), fields.size()) == 0;
}

}  // namespace assay
