#include "core/base/policy.h"

#include <iterator>
#include <utility>

namespace assay {
namespace {

constexpr uint8_t bit(Listener listener) noexcept { return static_cast<uint8_t>(listener); }
constexpr uint8_t bit(Role role) noexcept { return static_cast<uint8_t>(role); }

constexpr uint8_t kPublic = bit(Listener::kPublic);
constexpr uint8_t kAdmin = bit(Listener::kAdmin);
constexpr uint8_t kPublicAndAdmin = Listener::kPublic | Listener::kAdmin;
constexpr uint8_t kEverywhere = kPublicAndAdmin | Listener::kHealth;

// Who may ask what is served: a client that sends tensors asks for their names first.
constexpr uint8_t kLookers = (Role::kScore | Role::kRead) | bit(Role::kAdmin);

constexpr PolicyRow kTable[] = {
    {"/assay.v1.ScoringService/Score", kPublic, bit(Role::kScore)},
    {"/assay.v1.ScoringService/ScoreBatch", kPublic, bit(Role::kScore)},
    {"/assay.v1.ScoringService/ScoreStream", kPublic, bit(Role::kScore)},
    // Of a request it is a score; of a transaction's id a look at what somebody was scored.
    {"/assay.v1.ScoringService/Explain", kPublic, bit(Role::kScore)},
    {"/assay.v1.ScoringService/Explain", kAdmin, Role::kRead | Role::kAdmin},

    {"/assay.v1.FeatureService/RecordEvents", kAdmin, Role::kWrite | Role::kAdmin},
    // A read, but of what is known of a customer: a public port without client certificates would answer anybody.
    {"/assay.v1.FeatureService/GetFeatures", kAdmin, Role::kRead | Role::kAdmin},
    {"/assay.v1.FeatureService/GetServedRows", kAdmin, Role::kRead | Role::kAdmin},
    {"/assay.v1.FeatureService/DescribeFeatureSet", kPublicAndAdmin, Role::kRead | Role::kAdmin},

    // Counts of all customers together, but what a model lets through is for those who run it.
    {"/assay.v1.DriftService/GetDrift", kAdmin, Role::kRead | Role::kAdmin},
    {"/assay.v1.ModelService/ListModels", kAdmin, Role::kRead | Role::kAdmin},
    {"/assay.v1.ModelService/LoadModel", kAdmin, bit(Role::kAdmin)},
    {"/assay.v1.ModelService/UnloadModel", kAdmin, bit(Role::kAdmin)},
    {"/assay.v1.ModelService/PromoteModel", kAdmin, bit(Role::kAdmin)},
    {"/assay.v1.ModelService/RollbackModel", kAdmin, bit(Role::kAdmin)},
    {"/assay.v1.ModelService/SetCanary", kAdmin, bit(Role::kAdmin)},
    {"/assay.v1.ModelService/SetShadow", kAdmin, bit(Role::kAdmin)},

    {"/assay.v1.OperationsService/GetStatus", kAdmin, Role::kRead | Role::kAdmin},
    {"/assay.v1.OperationsService/SetLogging", kAdmin, bit(Role::kAdmin)},

    // The Open Inference Protocol (docs/open-inference.md). What Triton has beside it and assay does not (shared memory, loading, trace
    // and log settings) has no row, so that it is answered UNIMPLEMENTED.
    {"/inference.GRPCInferenceService/ModelInfer", kPublic, bit(Role::kScore)},
    {"/inference.GRPCInferenceService/ServerLive", kPublicAndAdmin, kLookers},
    {"/inference.GRPCInferenceService/ServerReady", kPublicAndAdmin, kLookers},
    {"/inference.GRPCInferenceService/ModelReady", kPublicAndAdmin, kLookers},
    {"/inference.GRPCInferenceService/ServerMetadata", kPublicAndAdmin, kLookers},
    {"/inference.GRPCInferenceService/ModelMetadata", kPublicAndAdmin, kLookers},
    {"/inference.GRPCInferenceService/ModelConfig", kPublicAndAdmin, kLookers},
    {"/inference.GRPCInferenceService/ModelStatistics", kPublicAndAdmin, kLookers},
    {"/inference.GRPCInferenceService/RepositoryIndex", kPublicAndAdmin, kLookers},

    {"/grpc.health.v1.Health/Check", kEverywhere, bit(Role::kAnyone)},
    {"/grpc.health.v1.Health/List", kEverywhere, bit(Role::kAnyone)},
    {"/grpc.health.v1.Health/Watch", kEverywhere, bit(Role::kAnyone)},

    {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", kPublicAndAdmin, Role::kRead | Role::kAdmin},
    {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", kPublicAndAdmin, Role::kRead | Role::kAdmin},
};

// A row that was begun and not finished would refuse everybody, or stand nowhere.
constexpr bool rows_are_complete() noexcept {
  for (const PolicyRow& row : kTable) {
    if (row.method.empty() || row.method[0] != '/' || row.listeners == 0 || row.roles == 0) return false;
  }
  return true;
}
static_assert(rows_are_complete(), "each row names its method, its listeners and its roles");

// Else which of two rows counts would be their order's to say.
constexpr bool rows_are_apart() noexcept {
  for (size_t i = 0; i < std::size(kTable); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (kTable[i].method == kTable[j].method && (kTable[i].listeners & kTable[j].listeners) != 0) return false;
    }
  }
  return true;
}
static_assert(rows_are_apart(), "a method has one row for a listener");

}  // namespace

size_t policy_row_count() noexcept { return std::size(kTable); }

const PolicyRow& policy_row(size_t index) noexcept {
  ASSAY_ASSERT(index < std::size(kTable));
  return kTable[index];
}

std::string role_names(uint8_t roles) {
  constexpr std::pair<Role, const char*> kNames[] = {
      {Role::kScore, "score"}, {Role::kRead, "read"}, {Role::kWrite, "write"}, {Role::kAdmin, "admin"}};
  std::string names;
  for (const auto& [role, name] : kNames) {
    if ((roles & bit(role)) != 0) names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names.empty() ? "none" : names;
}

Code check_access(Listener listener, std::string_view method, const Caller& caller) noexcept {
  // A walk over a few rows: transports ask once a caller and method, and remember.
  bool is_known = false;
  const PolicyRow* row = nullptr;
  for (const PolicyRow& one : kTable) {
    if (one.method != method) continue;
    is_known = true;
    if ((one.listeners & bit(listener)) != 0) row = &one;
  }
  if (row == nullptr) return is_known ? Code::kWrongListener : Code::kUnknownMethod;
  if (!caller.needs_certificate) return Code::kOk;
  if (!caller.has_certificate) return Code::kMissingCertificate;
  const bool is_for_anyone = (row->roles & bit(Role::kAnyone)) != 0;
  return is_for_anyone || (row->roles & caller.roles) != 0 ? Code::kOk : Code::kMissingRole;
}

}  // namespace assay
