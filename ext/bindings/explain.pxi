# Exact explanations of trees.

@cython.final
cdef class TreeExplainer:
    """Exact Shapley values of one number that an ONNX model of trees gives, against background rows."""

    cdef CTreeModel _model
    cdef CInterventional _values
    cdef size_t _feature_count

    def __cinit__(
        self,
        model: bytes,
        output: str,
        column: int,
        feature_count: int,
        background: NDArray[np.float32],
        *,
        groups: Sequence[int] | None = None,
        player_count: int | None = None,
    ):
        """Releases the GIL."""
        cdef string_view data = view_of_bytes(model)
        cdef string name = string_of_str(output)
        cdef vector[uint32_t] players
        cdef size_t place = column
        cdef size_t player_total = feature_count if player_count is None else player_count
        cdef _Memory memory
        cdef size_t row_count
        cdef Status status
        self._feature_count = feature_count
        if groups is not None:
            if len(groups) != feature_count:
                raise ValueError(f"groups: expected one for each of {feature_count} features, not {len(groups)}")
            players = groups
        memory = _float32_rows("background", background, self._feature_count)
        row_count = memory.view.shape[0]
        with nogil:
            status = c_find_trees(data, <string_view>name, place, self._feature_count, &self._model)
            if status.ok():
                status = self._fold(<const float*>memory.view.buf, row_count, players, player_total)
        check_status(status)

    # The background as the trees are asked about it, folded into what a row is explained with.
    cdef Status _fold(self, const float* background, size_t rows, const vector[uint32_t]& players, size_t player_count) noexcept nogil:
        cdef vector[float] scaled
        cdef size_t i
        scaled.assign(background, background + rows * self._feature_count)
        for i in range(rows):
            self._model.scale(scaled.data() + i * self._feature_count)
        return CInterventional.create(self._model.trees, scaled.data(), rows, players, player_count, &self._values)

    @property
    def base(self) -> float:
        return self._values.base()

    @property
    def player_count(self) -> int:
        return self._values.player_count()

    @property
    def feature_count(self) -> int:
        return self._feature_count

    @property
    def memory_bytes(self) -> int:
        return self._values.bytes()

    def explain(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(margins (n,), contributions (n, player_count)) of rows (n, feature_count). Releases the GIL."""
        import numpy as np
        cdef _Memory memory = _float32_rows("rows", rows, self._feature_count)
        cdef size_t i, count = memory.view.shape[0], players = self._values.player_count()
        margins, contributions = np.empty(count, np.float64), np.empty((count, players), np.float64)
        cdef _Memory margin_memory = _Memory(margins, True)
        cdef _Memory contribution_memory = _Memory(contributions, True)
        cdef const float* row = <const float*>memory.view.buf
        cdef double* margin = <double*>margin_memory.view.buf
        cdef double* values = <double*>contribution_memory.view.buf
        cdef vector[float] scaled
        with nogil:
            for i in range(count):
                scaled.assign(row, row + self._feature_count)
                self._model.scale(scaled.data())
                margin[i] = self._values.explain(scaled.data(), values)
                row += self._feature_count
                values += players
        return margins, contributions

    def score(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the model gives for margins (n,)."""
        import numpy as np
        cdef _Memory memory = _Memory(margins, False)
        if memory.view.ndim != 1 or memory.view.format != b"d":
            raise ValueError(f"margins: expected float64 (n,), not {margins.dtype} {margins.shape}")
        scores = np.empty(memory.view.shape[0], np.float64)
        cdef _Memory target = _Memory(scores, True)
        cdef const double* margin = <const double*>memory.view.buf
        cdef double* score = <double*>target.view.buf
        cdef Py_ssize_t i
        for i in range(memory.view.shape[0]):
            score[i] = linked(self._model.link, margin[i])
        return scores


# The memory of float32 rows (n, features), checked.
cdef _Memory _float32_rows(str what, object rows, size_t features):
    cdef _Memory memory = _Memory(rows, False)
    if memory.view.ndim != 2 or memory.view.format != b"f" or <size_t>memory.view.shape[1] != features:
        raise ValueError(f"{what}: expected float32 (n, {features}), not {rows.dtype} {rows.shape}")
    return memory
