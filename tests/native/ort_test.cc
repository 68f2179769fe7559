// ONNX Runtime through the slot table. Needs ASSAY_ORT_LIBRARY=.../libonnxruntime.so.*; skips without it (`make native` sets it).

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/runtime/ort_library.h"
#include "core/runtime/ort_model.h"
#include "ort_fixture.h"

using namespace assay;
using namespace assay::test;

namespace {

const char* library_path() {
  static const char* path = [] {
    const char* given = std::getenv("ASSAY_ORT_LIBRARY");
    const bool is_given = given != nullptr && *given != '\0';
    if (!is_given) std::printf("skipped: ONNX Runtime's tests need ASSAY_ORT_LIBRARY, the path of libonnxruntime.so\n");
    return is_given ? given : static_cast<const char*>(nullptr);
  }();
  return path;
}

std::shared_ptr<OrtRuntime> runtime() {
  std::shared_ptr<OrtRuntime> opened;
  const Status status = OrtRuntime::open(library_path(), &opened);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return opened;
}

std::shared_ptr<OrtModel> load_model(bool has_arena = true, bool binds = false) {
  OrtModelOptions options;
  options.has_arena = has_arena;
  options.binds = binds;
  std::shared_ptr<OrtModel> model;
  const std::string_view bytes(reinterpret_cast<const char*>(kModelBytes), sizeof(kModelBytes));
  const Status status = OrtModel::load(runtime(), bytes, options, &model);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return model;
}

std::unique_ptr<Runner> make_runner(size_t rows_max, const std::vector<uint32_t>& wanted = {}) {
  std::unique_ptr<Runner> runner;
  const Status status = OrtModel::make_runner(load_model(), kTensors, kSegments, rows_max, &runner, wanted);
  if (!status.ok()) check::fail(__FILE__, __LINE__, status.detail);
  return runner;
}

std::string refusal_of_layout(const std::vector<TensorSpec>& tensors, const std::vector<TensorSegment>& segments,
                              const std::vector<uint32_t>& wanted = {}) {
  std::unique_ptr<Runner> runner;
  const Status status = OrtModel::make_runner(load_model(), tensors, segments, 4, &runner, wanted);
  CHECK_EQ(static_cast<int>(status.code), static_cast<int>(Code::kModelUnsupported));
  CHECK(runner == nullptr);
  return status.detail;
}

}  // namespace

TEST(a_file_that_is_not_onnx_runtime_is_refused_by_name) {
  std::unique_ptr<ort::OrtLibrary> library;
  Status status = ort::OrtLibrary::open("/nonexistent/libonnxruntime.so", &library);
  CHECK(status.code == Code::kRuntimeUnavailable && contains(status.detail, "/nonexistent/libonnxruntime.so"));
  status = ort::OrtLibrary::open("libm.so.6", &library);
  CHECK(status.code == Code::kRuntimeUnavailable && contains(status.detail, "OrtGetApiBase"));
  CHECK(library == nullptr);
}

TEST(messages_are_bounded_and_on_one_line) {
  CHECK_EQ(ort::ort_message("idx=5716\n\tout of [-3,3]\x80", true), std::string("idx=#### out of [-#,#] "));
  CHECK_EQ(ort::ort_message("opset 17", false), std::string("opset 17"));
  CHECK_EQ(ort::ort_message(nullptr, false), std::string());
  CHECK_EQ(ort::ort_message(std::string(1000, 'x').c_str(), false).size(), size_t{503});
}

// Texts of onnxruntime-gpu 1.31.1, with template arguments shortened.
TEST(messages_say_what_failed_and_not_where_or_on_which_host) {
  CHECK_EQ(
      ort::ort_message("/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, "
                       "common::Status> onnxruntime::CudaCall(ERRTYPE, int) [with ERRTYPE = cudaError] CUDA failure 35: CUDA "
                       "driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=scorer-7 ; "
                       "file=/onnxruntime_src/cuda_execution_provider.cc ; line=355 ; expr=cudaSetDevice(info_.device_id); \n\n",
                       false),
      std::string("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"));
  CHECK_EQ(ort::ort_message("/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& "
                            "onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library a.so",
                            false),
           std::string("1 : FAIL : Failed to load library a.so"));
  CHECK_EQ(ort::ort_message("CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=scorer-7", true),
           std::string("CUDA failure 700: an illegal memory access was encountered"));
}

TEST(the_runtime_opens_once) {
  if (!library_path()) return;
  const std::shared_ptr<OrtRuntime> first = runtime();
  REQUIRE(first != nullptr);
  CHECK(runtime() == first);
  CHECK(!first->version().empty());
  CHECK(!first->providers().empty());
  std::shared_ptr<OrtRuntime> other;
  const Status status = OrtRuntime::open("/elsewhere/libonnxruntime.so", &other);
  CHECK(status.code == Code::kRuntimeUnavailable && contains(status.detail, "/elsewhere/"));
}

TEST(bytes_that_are_no_model_are_refused_with_the_runtimes_message) {
  if (!library_path()) return;
  std::shared_ptr<OrtModel> model;
  for (const std::string_view bytes : {std::string_view(), std::string_view("garbage"),
                                       std::string_view(reinterpret_cast<const char*>(kModelBytes), sizeof(kModelBytes) / 2)}) {
    const Status status = OrtModel::load(runtime(), bytes, OrtModelOptions(), &model);
    CHECK(status.code == Code::kModelUnsupported && contains(status.detail, "ONNX Runtime refused the model: "));
  }
  CHECK(model == nullptr);
}

TEST(the_interface_is_read) {
  if (!library_path()) return;
  const std::shared_ptr<OrtModel> model = load_model();
  REQUIRE(model != nullptr && model->inputs().size() == 5 && model->outputs().size() == 2);
  CHECK_EQ(model->inputs()[0].name, std::string("singles"));
  CHECK(model->inputs()[0].has_batch_axis);
  CHECK(model->inputs()[0].dims == std::vector<int64_t>{2});
  CHECK_EQ(model->outputs()[1].onnx_type, 7);
  CHECK(model->outputs()[1].dims == std::vector<int64_t>{-1});
}

// Batch sizes go up and down past the number of kept bindings (256).
TEST(batches_of_any_size_in_any_order) {
  if (!library_path()) return;
  std::mt19937_64 random = check::random_engine();
  const std::unique_ptr<Runner> runner = make_runner(600);
  REQUIRE(runner != nullptr);
  CHECK_EQ(runner->rows_max(), size_t{600});
  std::vector<size_t> counts = {1, 600, 256, 257, 1, 599, 600, 600, 2};
  for (int i = 0; i < check::scaled(100); ++i) counts.push_back(1 + random() % 600);
  for (const size_t count : counts) {
    std::vector<Row> rows;
    for (size_t i = 0; i < count; ++i) rows.push_back(random_row(random));
    CHECK(runs_right(*runner, rows, count));
  }
}

TEST(only_wanted_outputs_are_computed) {
  if (!library_path()) return;
  std::mt19937_64 random = check::random_engine();
  const std::unique_ptr<Runner> runner = make_runner(4, {1});
  REQUIRE(runner != nullptr);
  const Row row = random_row(random);
  const auto* pointer = reinterpret_cast<const uint8_t*>(&row);
  CHECK(runner->output(1).data == nullptr);  // nothing has run
  runner->gather(&pointer, 1);
  REQUIRE(runner->run(1).ok());
  CHECK(runner->output(0).data == nullptr);
  CHECK(runner->output(2).data == nullptr);
  REQUIRE(runner->output(1).data != nullptr);
  CHECK_EQ(*static_cast<const int64_t*>(runner->output(1).data), row.longs + row.ints);
}

TEST(bound_runs_of_any_size_give_what_plain_ones_give) {
  if (!library_path()) return;
  std::mt19937_64 random = check::random_engine();
  for (const bool has_arena : {true, false}) {
    const std::shared_ptr<OrtModel> model = load_model(has_arena, /*binds=*/true);
    std::unique_ptr<Runner> runner;
    REQUIRE(OrtModel::make_runner(model, kTensors, kSegments, 300, &runner, {0}).ok());
    std::vector<size_t> counts = {1, 300, 256, 257, 1, 1, 299, 300, 2};
    for (int i = 0; i < check::scaled(100); ++i) counts.push_back(1 + random() % 300);
    for (const size_t count : counts) {
      std::vector<Row> rows;
      for (size_t i = 0; i < count; ++i) rows.push_back(random_row(random));
      CHECK(floats_are_right(*runner, rows, count));
    }
  }
}

TEST(a_bound_session_runs_without_binding_what_it_cannot_bind) {
  if (!library_path()) return;
  std::mt19937_64 random = check::random_engine();
  std::unique_ptr<Runner> runner;
  REQUIRE(OrtModel::make_runner(load_model(true, /*binds=*/true), kTensors, kSegments, 8, &runner).ok());
  for (const size_t count : {size_t{1}, size_t{8}, size_t{3}}) {
    std::vector<Row> rows;
    for (size_t i = 0; i < count; ++i) rows.push_back(random_row(random));
    CHECK(runs_right(*runner, rows, count));
  }
}

TEST(buffers_of_a_session_go_before_it) {
  if (!library_path()) return;
  std::unique_ptr<Runner> runner;
  {
    const std::shared_ptr<OrtModel> model = load_model(true, /*binds=*/true);
    REQUIRE(OrtModel::make_runner(model, kTensors, kSegments, 8, &runner, {0}).ok());
  }
  std::mt19937_64 random = check::random_engine();
  const std::vector<Row> rows = {random_row(random), random_row(random)};
  CHECK(floats_are_right(*runner, rows, 2));
  runner.reset();  // the last that holds the session
}

TEST(a_layout_that_differs_is_refused_by_name) {
  if (!library_path()) return;
  std::vector<TensorSpec> tensors = kTensors;
  tensors[2].type = TensorType::kFloat64;
  CHECK(contains(refusal_of_layout(tensors, kSegments), "singles: the model takes float32, the row has float64"));
  tensors = kTensors;
  tensors[2].element_count = 3;
  CHECK(contains(refusal_of_layout(tensors, kSegments), "singles: the model takes 2 elements a row, the row has 3"));
  tensors = kTensors;
  tensors[4].name = "other";
  CHECK(contains(refusal_of_layout(tensors, kSegments), "doubles"));
  tensors = kTensors;
  tensors.push_back({"extra", TensorType::kBool, 1});
  std::vector<TensorSegment> segments = kSegments;
  segments.push_back({40, 1});
  CHECK(contains(refusal_of_layout(tensors, segments), "extra"));
  CHECK(contains(refusal_of_layout({kTensors.begin(), kTensors.end() - 1}, {kSegments.begin(), kSegments.end() - 1}), "doubles"));
  segments = kSegments;
  segments[0].bytes = 2;
  CHECK(contains(refusal_of_layout(kTensors, segments), "flags"));
  CHECK(contains(refusal_of_layout(kTensors, kSegments, {2}), "output 2"));
}

TEST(runners_share_a_session_from_many_threads) {
  if (!library_path()) return;
  const std::shared_ptr<OrtModel> model = load_model(/*has_arena=*/false);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(check::seed() + t);
      std::unique_ptr<Runner> runner;
      if (!OrtModel::make_runner(model, kTensors, kSegments, 32, &runner).ok()) {
        ++wrong;
        return;
      }
      for (int i = 0; i < check::scaled(200); ++i) {
        std::vector<Row> rows(1 + random() % 32);
        for (Row& row : rows) row = random_row(random);
        if (!runs_right(*runner, rows, rows.size())) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
}

ASSAY_TEST_MAIN
