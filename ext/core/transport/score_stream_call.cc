#include "core/transport/score_stream_call.h"

#include <algorithm>

#include "core/base/limits.h"
#include "core/transport/io_thread.h"
#include "core/transport/server_connection.h"
#include "core/wire/response.h"
#include "core/wire/score_request.h"

namespace assay {
namespace {

// The id in a ScoreStreamRequest; empty where it cannot be read or is too long to be one: what a client sends must not come back to
// it over and over while it reads nothing.
std::string transaction_id_of(std::string_view bytes) {
  thread_local const auto scan = std::make_unique<TransactionScan>();
  if (!scan_stream_request(bytes, *scan).ok() || scan->transaction_id.size() > limits::kIdBytesMax) return {};
  return std::string(scan->transaction_id);
}

}  // namespace

// One message in the engine's hands.
class ScoreStreamCall::Message final : public EngineCaller {
 public:
  Message(ScoreStreamCall& made_for, std::string made_with) : stream(made_for), transaction_id(std::move(made_with)) {}

  void on_answer(const Answer& answer) noexcept override { stream.answered(*this, answer); }
  void on_deadline(int64_t) noexcept { stream.expired(*this); }

  ScoreStreamCall& stream;
  const std::string transaction_id;
  uint64_t token = 0;
  CallId call = 0;
  size_t place = 0;  // in waiting_
  MemberTimer<Message, &Message::on_deadline> timer{*this};
};

ScoreStreamCall::ScoreStreamCall(ServerConnection& connection, int32_t id, const CallHead& head)
    : ServerStream(connection, id),
      deadline_ns_(head.deadline_ns),
      traceparent_(connection.thread().engine().is_tracing() ? head.traceparent : std::string_view()),
      reader_(connection.thread().options().receive_message_bytes_max, head.encoding) {
  IoThread& thread = connection.thread();
  if (deadline_ns_ != 0) thread.loop().timers().set(deadline_, deadline_ns_);
  const int64_t age_ns_max = thread.options().stream_age_ns_max;
  if (age_ns_max != 0) thread.loop().timers().set(age_, thread.loop().now_ns() + age_ns_max);
  start_answer();
}

ScoreStreamCall::~ScoreStreamCall() {
  connection_.thread().loop().timers().cancel(deadline_);
  connection_.thread().loop().timers().cancel(age_);
  connection_.thread().release_stream();
}

// --- messages in

void ScoreStreamCall::on_data(std::string_view bytes) noexcept {
  if (!is_reading_) return give_credit(bytes.size());
  reader_.keep();
  reader_.append(bytes);
  connection_.wants_fed(*this);
}

void ScoreStreamCall::on_end() noexcept {
  if (!is_reading_) return;
  reader_.end();
  connection_.wants_fed(*this);
}

// As many as may be in flight. What is left keeps its credit, so that the client sends no more than its window.
void ScoreStreamCall::read_messages() noexcept {
  const size_t messages_max = connection_.thread().options().stream_messages_max;
  while (is_reading_ && in_flight() < messages_max) {
    std::string_view bytes;
    const MessageReader::Next next = reader_.next(&bytes);
    connection_.spend_inflating(reader_.take_idle_bytes());
    if (next == MessageReader::Next::kMessage) {
      submit(bytes, in_flight() == 0 && !reader_.has_more());
      continue;
    }
    give_all_credit();
    if (next == MessageReader::Next::kFailed) {
      const bool is_large = grpc_code(reader_.error()) == GrpcCode::kResourceExhausted;
      return fail(connection_.thread().refuse(is_large ? Code::kMessageTooLarge : Code::kMalformedCall, reader_.error_text()));
    }
    if (next == MessageReader::Next::kEnd) is_reading_ = false;
    break;
  }
  reader_.keep();
  if (!keep_request(reader_.memory_bytes()) && is_reading_ && reader_.has_more()) {
    const std::string detail = too_much_held(connection_.thread().options().held_bytes_max);
    return fail(connection_.thread().refuse(Code::kMessageTooLarge, detail));
  }
  end_if_done();
}

void ScoreStreamCall::submit(std::string_view bytes, bool is_alone) noexcept {
  IoThread& thread = connection_.thread();
  CallContext context;
  context.received_ns = thread.loop().now_ns();
  context.deadline_ns = deadline_ns_;
  context.traceparent = traceparent_;
  context.may_run_inline = is_alone;
  auto message = std::make_unique<Message>(*this, transaction_id_of(bytes));
  const uint64_t token = thread.calls().add(*message);
  const Submission submission = thread.engine().submit_stream(bytes, context, &thread.queue(), token);
  if (submission.code != Code::kOk || submission.is_complete) thread.calls().take(token);
  if (submission.code != Code::kOk) return put_status(message->transaction_id, submission.rpc_status);
  if (submission.is_complete) return put_answer(message->transaction_id, thread.engine().finish(submission.call));
  message->token = token;
  message->call = submission.call;
  message->place = waiting_.size();
  thread.counters().waiting_calls.add(1);
  // The stream's own deadline ends the stream; a message's or the default's ends the message.
  if (deadline_ns_ == 0 || submission.deadline_ns < deadline_ns_)
    thread.loop().timers().set(message->timer, submission.deadline_ns);
  waiting_.push_back(std::move(message));
}

// --- answers out

void ScoreStreamCall::answered(Message& message, const Answer& answer) noexcept {
  put_answer(message.transaction_id, answer);
  settle(message);
  read_messages();
}

void ScoreStreamCall::expired(Message& message) noexcept {
  IoThread& thread = connection_.thread();
  thread.calls().take(message.token);
  thread.expire(message.call);
  put_status(message.transaction_id, encode_rpc_status(Status(Code::kDeadlineExceeded)));
  settle(message);
  read_messages();
}

void ScoreStreamCall::put_answer(std::string_view transaction_id, const Answer& answer) {
  const size_t bytes_max = connection_.thread().options().send_message_bytes_max;
  if (answer.code != Code::kOk) return put_status(transaction_id, answer.rpc_status);
  if (answer.payload.size() <= bytes_max) return put(answer.payload);
  const std::string detail = too_large_answer(answer.payload.size(), bytes_max);
  put_status(transaction_id, encode_rpc_status(connection_.thread().refuse(Code::kAnswerTooLarge, detail)));
}

void ScoreStreamCall::put_status(std::string_view transaction_id, std::string_view rpc_status) {
  RowAnswer answer;
  answer.transaction_id = transaction_id;
  std::string payload;
  append_stream_response(answer, rpc_status, {}, payload);
  put(payload);
}

void ScoreStreamCall::put(std::string_view payload) {
  if (is_ended()) return;
  unread_answers_.push_back(payload.size() + kMessagePrefixBytes);
  unwritten_before_ += payload.size() + kMessagePrefixBytes;
  add_message(payload);
}

void ScoreStreamCall::on_written() noexcept {
  written_ += unwritten_before_ - unwritten();
  unwritten_before_ = unwritten();
  while (!unread_answers_.empty() && written_ >= unread_answers_.front()) {
    written_ -= unread_answers_.front();
    unread_answers_.pop_front();
  }
  read_messages();
}

// Destroys the message.
void ScoreStreamCall::settle(Message& message) noexcept {
  connection_.thread().loop().timers().cancel(message.timer);
  connection_.thread().counters().waiting_calls.subtract(1);
  const size_t place = message.place;
  waiting_.back()->place = place;
  std::swap(waiting_[place], waiting_.back());
  waiting_.pop_back();
}

// --- its end

void ScoreStreamCall::stop_reading(Code why) noexcept {
  if (!is_reading_ || is_ended()) return;
  is_reading_ = false;
  end_code_ = why;
  give_all_credit();
  drop_request();
  end_if_done();
}

void ScoreStreamCall::end_if_done() noexcept {
  if (is_reading_ || is_ended() || in_flight() > 0) return;
  if (end_code_ == Code::kOk) return end_ok();
  end(Status(end_code_));
}

void ScoreStreamCall::fail(const Status& status) {
  is_reading_ = false;
  drop_messages();
  drop_request();
  end(status);
}

void ScoreStreamCall::drop_request() noexcept {
  reader_ = MessageReader(0);
  keep_request(0);
}

void ScoreStreamCall::drop_messages() noexcept {
  IoThread& thread = connection_.thread();
  for (const auto& message : waiting_) {
    thread.calls().take(message->token);
    thread.cancel(message->call);
    thread.loop().timers().cancel(message->timer);
  }
  thread.counters().waiting_calls.subtract(waiting_.size());
  waiting_.clear();
}

void ScoreStreamCall::on_deadline(int64_t) noexcept {
  if (is_ended()) return;
  is_reading_ = false;
  // First: drop_messages() cancels, which changes nothing of a call that has expired.
  for (const auto& message : waiting_) connection_.thread().expire(message->call);
  drop_messages();
  give_all_credit();
  drop_request();
  end(Status(Code::kDeadlineExceeded));
}

void ScoreStreamCall::on_age(int64_t) noexcept { stop_reading(Code::kStreamTooOld); }

}  // namespace assay
