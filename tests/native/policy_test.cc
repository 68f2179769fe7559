// base/policy: every row against every caller; what has no row; the order of the questions.
#include "core/base/policy.h"

#include <set>
#include <string>
#include <utility>

#include "check.h"

using namespace assay;

namespace {

constexpr Listener kListeners[] = {Listener::kPublic, Listener::kAdmin, Listener::kHealth};
constexpr uint8_t kAllRoles = (Role::kScore | Role::kRead) | (Role::kWrite | Role::kAdmin);
constexpr std::string_view kScore = "/assay.v1.ScoringService/Score";
constexpr std::string_view kRecord = "/assay.v1.FeatureService/RecordEvents";
constexpr std::string_view kGetFeatures = "/assay.v1.FeatureService/GetFeatures";
constexpr std::string_view kServedRows = "/assay.v1.FeatureService/GetServedRows";
constexpr std::string_view kDrift = "/assay.v1.DriftService/GetDrift";
constexpr std::string_view kDescribe = "/assay.v1.FeatureService/DescribeFeatureSet";
constexpr std::string_view kExplain = "/assay.v1.ScoringService/Explain";
constexpr std::string_view kCheck = "/grpc.health.v1.Health/Check";

Caller certified(uint8_t roles) {
  Caller caller;
  caller.needs_certificate = caller.has_certificate = true;
  caller.roles = roles;
  return caller;
}

Code ask(Listener listener, std::string_view method, uint8_t roles) { return check_access(listener, method, certified(roles)); }

constexpr uint8_t only(Role role) { return static_cast<uint8_t>(role); }

// The roles that the method's rows name for the listener. 0: none of them stands there.
uint8_t roles_on(Listener listener, std::string_view method) {
  uint8_t roles = 0;
  for (size_t index = 0; index < policy_row_count(); ++index) {
    const PolicyRow& row = policy_row(index);
    if (row.method == method && (row.listeners & static_cast<uint8_t>(listener)) != 0) roles |= row.roles;
  }
  return roles;
}

// What the table means, said a second time and in another way.
Code reference(Listener listener, std::string_view method, const Caller& caller) {
  const uint8_t roles = roles_on(listener, method);
  if (roles == 0) return Code::kWrongListener;
  if (caller.needs_certificate && !caller.has_certificate) return Code::kMissingCertificate;
  if (caller.needs_certificate && roles != only(Role::kAnyone) && (roles & caller.roles) == 0) return Code::kMissingRole;
  return Code::kOk;
}

}  // namespace

TEST(every_row_for_every_caller) {
  for (size_t index = 0; index < policy_row_count(); ++index) {
    const PolicyRow& row = policy_row(index);
    for (const Listener listener : kListeners) {
      for (int bits = 0; bits < 64; ++bits) {
        Caller caller;
        caller.needs_certificate = bits & 1;
        caller.has_certificate = bits & 2;
        caller.roles = static_cast<uint8_t>(bits >> 2);
        CHECK(check_access(listener, row.method, caller) == reference(listener, row.method, caller));
      }
    }
  }
}

TEST(rows_are_unique_on_a_listener_and_complete) {
  std::set<std::pair<std::string, Listener>> places;
  for (size_t index = 0; index < policy_row_count(); ++index) {
    const PolicyRow& row = policy_row(index);
    for (const Listener listener : kListeners) {
      if ((row.listeners & static_cast<uint8_t>(listener)) != 0) CHECK(places.emplace(row.method, listener).second);
    }
    CHECK(row.listeners != 0 && row.roles != 0);
    CHECK((row.roles & ~(kAllRoles | only(Role::kAnyone))) == 0);
  }
}

TEST(what_has_no_row_is_answered_nowhere) {
  for (const Listener listener : kListeners) {
    for (const std::string_view method : {"", "/", "/assay.v1.ScoringService/Scor", "/assay.v1.ScoringService/Score/", "Score"}) {
      CHECK(ask(listener, method, kAllRoles) == Code::kUnknownMethod);
      CHECK(check_access(listener, method, Caller()) == Code::kUnknownMethod);
    }
  }
  CHECK(ask(Listener::kPublic, std::string_view("/assay.v1.ScoringService/Score\0x", 32), kAllRoles) == Code::kUnknownMethod);
}

TEST(writing_is_for_the_admin_listener_whoever_asks) {
  CHECK(ask(Listener::kPublic, kRecord, kAllRoles) == Code::kWrongListener);
  CHECK(ask(Listener::kHealth, kRecord, kAllRoles) == Code::kWrongListener);
  CHECK(ask(Listener::kAdmin, kRecord, only(Role::kWrite)) == Code::kOk);
  CHECK(ask(Listener::kAdmin, kRecord, only(Role::kAdmin)) == Code::kOk);
  CHECK(ask(Listener::kAdmin, kRecord, Role::kScore | Role::kRead) == Code::kMissingRole);
}

TEST(what_is_known_of_customers_is_shown_on_the_admin_listener_to_those_who_may_read) {
  for (const std::string_view method : {kGetFeatures, kServedRows, kDrift}) {
    CHECK(ask(Listener::kPublic, method, kAllRoles) == Code::kWrongListener);
    CHECK(ask(Listener::kAdmin, method, only(Role::kRead)) == Code::kOk);
    CHECK(ask(Listener::kAdmin, method, only(Role::kAdmin)) == Code::kOk);
    CHECK(ask(Listener::kAdmin, method, Role::kScore | Role::kWrite) == Code::kMissingRole);
  }
}

TEST(explaining_a_request_is_for_those_who_score_and_a_recorded_score_for_those_who_may_read) {
  CHECK(ask(Listener::kPublic, kExplain, only(Role::kScore)) == Code::kOk);
  CHECK(ask(Listener::kPublic, kExplain, Role::kRead | Role::kAdmin) == Code::kMissingRole);
  CHECK(ask(Listener::kAdmin, kExplain, only(Role::kRead)) == Code::kOk);
  CHECK(ask(Listener::kAdmin, kExplain, only(Role::kAdmin)) == Code::kOk);
  CHECK(ask(Listener::kAdmin, kExplain, Role::kScore | Role::kWrite) == Code::kMissingRole);
  CHECK(ask(Listener::kHealth, kExplain, kAllRoles) == Code::kWrongListener);
}

TEST(a_feature_set_is_described_everywhere_to_those_who_may_read) {
  for (const Listener listener : {Listener::kPublic, Listener::kAdmin}) {
    CHECK(ask(listener, kDescribe, only(Role::kRead)) == Code::kOk);
    CHECK(ask(listener, kDescribe, Role::kScore | Role::kWrite) == Code::kMissingRole);
  }
}

TEST(health_is_for_anyone_with_a_certificate_and_the_rest_for_nobody_without_a_role) {
  CHECK(ask(Listener::kPublic, kCheck, 0) == Code::kOk);
  for (size_t index = 0; index < policy_row_count(); ++index) {
    const PolicyRow& row = policy_row(index);
    const bool is_health = row.method.find("/grpc.health.v1.Health/") == 0;
    for (const Listener listener : kListeners) CHECK((ask(listener, row.method, 0) == Code::kOk) <= is_health);
  }
}

TEST(the_health_listener_answers_health_and_nothing_else) {
  for (size_t index = 0; index < policy_row_count(); ++index) {
    const PolicyRow& row = policy_row(index);
    const bool is_health = row.method.find("/grpc.health.v1.Health/") == 0;
    CHECK_EQ(check_access(Listener::kHealth, row.method, Caller()) == Code::kOk, is_health);
  }
}

TEST(a_caller_without_certificate_is_refused_where_one_is_needed_health_included) {
  Caller caller;
  caller.needs_certificate = true;
  caller.roles = kAllRoles;
  CHECK(check_access(Listener::kPublic, kScore, caller) == Code::kMissingCertificate);
  CHECK(check_access(Listener::kPublic, kCheck, caller) == Code::kMissingCertificate);
}

ASSAY_TEST_MAIN
