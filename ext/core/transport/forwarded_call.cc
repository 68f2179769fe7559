#include "core/transport/forwarded_call.h"

#include <algorithm>

#include "core/transport/grpc_text.h"
#include "core/transport/io_thread.h"
#include "core/transport/nv.h"
#include "core/transport/refused_call.h"

namespace assay {
namespace {

// Names that only we may give a meaning to: whatever a client sends under them stays here.
constexpr std::string_view kOwnPrefix = "x-assay-";
constexpr std::string_view kPrincipal = "x-assay-principal";
// A certificate has one or two. The server behind has room for so much beside the client's own metadata.
constexpr size_t kPrincipalsSentMax = 8;
constexpr size_t kPrincipalBytesSentMax = 1024;

// The server behind spends some 200 us on a call that is begun and given up. So a client may do that 20 times a second.
constexpr int64_t kAbandonCost = 50;

bool is_own(std::string_view name) noexcept { return name.substr(0, kOwnPrefix.size()) == kOwnPrefix; }

}  // namespace

std::unique_ptr<ServerStream> ForwardedCall::make(ServerConnection& connection, int32_t id, RequestHead& head) {
  IoThread& thread = connection.thread();
  const size_t calls_max = thread.options().forwarded_streams_max;
  if (connection.forwarded_count() >= calls_max) {
    const std::string detail = std::to_string(calls_max) + " calls of this connection are forwarded";
    return std::make_unique<RefusedCall>(connection, id, thread.refuse(Code::kStreamLimit, detail));
  }
  Upstream* upstream = connection.upstream();
  auto call = std::make_unique<ForwardedCall>(connection, id);
  if (upstream != nullptr && call->begin(*upstream, head)) return call;
  return std::make_unique<RefusedCall>(connection, id, thread.refuse(Code::kForwardingFailed));
}

bool ForwardedCall::begin(Upstream& upstream, const RequestHead& head) {
  std::vector<nghttp2_nv> headers;
  headers.reserve(head.fields().size());
  for (const HeaderField& field : head.fields()) {
    // The Unix socket behind is plain, whatever the client's connection is.
    if (field.name() == ":scheme") {
      headers.push_back(nv(":scheme", "http"));
    } else if (!is_own(field.name())) {
      headers.push_back(field.nv());
    }
  }
  // Who calls, as the roles file writes it: the server behind sees a Unix socket and no certificate.
  std::vector<std::string> principals;
  for (const std::string& principal : connection_.peer().principals) {
    std::string encoded = encode_grpc_message(principal);
    if (principals.size() < kPrincipalsSentMax && encoded.size() <= kPrincipalBytesSentMax)
      principals.push_back(std::move(encoded));
  }
  for (const std::string& principal : principals) headers.push_back(nv(kPrincipal, principal));
  upstream_id_ = upstream.begin(headers, *this);
  if (upstream_id_ < 0) return false;
  upstream_ = &upstream;
  return true;
}

// --- client to server

void ForwardedCall::on_data(std::string_view bytes) noexcept {
  if (upstream_ == nullptr) return give_credit(bytes.size());
  request_.append(bytes);
  keep_request(request_.size());
  resume_request();
}

void ForwardedCall::on_end() noexcept {
  has_request_end_ = true;
  resume_request();
}

void ForwardedCall::resume_request() noexcept {
  if (!is_request_deferred_ || upstream_ == nullptr) return;
  is_request_deferred_ = false;
  upstream_->resume(upstream_id_);
}

ssize_t ForwardedCall::read_request(uint8_t* data, size_t size, uint32_t* flags) noexcept {
  const size_t count = request_.take(data, size);
  if (count == 0 && !has_request_end_) {
    is_request_deferred_ = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  if (request_.size() == 0 && has_request_end_) *flags |= NGHTTP2_DATA_FLAG_EOF;
  keep_request(request_.size());
  give_credit(count);
  return static_cast<ssize_t>(count);
}

void ForwardedCall::on_closed() noexcept {
  if (upstream_ == nullptr) return;
  if (answer_held_ > 0) upstream_->consume(upstream_id_, answer_held_);
  upstream_->cancel(upstream_id_);
  upstream_ = nullptr;
}

int64_t ForwardedCall::abandon_cost() const noexcept { return upstream_ != nullptr && !is_ended() ? kAbandonCost : 0; }

// --- server to client

void ForwardedCall::on_upstream_headers(std::vector<HeaderField> fields, bool is_last) noexcept {
  if (has_answered() || is_last) {
    std::vector<nghttp2_nv> headers;
    if (!has_answered()) {  // trailers alone
      for (const HeaderField& field : fields) headers.push_back(field.nv());
      return end_headers(headers);
    }
    std::vector<std::pair<std::string, std::string>> trailers;
    for (const HeaderField& field : fields) trailers.emplace_back(field.name(), field.value());
    return end_as(std::move(trailers));
  }
  std::vector<nghttp2_nv> headers;
  for (const HeaderField& field : fields) headers.push_back(field.nv());
  start_answer(headers);
}

void ForwardedCall::on_upstream_data(std::string_view bytes) noexcept {
  if (is_ended() || !has_answered()) return upstream_->consume(upstream_id_, bytes.size());
  answer_held_ += bytes.size();
  add_bytes(bytes);
}

// The client has read some: what is not held any more may be sent anew.
void ForwardedCall::on_written() noexcept {
  const size_t taken = answer_held_ - std::min(answer_held_, unwritten());
  answer_held_ -= taken;
  if (upstream_ != nullptr && taken > 0) upstream_->consume(upstream_id_, taken);
}

void ForwardedCall::on_upstream_end() noexcept {
  if (!is_ended()) end(connection_.thread().refuse(Code::kForwardingFailed));
}

void ForwardedCall::on_upstream_closed(uint32_t error_code) noexcept {
  // The call is over, its bytes still count in the credit of all calls.
  upstream_->consume(upstream_id_, answer_held_);
  upstream_ = nullptr;
  answer_held_ = 0;
  give_credit(request_.size());
  request_.clear();
  keep_request(0);
  if (is_ended()) return;
  if (error_code == NGHTTP2_REFUSED_STREAM || error_code == NGHTTP2_NO_ERROR) {
    end(connection_.thread().refuse(Code::kForwardingFailed));
  } else {
    reset(error_code);
  }
}

}  // namespace assay
