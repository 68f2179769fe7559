// LaneTable: which lane answers a request. At most kLanesMax lanes; looked up by walking them, under one short lock.
//
// A model without a route is answered by its newest lane. With one (route.h) the route says, and what it names cannot be removed.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/serving/lane.h"
#include "core/serving/route.h"
#include "core/wire/score_request.h"

namespace assay {

class Shadow;

class LaneTable {
 public:
  // From here on requests find it: one step, no request sees a half. kModelUnsupported (twice the same version, too many),
  // kDraining (after take_all()).
  Status add(std::shared_ptr<Lane> lane, bool is_default);

  // No model: the default model. No version: as the route says, else the newest lane of the model. A label: the version that has it.
  // `transaction`: whose entity may be in the canary; null (a batch, which one version answers as a whole): the champion answers.
  // `shadow`: gets the model's, if the champion answers and was not named by its version. kUnknownModel, kUnknownVersion, kDraining.
  Code find(std::string_view model, std::string_view version, LaneTicket* ticket, const TransactionScan* transaction = nullptr,
            std::shared_ptr<Shadow>* shadow = nullptr) noexcept;
  // Exactly this lane, or null.
  std::shared_ptr<Lane> get(std::string_view model, std::string_view version) noexcept;

  std::vector<std::shared_ptr<Lane>> all() const;

  // One step: every later request sees all of it. kUnknownModel, kUnknownVersion (no lane of that version), kDraining,
  // kRolloutRefused (a share out of range, a canary without challenger or entity).
  Status set_route(std::string_view model, Route route);
  // Null: none from now on. kUnknownModel.
  Status set_shadow(std::string_view model, std::shared_ptr<Shadow> shadow);

  // Takes the lane out: the caller owns its end. Null: not there (`code` says which of the two is unknown), or its model's route
  // names it (kRolloutRefused).
  std::shared_ptr<Lane> remove(std::string_view model, std::string_view version, Code* code) noexcept;
  // Takes all out; add() refuses from now on.
  std::vector<std::shared_ptr<Lane>> take_all() noexcept;

 private:
  static constexpr size_t kModelsMax = 64;

  struct Model {
    std::string name;
    bool has_route = false;
    Route route;
    std::shared_ptr<Shadow> shadow;  // null: none
  };

  int index_of(std::string_view model, std::string_view version, Code* code) const noexcept;
  Model* find_model(std::string_view name) noexcept;
  static bool choose_version(const Model& model, const TransactionScan* transaction, std::string_view* version) noexcept;

  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Lane>> lanes_;  // guarded by mutex_; oldest first
  std::vector<Model> models_;  // guarded by mutex_; one for each model that ever had a lane here, at most kModelsMax
  std::string default_model_;  // guarded by mutex_; stays when its lanes go, so that no other model answers for it
  bool is_closed_ = false;     // guarded by mutex_
};

}  // namespace assay
