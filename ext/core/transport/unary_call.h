// UnaryCall: Score, ScoreBatch or ModelInfer: one message in, one answer out, without Python.
//
//   reading --whole--> waiting (submitted together with what else came) --engine--> answered
//      |                 |--- deadline: answered DEADLINE_EXCEEDED, the engine's call expires
//      '--- refused      '--- client gone: the engine's call is cancelled
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/serving/call_record.h"
#include "core/serving/engine.h"
#include "core/transport/call_head.h"
#include "core/transport/engine_calls.h"
#include "core/transport/message_reader.h"
#include "core/transport/server_stream.h"
#include "core/transport/timer_heap.h"

namespace assay {

class UnaryCall final : public ServerStream, public EngineCaller {
 public:
  UnaryCall(ServerConnection& connection, int32_t id, CallKind kind, const CallHead& head);

  void on_data(std::string_view bytes) noexcept override;
  void on_end() noexcept override;
  void on_fed() noexcept override;
  void on_closed() noexcept override;
  void on_answer(const Answer& answer) noexcept override;

  // Hands the message to the engine. `is_alone`: nothing else waits to be submitted by this thread. REQUIRES: it asked for that.
  void submit(bool is_alone) noexcept;

 private:
  enum class State : uint8_t { kReading, kWhole, kWaiting, kDone };
  void read_message() noexcept;
  Submission submit_message(const CallContext& context, uint64_t token) noexcept;
  void on_deadline(int64_t now_ns) noexcept;
  void answer(const Answer& answer) noexcept;
  void refuse(Code code, std::string detail);
  void fail_reading() noexcept;
  void settle() noexcept;
  void drop_request() noexcept;

  const CallKind kind_;
  State state_ = State::kReading;
  bool has_end_ = false;
  size_t body_bytes_ = 0;
  int64_t rpc_deadline_ns_;  // 0: none
  MessageReader reader_;
  std::string_view message_;  // in kWhole: the reader's
  std::string traceparent_;
  uint64_t token_ = 0;
  CallId call_ = 0;
  MemberTimer<UnaryCall, &UnaryCall::on_deadline> timer_{*this};
};

}  // namespace assay
