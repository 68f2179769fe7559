# Models: ONNX Runtime's, and the puppet that tests use in its place.

TensorInfo = _namedtuple("TensorInfo", "name onnx_type has_batch_axis dims", module="assay._core")


@cython.final
cdef class OrtRuntime:
    """ONNX Runtime's shared library, opened once a process and self-checked."""

    cdef shared_ptr[COrtRuntime] _runtime
    cdef readonly str library_path

    def __cinit__(self, library_path: str):
        """Releases the GIL."""
        cdef string path = string_of_str(library_path)
        cdef Status status
        with nogil:
            status = COrtRuntime.open(path, &self._runtime)
        check_status(status)
        self.library_path = library_path

    @property
    def version(self) -> str:
        return str_of_string(self._runtime.get().version())

    @property
    def providers(self) -> tuple[str, ...]:
        cdef vector[string] names = self._runtime.get().providers()
        cdef size_t i
        return tuple([str_of_string(names[i]) for i in range(names.size())])


@cython.final
cdef class OrtModel:
    """One ONNX Runtime session."""

    cdef shared_ptr[COrtModel] _model
    cdef OrtRuntime _runtime
    cdef bint _is_on_cuda
    cdef readonly tuple inputs
    cdef readonly tuple outputs

    def __cinit__(
        self,
        runtime: OrtRuntime,
        model: bytes,
        *,
        intra_op_threads: int = 1,
        cuda_device: int | None = None,
        cuda_memory_bytes_max: int = 0,
    ):
        """On a CUDA device or (None) on the CPU. Releases the GIL."""
        cdef OrtModelOptions options
        cdef string_view data = view_of_bytes(model)
        cdef Status status
        if intra_op_threads < 1:
            raise ValueError(f"intra_op_threads: expected at least 1, not {intra_op_threads}")
        options.intra_op_threads = intra_op_threads
        if cuda_device is not None:
            if cuda_device < 0:
                raise ValueError(f"cuda_device: expected at least 0, not {cuda_device}")
            options.cuda_device = cuda_device
            options.cuda_memory_bytes_max = cuda_memory_bytes_max
        self._runtime = runtime
        self._is_on_cuda = cuda_device is not None
        with nogil:
            status = COrtModel.load(runtime._runtime, data, options, &self._model)
        check_status(status)
        self.inputs = _tensor_infos(self._model.get().inputs())
        self.outputs = _tensor_infos(self._model.get().outputs())

    def __dealloc__(self):
        # Freeing a large session takes long.
        with nogil:
            self._model.reset()

    # A runner over rows of `plan` that gives one output of the model.
    cdef int _make_runner(self, FeaturePlan plan, size_t rows_max, uint32_t output, unique_ptr[Runner]* runner) except -1:
        cdef vector[uint32_t] wanted
        wanted.push_back(output)
        return self._make_runner_of(plan, rows_max, wanted, runner)

    # The same of several outputs.
    cdef int _make_runner_of(
        self, FeaturePlan plan, size_t rows_max, const vector[uint32_t]& wanted, unique_ptr[Runner]* runner
    ) except -1:
        return check_status(COrtModel.make_runner(
            self._model, plan._plan.get().spec().tensors, plan._plan.get().segments(), rows_max, runner, wanted
        ))

    def run_rows(self, plan: FeaturePlan, rows: NDArray[np.uint8], output: int) -> NDArray[np.float64]:
        """Runs finished rows (n, row_bytes) in one batch and returns output `output` as float64 (n, elements). Releases the GIL.
        Used by golden rows, batch invariance and warm-up; the engine runs batches itself."""
        import numpy as np
        cdef _Memory memory = _row_matrix(plan, rows)
        cdef size_t count = memory.view.shape[0]
        cdef unique_ptr[Runner] runner
        cdef Status status
        self._make_runner(plan, count, output, &runner)
        with nogil:
            status = _run(dereference(runner), <const uint8_t*>memory.view.buf, count, plan.row_bytes)
        check_status(status)
        cdef OutputView view = runner.get().output(output)
        matrix = np.empty((count, view.row_elements), np.float64)
        cdef _Memory target = _Memory(matrix, True)
        _widen(view, count * view.row_elements, <double*>target.view.buf)
        return matrix

    def infer_row(self, plan: FeaturePlan, row: bytes) -> bytes:
        """Runs one finished row and returns what ModelInfer gives of it, laid out as the audit log digests it. Releases the GIL."""
        return _infer_row(self, plan, row)

    def score_matrix(
        self, matrix: NDArray[np.float32], output: int, column: int, rows_max: int, scores: NDArray[np.float64]
    ) -> None:
        """Scores rows (n, elements), n >= 1, that ONNX Runtime reads where they lie, at most `rows_max` in one batch: element
        `column` of output `output` goes into `scores` (n,). Releases the GIL. Several threads may call it at once."""
        cdef _Memory memory = _Memory(matrix, False)
        cdef _Memory target = _Memory(scores, True)
        cdef size_t first = 0, count, step = rows_max, elements = self._matrix_elements()
        cdef const float* rows = <const float*>memory.view.buf
        cdef double* out = <double*>target.view.buf
        cdef Status status
        if elements == 0:
            raise ValueError("the model does not take one float32 matrix")
        if memory.view.ndim != 2 or memory.view.format != b"f" or memory.view.shape[1] != <Py_ssize_t>elements:
            raise ValueError(f"matrix: expected float32 (n, {elements}), not {matrix.dtype} {matrix.shape}")
        if target.view.ndim != 1 or target.view.format != b"d" or target.view.shape[0] != memory.view.shape[0]:
            raise ValueError(f"scores: expected float64 ({memory.view.shape[0]},), not {scores.dtype} {scores.shape}")
        if rows_max < 1 or not 0 <= output < len(self.outputs) or self.outputs[output].onnx_type not in (1, 11) or column < 0:
            raise ValueError("expected rows_max >= 1, the index of a float32 or float64 output, and a column >= 0")
        count = memory.view.shape[0]
        cdef uint32_t index = output
        cdef size_t place = column
        with nogil:
            while first < count and status.ok():
                step = min(step, count - first)
                status = self._model.get().run_matrix(rows + first * elements, step, index, place, out + first)
                first += step
        check_status(status)

    # Elements of a row of the only input; 0: there are several, or it is no float32 matrix.
    cdef size_t _matrix_elements(self):
        if len(self.inputs) != 1 or self.inputs[0].onnx_type != 1 or not self.inputs[0].has_batch_axis or self._is_on_cuda:
            return 0
        elements = 1
        for dim in self.inputs[0].dims:
            elements *= max(dim, 0)
        return elements

    def time_rows(self, plan: FeaturePlan, rows: NDArray[np.uint8], output: int) -> list[int]:
        """Runs finished rows (n, row_bytes) one by one, as an inline run would: nanoseconds of each. Releases the GIL."""
        cdef _Memory memory = _row_matrix(plan, rows)
        cdef size_t count = memory.view.shape[0]
        cdef const uint8_t* first = <const uint8_t*>memory.view.buf
        cdef vector[int64_t] took_ns
        cdef unique_ptr[Runner] runner
        cdef int64_t started_ns
        cdef Status status
        cdef size_t i, row_bytes = plan.row_bytes
        took_ns.reserve(count)
        self._make_runner(plan, 1, output, &runner)
        with nogil:
            for i in range(count):
                started_ns = CSystemClock.instance().now_ns()
                status = _run(dereference(runner), first + i * row_bytes, 1, row_bytes)
                took_ns.push_back(CSystemClock.instance().now_ns() - started_ns)
                if not status.ok():
                    break
        check_status(status)
        return took_ns


@cython.final
cdef class PuppetModel:
    """A model without ONNX Runtime for tests: the score of a row is a fixed function of its bytes (`PuppetModel.score_of`).
    Can be told to fail or to hold."""

    cdef shared_ptr[CPuppetModel] _model

    def __cinit__(self, rows_max: int = 64):
        if rows_max < 1:
            raise ValueError("rows_max: expected at least 1")
        self._model = make_shared[CPuppetModel](<size_t>rows_max)

    def fail_next(self, runs: int) -> None:
        """The next `runs` runs fail."""
        self._model.get().fail_next(runs)

    def poison(self, row_bytes: bytes) -> None:
        """Any batch that holds this row fails."""
        self._model.get().poison(view_of_bytes(row_bytes))

    def hold(self) -> None:
        """Runs wait until release()."""
        self._model.get().hold()

    def release(self) -> None:
        self._model.get().release()

    # As OrtModel says it.
    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return ()

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return (TensorInfo("score", TENSOR_TYPES["float64"], True, (1,)),)

    @property
    def batches(self) -> list[int]:
        """Rows of each run so far, failed ones included."""
        return self._model.get().batches()

    @staticmethod
    def score_of(row: bytes) -> float:
        return CPuppetModel.score_of(view_of_bytes(row))


_RUN_FAULTS = {<int>Fault.kOther: "other", <int>Fault.kOutOfMemory: "out of memory", <int>Fault.kSticky: "sticky"}


def run_fault(text: str) -> str:
    """What ONNX Runtime's text of a failed run means: "out of memory", "sticky" (no later run of this process can succeed on that
    device) or "other"."""
    cdef string kept = string_of_str(text)
    return _RUN_FAULTS[<int>c_run_fault(<string_view>kept)]


@cython.final
cdef class FaultyModel:
    """A model that goes wrong as a card does, by script, for tests. Wraps the runners of another model."""

    cdef shared_ptr[CFaultyModel] _model
    cdef readonly object inner

    def __cinit__(self, inner: OrtModel | PuppetModel):
        if not isinstance(inner, (OrtModel, PuppetModel)):
            raise TypeError(f"inner: expected OrtModel or PuppetModel, not {type(inner).__name__}")
        self._model = make_shared[CFaultyModel]()
        self.inner = inner

    def add(
        self,
        kind: str,
        *,
        text: str = "",
        rows_min: int = 1,
        rows_max: int = 2**64 - 1,
        first_run: int = 0,
        runs_max: int = 2**64 - 1,
        nan_row: int = -1,
    ) -> None:
        """Runs of `rows_min` to `rows_max` rows go wrong: "error" fails with `text`, "hang" waits for release(), "nan" makes row
        `nan_row` of the batch (-1: all) NaN. From run `first_run` on, `runs_max` times."""
        cdef FaultRule rule
        kinds = {"error": <int>FaultKind.kError, "hang": <int>FaultKind.kHang, "nan": <int>FaultKind.kNan}
        if kind not in kinds:
            raise ValueError(f"kind: expected error, hang or nan, not {kind!r}")
        rule.kind = <FaultKind><int>kinds[kind]
        rule.text = string_of_str(text)
        rule.rows_min = rows_min
        rule.rows_max = rows_max
        rule.first_run = first_run
        rule.runs_max = runs_max
        rule.nan_row = nan_row
        self._model.get().add(rule)

    def clear(self) -> None:
        """Nothing goes wrong from now on; runs that hang go on."""
        self._model.get().clear()

    def release(self) -> None:
        """Runs that hang go on, and none hangs by the rules of now."""
        self._model.get().release()

    @property
    def batches(self) -> list[int]:
        """Rows of each run so far, failed ones included."""
        return self._model.get().batches()

    @property
    def hanging(self) -> int:
        return self._model.get().hanging()


# The bytes of finished rows, checked.
cdef _Memory _row_matrix(FeaturePlan plan, object rows):
    cdef _Memory memory = _Memory(rows, False)
    is_matrix = memory.view.ndim == 2 and memory.view.itemsize == 1
    if not is_matrix or memory.view.shape[0] == 0 or memory.view.shape[1] != plan.row_bytes:
        raise ValueError(f"rows: expected uint8 (n, {plan.row_bytes}) with n >= 1, not {rows.dtype} {rows.shape}")
    return memory


cdef tuple _tensor_infos(const vector[CTensorInfo]& infos):
    cdef size_t i
    return tuple([
        TensorInfo(str_of_string(infos[i].name), infos[i].onnx_type, bool(infos[i].has_batch_axis), tuple(infos[i].dims))
        for i in range(infos.size())
    ])


cdef Status _run(Runner& runner, const uint8_t* rows, size_t count, size_t row_bytes) noexcept nogil:
    cdef vector[const uint8_t*] pointers
    cdef size_t i
    for i in range(count):
        pointers.push_back(rows + i * row_bytes)
    runner.gather(pointers.data(), count)
    return runner.run(count)


cdef void _widen(const OutputView& view, size_t count, double* out) noexcept:
    cdef size_t i
    for i in range(count):
        if view.type == TensorType.kFloat32:
            out[i] = (<const float*>view.data)[i]
        elif view.type == TensorType.kFloat64:
            out[i] = (<const double*>view.data)[i]
        elif view.type == TensorType.kInt64:
            out[i] = <double>(<const int64_t*>view.data)[i]
        elif view.type == TensorType.kInt32:
            out[i] = (<const int32_t*>view.data)[i]
        else:
            out[i] = (<const uint8_t*>view.data)[i]
