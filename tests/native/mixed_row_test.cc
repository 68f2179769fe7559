// Rows of bytes that are x's for some players and a background row's for the others; and groups of features, sampled.
#include "core/explain/mixed_row.h"

#include <cmath>
#include <cstring>
#include <random>

#include "check.h"
#include "core/explain/permutation.h"

using namespace assay;
using namespace assay::explain;

namespace {

struct Row {
  int64_t count;
  float ratio, share;
  uint8_t is_online;
  uint8_t padding[7];
};

// Players: 0 has count and share, 1 has is_online, 2 has ratio; padding has nobody.
std::vector<RowElement> elements() {
  const auto at = [](size_t offset, size_t bytes, uint32_t player) {
    return RowElement{static_cast<uint32_t>(offset), static_cast<uint32_t>(bytes), player};
  };
  return {at(offsetof(Row, ratio), 4, 2), at(offsetof(Row, count), 8, 0), at(offsetof(Row, is_online), 1, 1),
          at(offsetof(Row, share), 4, 0)};
}

const uint8_t* bytes_of(const Row& row) { return reinterpret_cast<const uint8_t*>(&row); }

Row mixed(const RowMixer& mixer, const Row& x, const Row& z, const uint16_t* players, size_t count) {
  Row row{};
  mixer.mix(bytes_of(x), bytes_of(z), players, count, reinterpret_cast<uint8_t*>(&row));
  return row;
}

std::string refusal(std::vector<RowElement> elements, size_t row_bytes, size_t players) {
  RowMixer mixer;
  const Status status = RowMixer::create(std::move(elements), row_bytes, players, &mixer);
  CHECK(status.code == Code::kExplainUnsupported);
  return status.detail;
}

bool says(const std::string& text, const char* words) { return text.find(words) != std::string::npos; }

}  // namespace

TEST(players_bring_their_elements_and_nothing_else) {
  RowMixer mixer;
  REQUIRE(RowMixer::create(elements(), sizeof(Row), 4, &mixer).ok());  // player 3 has none
  const Row x{int64_t{1} << 40, 0.5f, 0.25f, 1, {1, 1}}, z{7, NAN, 2.0f, 0, {9, 9}};
  for (unsigned coalition = 0; coalition < 16; ++coalition) {
    std::vector<uint16_t> players;
    for (uint16_t player = 0; player < 4; ++player) {
      if ((coalition >> player & 1) != 0) players.insert(players.begin(), player);
    }
    const Row row = mixed(mixer, x, z, players.data(), players.size());
    const bool has_0 = (coalition & 1) != 0, has_1 = (coalition & 2) != 0, has_2 = (coalition & 4) != 0;
    CHECK_EQ(row.count, has_0 ? x.count : z.count);
    CHECK_EQ(row.share, has_0 ? x.share : z.share);
    CHECK_EQ(row.is_online, has_1 ? x.is_online : z.is_online);
    CHECK_EQ(std::memcmp(&row.ratio, has_2 ? &x.ratio : &z.ratio, sizeof row.ratio), 0);  // NaN is a value like others
    CHECK_EQ(std::memcmp(row.padding, z.padding, sizeof row.padding), 0);
  }
}

TEST(what_is_no_layout_is_refused) {
  CHECK(says(refusal({{0, 4, 0}, {3, 4, 1}}, 8, 2), "overlap"));
  CHECK(says(refusal({{4, 5, 0}}, 8, 1), "behind its row"));
  CHECK(says(refusal({{UINT32_MAX, UINT32_MAX, 0}}, 8, 1), "behind its row"));
  CHECK(says(refusal({{4, 0, 0}}, 8, 1), "empty"));
  CHECK(says(refusal({{0, 4, 0}, {4, 4, 2}}, 8, 2), "no player"));
  RowMixer mixer;
  CHECK(RowMixer::create({{4, 4, 1}, {0, 4, 0}}, 8, 2, &mixer).ok());
  CHECK_EQ(mixer.row_bytes(), size_t{8});
}

// count * share + 3 is_online + ratio^2: by group alone, so every round is exact.
TEST(groups_of_features_are_sampled_as_one) {
  const auto model = [](const Row& row) {
    return static_cast<double>(row.count) * row.share + 3.0 * row.is_online + double{row.ratio} * row.ratio;
  };
  RowMixer mixer;
  REQUIRE(RowMixer::create(elements(), sizeof(Row), 3, &mixer).ok());
  const Row x{8, 0.5f, 0.25f, 1, {}};
  const Row background[] = {{2, 1.0f, 4.0f, 0, {}}, {4, 0.0f, 0.5f, 1, {}}};
  const double alone[] = {model(background[0]), model(background[1])};
  PermutationSampling sampling;
  REQUIRE(PermutationSampling::create(model(x), alone, 2, 3, {}, &sampling).ok());
  while (!sampling.is_done()) {
    std::vector<double> numbers;
    for (const Coalition& asked : sampling.next(5)) {
      numbers.push_back(model(mixed(mixer, x, background[asked.background], asked.players, asked.size)));
    }
    REQUIRE(sampling.give(numbers.data(), numbers.size()).ok());
  }
  const double expected[] = {2.0 - (8.0 + 2.0) / 2, 3.0 - (0.0 + 3.0) / 2, 0.25 - (1.0 + 0.0) / 2};
  for (size_t player = 0; player < 3; ++player) CHECK(std::abs(sampling.value(player) - expected[player]) < 1e-12);
}

ASSAY_TEST_MAIN
