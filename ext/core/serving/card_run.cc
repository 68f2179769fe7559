#include "core/serving/card_run.h"

#include <algorithm>

namespace assay {

CardRun::CardRun(std::shared_ptr<Card> card, std::unique_ptr<Runner> runner, const std::string& model, const std::string& version,
                 uint32_t rows_max, const Clock& clock)
    : card_(std::move(card)),
      clock_(clock),
      use_(card_->add_use(model, version, rows_max)),
      cap_(rows_max, card_->options().hold_ns_min, card_->options().hold_ns_max),
      thread_(std::move(runner), clock) {}

uint32_t CardRun::rows(int64_t now_ns, CpuCause* cause) noexcept {
  if (thread_.is_running()) {
    if (const auto status = thread_.take_late()) {
      use_->overdue_since_ns = 0;
      (void)judge(*status, late_count_, now_ns);
    } else if (!card_->check_overdue(use_->overdue_since_ns, now_ns)) {
      *cause = CpuCause::kLate;
      return 0;
    }
  }
  if (card_->is_dead() || card_->is_hot()) {
    *cause = card_->is_dead() ? CpuCause::kDead : CpuCause::kHot;
    return 0;
  }
  const uint32_t rows = cap_.rows(now_ns);
  use_->rows = rows;
  *cause = resting_cause_;
  return rows;
}

CardOutcome CardRun::run(uint32_t count, int64_t deadline_ns, CpuCause* cause) noexcept {
  const int64_t started_ns = clock_.now_ns();
  const auto status = thread_.run(count, give_up_ns(started_ns, deadline_ns));
  const int64_t now_ns = clock_.now_ns();
  if (!status) {
    use_->overdue_since_ns = started_ns;
    late_count_ = count;
    card_->count_fault(CardFault::kLate, "a run was not back in time for its rows");
    *cause = card_->check_overdue(started_ns, now_ns) ? CpuCause::kDead : CpuCause::kLate;
    return CardOutcome::kGivenUp;
  }
  usual_ns_ += (now_ns - started_ns - usual_ns_) / 8;
  const CardOutcome outcome = judge(*status, count, now_ns);
  *cause = outcome == CardOutcome::kFailed ? CpuCause::kFailed : CpuCause::kDead;
  return outcome;
}

CardOutcome CardRun::judge(const Status& status, uint32_t count, int64_t now_ns) noexcept {
  if (status.ok()) {
    card_->count_run();
    cap_.ran(count);
    return CardOutcome::kRan;
  }
  switch (thread_.runner().fault_of(status)) {
    case Fault::kSticky: card_->die(CardFault::kSticky, status.detail); return CardOutcome::kGivenUp;
    case Fault::kOutOfMemory:
      card_->count_fault(CardFault::kOutOfMemory, status.detail);
      cap_.did_not_fit(count, now_ns);
      resting_cause_ = CpuCause::kOutOfMemory;
      use_->rows = cap_.rows(now_ns);
      return CardOutcome::kOutOfMemory;
    case Fault::kOther: break;
  }
  card_->count_fault(CardFault::kFailed, status.detail);
  resting_cause_ = CpuCause::kFailed;
  return CardOutcome::kFailed;
}

void CardRun::count_not_finite(uint64_t rows) noexcept {
  card_->count_fault(CardFault::kNotFinite, "scores that are not finite numbers");
  card_->count_cpu_rows(CpuCause::kNotFinite, rows);
}

int64_t CardRun::give_up_ns(int64_t now_ns, int64_t deadline_ns) const noexcept {
  const CardOptions& options = card_->options();
  const int64_t patience_ns = std::max(options.patience_ns_min, 2 * usual_ns_);
  return now_ns + std::min(options.hang_ns_max, std::max(patience_ns, (deadline_ns - now_ns) / 2));
}

}  // namespace assay
