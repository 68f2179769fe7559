// Which version answers: routes, labels, the canary's split, and shadows, which nobody waits for.
#include <sched.h>
#include <unistd.h>

#include <cmath>
#include <set>
#include <thread>

#include "check.h"
#include "serving_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

std::string request_of(int64_t amount, const std::string& customer, const std::string& more = {}) {
  return delimited(1, "tx-" + std::to_string(amount)) + delimited(2, timestamp(1'522'540'831, 0)) +
         entity("customer_id", customer) + entity("terminal_id", "3156") + feature_entry("amount_minor", integer(amount)) +
         feature_entry("ratio", fixed64(1, 0.5)) + more;
}

std::string version_of(const Answer& answer) {
  return std::string(find_field(fields_of(parse_response(answer.payload).provenance), 2)->bytes);
}

Route route(const char* champion, const char* challenger = "", double share = 0.0) {
  return {champion, challenger, share > 0 ? "customer_id" : "", share};
}

// The version that answers this request, or the reason of its refusal.
std::string answered_by(House& house, const std::string& request) {
  const Submission submission = house.engine.submit_score(request, house.context(), &house.queue, ++house.token);
  if (submission.code != Code::kOk) return reason(submission);
  house.step("fraud", "1");
  house.step("fraud", "2");
  return version_of(house.answer(house.token));
}

void wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 20'000 && !condition(); ++i) usleep(1'000);
  REQUIRE(condition());
}

ShadowStats stats_of(House& house) {
  const std::vector<ShadowStats> stats = house.engine.shadow_stats();
  return stats.size() == 1 ? stats[0] : ShadowStats();
}

// Two loaded versions of one model, stepped by the test; the shadow has threads of its own.
struct Two : House {
  explicit Two(EngineOptions options = small()) : House(options) {
    REQUIRE(add(lane_spec("fraud", "1")).ok() && add(lane_spec("fraud", "2")).ok());
  }
  ~Two() { shade->release(); }
  LaneSpec shadow_spec(const std::string& version = "2") {
    LaneSpec spec = lane_spec("fraud", version);
    spec.runners.clear();
    spec.runners.push_back(make_runner(shade));
    spec.has_threads = true;
    spec.options.batch_rows_max = 8;
    return spec;
  }
  std::shared_ptr<Fake> shade = std::make_shared<Fake>();
};

}  // namespace

TEST(without_a_route_the_newest_answers_and_with_one_the_champion_does) {
  Two house;
  CHECK_EQ(answered_by(house, request_of(1, "a")), "2");
  CHECK_EQ(answered_by(house, request_of(1, "a", with_version("@champion"))), "2");
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  CHECK_EQ(answered_by(house, request_of(1, "a")), "1");
  CHECK_EQ(answered_by(house, request_of(1, "a", with_version("2"))), "2");
  CHECK_EQ(answered_by(house, request_of(1, "a", with_version("@champion"))), "1");
  CHECK_EQ(answered_by(house, request_of(1, "a", with_version("@challenger"))), "UNKNOWN_VERSION");
  REQUIRE(house.engine.set_route("fraud", route("2", "1")).ok());
  CHECK_EQ(answered_by(house, request_of(1, "a")), "2");
  CHECK_EQ(answered_by(house, request_of(1, "a", with_version("@challenger"))), "1");
  CHECK_EQ(answered_by(house, request_of(1, "a", with_version("@newest"))), "UNKNOWN_VERSION");
}

TEST(labels_go_to_loaded_versions_alone_and_hold_them) {
  Two house;
  CHECK(house.engine.set_route("fraud", route("3")).code == Code::kUnknownVersion);
  CHECK(house.engine.set_route("fraud", route("1", "3")).code == Code::kUnknownVersion);
  CHECK(house.engine.set_route("fraud", route("")).code == Code::kUnknownVersion);
  CHECK(house.engine.set_route("other", route("1")).code == Code::kUnknownModel);
  CHECK(house.engine.set_route("fraud", route("1", "", 0.5)).code == Code::kRolloutRefused);
  CHECK(house.engine.set_route("fraud", {"1", "2", "", 0.5}).code == Code::kRolloutRefused);
  for (const double share : {-0.1, 1.1, std::nan("")}) {
    CHECK(house.engine.set_route("fraud", {"1", "2", "customer_id", share}).code == Code::kRolloutRefused);
  }
  REQUIRE(house.engine.set_route("fraud", route("1", "2")).ok());
  CHECK(house.engine.remove_lane("fraud", "1").code == Code::kRolloutRefused);
  CHECK(house.engine.remove_lane("fraud", "2").code == Code::kRolloutRefused);
  CHECK_EQ(answered_by(house, request_of(1, "a")), "1");
  REQUIRE(house.engine.set_route("fraud", route("2")).ok());
  CHECK(house.engine.remove_lane("fraud", "1").ok());
  CHECK_EQ(answered_by(house, request_of(1, "a")), "2");
  LaneSpec labelled = house.lane_spec("fraud", "@champion");
  CHECK(house.add(std::move(labelled)).code == Code::kModelUnsupported);
}

TEST(a_canary_takes_its_share_of_entities_and_a_larger_one_only_adds) {
  constexpr int kEntities = 200'000;
  for (const char* salt : {"2", "2024-11-01", "x"}) {
    std::vector<int> counts;
    for (const double share : {0.0, 0.01, 0.05, 0.25, 0.5, 1.0}) {
      int inside = 0;
      for (int i = 0; i < kEntities; ++i) {
        const std::string id = std::to_string(i);
        const bool is_in = is_in_share("fraud", salt, id, share);
        inside += is_in;
        CHECK(!is_in || is_in_share("fraud", salt, id, std::min(1.0, share * 1.5)));
      }
      counts.push_back(inside);
      CHECK(std::abs(static_cast<double>(inside) / kEntities - share) < 0.005);
    }
    CHECK(counts.front() == 0 && counts.back() == kEntities);
  }
  // Another challenger tries other entities: of those in one tenth, about a tenth is in the other's.
  int both = 0, first = 0;
  for (int i = 0; i < kEntities; ++i) {
    const std::string id = std::to_string(i);
    first += is_in_share("fraud", "2", id, 0.1);
    both += is_in_share("fraud", "2", id, 0.1) && is_in_share("fraud", "3", id, 0.1);
  }
  CHECK(std::abs(static_cast<double>(both) / first - 0.1) < 0.02);
  // On every server and after every start: these are frozen, and were computed with another implementation of XXH64.
  std::string members;
  for (int i = 0; i < 40; ++i) members += is_in_share("card_fraud", "2", "C" + std::to_string(i), 0.25) ? '1' : '0';
  CHECK_EQ(members, "0100000100001100100100001000100100100101");
  CHECK(!is_in_share(std::string(500, 'm'), std::string(500, 's'), std::string(500, 'i'), 0.0));
}

TEST(an_entity_keeps_its_side) {
  Two house;
  REQUIRE(house.engine.set_route("fraud", route("1", "2", 0.3)).ok());
  std::set<std::string> challenged;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 200; ++i) {
      const std::string customer = "c" + std::to_string(i);
      const std::string version = answered_by(house, request_of(i, customer));
      CHECK_EQ(version, is_in_share("fraud", "2", customer, 0.3) ? "2" : "1");
      if (version == "2") challenged.insert(customer);
    }
  }
  CHECK(challenged.size() > 30 && challenged.size() < 90);
  REQUIRE(house.engine.set_route("fraud", route("1", "2", 0.6)).ok());
  for (const std::string& customer : challenged) CHECK_EQ(answered_by(house, request_of(1, customer)), "2");
  // A named version or label is not split; of a name that stands twice the last one counts, as for the row.
  const std::string in = *challenged.begin();
  CHECK_EQ(answered_by(house, request_of(1, in, with_version("@champion"))), "1");
  CHECK_EQ(answered_by(house, request_of(1, "nobody", entity("customer_id", in))), "2");
  // A batch is one version's, as a whole.
  house.batch({request_of(1, in)});
  house.step("fraud", "1");
  CHECK_EQ(find_field(fields_of(find_field(fields_of(house.answer(house.token).payload), 1)->bytes), 2)->bytes, "1");
}

TEST(a_shadow_scores_what_the_champion_has_scored_and_is_compared) {
  std::atomic<int> policy{-1};  // before the house: its runner writes it
  Two house;
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  house.shade->score = [&policy](int64_t amount) {
    policy = sched_getscheduler(0);
    return static_cast<double>(amount) / 1024.0 + (amount >= 700 ? 0.25 : 0.0);
  };
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());
  for (const int64_t amount : {100, 600, 700, 900}) CHECK_EQ(answered_by(house, request_of(amount, "a")), "1");
  CHECK_EQ(answered_by(house, request_of(5, "a", with_version("2"))), "2");  // not the champion's
  house.stream(request_of(100, "a"));
  house.step("fraud", "1");
  house.drain();
  wait_until([&] { return stats_of(house).compared_rows == 5; });
  const ShadowStats stats = stats_of(house);
  CHECK_EQ(policy.load(), SCHED_IDLE);
  CHECK_EQ(stats.version, "2");
  CHECK_EQ(stats.failed_rows + stats.shed_rows, 0u);
  CHECK_EQ(stats.difference_sum, 0.5);
  CHECK_EQ(stats.differences[0], 3u);  // equal
  CHECK_EQ(stats.differences[9], 2u);  // 0.25
  const auto at = [&](Decision champion, Decision shadow) {
    return stats.decisions[static_cast<size_t>(champion)][static_cast<size_t>(shadow)];
  };
  CHECK_EQ(at(Decision::kApprove, Decision::kApprove), 2u);
  CHECK_EQ(at(Decision::kReview, Decision::kReview), 1u);
  CHECK_EQ(at(Decision::kReview, Decision::kDecline), 1u);  // 700: a flip
  CHECK_EQ(at(Decision::kDecline, Decision::kDecline), 1u);
  // Nothing of it is in what clients are counted by.
  CHECK_EQ(house.engine.stats().answered_rows, 6u);
  CHECK_EQ(house.engine.stats().accepted_rows, 6u);
  REQUIRE(house.engine.stop_shadow("fraud").ok());
  CHECK(house.engine.shadow_stats().empty());
  CHECK_EQ(answered_by(house, request_of(1, "a")), "1");
  CHECK(house.engine.stop_shadow("fraud").ok());
  CHECK(house.engine.stop_shadow("other").code == Code::kUnknownModel);
}

TEST(a_shadow_that_hangs_or_fails_costs_the_champion_nothing) {
  Two house;
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  house.shade->is_failing = [](const std::vector<int64_t>& amounts) {
    return std::find(amounts.begin(), amounts.end(), 13) != amounts.end();
  };
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());
  CHECK_EQ(answered_by(house, request_of(13, "a")), "1");
  CHECK_EQ(answered_by(house, without_ratio(1)), "INVALID_REQUEST");  // refused: nothing to compare with
  wait_until([&] { return stats_of(house).failed_rows == 1; });
  house.shade->hold();
  for (size_t i = 0; i < 2 * Shadow::kQueueMax; ++i) CHECK_EQ(answered_by(house, request_of(1, "a")), "1");
  const ShadowStats stats = stats_of(house);
  CHECK_EQ(stats.compared_rows, 0u);
  CHECK(stats.shed_rows >= Shadow::kQueueMax - Shadow::kBatch);
  CHECK(house.engine.stats().slots_used <= Shadow::kBatch);
  house.shade->release();
  wait_until([&] {
    const ShadowStats now = stats_of(house);
    return now.compared_rows + now.failed_rows + now.shed_rows == 2 * Shadow::kQueueMax + 1;
  });
}

TEST(a_shadow_that_hangs_holds_up_no_other_and_lets_itself_be_stopped) {
  Two house;
  REQUIRE(house.add(house.lane_spec("other", "1")).ok());
  const auto other_shade = std::make_shared<Fake>();
  LaneSpec other = house.shadow_spec();
  other.model = "other";
  other.runners.clear();
  other.runners.push_back(house.make_runner(other_shade));
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());
  REQUIRE(house.engine.start_shadow(std::move(other), {"customer_id", 1.0}).ok());
  const auto stats_of_model = [&](const char* model) {
    for (const ShadowStats& stats : house.engine.shadow_stats()) {
      if (stats.model == model) return stats;
    }
    return ShadowStats();
  };
  const auto other_is_compared = [&](int64_t amount) {
    const uint64_t before = stats_of_model("other").compared_rows;
    house.engine.submit_score(request_of(amount, "a", with_model("other")), house.context(), &house.queue, ++house.token);
    house.step("other", "1");
    house.answer(house.token);
    wait_until([&] { return stats_of_model("other").compared_rows == before + 1; });
  };
  house.shade->hold();
  CHECK_EQ(answered_by(house, request_of(1, "a")), "1");
  wait_until([&] { return house.engine.stats().slots_used == 1; });  // in the run that hangs
  other_is_compared(1);
  std::thread stopping([&] { house.engine.stop_shadow("fraud"); });  // returns once the run does
  wait_until([&] { return house.engine.shadow_stats().size() == 1; });
  other_is_compared(2);
  CHECK_EQ(answered_by(house, request_of(1, "a")), "1");
  house.shade->release();
  stopping.join();
  CHECK_EQ(house.engine.stats().slots_used, 0u);
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());  // with the queue of the former one
  CHECK_EQ(answered_by(house, request_of(1, "a")), "1");
  wait_until([&] { return stats_of_model("fraud").compared_rows == 1; });
}

TEST(nothing_is_begun_for_a_shadow_while_half_of_the_slots_are_used) {
  Two house;
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());
  for (int i = 0; i < 33; ++i) REQUIRE(house.score(i, with_version("2")).code == Code::kOk);  // of 64 slots; nobody runs them
  REQUIRE(house.score(1).code == Code::kOk);
  house.step("fraud", "1");
  house.drain();
  wait_until([&] { return stats_of(house).shed_rows == 1; });
  CHECK_EQ(stats_of(house).compared_rows, 0u);
  while (house.engine.stats().slots_used > 0) {
    house.step("fraud", "2");
    house.drain();
  }
}

TEST(rows_that_are_late_or_refused_speak_for_their_version_unless_it_was_named) {
  Two house;
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  for (const bool is_named : {true, false}) {
    house.score(1, with_timeout_ms(1) + (is_named ? with_version("1") : ""));
    house.clock.advance_ns(2 * kMs);
    house.step("fraud", "1");
    house.batch({without_ratio(1)}, is_named ? delimited(3, "1") : "");
    house.drain();
    CHECK_EQ(house.engine.metrics().lanes[0].missed_rows, is_named ? 0u : 2u);
  }
}

TEST(a_process_has_room_for_so_many_models) {
  House house;
  for (int i = 0; i < 64; ++i) {
    const std::string name = "m" + std::to_string(i);
    REQUIRE(house.add(house.lane_spec(name.c_str())).ok() && house.engine.remove_lane(name, "1").ok());
  }
  CHECK(house.add(house.lane_spec("m64")).code == Code::kModelUnsupported);
  CHECK(house.add(house.lane_spec("m0", "2")).ok());
}

TEST(a_shadow_that_comes_and_goes_leaves_nothing_behind) {
  Two house;
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  for (size_t i = 0; i < 3 * Shadow::kBatch; ++i) {  // they use one reply queue after the other
    REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());
    REQUIRE(house.engine.stop_shadow("fraud").ok());
  }
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());
  CHECK_EQ(answered_by(house, request_of(1, "a")), "1");
  wait_until([&] { return stats_of(house).compared_rows == 1; });
}

TEST(copies_of_requests_have_a_limit) {
  EngineOptions options = House::small();
  options.slots = 4096;
  Two house(options);
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());
  const std::string large = request_of(1, "a", delimited(99, std::string(1 << 20, 'x')));  // an unknown field
  const size_t fit = Shadow::kHeldBytesMax / large.size();
  for (size_t i = 0; i < fit + 5; ++i) house.engine.submit_score(large, house.context(), &house.queue, ++house.token);
  CHECK_EQ(stats_of(house).shed_rows, 5u);
  CHECK_EQ(stats_of(house).held_bytes, fit * large.size());
  for (size_t i = 0; i < fit + 5; ++i) house.step("fraud", "1");
  house.drain();
  wait_until([&] { return stats_of(house).compared_rows == fit; });
  CHECK_EQ(answered_by(house, large), "1");
  wait_until([&] { return stats_of(house).compared_rows == fit + 1; });
}

TEST(what_is_cancelled_or_late_gives_its_copy_back_and_a_full_queue_takes_none) {
  Two house;
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 1.0}).ok());
  const std::string request = request_of(1, "a");
  const auto submit = [&] { return house.engine.submit_score(request, house.context(), &house.queue, ++house.token); };
  const Submission left = submit();
  CHECK_EQ(stats_of(house).held_bytes, request.size());
  CHECK(house.engine.cancel(left.call));
  house.step("fraud", "1");
  CHECK_EQ(stats_of(house).held_bytes, 0u);
  submit();
  house.clock.advance_ns(10 * kSecond);  // its deadline
  house.step("fraud", "1");
  CHECK(house.answer(house.token).code == Code::kDeadlineExceeded);
  CHECK_EQ(stats_of(house).held_bytes, 0u);
  CHECK_EQ(stats_of(house).compared_rows + stats_of(house).shed_rows, 0u);
  house.shade->hold();
  while (stats_of(house).shed_rows == 0) CHECK_EQ(answered_by(house, request), "1");
  const uint64_t held = stats_of(house).held_bytes;
  submit();
  CHECK_EQ(stats_of(house).held_bytes, held);  // not even while its champion runs
  house.step("fraud", "1");
  house.answer(house.token);
  house.shade->release();
}

TEST(a_share_of_entities_is_shadowed) {
  Two house;
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  CHECK(house.engine.start_shadow(house.shadow_spec(), {"", 0.5}).code == Code::kRolloutRefused);
  CHECK(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 0.0}).code == Code::kRolloutRefused);
  REQUIRE(house.engine.start_shadow(house.shadow_spec(), {"customer_id", 0.5}).ok());
  REQUIRE(house.engine.start_shadow(house.shadow_spec("3"), {"customer_id", 0.5}).ok());  // in its place
  size_t wanted = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string customer = "c" + std::to_string(i);
    wanted += is_in_share("fraud", "@shadow", customer, 0.5);
    CHECK_EQ(answered_by(house, request_of(1, customer)), "1");
  }
  CHECK(wanted > 30 && wanted < 70);
  wait_until([&] { return stats_of(house).compared_rows == wanted; });
  CHECK_EQ(stats_of(house).version, "3");
}

// Routes and shadows change under load: every call is answered once, by a version that was there.
TEST(nobody_notices_a_change) {
  House house;
  const auto spec = [&](const char* version) {
    LaneSpec lane = house.lane_spec("fraud", version);
    lane.has_threads = true;
    return lane;
  };
  REQUIRE(house.add(spec("1")).ok());
  REQUIRE(house.engine.set_route("fraud", route("1")).ok());
  const auto shade = std::make_shared<Fake>();
  std::atomic<bool> is_over{false};
  std::atomic<uint64_t> answered{0}, refused{0};
  std::vector<std::thread> clients;
  for (int client = 0; client < 3; ++client) {
    clients.emplace_back([&, client] {
      CompletionQueue queue(64);
      std::vector<Completion> completions;
      for (int i = 0; !is_over; ++i) {
        const std::string request = request_of(i % 1000, "c" + std::to_string((i * 3 + client) % 50));
        if (house.engine.submit_score(request, house.context(), &queue, 1).code != Code::kOk) {
          ++refused;
          continue;
        }
        do {
          queue.drain(completions);
          if (completions.empty()) std::this_thread::yield();
        } while (completions.empty());
        if (house.engine.finish(completions[0].call).code == Code::kOk) ++answered;
      }
    });
  }
  std::string old_version = "1";
  const int changes = check::scaled(25);
  for (int i = 2; i < 2 + changes; ++i) {
    const std::string version = std::to_string(i);
    CHECK(house.add(spec(version.c_str())).ok());
    LaneSpec shadow = spec(version.c_str());
    shadow.runners.clear();
    shadow.runners.push_back(house.make_runner(shade));
    CHECK(house.engine.start_shadow(std::move(shadow), {"customer_id", 1.0}).ok());
    CHECK(house.engine.set_route("fraud", {old_version, version, "customer_id", 0.5}).ok());
    const uint64_t before = answered;
    while (answered < before + 50) std::this_thread::yield();
    CHECK(house.engine.set_route("fraud", {version, "", "", 0.0}).ok());
    CHECK(house.engine.stop_shadow("fraud").ok());
    CHECK(house.engine.remove_lane("fraud", old_version).ok());
    old_version = version;
  }
  is_over = true;
  for (std::thread& client : clients) client.join();
  CHECK_EQ(refused.load(), 0u);
  CHECK_EQ(house.engine.stats().answered_rows, answered.load());
}

ASSAY_TEST_MAIN
