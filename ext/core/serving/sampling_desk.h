// SamplingDesk: the desk of rows whose model can only be asked: it mixes rows, and their own lane scores them, as bulk rows like others.
//
//   kIdle -- give() --> kAsking <--> kRowsMax rows in the lane --> kDone: precise enough, or its time is up -- take() --> kIdle
//
// Such rows are nobody's transactions: they are counted apart (Calls::counters_of), not recorded, and no drift. It asks for nothing while
// half of the slots are in use, and never for more than kRowsMax rows at once, so clients' rows keep their room. What the lane refuses
// ends the explanation: with what whole rounds gave, if they are enough.
#pragma once

#include <vector>

#include "core/base/clock.h"
#include "core/explain/sampled_row.h"
#include "core/serving/calls.h"
#include "core/serving/completion_list.h"
#include "core/serving/explain_desk.h"
#include "core/serving/row_queue.h"

namespace assay {

class SamplingDesk final : public ExplainDesk {
 public:
  static constexpr uint32_t kRowsMax = 32;

  // `calls` and `clock` outlive it.
  SamplingDesk(Calls& calls, const Clock& clock);

  Status start() override { return Status(); }
  // REQUIRES: no lane runs any more.
  void stop() noexcept override;
  bool is_alive() const noexcept override { return true; }
  bool is_idle() const noexcept override { return state_ == State::kIdle; }
  void give(ExplainJob job) override;
  bool take(int64_t now_ns, ExplainResult* result) override;
  void hurry() noexcept override { job_.deadline_ns = 0; }
  int fd() const noexcept override { return replies_.fd(); }

 private:
  enum class State : uint8_t { kIdle, kAsking, kDone };
  static constexpr size_t kReplies = 8;  // one call at a time, and some that were given up when they had ended

  void ask();
  Code queue(uint32_t count, CompletionList& evicted) noexcept;
  void fill_slots(const uint32_t* slots, uint32_t count, QueuedRow* rows) noexcept;
  void hear();
  Code read_scores(uint32_t head);
  void go_on(Code code);
  template <typename Work>
  void try_to(Work&& work) noexcept;
  void give_up() noexcept;
  void tell_or(ExplanationStatus otherwise);
  void end(ExplainResult result);

  Calls& calls_;
  const Clock& clock_;
  CompletionQueue replies_;
  State state_ = State::kIdle;
  ExplainJob job_;
  explain::SampledRow row_;
  CallId call_ = 0;  // that is waited for; 0: none
  int64_t began_ns_ = 0;
  ExplainResult result_;
  explain::Attribution found_;
  std::vector<double> scores_;
  std::vector<Completion> completions_;
};

}  // namespace assay
