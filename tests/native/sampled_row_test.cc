// A row explained by asking its model: in the space of log-odds, the same each time, and as exact as it says.
#include "core/explain/sampled_row.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "check.h"

using namespace assay;
using namespace assay::explain;

namespace {

// Rows of three float32 and one int64, 8 bytes of padding before it; groups: {first, second}, {third}, {fourth}.
constexpr size_t kRowBytes = 32, kIntegerAt = 24, kRows = 4;
using Row = std::vector<uint8_t>;

Row row_of(float first, float second, float third, int64_t fourth) {
  Row row(kRowBytes);
  const float floats[] = {first, second, third};
  std::memcpy(row.data(), floats, sizeof floats);
  std::memcpy(row.data() + kIntegerAt, &fourth, sizeof fourth);
  return row;
}
std::vector<double> numbers_of(const uint8_t* row) {
  float floats[3];
  int64_t integer;
  std::memcpy(floats, row, sizeof floats);
  std::memcpy(&integer, row + kIntegerAt, sizeof integer);
  return {floats[0], floats[1], floats[2], static_cast<double>(integer)};
}

double logistic(double margin) { return 1.0 / (1.0 + std::exp(-margin)); }
double additive_margin(const uint8_t* row) {
  const std::vector<double> x = numbers_of(row);
  return 0.5 * x[0] - x[1] + 2.0 * x[2] + 0.25 * x[3] - 1.0;
}
double additive(const uint8_t* row) { return logistic(additive_margin(row)); }
double tangled(const uint8_t* row) {
  const std::vector<double> x = numbers_of(row);
  return logistic(x[0] * x[1] * x[2] + std::max(x[3], x[2]) * x[0]);
}
using Model = std::function<double(const uint8_t*)>;

struct Made {
  explicit Made(Model its_model, bool are_probabilities = true) : model(std::move(its_model)) {
    for (size_t i = 0; i < kRows; ++i) {
      const auto at = static_cast<float>(i);
      const Row row = row_of(at, 1.0f - at, 0.25f * at, static_cast<int64_t>(i % 2));
      rows.insert(rows.end(), row.begin(), row.end());
    }
    spec.tensors = {{TensorType::kFloat32, 0, 3}, {TensorType::kInt64, kIntegerAt, 1}};
    spec.row_bytes = kRowBytes;
    spec.background = rows.data();
    spec.background_rows = kRows;
    spec.inputs = {0, 1, 2, 3};
    spec.groups = {0, 0, 1, 2};
    spec.group_count = 3;
    for (size_t i = 0; i < kRows; ++i) scores.scores.push_back(model(rows.data() + i * kRowBytes));
    scores.are_probabilities = are_probabilities;
  }
  Made(const Made&) = delete;
  Made& operator=(const Made&) = delete;

  Status create() { return SampledModel::create(spec, scores, &sampled); }
  SampledRow begin(const Row& row, Players players, const SamplingOptions& options = {}) {
    CHECK(create().ok());
    SampledRow begun;
    CHECK(SampledRow::begin(*sampled, row, model(row.data()), players, options, &begun).ok());
    return begun;
  }
  // To the end, `rows_max` at a time.
  Attribution explain(const Row& row, Players players, size_t rows_max = 7) {
    SampledRow begun = begin(row, players);
    while (ask(begun, rows_max) > 0) {}
    Attribution found;
    CHECK(begun.can_tell());
    begun.tell(&found);
    return found;
  }
  size_t ask(SampledRow& begun, size_t rows_max) const {
    const size_t count = begun.next(rows_max);
    std::vector<double> given;
    Row mixed(kRowBytes);
    for (size_t i = 0; i < count; ++i) {
      begun.fill(i, mixed.data());
      given.push_back(model(mixed.data()));
    }
    if (count > 0) CHECK(begun.give(given.data(), count).ok());
    return count;
  }

  Model model;
  std::vector<uint8_t> rows;
  ExplainerSpec spec;
  BackgroundScores scores;
  std::unique_ptr<const SampledModel> sampled;
};

const Row kRow = row_of(1.5f, -2.0f, 0.75f, 3);

}  // namespace

TEST(what_acts_alone_in_log_odds_is_exact) {
  Made made(additive);
  const Attribution found = made.explain(kRow, Players::kInputs);
  std::vector<double> mean(4);
  for (size_t i = 0; i < kRows; ++i) {
    const std::vector<double> z = numbers_of(made.rows.data() + i * kRowBytes);
    for (size_t k = 0; k < 4; ++k) mean[k] += z[k] / kRows;
  }
  const double weights[] = {0.5, -1.0, 2.0, 0.25};
  const std::vector<double> x = numbers_of(kRow.data());
  for (size_t k = 0; k < 4; ++k) {
    CHECK_NEAR(found.values[k], weights[k] * (x[k] - mean[k]), 1e-6);
    CHECK(found.errors[k] < 1e-6);
  }
  CHECK(found.is_log_odds && found.adds_up());
  CHECK_NEAR(found.margin, additive_margin(kRow.data()), 1e-6);
  CHECK_NEAR(found.score, additive(kRow.data()), 1e-12);
  CHECK_NEAR(found.base_score, logistic(found.base_margin), 1e-12);
}

TEST(a_group_is_worth_what_its_inputs_are_where_they_act_alone) {
  Made made(additive);
  const std::vector<double> inputs = made.explain(kRow, Players::kInputs).values;
  const std::vector<double> groups = made.explain(kRow, Players::kGroups).values;
  CHECK_EQ(groups.size(), 3u);
  CHECK_NEAR(groups[0], inputs[0] + inputs[1], 1e-6);
  CHECK_NEAR(groups[1], inputs[2], 1e-6);
  CHECK_NEAR(groups[2], inputs[3], 1e-6);
}

TEST(a_score_that_is_no_probability_is_explained_as_it_is) {
  Made made([](const uint8_t* row) { return 10.0 * additive_margin(row); }, false);
  const Attribution found = made.explain(kRow, Players::kGroups);
  CHECK(!found.is_log_odds && found.adds_up());
  CHECK_NEAR(found.margin, found.score, 0.0);
  CHECK_NEAR(found.base_margin, found.base_score, 0.0);
}

TEST(the_same_row_gives_the_same_bits_however_many_are_asked_at_a_time) {
  Made made(tangled);
  const Attribution first = made.explain(kRow, Players::kInputs, 7);
  for (const size_t rows_max : {size_t{1}, size_t{32}, size_t{1000}}) {
    const Attribution again = made.explain(kRow, Players::kInputs, rows_max);
    CHECK(again.values == first.values);
    CHECK(again.errors == first.errors);
  }
  CHECK(first.adds_up());
  CHECK(*std::max_element(first.errors.begin(), first.errors.end()) > 0.0);
}

TEST(it_can_tell_after_whole_rounds_alone) {
  Made made(tangled);
  SampledRow begun = made.begin(kRow, Players::kInputs);
  const size_t per_round = 2 * kRows * 3;
  size_t asked = 0;
  for (; !begun.can_tell(); ++asked) CHECK_EQ(made.ask(begun, 1), 1u);
  CHECK_EQ(asked, per_round * PermutationSampling::kRoundsMin);
  Attribution found;
  begun.tell(&found);
  CHECK(found.adds_up());
}

TEST(certain_scores_have_log_odds_too) {
  Made made([](const uint8_t* row) { return additive_margin(row) > 0.0 ? 1.0 : 0.0; });
  const Attribution found = made.explain(kRow, Players::kInputs);
  CHECK(found.adds_up());
  for (const double value : found.values) CHECK(std::isfinite(value));
}

TEST(what_is_no_number_is_refused_and_nothing_is_taken) {
  Made made(tangled);
  SampledRow begun = made.begin(kRow, Players::kInputs);
  CHECK_EQ(begun.next(1), 1u);
  const double wrong = NAN;
  CHECK_EQ(begun.give(&wrong, 1).code, Code::kModelOutputInvalid);
  while (made.ask(begun, 7) > 0) {}
  CHECK(begun.can_tell());
  SampledRow refused;
  CHECK_EQ(SampledRow::begin(*made.sampled, kRow, NAN, Players::kInputs, {}, &refused).code, Code::kModelOutputInvalid);
  CHECK(!refused.can_tell());
}

TEST(one_player_needs_no_question) {
  Made made(tangled);
  made.spec.groups = {0, 0, 0, 0};
  made.spec.group_count = 1;
  SampledRow begun = made.begin(kRow, Players::kGroups);
  CHECK_EQ(begun.next(32), 0u);
  CHECK(begun.can_tell());
  Attribution found;
  begun.tell(&found);
  CHECK_NEAR(found.values[0], found.margin - found.base_margin, 1e-12);
}

TEST(a_background_or_groups_that_cannot_be_are_refused_by_name) {
  const auto refusal = [](const std::function<void(Made&)>& change) {
    Made made(additive);
    change(made);
    const Status status = made.create();
    CHECK_EQ(status.code, Code::kExplainUnsupported);
    return status.detail;
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  CHECK(has(refusal([](Made& made) { made.spec.background_rows = 0; }), "1 to 128 background rows, not 0"));
  CHECK(has(refusal([](Made& made) { made.scores.scores.pop_back(); }), "one score for each"));
  CHECK(has(refusal([](Made& made) { made.scores.scores[0] = NAN; }), "NaN or infinite"));
  CHECK(has(refusal([](Made& made) { made.scores.scores[0] = 1.5; }), "no probability"));
  CHECK(has(refusal([](Made& made) { made.spec.group_count = 0; }), "1 to 256 groups, not 0"));
  CHECK(has(refusal([](Made& made) { made.spec.group_count = SampledModel::kGroupsMax + 1; }), "put inputs together"));
  CHECK(has(refusal([](Made& made) { made.spec.groups.pop_back(); }), "one for each element"));
  CHECK(has(refusal([](Made& made) { made.spec.groups.push_back(0); }), "one for each element"));
  CHECK(has(refusal([](Made& made) { made.spec.inputs = {0, 1, 2, 2}; }), "each once"));
  CHECK(has(refusal([](Made& made) { made.spec.inputs.pop_back(); }), "one for each element"));
  CHECK(has(refusal([](Made& made) { made.spec.tensors[1].offset_bytes = 4; }), "overlap"));
}

ASSAY_TEST_MAIN
