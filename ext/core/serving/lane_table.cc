#include "core/serving/lane_table.h"

#include <algorithm>

#include "core/base/limits.h"
#include "core/serving/shadow.h"

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
  if (find_model(lane->model()) == nullptr) {
    if (models_.size() == kModelsMax) return Status(Code::kModelUnsupported, "this process has served 64 models: start anew");
    models_.push_back({lane->model(), false, {}, nullptr});
  }
  lanes_.push_back(std::move(lane));
  return Status();
}

Code LaneTable::find(std::string_view model, std::string_view version, LaneTicket* ticket, const TransactionScan* transaction,
                     std::shared_ptr<Shadow>* shadow) noexcept {
  Code code = Code::kOk;
  std::shared_ptr<Lane> lane;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_closed_) return Code::kDraining;
    if (model.empty()) model = default_model_;
    const Model* const entry = find_model(model);
    const bool is_exact = !version.empty() && version[0] != '@';
    if (!is_exact && entry != nullptr && !choose_version(*entry, transaction, &version)) return Code::kUnknownVersion;
    const int index = index_of(model, version, &code);
    if (index < 0) return code;
    lane = lanes_[static_cast<size_t>(index)];
    lane->issue_ticket();  // under the lock: once the lane is out of the table the number of tickets only falls
    const bool is_champion = !is_exact && entry != nullptr && (!entry->has_route || version == entry->route.champion);
    if (is_champion && shadow != nullptr && entry->shadow != nullptr) *shadow = entry->shadow;
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
  const Model* const entry = find_model(model);
  if (entry->has_route && (entry->route.champion == version || entry->route.challenger == version)) {
    *code = Code::kRolloutRefused;
    return nullptr;
  }
  std::shared_ptr<Lane> lane = std::move(lanes_[static_cast<size_t>(index)]);
  lanes_.erase(lanes_.begin() + index);
  return lane;
}

std::vector<std::shared_ptr<Lane>> LaneTable::take_all() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_closed_ = true;
  return std::move(lanes_);
}

Status LaneTable::set_route(std::string_view model, Route route) {
  if (!(route.canary_share >= 0.0 && route.canary_share <= 1.0)) return Status(Code::kRolloutRefused, "canary: expected 0 to 1");
  if (route.canary_share > 0.0 && (route.challenger.empty() || route.entity.empty())) {
    return Status(Code::kRolloutRefused, "canary: a share needs a challenger, and the entity that decides");
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_closed_) return Status(Code::kDraining);
  Code code = Code::kUnknownVersion;
  const auto is_loaded = [&](const std::string& version) { return !version.empty() && index_of(model, version, &code) >= 0; };
  for (const std::string* version : {&route.champion, &route.challenger}) {
    const bool is_unset = version == &route.challenger && version->empty();
    if (!is_unset && !is_loaded(*version)) return Status(code, "version \"" + printable(*version) + "\" is not loaded");
  }
  Model& entry = *find_model(model);
  entry.has_route = true;
  entry.route = std::move(route);
  return Status();
}

Status LaneTable::set_shadow(std::string_view model, std::shared_ptr<Shadow> shadow) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Model* const entry = find_model(model);
  if (entry == nullptr) return Status(Code::kUnknownModel, "model \"" + printable(model) + "\"");
  entry->shadow.swap(shadow);  // the former goes when `shadow` does, after the lock
  return Status();
}

// A label or nothing to a version. False: nobody has the label. Without a route nothing stays nothing. REQUIRES: mutex_ is held.
bool LaneTable::choose_version(const Model& model, const TransactionScan* transaction, std::string_view* version) noexcept {
  const Route& route = model.route;
  if (version->empty()) {
    const bool is_in_canary =
        route.canary_share > 0.0 && transaction != nullptr &&
        is_in_share(model.name, route.challenger, entity_id(*transaction, route.entity), route.canary_share);
    *version = is_in_canary ? route.challenger : route.champion;
    return true;
  }
  if (*version == kChampionLabel) {
    *version = route.champion;
    return true;
  }
  if (*version != kChallengerLabel || route.challenger.empty()) return false;
  *version = route.challenger;
  return true;
}

LaneTable::Model* LaneTable::find_model(std::string_view name) noexcept {
  const auto found = std::find_if(models_.begin(), models_.end(), [name](const Model& model) { return model.name == name; });
  return found == models_.end() ? nullptr : &*found;
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
