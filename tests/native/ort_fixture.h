// The self-check's model (tools/make_self_check_model.py) with rows of another layout than the self-check's, and their answers.
#pragma once

#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/runtime/ort_model.h"

namespace assay::test {

inline constexpr unsigned char kModelBytes[] = {
#include "core/runtime/self_check_model.inc"
};

struct Row {
  uint8_t flags;
  uint8_t gap[7];
  int64_t longs;
  float singles[2];
  int32_t ints;
  int32_t gap2;
  double doubles;
};

inline const std::vector<TensorSpec> kTensors = {{"flags", TensorType::kBool, 1},
                                                 {"longs", TensorType::kInt64, 1},
                                                 {"singles", TensorType::kFloat32, 2},
                                                 {"ints", TensorType::kInt32, 1},
                                                 {"doubles", TensorType::kFloat64, 1}};
inline const std::vector<TensorSegment> kSegments = {{offsetof(Row, flags), 1},
                                                     {offsetof(Row, longs), 8},
                                                     {offsetof(Row, singles), 8},
                                                     {offsetof(Row, ints), 4},
                                                     {offsetof(Row, doubles), 8}};

inline std::string_view model_bytes() { return {reinterpret_cast<const char*>(kModelBytes), sizeof(kModelBytes)}; }

// Small integers: every sum is exact in float32.
inline Row random_row(std::mt19937_64& random) {
  std::uniform_int_distribution<int> number(-1000, 1000);
  Row row{};
  row.flags = static_cast<uint8_t>(random() & 1);
  row.longs = number(random);
  row.singles[0] = static_cast<float>(number(random));
  row.singles[1] = static_cast<float>(number(random)) + 0.5F;
  row.ints = number(random);
  row.doubles = number(random) + 0.25;
  return row;
}

inline bool is_answer(const Row& row, const float* floats, int64_t integer) {
  return floats[0] == static_cast<float>(row.doubles + static_cast<double>(row.longs) + static_cast<double>(row.singles[0])) &&
         floats[1] == static_cast<float>(row.ints + row.flags) + row.singles[1] && integer == row.longs + row.ints;
}

inline Status gather_and_run(Runner& runner, const std::vector<Row>& rows, size_t count) {
  std::vector<const uint8_t*> pointers;
  for (size_t i = 0; i < count; ++i) pointers.push_back(reinterpret_cast<const uint8_t*>(&rows[i]));
  runner.gather(pointers.data(), count);
  return runner.run(count);
}

// The same for a runner that gives the first output alone: the one that can be bound.
inline bool floats_are_right(Runner& runner, const std::vector<Row>& rows, size_t count) {
  if (!gather_and_run(runner, rows, count).ok()) return false;
  const OutputView floats = runner.output(0);
  if (floats.row_elements != 2 || floats.data == nullptr || runner.output(1).data != nullptr) return false;
  for (size_t i = 0; i < count; ++i) {
    if (!is_answer(rows[i], static_cast<const float*>(floats.data) + i * 2, rows[i].longs + rows[i].ints)) return false;
  }
  return true;
}

// Gathers, runs and checks every row of the batch.
inline bool runs_right(Runner& runner, const std::vector<Row>& rows, size_t count) {
  if (!gather_and_run(runner, rows, count).ok()) return false;
  const OutputView floats = runner.output(0);
  const OutputView integers = runner.output(1);
  if (floats.row_elements != 2 || integers.row_elements != 1) return false;
  for (size_t i = 0; i < count; ++i) {
    if (!is_answer(rows[i], static_cast<const float*>(floats.data) + i * 2, static_cast<const int64_t*>(integers.data)[i]))
      return false;
  }
  return true;
}

inline bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace assay::test
