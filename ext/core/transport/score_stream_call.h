// ScoreStreamCall: ScoreStream: many messages in, an answer for each, in whatever order they are ready.
//
// A message is in flight from its reading until its answer is written, so that a client that reads no answers is read from no
// further: at `stream_messages_max` reading stops and flow control credit stays here.
//
//   reading --the client's end--> answering --all written--> ended OK
//      |--- drain, age: answering --all written--> ended DRAINING, STREAM_TOO_OLD
//      '--- deadline, bad framing: ended at once; what the engine still has is cancelled
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/serving/engine.h"
#include "core/transport/call_head.h"
#include "core/transport/engine_calls.h"
#include "core/transport/message_reader.h"
#include "core/transport/server_stream.h"
#include "core/transport/timer_heap.h"

namespace assay {

class ScoreStreamCall final : public ServerStream {
 public:
  // REQUIRES: IoThread::claim_stream() gave a place, which this gives back.
  ScoreStreamCall(ServerConnection& connection, int32_t id, const CallHead& head);
  ~ScoreStreamCall() override;

  void on_data(std::string_view bytes) noexcept override;
  void on_end() noexcept override;
  void on_fed() noexcept override { read_messages(); }
  void on_closed() noexcept override { drop_messages(); }
  void on_drain() noexcept override { stop_reading(Code::kDraining); }
  void on_written() noexcept override;

 private:
  class Message;
  friend class Message;

  void read_messages() noexcept;
  void submit(std::string_view bytes, bool is_alone) noexcept;
  void answered(Message& message, const Answer& answer) noexcept;
  void expired(Message& message) noexcept;
  void put_answer(std::string_view transaction_id, const Answer& answer);
  void put(std::string_view payload);
  void put_status(std::string_view transaction_id, std::string_view rpc_status);
  void settle(Message& message) noexcept;
  void stop_reading(Code why) noexcept;
  void end_if_done() noexcept;
  void fail(const Status& status);
  void drop_messages() noexcept;
  void drop_request() noexcept;
  void on_deadline(int64_t now_ns) noexcept;
  void on_age(int64_t now_ns) noexcept;
  size_t in_flight() const noexcept { return waiting_.size() + unread_answers_.size(); }

  const int64_t deadline_ns_;  // the stream's own; 0: none
  const std::string traceparent_;
  MessageReader reader_;
  bool is_reading_ = true;
  Code end_code_ = Code::kOk;
  std::vector<std::unique_ptr<Message>> waiting_;  // in the engine's hands
  std::deque<size_t> unread_answers_;              // framed bytes of each answer that is not wholly written
  size_t written_ = 0;                             // of the first of them
  size_t unwritten_before_ = 0;
  MemberTimer<ScoreStreamCall, &ScoreStreamCall::on_deadline> deadline_{*this};
  MemberTimer<ScoreStreamCall, &ScoreStreamCall::on_age> age_{*this};
};

}  // namespace assay
