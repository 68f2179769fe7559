#include "core/transport/unary_call.h"

#include "core/transport/io_thread.h"
#include "core/transport/server_connection.h"

namespace assay {
UnaryCall::UnaryCall(ServerConnection& connection, int32_t id, CallKind kind, const CallHead& head)
    : ServerStream(connection, id),
      kind_(kind),
      rpc_deadline_ns_(head.deadline_ns),
      reader_(connection.thread().options().receive_message_bytes_max, head.encoding),
      traceparent_(connection.thread().engine().is_tracing() ? head.traceparent : std::string_view()) {
  connection.wants_fed(*this);  // a request of headers alone has its time too
}

// --- the request

void UnaryCall::on_data(std::string_view bytes) noexcept {
  give_credit(bytes.size());
  if (state_ != State::kReading) return;
  reader_.keep();
  reader_.append(bytes);
  body_bytes_ += bytes.size();
  connection_.wants_fed(*this);
}

void UnaryCall::on_end() noexcept {
  has_end_ = true;
  reader_.end();
  if (state_ == State::kReading) connection_.wants_fed(*this);
}

void UnaryCall::on_fed() noexcept {
  if (state_ != State::kReading) return;
  IoThread& thread = connection_.thread();
  if (has_end_ || body_bytes_ > thread.options().receive_message_bytes_max + kMessagePrefixBytes) return read_message();
  reader_.keep();
  if (!keep_request(reader_.memory_bytes()))
    return refuse(Code::kMessageTooLarge, too_much_held(thread.options().held_bytes_max));
  if (!timer_.is_set()) {
    const int64_t due_ns = rpc_deadline_ns_ != 0 ? rpc_deadline_ns_ : thread.loop().now_ns() + thread.options().request_ns_max;
    thread.loop().timers().set(timer_, due_ns);
  }
}

void UnaryCall::read_message() noexcept {
  const MessageReader::Next next = reader_.next(&message_);
  connection_.spend_inflating(reader_.take_idle_bytes());
  switch (next) {
    case MessageReader::Next::kMessage:
      if (!has_end_ || reader_.has_more()) return refuse(Code::kMalformedCall, "a unary call has one message, and more came");
      state_ = State::kWhole;
      return connection_.thread().wants_submit(*this);
    case MessageReader::Next::kMore: return refuse(Code::kMalformedCall, "a unary call has one message, and more came");
    case MessageReader::Next::kEnd: return refuse(Code::kMalformedCall, "a unary call has one message, and none came");
    case MessageReader::Next::kFailed: return fail_reading();
  }
}

void UnaryCall::fail_reading() noexcept {
  const bool is_large = grpc_code(reader_.error()) == GrpcCode::kResourceExhausted;
  refuse(is_large ? Code::kMessageTooLarge : Code::kMalformedCall, reader_.error_text());
}

// --- the engine

void UnaryCall::submit(bool is_alone) noexcept {
  if (state_ != State::kWhole) return;
  IoThread& thread = connection_.thread();
  CallContext context;
  context.received_ns = thread.loop().now_ns();
  context.deadline_ns = rpc_deadline_ns_;
  context.traceparent = traceparent_;
  context.may_run_inline = is_alone;
  const uint64_t token = thread.calls().add(*this);
  const Submission submission = submit_message(context, token);
  drop_request();
  if (submission.code != Code::kOk || submission.is_complete) thread.calls().take(token);
  if (submission.is_complete) return answer(thread.engine().finish(submission.call));
  if (submission.code != Code::kOk) {
    const CodeInfo& info = code_info(submission.code);
    settle();
    return end(info.grpc, submission.message, submission.rpc_status, static_cast<uint32_t>(info.retry_ms));
  }
  token_ = token;
  call_ = submission.call;
  state_ = State::kWaiting;
  thread.counters().waiting_calls.add(1);
  thread.loop().timers().set(timer_, submission.deadline_ns);
}

Submission UnaryCall::submit_message(const CallContext& context, uint64_t token) noexcept {
  IoThread& thread = connection_.thread();
  switch (kind_) {
    case CallKind::kBatch: return thread.engine().submit_batch(message_, context, &thread.queue(), token);
    case CallKind::kInfer: return thread.engine().submit_infer(message_, context, &thread.queue(), token);
    default: return thread.engine().submit_score(message_, context, &thread.queue(), token);
  }
}

void UnaryCall::on_answer(const Answer& given) noexcept { answer(given); }

void UnaryCall::answer(const Answer& given) noexcept {
  settle();
  const CodeInfo& info = code_info(given.code);
  if (given.code != Code::kOk) return end(info.grpc, given.message, given.rpc_status, static_cast<uint32_t>(info.retry_ms));
  const size_t bytes_max = connection_.thread().options().send_message_bytes_max;
  if (given.payload.size() > bytes_max) return refuse(Code::kAnswerTooLarge, too_large_answer(given.payload.size(), bytes_max));
  start_answer();
  add_message(given.payload);
  end_ok();
}

// --- its end

void UnaryCall::on_deadline(int64_t) noexcept {
  IoThread& thread = connection_.thread();
  if (state_ == State::kWaiting) {
    thread.calls().take(token_);
    thread.expire(call_);
    settle();
    return end(Status(Code::kDeadlineExceeded));
  }
  refuse(Code::kDeadlineExceeded, {});
}

void UnaryCall::on_closed() noexcept {
  if (state_ == State::kWaiting) {
    connection_.thread().calls().take(token_);
    connection_.thread().cancel(call_);
  }
  if (state_ == State::kWhole) connection_.thread().forget_submit(*this);
  settle();
}

void UnaryCall::refuse(Code code, std::string detail) {
  settle();
  end(connection_.thread().refuse(code, std::move(detail)));
}

void UnaryCall::settle() noexcept {
  if (state_ == State::kWaiting) connection_.thread().counters().waiting_calls.subtract(1);
  state_ = State::kDone;
  connection_.thread().loop().timers().cancel(timer_);
  drop_request();
}

void UnaryCall::drop_request() noexcept {
  message_ = {};
  if (reader_.memory_bytes() == 0) return;
  reader_ = MessageReader(0);
  keep_request(0);
}

}  // namespace assay
