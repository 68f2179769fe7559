// Shadows: the shadow of each model that has one (shadow.h), at most kShadowsMax; who starts, replaces and ends them.
//
// LOCKS. Changes wait for each other, except that the end of a former shadow's lane, which may hang, is waited for without a lock.
#pragma once

#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/serving/lane_table.h"
#include "core/serving/shadow.h"

namespace assay {

class Shadows {
 public:
  static constexpr size_t kShadowsMax = limits::kLanesMax;

  // All outlive it.
  Shadows(LaneTable& lanes, Admission& admission, Calls& calls) : lanes_(lanes), admission_(admission), calls_(calls) {}

  // In place of the model's former one. `lane` has been started, serves nobody else, and is ended here, whatever comes of it.
  // May block, as Lane::close(). kUnknownModel, kRolloutRefused (too many), kDraining (take_all()), kIo.
  Status start(std::shared_ptr<Lane> lane, ShadowShare share);
  // Nothing where there is none. May block, as Lane::close(). kUnknownModel.
  Status stop(std::string_view model);

  std::vector<ShadowStats> stats() const;
  // Begins nothing new. Any thread.
  void drain() noexcept;
  // Ends all; the caller owns the ends of their lanes. start() refuses from now on.
  std::vector<std::shared_ptr<Lane>> take_all() noexcept;

 private:
  struct Entry {
    std::shared_ptr<Shadow> shadow;
    std::unique_ptr<CompletionQueue> replies;
  };

  std::vector<std::shared_ptr<Shadow>> all() const;
  Status begin(const std::shared_ptr<Lane>& lane, ShadowShare share);
  std::shared_ptr<Lane> end_of(std::string_view model) noexcept;
  std::shared_ptr<Lane> end(Entry entry) noexcept;

  LaneTable& lanes_;
  Admission& admission_;
  Calls& calls_;
  std::mutex changes_;          // held for as long as a change takes, but for the end of a lane
  bool is_closed_ = false;      // guarded by changes_
  std::vector<Entry> entries_;  // guarded by changes_ and mutex_: both to write, either to read
  // Of former shadows. A thread may be about to wake a queue from which its completion was taken already: they live on, and are used
  // again.
  std::vector<std::unique_ptr<CompletionQueue>> idle_replies_;  // guarded by changes_
  mutable std::mutex mutex_;
};

}  // namespace assay
