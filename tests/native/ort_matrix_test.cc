// OrtModel::run_matrix over memory that ends where the matrix ends. Needs ASSAY_ORT_LIBRARY, as ort_test does.

#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/runtime/ort_model.h"
#include "ort_fixture.h"
#include "wire_fixture.h"

using namespace assay;
using namespace assay::test;

namespace {

constexpr size_t kColumns = 3;
enum Output : uint32_t { kSame, kDoubles, kTurned, kMean, kPicked = 0 };

// --- a model in ONNX's own bytes: x (batch, 3) float32 -> same, doubles (batch, 3); turned (3, batch); mean ()

using fixture::delimited;
using fixture::number;

std::string attribute(const char* name, uint64_t value) {
  return delimited(5, delimited(1, name) + number(3, value) + number(20, 2));
}

std::string node(const char* op, const std::vector<const char*>& inputs, const char* output, const std::string& attributes = "") {
  std::string made;
  for (const char* input : inputs) made += delimited(1, input);
  return delimited(1, made + delimited(2, output) + delimited(4, op) + attributes);
}

std::string dim(const char* name) { return delimited(1, delimited(2, name)); }
std::string dim(uint64_t size) { return delimited(1, number(1, size)); }

std::string value(uint32_t field, const char* name, uint64_t type, const std::string& dims) {
  return delimited(field, delimited(1, name) + delimited(2, delimited(1, number(1, type) + delimited(2, dims))));
}

std::string make_model(const std::string& nodes, const std::string& outputs) {
  const std::string graph = nodes + delimited(2, "matrix") + value(11, "x", 1, dim("batch") + dim(kColumns)) + outputs;
  return number(1, 8) + delimited(7, graph) + delimited(8, number(2, 17));
}

std::string sound_model() {
  const std::string rows = dim("batch") + dim(kColumns);
  return make_model(node("Identity", {"x"}, "same") + node("Cast", {"x"}, "doubles", attribute("to", 11)) +
                        node("Transpose", {"x"}, "turned") + node("ReduceMean", {"x"}, "mean", attribute("keepdims", 0)),
                    value(12, "same", 1, rows) + value(12, "doubles", 11, rows) +
                        value(12, "turned", 1, dim(kColumns) + dim("batch")) + value(12, "mean", 1, ""));
}

// Takes the values of x for places in x: a run fails where one is no place.
std::string picking_model() {
  return make_model(node("Cast", {"x"}, "places", attribute("to", 7)) + node("Gather", {"x", "places"}, "picked"),
                    value(12, "picked", 1, dim("batch") + dim(kColumns) + dim(kColumns)));
}

const char* library_path() {
  static const char* path = [] {
    const char* given = std::getenv("ASSAY_ORT_LIBRARY");
    const bool is_given = given != nullptr && *given != '\0';
    if (!is_given) std::printf("skipped: ONNX Runtime's tests need ASSAY_ORT_LIBRARY, the path of libonnxruntime.so\n");
    return is_given ? given : static_cast<const char*>(nullptr);
  }();
  return path;
}

std::shared_ptr<OrtModel> load_model(const std::string& bytes = sound_model()) {
  std::shared_ptr<OrtRuntime> runtime;
  Status status = OrtRuntime::open(library_path(), &runtime);
  std::shared_ptr<OrtModel> model;
  if (status.ok()) status = OrtModel::load(runtime, bytes, OrtModelOptions(), &model);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return model;
}

// Of exactly count rows: what reads or writes past them is seen by a sanitizer.
struct Matrix {
  Matrix(size_t count, std::mt19937_64& random) : values(new float[count * kColumns]), scores(new double[count]), count(count) {
    for (size_t i = 0; i < count * kColumns; ++i) values[i] = static_cast<float>(random() % 2000) / 4 - 250;
    for (size_t i = 0; i < count; ++i) scores[i] = kUnset;
  }

  Status run(const OrtModel& model, Output output, size_t column) const {
    return model.run_matrix(values.get(), count, output, column, scores.get());
  }

  bool is_column(size_t column) const {
    for (size_t i = 0; i < count; ++i) {
      if (scores[i] != static_cast<double>(values[i * kColumns + column])) return false;
    }
    return true;
  }

  bool is_untouched() const {
    for (size_t i = 0; i < count; ++i) {
      if (scores[i] != kUnset) return false;
    }
    return true;
  }

  static constexpr double kUnset = 0.123456789;
  const std::unique_ptr<float[]> values;
  const std::unique_ptr<double[]> scores;
  const size_t count;
};

}  // namespace

TEST(every_column_of_floats_and_doubles_in_batches_of_any_size) {
  if (!library_path()) return;
  const std::shared_ptr<OrtModel> model = load_model();
  REQUIRE(model != nullptr && model->outputs().size() == 4);
  std::mt19937_64 random = check::random_engine();
  for (const size_t count : {1, 2, 3, 7, 256, 257, 4096}) {
    for (size_t column = 0; column < kColumns; ++column) {
      for (const Output output : {kSame, kDoubles}) {
        const Matrix matrix(count, random);
        REQUIRE(matrix.run(*model, output, column).ok());
        CHECK(matrix.is_column(column));
      }
    }
  }
}

TEST(a_column_that_the_output_does_not_have_is_refused) {
  if (!library_path()) return;
  const std::shared_ptr<OrtModel> model = load_model();
  REQUIRE(model != nullptr);
  std::mt19937_64 random = check::random_engine();
  for (const size_t column : {kColumns, kColumns + 1, static_cast<size_t>(-1)}) {
    const Matrix matrix(5, random);
    const Status status = matrix.run(*model, kSame, column);
    CHECK(status.code == Code::kModelOutputInvalid && contains(status.detail, "the score's column is not in the output"));
    CHECK(matrix.is_untouched());
  }
}

TEST(an_output_that_is_not_one_row_for_each_is_refused) {
  if (!library_path()) return;
  const std::shared_ptr<OrtModel> model = load_model();
  REQUIRE(model != nullptr);
  std::mt19937_64 random = check::random_engine();
  const Matrix matrix(5, random);
  Status status = matrix.run(*model, kTurned, 0);
  CHECK(status.code == Code::kModelOutputInvalid && contains(status.detail, "first axis is not the batch"));
  status = matrix.run(*model, kMean, 0);
  CHECK(status.code == Code::kModelOutputInvalid && contains(status.detail, "no batch axis"));
  CHECK(matrix.is_untouched());
}

// A run that fails says so without the value that made it fail, and the session goes on.
TEST(a_run_that_fails_tells_no_values) {
  if (!library_path()) return;
  const std::shared_ptr<OrtModel> model = load_model(picking_model());
  REQUIRE(model != nullptr);
  std::mt19937_64 random = check::random_engine();
  const Matrix matrix(2, random);
  for (size_t i = 0; i < 2 * kColumns; ++i) matrix.values[i] = 0;
  matrix.values[4] = 5716;  // no place in a matrix of two rows
  const Status status = matrix.run(*model, kPicked, 0);
  CHECK_EQ(static_cast<int>(status.code), static_cast<int>(Code::kModelRunFailed));
  CHECK(contains(status.detail, "####") && !contains(status.detail, "5716"));
  CHECK(matrix.is_untouched());
  matrix.values[4] = 1;
  CHECK(matrix.run(*model, kPicked, 8).ok());  // of 3 * 3
}

TEST(threads_share_one_session) {
  if (!library_path()) return;
  const std::shared_ptr<OrtModel> model = load_model();
  REQUIRE(model != nullptr);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(check::seed() + t);
      for (int i = 0; i < check::scaled(100); ++i) {
        const Matrix matrix(1 + random() % 64, random);
        const size_t column = random() % kColumns;
        const Output output = random() % 2 == 0 ? kSame : kDoubles;
        if (!matrix.run(*model, output, column).ok() || !matrix.is_column(column)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
}

ASSAY_TEST_MAIN
