// Sessions on a CUDA device, with a runtime that plays one (fake_cuda_ort.cc). Needs ASSAY_ORT_LIBRARY=.../libonnxruntime.so.* and
// ASSAY_TEST_FAKE_ORT=.../fake_cuda_ort.so; skips without them (`make native` sets both).

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/runtime/ort_model.h"
#include "ort_fixture.h"

using namespace assay;
using namespace assay::test;

namespace {

constexpr const char* kOutOfMemory =
    "run_error=/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal("
    "size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 36000000\nrun_rows_max=";

// The script of the device and what it was asked, in a folder that goes with the process.
class Script {
 public:
  Script() : path_("/tmp/assay-cuda-test-" + std::to_string(getpid())) {
    setenv("ASSAY_TEST_CUDA_SCRIPT", path_.c_str(), 1);
    write("");
  }
  ~Script() {
    std::remove(path_.c_str());
    std::remove((path_ + ".log").c_str());
  }
  void write(const std::string& lines) {
    std::ofstream(path_) << lines;
    std::remove((path_ + ".log").c_str());
  }
  std::string log() const {
    std::stringstream text;
    text << std::ifstream(path_ + ".log").rdbuf();
    return text.str();
  }

 private:
  const std::string path_;
};

Script& script() {
  static Script it;
  return it;
}

// Null where the environment names no libraries.
std::shared_ptr<OrtRuntime> runtime() {
  const char* real = std::getenv("ASSAY_ORT_LIBRARY");
  const char* fake = std::getenv("ASSAY_TEST_FAKE_ORT");
  if (real == nullptr || *real == '\0' || fake == nullptr) {
    std::printf("skipped: needs ASSAY_ORT_LIBRARY and ASSAY_TEST_FAKE_ORT\n");
    return nullptr;
  }
  setenv("ASSAY_TEST_ORT_LIBRARY", real, 1);
  std::shared_ptr<OrtRuntime> opened;
  if (const Status status = OrtRuntime::open(fake, &opened); !status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return opened;
}

Status load(const std::shared_ptr<OrtRuntime>& runtime, int device, std::shared_ptr<OrtModel>* out,
            uint64_t memory_bytes_max = 0) {
  OrtModelOptions options;
  options.cuda_device = device;
  options.cuda_memory_bytes_max = memory_bytes_max;
  return OrtModel::load(runtime, model_bytes(), options, out);
}

std::vector<Row> random_rows(std::mt19937_64& random, size_t count) {
  std::vector<Row> rows(count);
  for (Row& row : rows) row = random_row(random);
  return rows;
}

}  // namespace

TEST(the_self_check_runs_on_the_cpu) {
  if (!runtime()) return;
  CHECK(!contains(script().log(), "session"));
}

TEST(a_session_names_its_device_and_bounds_its_arena) {
  const std::shared_ptr<OrtRuntime> opened = runtime();
  if (!opened) return;
  script().write("");
  std::shared_ptr<OrtModel> model;
  REQUIRE(load(opened, 3, &model, 1 << 20).ok());
  const std::string log = script().log();
  CHECK(contains(log, "option device_id=3\n"));
  CHECK(contains(log, "option gpu_mem_limit=1048576\n"));
  CHECK(contains(log, "option use_tf32=0\n"));
  CHECK(contains(log, "option cudnn_conv_algo_search=HEURISTIC\n"));
  CHECK(contains(log, "option arena_extend_strategy=kSameAsRequested\n"));
  CHECK(contains(log, "session 3\n"));

  script().write("");
  REQUIRE(load(opened, 0, &model).ok());
  CHECK(!contains(script().log(), "gpu_mem_limit"));
}

TEST(a_session_on_the_cpu_asks_nothing_of_cuda) {
  const std::shared_ptr<OrtRuntime> opened = runtime();
  if (!opened) return;
  script().write("append_error=not asked\n");
  std::shared_ptr<OrtModel> model;
  CHECK(load(opened, OrtModelOptions::kCpu, &model).ok());
  CHECK_EQ(script().log(), std::string());
}

TEST(a_device_that_cannot_be_had_is_unavailable_and_never_the_cpu) {
  const std::shared_ptr<OrtRuntime> opened = runtime();
  if (!opened) return;
  for (const char* step : {"update_error", "append_error", "session_error"}) {
    script().write(std::string(step) +
                   "=CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=scorer-7 ; file=x");
    std::shared_ptr<OrtModel> model;
    const Status status = load(opened, 0, &model);
    CHECK(status.code == Code::kRuntimeUnavailable && contains(status.detail, "CUDA failure 100: no CUDA-capable device"));
    CHECK(!contains(status.detail, "scorer-7"));
    CHECK(model == nullptr);
  }
  script().write("");
}

TEST(a_batch_too_large_for_the_card_fails_and_a_smaller_one_runs_after_it) {
  const std::shared_ptr<OrtRuntime> opened = runtime();
  if (!opened) return;
  std::mt19937_64 random = check::random_engine();
  script().write(kOutOfMemory + std::to_string(8));
  std::shared_ptr<OrtModel> model;
  REQUIRE(load(opened, 0, &model).ok());
  std::unique_ptr<Runner> runner;
  REQUIRE(OrtModel::make_runner(model, kTensors, kSegments, 16, &runner).ok());
  const std::vector<Row> rows = random_rows(random, 16);
  std::vector<const uint8_t*> pointers;
  for (const Row& row : rows) pointers.push_back(reinterpret_cast<const uint8_t*>(&row));
  for (int i = 0; i < 3; ++i) {
    runner->gather(pointers.data(), 16);
    const Status status = runner->run(16);
    CHECK(status.code == Code::kModelRunFailed && contains(status.detail, "Failed to allocate memory"));
    CHECK(runner->output(0).data == nullptr);
    CHECK(runs_right(*runner, rows, 8));
  }
  script().write("");
}

// The fake copies inputs when they are bound, as ONNX Runtime does: rows of an earlier run would show.
TEST(runs_on_a_device_are_bound_in_pinned_memory) {
  const std::shared_ptr<OrtRuntime> opened = runtime();
  if (!opened) return;
  std::mt19937_64 random = check::random_engine();
  script().write("");
  std::shared_ptr<OrtModel> model;
  REQUIRE(load(opened, 0, &model).ok());
  std::unique_ptr<Runner> runner;
  REQUIRE(OrtModel::make_runner(model, kTensors, kSegments, 8, &runner, {0}).ok());
  CHECK(contains(script().log(), "pinned 64\n"));  // 8 rows of 8 bytes; a cache line at least
  for (const size_t count : {size_t{8}, size_t{3}, size_t{8}, size_t{1}, size_t{8}}) {
    CHECK(floats_are_right(*runner, random_rows(random, count), count));
  }
  CHECK(contains(script().log(), "bound 8\nrun 8\nbound 3\nrun 3\nbound 8\n"));
  CHECK(!contains(script().log(), "plain"));

  std::unique_ptr<Runner> undeclared;  // the second output's row shape is not known before a run
  REQUIRE(OrtModel::make_runner(model, kTensors, kSegments, 8, &undeclared).ok());
  CHECK(runs_right(*undeclared, random_rows(random, 5), 5));
  CHECK(contains(script().log(), "plain 5\nrun 5\n"));
}

TEST(a_bound_batch_too_large_for_the_card_fails_and_a_smaller_one_runs_after_it) {
  const std::shared_ptr<OrtRuntime> opened = runtime();
  if (!opened) return;
  std::mt19937_64 random = check::random_engine();
  script().write(kOutOfMemory + std::to_string(8));
  std::shared_ptr<OrtModel> model;
  REQUIRE(load(opened, 0, &model).ok());
  std::unique_ptr<Runner> runner;
  REQUIRE(OrtModel::make_runner(model, kTensors, kSegments, 16, &runner, {0}).ok());
  const std::vector<Row> rows = random_rows(random, 16);
  for (int i = 0; i < 3; ++i) {
    const Status status = gather_and_run(*runner, rows, 16);
    CHECK(status.code == Code::kModelRunFailed && runner->fault_of(status) == Fault::kOutOfMemory);
    CHECK(runner->output(0).data == nullptr);
    CHECK(floats_are_right(*runner, rows, 8));
  }
  script().write("");
}

TEST(without_pinned_memory_there_is_no_runner) {
  const std::shared_ptr<OrtRuntime> opened = runtime();
  if (!opened) return;
  script().write("pinned_error=CUDA failure 2: out of memory ; GPU=0 ; hostname=scorer-7 ; file=x");
  std::shared_ptr<OrtModel> model;
  REQUIRE(load(opened, 0, &model).ok());
  std::unique_ptr<Runner> runner;
  const Status status = OrtModel::make_runner(model, kTensors, kSegments, 8, &runner, {0});
  CHECK(status.code == Code::kRuntimeUnavailable && contains(status.detail, "buffers: CUDA failure 2: out of memory"));
  CHECK(runner == nullptr);
  script().write("");
}

TEST(runners_share_a_session_on_a_device) {
  const std::shared_ptr<OrtRuntime> opened = runtime();
  if (!opened) return;
  script().write("");
  std::shared_ptr<OrtModel> model;
  REQUIRE(load(opened, 1, &model).ok());
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(check::seed() + t);
      std::unique_ptr<Runner> runner;
      if (!OrtModel::make_runner(model, kTensors, kSegments, 32, &runner).ok()) {
        ++wrong;
        return;
      }
      for (int i = 0; i < check::scaled(20); ++i) {
        const std::vector<Row> rows = random_rows(random, 1 + random() % 32);
        if (!runs_right(*runner, rows, rows.size())) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
}

ASSAY_TEST_MAIN
