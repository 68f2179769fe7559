#include "core/serving/shadows.h"

#include <algorithm>

#include "core/serving/lane.h"

namespace assay {

Status Shadows::start(std::shared_ptr<Lane> lane, ShadowShare share) {
  Status status;
  std::shared_ptr<Lane> former;
  {
    const std::lock_guard<std::mutex> changes(changes_);
    if (is_closed_) {
      status = Status(Code::kDraining);
    } else {
      former = end_of(lane->model());
      status = begin(lane, std::move(share));
    }
  }
  if (!status.ok()) lane->close();
  if (former != nullptr) former->close();
  return status;
}

Status Shadows::stop(std::string_view model) {
  std::shared_ptr<Lane> lane;
  {
    const std::lock_guard<std::mutex> changes(changes_);
    if (Status status = lanes_.set_shadow(model, nullptr); !status.ok()) return status;
    lane = end_of(model);
  }
  if (lane != nullptr) lane->close();
  return Status();
}

std::vector<ShadowStats> Shadows::stats() const {
  std::vector<ShadowStats> stats;
  for (const auto& shadow : all()) stats.push_back(shadow->stats());
  return stats;
}

void Shadows::drain() noexcept {
  for (const auto& shadow : all()) shadow->drain();
}

std::vector<std::shared_ptr<Lane>> Shadows::take_all() noexcept {
  const std::lock_guard<std::mutex> changes(changes_);
  is_closed_ = true;
  std::vector<Entry> entries;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries.swap(entries_);
  }
  std::vector<std::shared_ptr<Lane>> lanes;
  for (Entry& entry : entries) lanes.push_back(end(std::move(entry)));
  return lanes;
}

std::vector<std::shared_ptr<Shadow>> Shadows::all() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<Shadow>> all;
  for (const Entry& entry : entries_) all.push_back(entry.shadow);
  return all;
}

// REQUIRES: changes_ is held; the model has no shadow.
Status Shadows::begin(const std::shared_ptr<Lane>& lane, ShadowShare share) {
  if (entries_.size() == kShadowsMax) {
    return Status(Code::kRolloutRefused,
                  std::to_string(kShadowsMax) + " models have a shadow, which is the limit: end one first");
  }
  Entry entry;
  if (!idle_replies_.empty()) {
    entry.replies = std::move(idle_replies_.back());
    idle_replies_.pop_back();
  } else {
    entry.replies = std::make_unique<CompletionQueue>(Shadow::kBatch + 1);
  }
  entry.shadow = std::make_shared<Shadow>(lane, std::move(share), *entry.replies, admission_, calls_);
  Status status = entry.shadow->start();
  if (status.ok()) status = lanes_.set_shadow(lane->model(), entry.shadow);
  if (!status.ok()) {
    end(std::move(entry));
    return status;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_.push_back(std::move(entry));
  return status;
}

// Null: there is none. Its former champion may still hand it copies: those it sheds. REQUIRES: changes_ is held.
std::shared_ptr<Lane> Shadows::end_of(std::string_view model) noexcept {
  Entry entry;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found =
        std::find_if(entries_.begin(), entries_.end(), [&](const Entry& one) { return one.shadow->lane()->model() == model; });
    if (found == entries_.end()) return nullptr;
    entry = std::move(*found);
    entries_.erase(found);
  }
  (void)lanes_.set_shadow(model, nullptr);  // known: it had one. A new one that cannot be started leaves none
  return end(std::move(entry));
}

std::shared_ptr<Lane> Shadows::end(Entry entry) noexcept {
  entry.shadow->stop();
  idle_replies_.push_back(std::move(entry.replies));
  return entry.shadow->lane();
}

}  // namespace assay
