#include "core/runtime/puppet_model.h"

#include <algorithm>

#include "core/base/hash.h"

namespace assay {

class PuppetRunner final : public Runner {
 public:
  PuppetRunner(std::shared_ptr<PuppetModel> model, size_t row_bytes)
      : model_(std::move(model)), row_bytes_(row_bytes), matrix_(model_->rows_max() * row_bytes), scores_(model_->rows_max()) {}

  size_t rows_max() const noexcept override { return model_->rows_max(); }

  void gather(const uint8_t* const* rows, size_t count) noexcept override {
    ASSAY_ASSERT(count >= 1 && count <= rows_max());
    has_scores_ = false;
    for (size_t i = 0; i < count; ++i) std::copy_n(rows[i], row_bytes_, matrix_.data() + i * row_bytes_);
  }

  Status run(size_t count) noexcept override {
    ASSAY_ASSERT(count >= 1 && count <= rows_max());
    std::vector<std::string_view> rows;
    for (size_t i = 0; i < count; ++i) {
      rows.emplace_back(reinterpret_cast<const char*>(matrix_.data()) + i * row_bytes_, row_bytes_);
    }
    Status status = model_->begin_run(rows);
    if (status.ok()) std::transform(rows.begin(), rows.end(), scores_.begin(), PuppetModel::score_of);
    has_scores_ = status.ok();
    return status;
  }

  OutputView output(size_t index) const noexcept override {
    OutputView view;
    if (index != 0 || !has_scores_) return view;
    view.type = TensorType::kFloat64;
    view.data = scores_.data();
    view.row_elements = 1;
    return view;
  }

 private:
  const std::shared_ptr<PuppetModel> model_;
  const size_t row_bytes_;
  std::vector<uint8_t> matrix_;
  std::vector<double> scores_;
  bool has_scores_ = false;
};

double PuppetModel::score_of(std::string_view row) noexcept { return static_cast<double>(xxh64(row) >> 11) * 0x1p-53; }

std::unique_ptr<Runner> PuppetModel::make_runner(std::shared_ptr<PuppetModel> model, size_t row_bytes) {
  return std::make_unique<PuppetRunner>(std::move(model), row_bytes);
}

void PuppetModel::fail_next(uint64_t runs) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  runs_to_fail_ = runs;
}

void PuppetModel::poison(std::string_view row) {
  const std::lock_guard<std::mutex> lock(mutex_);
  poisoned_.emplace_back(row);
}

void PuppetModel::hold() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_held_ = true;
}

void PuppetModel::release() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_held_ = false;
  }
  released_.notify_all();
}

std::vector<uint64_t> PuppetModel::batches() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return batches_;
}

Status PuppetModel::begin_run(const std::vector<std::string_view>& rows) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  batches_.push_back(rows.size());
  released_.wait(lock, [this] { return !is_held_; });
  if (runs_to_fail_ > 0) {
    --runs_to_fail_;
    return Status(Code::kModelRunFailed, "the puppet was told to fail");
  }
  const auto is_poisoned = [this](std::string_view row) {
    return std::find(poisoned_.begin(), poisoned_.end(), row) != poisoned_.end();
  };
  if (std::any_of(rows.begin(), rows.end(), is_poisoned)) return Status(Code::kModelRunFailed, "the batch holds a poisoned row");
  return Status();
}

}  // namespace assay
