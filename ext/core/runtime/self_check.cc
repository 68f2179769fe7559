#include "core/runtime/self_check.h"

#include <cstring>

namespace assay::ort {
namespace {

// The model, as bytes. Made by tools/make_self_check_model.py:
//   floats   float32 [N, 2] = concat(cast(doubles) + cast(longs), cast(ints) + cast(flags)) + singles
//   integers int64   [N, K] = longs + cast(ints)           (K is a free name, so that ONNX Runtime allocates this output)
constexpr unsigned char kModel[] = {
#include "core/runtime/self_check_model.inc"
};

// A row as a plan would lay it out: 8-aligned segments.
struct Row {
  float singles[2];
  double doubles;
  int64_t longs;
  int32_t ints;
  int32_t gap;
  uint8_t flags;
  uint8_t padding[7];
};
static_assert(sizeof(Row) == 40);

struct Answer {
  float floats[2];
  int64_t integers;
};

// Every number is exact in float32. Each row differs in every input, so that swapped slots or segments show.
constexpr Row kRows[3] = {
    {{0.5F, -1.0F}, 2.25, 40, 7, 0, 1, {}},
    {{-8.0F, 1024.0F}, -0.125, -3, -65536, 0, 0, {}},
    {{3.0F, 0.0F}, 1e6, int64_t{1} << 20, 12, 0, 1, {}},
};
constexpr Answer kAnswers[3] = {
    {{42.75F, 7.0F}, 47},
    {{-11.125F, -64512.0F}, -65539},
    {{2048579.0F, 13.0F}, 1048588},
};

Status failed(const std::string& step, const std::string& why) {
  return Status(Code::kRuntimeUnavailable, "ONNX Runtime failed the self-check at " + step + ": " + why);
}

Status as_failed(const std::string& step, const Status& status) { return status.ok() ? status : failed(step, status.detail); }

Status check_interface(const OrtModel& model) {
  constexpr int kInputTypes[] = {1, 11, 7, 6, 9};
  if (model.inputs().size() != 5 || model.outputs().size() != 2)
    return failed("the interface", "another number of inputs or outputs");
  for (size_t i = 0; i < 5; ++i) {
    const TensorInfo& input = model.inputs()[i];
    const bool is_right =
        input.onnx_type == kInputTypes[i] && input.has_batch_axis && input.dims == std::vector<int64_t>{i == 0 ? 2 : 1};
    if (!is_right) return failed("the interface", "input " + input.name + " has another type or shape");
  }
  if (model.outputs()[0].name != "floats" || model.outputs()[1].name != "integers")
    return failed("the interface", "other output names");
  if (model.outputs()[1].dims != std::vector<int64_t>{-1}) return failed("the interface", "a free axis is not reported as free");
  return Status();
}

Status check_answers(Runner& runner, size_t count, bool has_integers, const std::string& step) {
  const OutputView floats = runner.output(0);
  const OutputView integers = runner.output(1);
  if (floats.type != TensorType::kFloat32 || floats.data == nullptr || floats.row_elements != 2)
    return failed(step, "output floats has another shape");
  if (has_integers && (integers.type != TensorType::kInt64 || integers.data == nullptr || integers.row_elements != 1)) {
    return failed(step, "output integers has another shape");
  }
  for (size_t i = 0; i < count; ++i) {
    const bool is_right =
        std::memcmp(static_cast<const float*>(floats.data) + i * 2, kAnswers[i].floats, sizeof(kAnswers[i].floats)) == 0 &&
        (!has_integers || static_cast<const int64_t*>(integers.data)[i] == kAnswers[i].integers);
    if (!is_right) return failed(step, "a wrong number");
  }
  return Status();
}

// `outputs_wanted` as make_runner takes them: the first alone can be bound, its row shape is declared.
Status check_runs(const std::shared_ptr<OrtModel>& model, const std::vector<uint32_t>& outputs_wanted) {
  const std::vector<TensorSpec> tensors = {{"singles", TensorType::kFloat32, 2},
                                           {"doubles", TensorType::kFloat64, 1},
                                           {"longs", TensorType::kInt64, 1},
                                           {"ints", TensorType::kInt32, 1},
                                           {"flags", TensorType::kBool, 1}};
  const std::vector<TensorSegment> segments = {{0, 8}, {8, 8}, {16, 8}, {24, 4}, {32, 1}};
  std::unique_ptr<Runner> runner;
  if (Status status = OrtModel::make_runner(model, tensors, segments, 3, &runner, outputs_wanted); !status.ok())
    return as_failed("a runner", status);
  const uint8_t* rows[3];
  for (size_t i = 0; i < 3; ++i) rows[i] = reinterpret_cast<const uint8_t*>(&kRows[i]);
  for (const size_t count : {size_t{1}, size_t{3}, size_t{1}}) {
    const std::string step = "a run of " + std::to_string(count);
    runner->gather(rows, count);
    if (Status status = runner->run(count); !status.ok()) return as_failed(step, status);
    if (Status status = check_answers(*runner, count, outputs_wanted.empty(), step); !status.ok()) return status;
  }
  return Status();
}

// The way that errors take: bytes that are no model must come back as a status with a text.
Status check_refusal(const std::shared_ptr<OrtRuntime>& runtime) {
  std::shared_ptr<OrtModel> model;
  const Status status = OrtModel::load(runtime, "not a model", OrtModelOptions(), &model);
  if (status.ok()) return failed("a refusal", "bytes that are no model were taken for one");
  return status.detail.size() > std::strlen("ONNX Runtime refused the model: ") ? Status()
                                                                                : failed("a refusal", "an error without a text");
}

}  // namespace

Status self_check(const std::shared_ptr<OrtRuntime>& runtime) {
  const std::string_view bytes(reinterpret_cast<const char*>(kModel), sizeof(kModel));
  for (const bool has_arena : {true, false}) {
    OrtModelOptions options;
    options.has_arena = has_arena;
    std::shared_ptr<OrtModel> model;
    if (Status status = OrtModel::load(runtime, bytes, options, &model); !status.ok()) return as_failed("loading", status);
    if (Status status = check_interface(*model); !status.ok()) return status;
    if (Status status = check_runs(model, {}); !status.ok()) return status;
  }
  OrtModelOptions bound;
  bound.binds = true;
  std::shared_ptr<OrtModel> model;
  if (Status status = OrtModel::load(runtime, bytes, bound, &model); !status.ok()) return as_failed("loading", status);
  if (Status status = check_runs(model, {0}); !status.ok()) return as_failed("I/O binding", status);
  return check_refusal(runtime);
}

}  // namespace assay::ort
