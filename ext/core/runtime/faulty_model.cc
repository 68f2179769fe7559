#include "core/runtime/faulty_model.h"

#include <algorithm>
#include <cmath>

#include "core/runtime/run_faults.h"

namespace assay {
namespace {

// Element (row, column) as a double: a wrapped runner gives float64 whatever the inner one gives.
double element(const OutputView& view, size_t index) noexcept {
  switch (view.type) {
    case TensorType::kFloat32: return static_cast<const float*>(view.data)[index];
    case TensorType::kFloat64: return static_cast<const double*>(view.data)[index];
    case TensorType::kInt32: return static_cast<const int32_t*>(view.data)[index];
    case TensorType::kInt64: return static_cast<double>(static_cast<const int64_t*>(view.data)[index]);
    case TensorType::kBool: return static_cast<const uint8_t*>(view.data)[index];
  }
  return NAN;
}

}  // namespace

class FaultyRunner final : public Runner {
 public:
  FaultyRunner(std::shared_ptr<FaultyModel> model, std::unique_ptr<Runner> inner)
      : model_(std::move(model)), inner_(std::move(inner)) {}

  size_t rows_max() const noexcept override { return inner_->rows_max(); }
  Fault fault_of(const Status& status) const noexcept override { return run_fault(status.detail); }

  void gather(const uint8_t* const* rows, size_t count) noexcept override {
    count_ = 0;
    inner_->gather(rows, count);
  }

  Status run(size_t count) noexcept override {
    rule_ = FaultRule();
    const bool is_faulty = model_->begin_run(count, &rule_);
    if (is_faulty && rule_.kind == FaultKind::kError) return Status(Code::kModelRunFailed, rule_.text);
    has_nan_ = is_faulty && rule_.kind == FaultKind::kNan;
    Status status = inner_->run(count);
    count_ = status.ok() ? count : 0;
    return status;
  }

  OutputView output(size_t index) const noexcept override {
    OutputView view = inner_->output(index);
    if (count_ == 0 || view.data == nullptr || !has_nan_) return count_ == 0 ? OutputView() : view;
    widened_.resize(count_ * view.row_elements);
    for (size_t i = 0; i < widened_.size(); ++i) {
      const bool is_spoilt = rule_.nan_row < 0 || i / view.row_elements == static_cast<size_t>(rule_.nan_row);
      widened_[i] = is_spoilt ? NAN : element(view, i);
    }
    view.type = TensorType::kFloat64;
    view.data = widened_.data();
    return view;
  }

 private:
  const std::shared_ptr<FaultyModel> model_;
  const std::unique_ptr<Runner> inner_;
  FaultRule rule_;
  bool has_nan_ = false;
  size_t count_ = 0;
  mutable std::vector<double> widened_;
};

std::unique_ptr<Runner> FaultyModel::wrap(std::shared_ptr<FaultyModel> model, std::unique_ptr<Runner> inner) {
  return std::make_unique<FaultyRunner>(std::move(model), std::move(inner));
}

void FaultyModel::add(const FaultRule& rule) {
  const std::lock_guard<std::mutex> lock(mutex_);
  rules_.push_back(rule);
}

void FaultyModel::clear() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    rules_.clear();
    ++releases_;
  }
  released_.notify_all();
}

void FaultyModel::release() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto hangs = [](const FaultRule& rule) { return rule.kind == FaultKind::kHang; };
    rules_.erase(std::remove_if(rules_.begin(), rules_.end(), hangs), rules_.end());
    ++releases_;
  }
  released_.notify_all();
}

std::vector<uint64_t> FaultyModel::batches() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return batches_;
}

uint64_t FaultyModel::hanging() const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return hanging_;
}

bool FaultyModel::begin_run(uint64_t rows, FaultRule* out) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  const uint64_t run = batches_.size();
  batches_.push_back(rows);
  const auto found = std::find_if(rules_.begin(), rules_.end(), [&](const FaultRule& rule) {
    return run >= rule.first_run && rule.runs_max > 0 && rows >= rule.rows_min && rows <= rule.rows_max;
  });
  if (found == rules_.end()) return false;
  if (found->runs_max != UINT64_MAX) --found->runs_max;
  *out = *found;
  if (out->kind != FaultKind::kHang) return true;
  const uint64_t releases = releases_;
  ++hanging_;
  released_.wait(lock, [&] { return releases_ != releases; });
  --hanging_;
  return false;
}

}  // namespace assay
