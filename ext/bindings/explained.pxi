# Why scores are what they are: what a lane explains its scores with.

cdef size_t _ASKED_ROWS_MAX = 256  # at a time


@cython.final
cdef class ExplainedModel:
    """All that it takes to say why a model version scores as it does. See ext/core/explain/explained_model.h."""

    cdef shared_ptr[CExplainedModel] _model
    cdef readonly FeaturePlan plan

    def __cinit__(
        self,
        *,
        plan: FeaturePlan,
        model: bytes,
        output: str,
        column: int,
        background: bytes,
        background_sha256: str,
        groups: Sequence[int],
        group_names: Sequence[str],
        reasons: Sequence[tuple[str, str, str]] = (),
        reasons_version: str = "",
        background_scores: Sequence[float] | None = None,
        are_probabilities: bool = False,
    ):
        cdef ExplainerSpec spec
        cdef RowTensor tensor
        cdef Reason reason
        cdef const CFeaturePlan* compiled = plan._plan.get()
        cdef const PlanSpec* parts = &compiled.spec()
        cdef string named = string_of_str(output)
        cdef BackgroundScores scores
        cdef cbool is_asked = background_scores is not None
        cdef Status status
        cdef vector[size_t] first_elements  # of the tensors, in a row
        cdef size_t element_count = 0
        cdef size_t place
        cdef size_t i
        if not 0 <= column < 1 << 31:
            raise ValueError(f"column: expected 0 or more, not {column}")
        if len(background) % compiled.row_bytes() != 0:
            raise ValueError(f"background: expected rows of {compiled.row_bytes()} bytes, not {len(background)} bytes in all")
        if reasons and len(reasons) != len(group_names):
            raise ValueError(f"reasons: expected none, or one for each of {len(group_names)} groups, not {len(reasons)}")
        for i in range(parts.tensors.size()):
            first_elements.push_back(element_count)
            element_count += parts.tensors[i].element_count
            tensor.type = parts.tensors[i].type
            tensor.offset_bytes = compiled.segments()[i].offset_bytes
            tensor.elements = parts.tensors[i].element_count
            spec.tensors.push_back(tensor)
        spec.model = view_of_bytes(model)
        spec.output = string_view(named.data(), named.size())
        spec.column = <size_t>column
        spec.row_bytes = compiled.row_bytes()
        spec.background = <const uint8_t*>PyBytes_AS_STRING(background)
        spec.background_rows = <size_t>len(background) // compiled.row_bytes()
        if <size_t>len(groups) != parts.inputs.size():
            raise ValueError(f"groups: expected one for each of {parts.inputs.size()} inputs, not {len(groups)}")
        spec.groups.resize(parts.inputs.size())
        spec.inputs.resize(parts.inputs.size())
        for i in range(parts.inputs.size()):
            place = first_elements[parts.inputs[i].tensor] + parts.inputs[i].element
            spec.groups[place] = groups[i]
            spec.inputs[place] = <uint32_t>i
        spec.group_count = <size_t>len(group_names)
        self.plan = plan
        self._model = make_shared[CExplainedModel]()
        self._model.get().element_inputs = spec.inputs
        for name in group_names:
            self._model.get().group_names.push_back(string_of_str(name))
        for i in range(parts.inputs.size()):
            self._model.get().input_names.push_back(parts.inputs[i].name)
        for code, analyst_text, customer_text in reasons:
            reason.code = string_of_str(code)
            reason.analyst_text = string_of_str(analyst_text)
            reason.customer_text = string_of_str(customer_text)
            self._model.get().reasons.push_back(reason)
        self._model.get().reasons_version = string_of_str(reasons_version)
        self._model.get().background_sha256 = string_of_str(background_sha256)
        for score in background_scores or ():
            scores.scores.push_back(score)
        scores.are_probabilities = are_probabilities
        with nogil:
            status = make_sampled(spec, scores, self._model.get()) if is_asked else make_explainer(spec, self._model.get())
        check_status(status)

    @property
    def method(self) -> int:
        """assay.v1.ExplanationMethod."""
        return <int>self._model.get().method()

    @property
    def is_asked(self) -> bool:
        return self._model.get().is_asked()

    def explain(
        self,
        row: bytes,
        score: float,
        *,
        by_input: bool = False,
        top_k: int = 0,
        ask: Callable[[bytes], Sequence[float]] | None = None,
        rounds: tuple[int, int] = (8, 64),
    ) -> bytes | None:
        """An assay.v1.Explanation of one finished row that has this score, as bytes; None: it does not add up to the score."""
        cdef ExplainJob job
        cdef ExplainResult result
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(row)
        if <uint32_t>len(row) != self.plan.row_bytes:
            raise ValueError(f"row: expected {self.plan.row_bytes} bytes, not {len(row)}")
        job.model = <shared_ptr[const CExplainedModel]>self._model
        job.row.assign(data, data + len(row))
        job.players = CPlayers.kInputs if by_input else CPlayers.kGroups
        job.top_k = top_k
        job.score = score
        if not self.is_asked:
            with nogil:
                result = explain_row(job)
        elif ask is None:
            raise ValueError("ask: this model must be asked: expected a function that scores packed rows")
        else:
            result = self._sample(job, ask, rounds)
        return bytes_of_string(result.answer) or None

    cdef ExplainResult _sample(self, const ExplainJob& job, ask, rounds) except *:
        cdef SampledRow sampled
        cdef SamplingOptions options
        cdef Attribution found
        cdef vector[double] scores
        options.rounds_min, options.rounds_max = rounds
        check_status(
            SampledRow.begin(dereference(self._model.get().sampled), job.row, job.score, job.players, options, &sampled)
        )
        while True:
            rows = self._mixed(&sampled)
            if not rows:
                break
            scores = ask(rows)
            if scores.size() * job.row.size() != <size_t>len(rows):
                raise ValueError(f"ask: expected {len(rows) // job.row.size()} scores, not {scores.size()}")
            check_status(sampled.give(scores.data(), scores.size()))
        sampled.tell(&found)
        return tell_explanation(job, found)

    # The rows to ask about, one behind the other. Empty: none.
    cdef bytes _mixed(self, SampledRow* sampled):
        cdef size_t row_bytes = self.plan.row_bytes
        cdef size_t count = sampled.next(_ASKED_ROWS_MAX)
        cdef bytes rows = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * row_bytes))
        cdef uint8_t* to = <uint8_t*>PyBytes_AS_STRING(rows)
        cdef size_t i
        for i in range(count):
            sampled.fill(i, to + i * row_bytes)
        return rows
