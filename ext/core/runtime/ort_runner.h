// OrtRunner: one thread's buffers over a shared session.
//
// Inputs live in buffers of rows_max rows, one per tensor; OrtValues over them are made once per number of rows. An output whose
// row shape the model declares is written straight into a buffer of ours, the others into memory of ONNX Runtime that is held
// until the next gather(). The steady state allocates nothing here.
//
// On a card buffers are pinned, and runs go by I/O binding: ONNX Runtime copies an input to the card when it is bound, so inputs are
// bound anew for each run and let go after it. (Where an output's row shape is not declared, runs go without.)
#pragma once

#include <memory>
#include <vector>

#include "core/runtime/ort_library.h"
#include "core/runtime/ort_model.h"
#include "core/runtime/ort_staging.h"
#include "core/runtime/run_faults.h"

namespace assay {

class OrtRunner final : public Runner {
 public:
  // REQUIRES: the layout passed check_layout() and every index of `outputs_wanted` check_output().
  OrtRunner(std::shared_ptr<OrtModel> model, const std::vector<TensorSpec>& tensors, const std::vector<TensorSegment>& segments,
            size_t rows_max, const std::vector<uint32_t>& outputs_wanted);

  size_t rows_max() const noexcept override { return rows_max_; }
  void gather(const uint8_t* const* rows, size_t count) noexcept override;
  Status run(size_t count) noexcept override;
  OutputView output(size_t index) const noexcept override;
  Fault fault_of(const Status& status) const noexcept override { return run_fault(status.detail); }

 private:
  friend class OrtModel;
  using Value = ort::Owned<ort::OrtValue>;

  // One side of the session's tensors in a runner.
  struct Port {
    uint32_t index = 0;  // outputs: of the model
    int type = 0;
    std::vector<int64_t> shape;  // shape[0] is set to the number of rows
    size_t row_elements = 0;
    size_t row_bytes = 0;
    size_t row_offset = 0;    // inputs: where the segment lies in a row
    bool has_buffer = false;  // outputs: false where the shape of a row is not declared
    ort::Staging::Buffer buffer;
    Value held{nullptr, nullptr};  // outputs without a buffer: the last run's value
    const void* data = nullptr;    // outputs: of the last run
  };

  // OrtValues over the buffers for one number of rows.
  struct Binding {
    size_t rows = 0;
    std::vector<Value> owned;
    std::vector<const ort::OrtValue*> inputs;
    std::vector<ort::OrtValue*> outputs;  // null: ONNX Runtime allocates
  };

  static Port make_port(const TensorInfo& info, uint32_t index);
  // Once, before the first run.
  Status open();
  Status run_bound(const Binding& binding) noexcept;
  Status bind(size_t count, const Binding** out) noexcept;
  Status bind_port(Port& port, size_t count, Binding& binding, ort::OrtValue** out) noexcept;
  Status take_output(Port& port, size_t count, ort::OrtValue* value) noexcept;

  std::shared_ptr<OrtModel> model_;
  const ort::OrtLibrary* library_;
  ort::OrtSession* session_;
  const ort::Staging* staging_;
  ort::Owned<ort::OrtIoBinding> io_{nullptr, nullptr};  // null: runs go without
  size_t rows_max_;
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
  std::vector<const char*> input_names_;  // owned by the model
  std::vector<const char*> output_names_;
  std::vector<int> port_of_output_;                 // model's output index -> outputs_, or -1
  std::vector<std::unique_ptr<Binding>> bindings_;  // by rows; [0] is the last one past kBindingsMax
  std::vector<ort::OrtValue*> results_;             // of one run
};

}  // namespace assay
