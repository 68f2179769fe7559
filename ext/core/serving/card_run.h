// CardRun: one runner of a lane on a card, and when its rows go to the card and when to the CPU.
//
// THE LADDER, top to bottom; the lane's standby (the same model on the CPU, proved with the same golden rows) is its floor:
//   the card, whole batches        nothing is wrong
//   the card, smaller batches      its memory was full: batch_cap.h
//   the CPU for a while            not one row fitted, or the card failed at rows that the CPU could score
//   the CPU until the run is back  a run was not back in time for its rows; its scores are no longer wanted
//   the CPU while it is hot        Card::set_hot
//   the CPU                        the card is dead: a sticky error, or a run that never came back
//
// HOW LONG A RUN MAY TAKE before its rows are given to the CPU: half of the time that the most urgent of them has left, but no less
// than twice what runs take, nor than patience_ns_min, and no more than hang_ns_max. So a caller who asks for a millisecond
// takes the card from nobody.
//
// One thread at a time (the lane's runner). No GIL.
#pragma once

#include <memory>
#include <string>

#include "core/base/clock.h"
#include "core/serving/batch_cap.h"
#include "core/serving/card.h"
#include "core/serving/card_thread.h"

namespace assay {

enum class CardOutcome : uint8_t {
  kRan,          // output() has the scores
  kOutOfMemory,  // halve it
  kFailed,       // the CPU shall try: blame() says what came of that
  kGivenUp,      // late, or the card is dead
};

class CardRun {
 public:
  // `runner`: the card's. Throws std::system_error without a thread.
  CardRun(std::shared_ptr<Card> card, std::unique_ptr<Runner> runner, const std::string& model, const std::string& version,
          uint32_t rows_max, const Clock& clock);

  // How many rows the card takes now; 0: none, and `cause` says why.
  uint32_t rows(int64_t now_ns, CpuCause* cause) noexcept;

  // REQUIRES, as for run(): rows() was not 0 just now.
  Runner& runner() noexcept { return thread_.runner(); }
  // Runs `count` gathered rows, the most urgent of which has until `deadline_ns`. kGivenUp sets `cause`.
  CardOutcome run(uint32_t count, int64_t deadline_ns, CpuCause* cause) noexcept;

  // After kFailed: the CPU scored the very same rows, so it was the card.
  void blame() noexcept { cap_.rest(clock_.now_ns()); }
  void count_cpu_rows(CpuCause cause, uint64_t rows) noexcept { card_->count_cpu_rows(cause, rows); }
  void count_not_finite(uint64_t rows) noexcept;

 private:
  CardOutcome judge(const Status& status, uint32_t count, int64_t now_ns) noexcept;
  int64_t give_up_ns(int64_t now_ns, int64_t deadline_ns) const noexcept;

  const std::shared_ptr<Card> card_;
  const Clock& clock_;
  const std::shared_ptr<CardUse> use_;
  BatchCap cap_;
  CpuCause resting_cause_ = CpuCause::kOutOfMemory;
  int64_t usual_ns_ = 0;     // a moving mean of the runs that were waited for
  uint32_t late_count_ = 0;  // rows of the run that was given up
  CardThread thread_;
};

}  // namespace assay
