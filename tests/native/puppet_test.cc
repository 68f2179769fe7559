// The puppet model: what other tests believe about it.

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/runtime/puppet_model.h"

using namespace assay;

namespace {

Status run(Runner& runner, const std::vector<std::string>& rows) {
  std::vector<const uint8_t*> pointers;
  for (const std::string& row : rows) pointers.push_back(reinterpret_cast<const uint8_t*>(row.data()));
  runner.gather(pointers.data(), rows.size());
  return runner.run(rows.size());
}

double score(const Runner& runner, size_t row) { return static_cast<const double*>(runner.output(0).data)[row]; }

}  // namespace

TEST(scores_are_a_function_of_the_row_alone) {
  const auto model = std::make_shared<PuppetModel>(3);
  const std::unique_ptr<Runner> runner = PuppetModel::make_runner(model, 8);
  REQUIRE(run(*runner, {"row one.", "row two.", "row one."}).ok());
  CHECK_EQ(score(*runner, 0), PuppetModel::score_of("row one."));
  CHECK_EQ(score(*runner, 1), PuppetModel::score_of("row two."));
  CHECK_EQ(score(*runner, 2), score(*runner, 0));
  CHECK_EQ(runner->output(0).row_elements, size_t{1});
  CHECK(runner->output(0).type == TensorType::kFloat64);
  CHECK(runner->output(1).data == nullptr);
}

TEST(scores_lie_in_the_unit_interval_and_differ) {
  std::set<double> scores;
  for (int i = 0; i < 1000; ++i) {
    const double value = PuppetModel::score_of(std::to_string(i));
    CHECK(value >= 0.0 && value < 1.0);
    scores.insert(value);
  }
  CHECK_EQ(scores.size(), size_t{1000});
}

TEST(fails_as_often_as_told_and_on_poisoned_rows) {
  const auto model = std::make_shared<PuppetModel>(2);
  const std::unique_ptr<Runner> runner = PuppetModel::make_runner(model, 4);
  model->fail_next(2);
  CHECK(run(*runner, {"good"}).code == Code::kModelRunFailed);
  CHECK(runner->output(0).data == nullptr);
  CHECK(run(*runner, {"good", "good"}).code == Code::kModelRunFailed);
  CHECK(run(*runner, {"good"}).ok());
  model->poison("evil");
  CHECK(run(*runner, {"good", "evil"}).code == Code::kModelRunFailed);
  CHECK(run(*runner, {"good", "evi2"}).ok());
  CHECK(model->batches() == (std::vector<uint64_t>{1, 2, 1, 2, 2}));
}

TEST(holds_until_released) {
  const auto model = std::make_shared<PuppetModel>(1);
  const std::unique_ptr<Runner> runner = PuppetModel::make_runner(model, 4);
  model->hold();
  Status status(Code::kInternal);
  std::thread thread([&] { status = run(*runner, {"held"}); });
  while (model->batches().empty()) std::this_thread::yield();  // the run has started
  model->release();
  thread.join();
  CHECK(status.ok());
}

ASSAY_TEST_MAIN
