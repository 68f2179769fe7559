// LaneTable: which lane answers a request. At most kLanesMax lanes; looked up by walking them, under one short lock.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/serving/lane.h"

namespace assay {

class LaneTable {
 public:
  // From here on requests find it: one step, no request sees a half. kModelUnsupported (twice the same version, too many),
  // kDraining (after take_all()).
  Status add(std::shared_ptr<Lane> lane, bool is_default);

  // No model: the default model. No version: the newest lane of the model. kUnknownModel, kUnknownVersion, kDraining.
  Code find(std::string_view model, std::string_view version, LaneTicket* ticket) noexcept;
  // Exactly this lane, or null.
  std::shared_ptr<Lane> get(std::string_view model, std::string_view version) noexcept;

  std::vector<std::shared_ptr<Lane>> all() const;

  // Takes the lane out: the caller owns its end. Null: not there; `code` says which of the two is unknown.
  std::shared_ptr<Lane> remove(std::string_view model, std::string_view version, Code* code) noexcept;
  // Takes all out; add() refuses from now on.
  std::vector<std::shared_ptr<Lane>> take_all() noexcept;

 private:
  int index_of(std::string_view model, std::string_view version, Code* code) const noexcept;

  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Lane>> lanes_;  // guarded by mutex_; oldest first
  std::string default_model_;                 // guarded by mutex_; stays when its lanes go, so that no other model answers for it
  bool is_closed_ = false;                    // guarded by mutex_
};

}  // namespace assay
