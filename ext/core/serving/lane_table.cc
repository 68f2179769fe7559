#include "core/serving/lane_table.h"

#include "core/base/limits.h"

namespace assay {

Status LaneTable::add(std::shared_ptr<Lane> lane, bool is_default) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Code code = Code::kOk;
  if (is_closed_) return Status(Code::kDraining);
  if (index_of(lane->model(), lane->version(), &code) >= 0) {
    return Status(Code::kModelUnsupported, "this version of this model is loaded already");
  }
  if (lanes_.size() == limits::kLanesMax) {
    return Status(Code::kModelUnsupported, "16 model versions are loaded, which is the limit: unload one first");
  }
  static_assert(limits::kLanesMax == 16, "the text above names the limit");
  if (is_default || default_model_.empty()) default_model_ = lane->model();
  lanes_.push_back(std::move(lane));
  return Status();
}

Code LaneTable::find(std::string_view model, std::string_view version, LaneTicket* ticket) noexcept {
  Code code = Code::kOk;
  std::shared_ptr<Lane> lane;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_closed_) return Code::kDraining;
    const int index = index_of(model.empty() ? std::string_view(default_model_) : model, version, &code);
    if (index < 0) return code;
    lane = lanes_[static_cast<size_t>(index)];
    lane->issue_ticket();  // under the lock: once the lane is out of the table the number of tickets only falls
  }
  *ticket = LaneTicket(std::move(lane));
  return Code::kOk;
}

std::shared_ptr<Lane> LaneTable::get(std::string_view model, std::string_view version) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  Code code = Code::kOk;
  const int index = version.empty() ? -1 : index_of(model, version, &code);
  return index < 0 ? nullptr : lanes_[static_cast<size_t>(index)];
}

std::vector<std::shared_ptr<Lane>> LaneTable::all() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return lanes_;
}

std::shared_ptr<Lane> LaneTable::remove(std::string_view model, std::string_view version, Code* code) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  *code = Code::kUnknownVersion;
  const int index = version.empty() ? -1 : index_of(model, version, code);
  if (index < 0) return nullptr;
  std::shared_ptr<Lane> lane = std::move(lanes_[static_cast<size_t>(index)]);
  lanes_.erase(lanes_.begin() + index);
  return lane;
}

std::vector<std::shared_ptr<Lane>> LaneTable::take_all() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_closed_ = true;
  return std::move(lanes_);
}

// The newest lane of this model, of this version if one is named. REQUIRES: mutex_ is held.
int LaneTable::index_of(std::string_view model, std::string_view version, Code* code) const noexcept {
  *code = Code::kUnknownModel;
  for (int i = static_cast<int>(lanes_.size()) - 1; i >= 0; --i) {
    const Lane& lane = *lanes_[static_cast<size_t>(i)];
    if (lane.model() != model) continue;
    if (version.empty() || lane.version() == version) return i;
    *code = Code::kUnknownVersion;
  }
  return -1;
}

}  // namespace assay
