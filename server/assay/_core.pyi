"""assay._core: the native core's contract. The document of record; tests/typing holds the module to it.

Converts, checks and owns; decides nothing. Everything here may be called from any thread. Methods that say *releases the GIL* do
so while C++ works. Failures raise `assay.errors.CoreError` (its `code` is a row of CODE_TABLE), except on the hot path
(`Engine.submit_*`), where a refusal is a value.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

class CodeRow(NamedTuple):
    """One row of the core's table of codes: the single source of gRPC statuses and reasons."""

    number: int
    reason: str  # google.rpc.ErrorInfo.reason
    grpc_code: int  # 0..16
    retry_ms: int  # 0: do not retry
    message: str

class PolicyRow(NamedTuple):
    """One row of the policy table (base/policy.h): which listeners answer a method, and to whom."""

    method: str  # full: "/assay.v1.ScoringService/Score"
    listeners: int  # a sum of LISTENERS
    roles: int  # a sum of ROLES: any one of them will do

CODE_TABLE: Final[tuple[CodeRow, ...]]
POLICY_TABLE: Final[tuple[PolicyRow, ...]]
LISTENERS: Final[dict[str, int]]  # "public": 1, "admin": 2, "health": 4
ROLES: Final[dict[str, int]]  # "score": 1, "read": 2, "write": 4, "admin": 8, "anyone": 128 (in rows only)
LIMITS: Final[dict[str, int]]  # base/limits.h, by snake_case name ("id_bytes_max", ...)
BUILD: Final[dict[str, str]]  # "compiler", "flags" ("debug", "sanitize"), "cpu"

# Numbers of the enums in features/plan.h, features/view.h and base/value.h.
DTYPES: Final[dict[str, int]]  # "float64": 1, "int64": 2, "bool": 3, "string": 4
TENSOR_TYPES: Final[dict[str, int]]  # "float32": 1, "int32": 6, "int64": 7, "bool": 9, "float64": 11
AGGREGATES: Final[dict[str, int]]  # "count": 1, "sum": 2, "avg", "min", "max", "last", "rate_true", "distinct"
OPERATIONS: Final[dict[str, int]]  # "scale": 1, "ratio": 2, ... "constant": 16
WHEN_NULL: Final[dict[str, int]]  # "error": 1, "default": 2, "nan": 3
DECISIONS: Final[dict[str, int]]  # "approve": 1, "challenge": 2, "review": 3, "decline": 4
PRIORITIES: Final[dict[str, int]]  # "interactive": 1, "bulk": 2
CALL_KINDS: Final[
    dict[str, int]
]  # "score": 1, "batch": 2, "stream": 3 (one message of a stream), "infer": 4, "probe": 5 (nobody sent it: an explanation asks)
RECORD_REASONS: Final[dict[str, int]]  # bits: "sampled": 1, "slow": 2, "failed": 4, "declined": 8, "logged": 16
AUDIT_LEVELS: Final[dict[str, int]]  # "memory": 0, "spool": 1, "fsync": 2
AUDIT_INPUTS: Final[dict[str, int]]  # "full": 0, "sample": 1, "digest": 2

# The stages of a row in order, and where each begins and ends in CallRecord.stamps_ns.
STAGES: Final[tuple[tuple[str, int, int], ...]]
# Inclusive upper bounds of the engine's histograms.
LATENCY_BOUNDS_NS: Final[tuple[int, ...]]
BATCH_ROWS_BOUNDS: Final[tuple[int, ...]]
# The largest value of each fine bucket of a LatencyHistogram; a bucket starts one above the one before it. Longer than the last
# counts as the last.
FINE_UPPER_NS: Final[tuple[int, ...]]

Scalar = float | int | bool | str

@final
class PlanBuilder:
    """Collects a feature plan. Every method returns the index that later calls use; build() checks everything."""

    def __init__(self, feature_set: str, version: str, schema_hash: str) -> None: ...
    def entity(self, name: str) -> int: ...
    def request_feature(
        self,
        name: str,
        dtype: int,
        *,
        required: bool,
        accept_int: bool = False,
        default: Scalar | None = None,
        minimum: float | int | None = None,
        maximum: float | int | None = None,
    ) -> int:
        """Declares a feature of the request and returns its *feature* index (see feature_node).

        accept_int, of float64 only: an int64 up to 2^53 is taken as the float64 that equals it."""

    def window_view(
        self,
        name: str,
        entity: int,
        view_hash: bytes,
        *,
        delay_us: int,
        uses_labels: bool,
        includes_current: bool,
        exact_events_max: int,
        lateness_us: int,
    ) -> int: ...
    def column_of_feature(self, view: int, feature: int) -> int: ...
    def column_of_entity(self, view: int, entity: int) -> int: ...
    def column_of_event_time(self, view: int) -> int: ...
    def aggregate(self, view: int, op: int, column: int, window_us: int) -> int:
        """Adds an aggregate and returns its *output* index. column: -1 none, -2 the label."""

    def attribute_view(self, name: str, entity: int, view_hash: bytes, *, max_age_us: int) -> int: ...
    def attribute(self, view: int, name: str, dtype: int) -> int: ...

    # Nodes, in order: a node comes after its arguments. Each returns a *node* index.
    def event_time_node(self) -> int: ...
    def feature_node(self, feature: int) -> int: ...
    def view_node(self, view: int, output: int, name: str) -> int: ...
    def derived_node(
        self, name: str, op: int, arguments: Sequence[int], constants: Sequence[float] = (), vocabulary: Sequence[str] = ()
    ) -> int: ...
    def tensor(self, name: str, tensor_type: int, element_count: int) -> int: ...
    def model_input(self, name: str, node: int, tensor: int, element: int, when_null: int, default: float = 0.0) -> None: ...
    def build(self) -> FeaturePlan:
        """Compiles. Raises CoreError PLAN_INVALID naming what is wrong. The builder must not be used again."""

@final
class FeaturePlan:
    """A compiled feature set. Immutable. Made by PlanBuilder.build()."""

    @property
    def feature_set(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def schema_hash(self) -> str: ...
    @property
    def entity_names(self) -> tuple[str, ...]: ...
    @property
    def feature_names(self) -> tuple[str, ...]: ...
    @property
    def input_names(self) -> tuple[str, ...]: ...
    @property
    def view_names(self) -> tuple[str, ...]: ...
    @property
    def view_entities(self) -> tuple[str, ...]:
        """The entity of each view."""

    @property
    def view_horizons_us(self) -> tuple[int, ...]:
        """How long a view's record matters after its newest event: longest window + delay + lateness. 0: attributes."""

    @property
    def row_bytes(self) -> int: ...
    @property
    def segments(self) -> tuple[tuple[str, int, int, int], ...]:
        """(tensor name, tensor type, offset in the row in bytes, element count) of each tensor."""

    @property
    def input_elements(self) -> tuple[tuple[int, int], ...]:
        """(tensor index, element index) of each model input, in the feature set's order."""

    @staticmethod
    def of_tensors(tensors: Sequence[tuple[str, int, int]]) -> FeaturePlan:
        """The plan of a model without a feature set: (name, tensor type, elements of a row) of each of its inputs. It has no
        features, views or inputs; its rows come as tensors (ModelInfer). Raises CoreError (PLAN_INVALID)."""

    @property
    def is_tensors_only(self) -> bool:
        """Whether it is of a model without a feature set."""

    def decode_infer_request(
        self, data: bytes, rows_max: int, inputs: Sequence[InferShape] = (), outputs: Sequence[InferShape] = ()
    ) -> DecodedInfer | Refusal:
        """Decodes an inference.ModelInferRequest as the engine would. For tests and tools; the engine never calls it.

        `inputs`: the axes of the plan's tensors where they have not one each. `outputs`: what the model gives. Raises CoreError
        (MODEL_UNSUPPORTED) where the axes are not the plan's."""

    def accepted_ints(self) -> dict[str, int]:
        """How many values came as an int64 and were taken, by feature that accepts those: of scores and of RecordEvents messages.

        An event that is written again, because another writer was faster, counts again."""

    def decode_score_request(self, data: bytes) -> DecodedTransaction | Refusal:
        """Decodes a ScoreRequest as the engine would. For tests and tools; the engine never calls it."""

    def decode_event(self, data: bytes) -> DecodedTransaction | Refusal:
        """Decodes an assay.v1.Event."""

    def decode_event_json(self, line: bytes) -> DecodedTransaction | Refusal:
        """Decodes one JSON line, strictly."""

    def label_violations(self, line: bytes) -> tuple[tuple[str, str, str], ...]:
        """(reason, field, description) of all that is wrong with a JSON label; empty: nothing."""

class InferShape(NamedTuple):
    """A tensor of a model. dims: of a row."""

    name: str
    type: int  # of TENSOR_TYPES
    dims: tuple[int, ...]
    position: int  # among the model's own inputs or outputs

class DecodedInfer(NamedTuple):
    """A ModelInferRequest as a model would be given it."""

    model: str
    version: str
    id: str
    rows: bytes  # one after the other, FeaturePlan.row_bytes each
    outputs: tuple[str, ...]  # asked for, in the model's order
    is_bulk: bool  # else interactive

class Refusal(NamedTuple):
    """A refusal as a value: what the transport sends."""

    code: int  # a row of CODE_TABLE
    grpc_code: int
    message: str
    rpc_status: bytes  # google.rpc.Status, for grpc-status-details-bin

class DecodedTransaction(NamedTuple):
    transaction_id: str
    event_time_us: int
    entities: dict[str, str]
    features: dict[str, Scalar]  # those that were sent
    is_fraud: bool | None
    model: str
    version: str
    priority: int
    include_features: bool
    include_timings: bool
    is_label: bool = False  # of an event: only its label
    label_time_us: int | None = None

class StoreStats(NamedTuple):
    record_count: int
    bytes: int
    bytes_max: int
    event_count: int
    duplicate_count: int
    late_count: int
    rejected_record_count: int
    tiled_event_count: int
    full_count: int

@final
class EmbeddedStore:
    """Row records in this process. Thread-safe; bounded by bytes_max."""

    def __init__(self, bytes_max: int = 1 << 30) -> None: ...
    def save(self, path: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Writes an atomic snapshot. Releases the GIL."""

    def load(self, path: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Reads a snapshot into this store, which must be empty. All or nothing. Releases the GIL."""

    def stats(self) -> StoreStats: ...

class ReadRow(NamedTuple):
    row: bytes
    missing: tuple[str, ...]
    imputed: tuple[str, ...]
    views: tuple[ViewFold, ...]

class ViewFold(NamedTuple):
    view: str
    found: bool
    stale: bool
    saturated: bool
    approximate: bool
    rejected: int  # a row of CODE_TABLE; 0: not rejected
    age_us: int

@final
class FeatureReader:
    """One plan bound to one store, for reading. Keeps both alive. `store` None: a store elsewhere, whose records the engine asks
    for (Engine.take_lookups); then `near_ages_ms` says for each view how old a record of the engine's near-cache may be (0: none
    of it is kept); empty: 0 for all. ValueError: not one a view, negative, or the store is not elsewhere."""

    def __init__(self, plan: FeaturePlan, store: EmbeddedStore | None, *, near_ages_ms: Sequence[int] = ()) -> None: ...
    @property
    def plan(self) -> FeaturePlan: ...
    def read(
        self,
        transaction_id: str,
        event_time_us: int,
        entities: dict[str, str],
        features: dict[str, Scalar],
    ) -> ReadRow | Refusal:
        """The model-input row of one transaction: what the model would see. For tools and tests."""

    def measure(self, messages: Sequence[bytes], rounds: int) -> int:
        """Nanoseconds that scan, decode, fold and assembly of every ScoreRequest take in all, `rounds` times over. For
        benchmarks. Releases the GIL. Raises CoreError for the first message that is refused."""

@final
class EventWriter:
    """One plan bound to one store, for writing. Keeps both alive.

    Times more than `ahead_us_max` microseconds ahead of this machine's clock are refused (EVENT_IN_FUTURE); 0: any time goes,
    for a replay into a store of its own. `applies_late`: what is older than the events that a record keeps one by one goes into
    its tiles if the record has never come so far in its topic, and is too late else. `views`: those that events and labels are
    for; None: all.

    A place is where a topic has a message: 16 bytes, little-endian {source u32 (0: none), epoch u32, offset i64}.
    """

    def __init__(
        self,
        plan: FeaturePlan,
        store: EmbeddedStore,
        *,
        ahead_us_max: int = 300_000_000,
        applies_late: bool = False,
        views: Sequence[str] | None = None,
    ) -> None: ...
    def record_events(self, message: bytes) -> list[tuple[int, str, Refusal | None]] | Refusal:
        """Applies one RecordEventsRequest. One (code, transaction_id, refusal) an event: OK, EVENT_DUPLICATE, EVENT_TOO_LATE or a
        refusal (EVENT_UNKNOWN for the label of an event that is not there). Releases the GIL."""

    def write_json(self, line: bytes) -> tuple[int, Refusal | None]:
        """Applies one JSON event."""

    def write_label(self, line: bytes, place: bytes | None = None) -> int:
        """Puts a JSON label on the event that it repeats. Returns the code: OK, EVENT_DUPLICATE, EVENT_TOO_LATE,
        EVENT_UNKNOWN, INVALID_REQUEST, or why the store said no."""

    def write_attributes(self, view: str, entity_id: str, time_us: int, values: Sequence[Scalar | None]) -> int:
        """Sets one entity's attributes, in the view's order and declared types. Returns the code: OK, EVENT_DUPLICATE,
        EVENT_TOO_LATE, or why nothing changed."""

    # For records of a remote store: bring them (put_record), write, take back what has changed.
    def records_of_events(self, message: bytes) -> list[RecordRef]:
        """The records that record_events(message) would change, each once. Bad events have none. Releases the GIL."""

    def records_of_label(self, line: bytes) -> list[RecordRef]:
        """The records that write_label(line) may change. A bad label has none."""

    def record_of(self, view: str, entity_id: str) -> RecordRef:
        """One entity's record in a view of the plan."""

    def put_record(self, record: RecordRef, sealed: bytes) -> int:
        """Takes a record of a remote store into this one, after all its checks. Returns the code: OK, RECORD_..., STORE_FULL."""

    def take_changed_record(self, record: RecordRef, before: bytes | None) -> bytes | None:
        """The record, sealed with the time, if it says something else than `before` (None: there was none); else None."""

class RecordRef(NamedTuple):
    """One entity's record in one view: where a remote store keeps it."""

    key: bytes
    view_index: int  # into FeaturePlan.view_names
    entity_id: str

class IngestReport(NamedTuple):
    """Each event is counted once: as late if it came too late for one view at least, whatever the others did."""

    event_count: int
    recorded_count: int
    duplicate_count: int
    late_count: int
    refused_count: int
    refused_code: int

class EventRejection(NamedTuple):
    line: int
    offset_bytes: int
    transaction_id: str
    violations: tuple[tuple[str, str, str], ...]  # (reason, field, description)

def exchange(connection: socket.socket, commands: bytes | None, answer_count: int, values_max: int, deadline_s: float) -> bytes:
    """Sends `commands` (None: they were sent before) to a Redis and waits for this many answers (0: for none), of at most
    `values_max` values (arrays and what is in them): their bytes, one behind the other. `connection`: made, and without TLS;
    `deadline_s`: of time.monotonic(). Releases the GIL.

    TimeoutError, ConnectionError, OverflowError (the answers are too large), ValueError (not what Redis answers, or answers
    without a question): close it."""

@final
class EventLog:
    """Events of a file, sorted by (event_time, transaction_id). Memory: the file + 24 bytes an event.

    Events and labels more than `ahead_us_max` microseconds ahead of this machine's clock are rejected (EVENT_IN_FUTURE); 0: any
    time goes.
    """

    def __init__(self, plan: FeaturePlan, *, ahead_us_max: int = 0) -> None: ...
    def append(self, lines: bytes, rejections_max: int = 100, *, places: bytes | None = None) -> None:
        """Decodes whole lines. `places`: of every line (EventWriter); one log has them for all lines or for none. Releases the
        GIL."""

    @property
    def event_count(self) -> int: ...
    @property
    def rejected_count(self) -> int: ...
    def rejections(self, start: int = 0) -> list[EventRejection]:
        """Those that append() kept, from the `start`-th on."""

    def accepted_ints(self) -> dict[str, int]:
        """How many of the events that were taken had an int64, by feature that accepts those. Each event counts once."""

    def sort(self) -> None:
        """Releases the GIL."""

    def records(self, writer: EventWriter, start: int, stop: int) -> list[RecordRef]:
        """The records that ingest() of the same events would change, each once. Releases the GIL."""

    def position_at(self, time_us: int) -> int:
        """How many events are before `time_us`: the index of the first at or after it. Call after sort()."""

    def ingest(self, writer: EventWriter, start: int, stop: int) -> IngestReport:
        """Applies events [start, stop), then moves the fences of their records. Events with places must be applied together with
        all before them in their partition that were not. Releases the GIL."""

    def replay(
        self, reader: FeatureReader, writer: EventWriter, start: int, stop: int, *, missing: NDArray[np.uint64] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64], IngestReport]:
        """Scores' rows, then applies, event by event. Returns rows (n, row_bytes), valid (n,), event times in microseconds (n,),
        report. `missing` (n, ceil(inputs / 64)) gets a bit an input: its source was null. Releases the GIL."""

    def transaction_ids(self, start: int, stop: int) -> list[str]: ...

class TensorInfo(NamedTuple):
    name: str
    onnx_type: int
    has_batch_axis: bool
    dims: tuple[int, ...]  # without the batch axis; -1 is free

@final
class OrtRuntime:
    """ONNX Runtime's shared library, opened once a process and self-checked."""

    def __init__(self, library_path: str) -> None:
        """Releases the GIL."""

    @property
    def library_path(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def providers(self) -> tuple[str, ...]: ...

@final
class OrtModel:
    """One ONNX Runtime session."""

    def __init__(
        self,
        runtime: OrtRuntime,
        model: bytes,
        *,
        intra_op_threads: int = 1,
        cuda_device: int | None = None,
        cuda_memory_bytes_max: int = 0,
    ) -> None:
        """On a CUDA device or (None) on the CPU. A device that cannot be had raises CoreError (RUNTIME_UNAVAILABLE) with ONNX
        Runtime's own words; open_libraries() of models/cuda_libraries.py comes first. `cuda_memory_bytes_max`: of the session's
        arena there, 0 is no limit. Releases the GIL."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...
    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...
    def run_rows(self, plan: FeaturePlan, rows: NDArray[np.uint8], output: int) -> NDArray[np.float64]:
        """Runs finished rows (n, row_bytes) in one batch and returns output `output` as float64 (n, elements). Releases the GIL.
        Used by golden rows, batch invariance and warm-up; the engine runs batches itself."""

    def infer_row(self, plan: FeaturePlan, row: bytes) -> bytes:
        """Runs one finished row and returns what ModelInfer gives of it, laid out as the audit log digests it: each output's
        elements, every output filled up with zeros to a multiple of 8 bytes. Releases the GIL. ValueError: a row of another
        length, or an output of another size than the model declares. CoreError: the run failed."""

    def score_matrix(
        self, matrix: NDArray[np.float32], output: int, column: int, rows_max: int, scores: NDArray[np.float64]
    ) -> None:
        """Scores rows (n, elements), n >= 1, that ONNX Runtime reads where they lie, at most `rows_max` in one batch: element
        `column` of output `output` goes into `scores` (n,). Releases the GIL. Several threads may call it at once.

        ValueError: another shape or type, or the model does not take one float32 matrix on the CPU. CoreError: the run failed."""

    def time_rows(self, plan: FeaturePlan, rows: NDArray[np.uint8], output: int) -> list[int]:
        """Runs finished rows (n, row_bytes) one by one, as an inline run would: nanoseconds of each. Releases the GIL."""

@final
class PuppetModel:
    """A model without ONNX Runtime for tests: the score of a row is a fixed function of its bytes (`PuppetModel.score_of`).
    Can be told to fail or to hold."""

    def __init__(self, rows_max: int = 64) -> None: ...
    def fail_next(self, runs: int) -> None:
        """The next `runs` runs fail."""

    def poison(self, row_bytes: bytes) -> None:
        """Any batch that holds this row fails."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...  # none: it takes whatever the plan gives
    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...
    def hold(self) -> None:
        """Runs wait until release()."""

    def release(self) -> None: ...
    @property
    def batches(self) -> list[int]:
        """Rows of each run so far, failed ones included."""

    @staticmethod
    def score_of(row: bytes) -> float: ...

def run_fault(text: str) -> str:
    """What ONNX Runtime's text of a failed run means: "out of memory", "sticky" (no later run of this process can succeed on that
    device) or "other"."""

@final
class FaultyModel:
    """A model that goes wrong as a card does, by script, for tests. Wraps the runners of another model."""

    inner: OrtModel | PuppetModel
    def __init__(self, inner: OrtModel | PuppetModel) -> None: ...
    def add(
        self,
        kind: str,
        *,
        text: str = "",
        rows_min: int = 1,
        rows_max: int = ...,
        first_run: int = 0,
        runs_max: int = ...,
        nan_row: int = -1,
    ) -> None:
        """Runs of `rows_min` to `rows_max` rows go wrong: "error" fails with `text`, "hang" waits for release(), "nan" makes row
        `nan_row` of the batch (-1: all) NaN. From run `first_run` on, `runs_max` times."""

    def clear(self) -> None:
        """Nothing goes wrong from now on; runs that hang go on."""

    def release(self) -> None:
        """Runs that hang go on, and none hangs by the rules of now."""

    @property
    def batches(self) -> list[int]:
        """Rows of each run so far, failed ones included."""

    @property
    def hanging(self) -> int: ...

@final
class TreeExplainer:
    """Exact Shapley values of one number that an ONNX model of trees gives, against background rows (core/explain). A player is a
    feature, or a group of features that come and go together; the value of some players is the mean margin over the background's
    rows with this row's features in those players' place. Cannot be changed; any number of threads may ask it at once."""

    def __init__(
        self,
        model: bytes,
        output: str,
        column: int,
        feature_count: int,
        background: NDArray[np.float32],
        *,
        groups: Sequence[int] | None = None,
        player_count: int | None = None,
    ) -> None:
        """Explains element `column` of a row of `output`. `background`: 1 to 128 rows (n, feature_count), C-contiguous, as the
        model is given them: scalers in the model are part of what is explained. `groups`: of each feature its player, below
        `player_count` (None: as many as features); None: each feature is its own. Keeps none of them. Releases the GIL.

        CoreError EXPLAIN_UNSUPPORTED: the model is something else than trees with scalers, casts and a sigmoid, or trees that
        ONNX Runtime reads in a way of its own, and which; the background has no row or too many; groups name more players than
        there are. ValueError, OverflowError: another shape or type, or a negative number."""

    @property
    def base(self) -> float: ...  # the background's mean margin
    @property
    def player_count(self) -> int: ...
    @property
    def feature_count(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...  # of what the background was folded into
    def explain(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(margins (n,), contributions (n, player_count)) of C-contiguous rows (n, feature_count), as the model is given them.
        NaN is a missing value, as the trees say. A margin is base + its row's contributions, up to rounding in double. Releases
        the GIL."""

    def score(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the model gives for margins (n,): the same number, or its logistic function, as the model says. ONNX Runtime adds
        leaves up in float32, so it differs from this by about 1e-6 of their sum."""

class CardUse(NamedTuple):
    """One runner's use of a card."""

    model: str
    version: str
    rows_max: int
    rows: int  # the batch cap now; 0: the CPU runs its rows

class CardStats(NamedTuple):
    is_dead: bool
    is_hot: bool
    why: str  # of its death
    last_fault: str  # text of the newest failure
    runs: int  # that gave scores
    faults: dict[str, int]  # by what happened
    cpu_rows: dict[str, int]  # rows that the CPU ran, by why
    uses: tuple[CardUse, ...]

@final
class Card:
    """One CUDA device, as the lanes that run on it share it. See ext/core/serving/card.h."""

    def __init__(
        self,
        *,
        hang_ns_max: int = 5_000_000_000,
        hold_ns_min: int = 10_000_000_000,
        hold_ns_max: int = 600_000_000_000,
        patience_ns_min: int = 20_000_000,
    ) -> None:
        """`hang_ns_max`: a run that takes longer has hung, the card is dead. `hold_ns_*`: how long a smaller batch holds after
        the card's memory was full. `patience_ns_min`: so long every run may take before its rows are given to the CPU."""

    def set_hot(self, is_hot: bool) -> None:
        """While it is hot it is given no batches: the CPU runs all rows."""

    def stats(self, now_ns: int | None = None) -> CardStats:
        """What is known now. A run that hangs is found out here too. `now_ns`: of the engine's clock; None: the system's."""

@final
class ManualClock:
    """A clock that stands still until told. Must outlive the engine that uses it (the engine keeps it alive)."""

    def __init__(self) -> None: ...
    def now_ns(self) -> int: ...
    def advance_ns(self, delta_ns: int) -> None: ...

@final
class CompletionQueue:
    """Finished calls on their way to one event loop."""

    @property
    def fd(self) -> int:
        """An eventfd, readable when calls have finished: one wake a batch."""

    def drain(self) -> list[tuple[int, bytes | Refusal]]:
        """(token, response message or refusal) of every finished call. Frees their slots. The owner's thread only."""

@final
class LookupBatch:
    """Rows that wait for records of a remote store. From Engine.take_lookups(); give or fail it, once."""

    @property
    def keys(self) -> list[bytes]:
        """The records to fetch, in the order in which give() wants them."""

    def give(self, records: Sequence[bytes | int | None]) -> None:
        """One a key; None: the store has no such record; a number: the code (CODE_TABLE) that says why it could not be had. Reads
        the rows and queues them. Releases the GIL."""

    def fail(self) -> None:
        """The store gave nothing: the rows go on without their records, and say so. Releases the GIL."""

class ExplainStats(NamedTuple):
    """Of explanations."""

    queued_rows: int  # that wait, or are worked on
    threads: int  # that are alive
    asked_rows: int  # that were scored so that others can be explained
    is_suspended: bool  # they did not come back: nothing is explained for a while

class EngineStats(NamedTuple):
    accepted_rows: int
    answered_rows: int
    failed_rows: int
    cancelled_rows: int
    shed_rows: int
    refused_calls: int
    expired_rows: tuple[int, int, int, int, int]
    defaulted_deadlines: int
    batch_count: int
    batched_rows: int
    retried_batches: int
    inline_rows: int  # not queued: their submitter took them to their end
    inline_overruns: int  # of those, runs longer than inline_overrun_ns
    degraded_rows: int
    sampled_rows: int  # kept for served_rows()
    dropped_sampled_rows: int  # of those, given up for newer ones
    lookup_batches: int
    lookup_given_up_rows: int  # stopped waiting for the remote store
    lookup_unavailable_records: int
    lookup_rejected_records: int
    looking_up_rows: int
    slots: int
    slots_used: int
    slots_used_max: int
    queued_rows: int
    near_cache: NearCacheStats
    explain: ExplainStats

class NearCacheStats(NamedTuple):
    """Records of a remote store that the engine keeps for a while."""

    hits: int  # records that need not be fetched
    misses: int  # records that had to be, though their view is kept
    stale_records: int  # used past their age, because the store gave nothing
    joined_rows: int  # waited for what another batch was fetching
    evictions: int
    records: int  # that there is none counts too
    bytes: int
    bytes_max: int  # 0: off

class Histogram(NamedTuple):
    counts: tuple[int, ...]  # of each bucket alone; the last is past every bound
    sum: int  # nanoseconds, or rows

class LatencyHistogram(NamedTuple):
    """Latencies since the start. Both counts are exact; a fine bucket is at most 3.2 % wide, from 32 ns on."""

    counts: tuple[int, ...]  # by LATENCY_BOUNDS_NS, of each bucket alone; the last is past every bound
    sum: int  # nanoseconds
    fine: tuple[tuple[int, int], ...]  # (index into FINE_UPPER_NS, count), those that are not empty, in order

class LaneMetrics(NamedTuple):
    """Answered rows of one model version, its batches and its queue."""

    model: str
    version: str
    # Received to answered, by priority: interactive, bulk, shadow. Together they count as many rows as were answered.
    inference: tuple[LatencyHistogram, LatencyHistogram, LatencyHistogram]
    stages: tuple[LatencyHistogram, ...]  # as STAGES
    batch_rows: Histogram
    oldest_queued_ns: int  # how long the row that waits longest for a runner has waited; 0: none waits
    failed_rows: int  # of calls that named no version: that the model failed
    missed_rows: int  # the same: that its feature set refused, or that were too late
    explanations: dict[str, int] | None  # by what became of them; "later" is never counted; None: it cannot be explained
    is_explaining_suspended: bool  # its explanations did not add up to its scores

SHADOW_DIFFERENCE_BOUNDS: tuple[float, ...]

class ShadowStats(NamedTuple):
    """What came of one model's shadow since it was set."""

    model: str
    version: str  # of the shadow
    share: float
    compared_rows: int
    failed_rows: int  # the shadow refused them, or its model failed
    shed_rows: int  # there was no room, or no processor time, for them
    held_bytes: int  # copies of requests that wait, now
    difference_sum: float  # shadow - champion
    differences: tuple[int, ...]  # rows by |difference|: an element for each of SHADOW_DIFFERENCE_BOUNDS, and one for the rest
    decisions: tuple[tuple[int, ...], ...]  # rows by the champion's decision, then by the shadow's (numbers of assay.v1.Decision)

class EngineMetrics(NamedTuple):
    """What EngineStats does not have. Models that were removed are gone from it."""

    lanes: tuple[LaneMetrics, ...]
    refused_calls: dict[str, int]  # by reason; those that occurred
    failed_rows: dict[str, int]  # by reason, too
    degraded_rows: dict[str, int]  # answered ones, once for each cause: a degradation, or why a record was left out
    expired_rows: int  # accepted ones alone: with the other outcomes of EngineStats they add up to accepted_rows
    dropped_records: int  # of calls, because drain_records() did not come in time
    refused_traceparents: int  # that are no W3C trace context; the calls went on without

class DriftEdges(NamedTuple):
    """The frozen bins of a baseline: edges ascend; a value v is in bin i where edges[i - 1] <= v < edges[i]."""

    inputs: Sequence[Sequence[float]]  # in the plan's order
    score: Sequence[float]

class DriftCounts(NamedTuple):
    """What a lane scored since it was added, by those bins. Sums of `score`, and of each input with its nulls, are `scores`."""

    model: str
    version: str
    scores: int
    score: tuple[int, ...]  # edges + 1
    alerts: tuple[tuple[int, int], ...]  # (number of the decision, scores at or above its threshold), ascending
    inputs: tuple[tuple[int, ...], ...]  # edges + 1 each
    nulls: tuple[int, ...]  # by input: the model was given NaN
    imputed: tuple[int, ...]  # by input: a declared default went in

class CallRecord(NamedTuple):
    """One call that was worth telling, after its end. Ids are 0 where tracing is off."""

    kind: int  # of CALL_KINDS
    reasons: int  # bits of RECORD_REASONS
    trace_id: int
    span_id: int  # of the call itself
    parent_span_id: int  # the caller's; 0: none
    is_sampled: bool
    model: str  # empty: refused before one was chosen
    version: str
    answer: int  # a row of CODE_TABLE: the outcome of the RPC, or of a stream's message
    failure: int  # of the first row that failed; 0: none did
    decision: int  # of DECISIONS, for a call of one row; 0: none
    priority: int  # of PRIORITIES; 0: refused before it was read
    row_count: int
    failed_rows: int
    batch_rows: int  # of the largest run that scored a row of it
    is_degraded: bool
    stamps_ns: tuple[int, ...]  # monotonic; 0: not reached. Of several rows the last one's
    ended_ns: int

class ServedRow(NamedTuple):
    """A row as a model was given it."""

    position: int  # from 1, in the order in which rows were kept
    model: str
    version: str
    transaction_id: str
    event_time_us: int
    row: bytes  # as the model's plan lays it out
    missing: tuple[int, ...]  # words of 64 bits, a bit an input: its source was null
    is_degraded: bool  # a record was out of reach, not to be trusted, or older than it may be

class Accepted(NamedTuple):
    call: int
    deadline_ns: int  # monotonic; the transport answers at it

class Hops(NamedTuple):
    """Why Engine.run_hops() came back: "stopped" (the engine has), "slow" (the last hop took more than `slow_s`, and gave its
    records), or, for `batch`, "timeout" (no answer within `timeout_s`) or "odd" (another answer than MGET's, or no connection any
    more). Then close the connection, and give or fail the batch."""

    end: Literal["stopped", "slow", "timeout", "odd"]
    hop_count: int  # hops that gave their records
    batch: LookupBatch | None

class AuditStats(NamedTuple):
    """Of one AuditLog, as its writer saw it last."""

    state: Literal["writing", "reserve", "full"]
    bytes: int  # of all segments, with what is allocated and not filled yet
    next_sequence: int
    shipped_sequence: int
    unshipped_bytes: int  # of the segments with records that were not shipped: what may not make way
    oldest_unshipped_us: int  # when the segment of the oldest record that was not shipped was begun, wall clock; 0: all were
    recorded: int  # by this process
    dropped: dict[str, int]  # scores that were given without a record, by cause: sampled, full, buffer, failed
    ring_dropped: int  # records that gave way to newer ones before they were shipped
    write_failures: int
    sync_failures: int
    allocation_failures: int
    lost_records: int  # found at the start: they stood before sound ones, or before a segment without a beginning
    torn_bytes: int  # found then behind the last sound block, and in segments without a beginning
    blocks: int
    buffer_bytes: int
    buffer_bytes_max: int
    is_refusing: bool  # calls are turned away (AUDIT_UNAVAILABLE)
    last_error: str  # why there is no room; while there is some, the newest failure; empty: none

@final
class AuditLog:
    """Records of scores, on their way to a spool directory. See ext/core/audit/audit_log.h. Engines that use it keep it alive."""

    def __init__(
        self,
        *,
        directory: str,
        key: bytes,
        level: int,
        bytes_max: int = 1 << 30,
        has_sink: bool = False,
        age_s_max: int = 0,
        inputs: int = 0,
        sample_one_in: int = 100,
        refuses: bool = True,
        full_one_in: int = 100,
        software: str = "",
        threads: bool = True,
    ) -> None:
        """`directory` exists and is this log's alone. `key`: 32 secret bytes, for digests and tokens. `level`: of
        AUDIT_LEVELS. `bytes_max`: of all segments, at least 4 MiB. `has_sink`: segments wait until set_shipped().
        `age_s_max`: older segments go as soon as they may; 0: only when room is needed. `inputs`: of AUDIT_INPUTS; of 1
        transaction in `sample_one_in` "sample" keeps the row. `refuses`: without room calls are turned away, else one score in
        `full_one_in` is recorded while the last segment lasts. `software`: who writes, for checkpoints. Without `threads`
        step() writes (tests).

        Raises CoreError: IO, SEGMENT_VERSION (the newest segment has a later format), PLAN_INVALID (bytes_max)."""

    def append_record(self, record: bytes) -> bool:
        """An assay.v1.AuditRecord that is nobody's score, at most 64 KiB. False: there was no room."""

    def commit(self, records: list[bytes]) -> bool:
        """Appends records as append_record() does and waits until they are where the level wants them. False: they are not, and
        what they tell must be refused. Where lost records are only counted (`refuses` is off) True all the same. Any thread.
        Releases the GIL."""

    @property
    def is_refusing(self) -> bool:
        """New calls are turned away (AUDIT_UNAVAILABLE). Any thread."""

    def set_shipped(self, sequence: int) -> None:
        """The sink has everything up to here: its segments may go."""

    def flush(self) -> None:
        """Waits until what was appended before is written. Releases the GIL."""

    def close(self) -> None:
        """Writes what is left, syncs, ends the thread. After the engines have stopped. Releases the GIL. Idempotent."""

    def step(self) -> None:
        """Without a thread: writes what has gathered. Tests."""

    def stats(self) -> AuditStats: ...

class AuditBlock(NamedTuple):
    """What was committed together."""

    first_sequence: int
    written_us: int  # wall clock
    offset: int  # in the segment
    chain: bytes  # 32; after it
    records: list[bytes]  # assay.v1.AuditRecord

class AuditBlockPlace(NamedTuple):
    """Where a block stands, and what it holds."""

    offset: int
    end_offset: int
    first_sequence: int
    end_sequence: int  # of the record after its last

def find_audit_block(data: bytes, starts_end: int, sequence_min: int, sequence_end: int) -> AuditBlockPlace | None:
    """The first block that begins in `data` before `starts_end`, at a multiple of 8, is whole, and has a first sequence from
    `sequence_min` on and before `sequence_end`; its chain is not looked at. None: there is none, or too much looks like one (no
    more than 8 times the size of `data` is checked). Releases the GIL."""

@final
class AuditSegment:
    """Reads one segment of an audit log, block by block, believing nothing. See ext/core/audit/segment_reader.h."""

    def __init__(self, data: bytes) -> None:
        """Raises CoreError: SEGMENT_MAGIC, SEGMENT_VERSION, SEGMENT_CHECKSUM (of the header)."""

    @property
    def first_sequence(self) -> int: ...
    @property
    def made_us(self) -> int: ...
    @property
    def log_id(self) -> bytes: ...
    @property
    def key_id(self) -> bytes: ...
    @property
    def chain(self) -> bytes:
        """After the last block that was read."""

    @property
    def offset(self) -> int:
        """Where the next block begins, or would."""

    @property
    def next_sequence(self) -> int: ...
    @property
    def why(self) -> str:
        """After next_block() gave None: OK, or the reason why the next block is not read."""

    def next_block(self, *, checks_chain: bool = True) -> AuditBlock | None:
        """None: why says whether the segment ends here."""

def tokenised(text: str, key: bytes) -> str:
    """`text` as the audit log writes it: with tokens in place of card numbers."""

def keyed_digest(data: bytes, key: bytes) -> bytes:
    """BLAKE2b-128 of a row and its bits of missing inputs, as the audit log writes it."""

def audit_key_id(key: bytes) -> bytes:
    """What segments call the key by, 8 bytes: tells nothing about it."""

@final
class ExplainedModel:
    """All that it takes to say why a model version scores as it does: exactly, from its trees or weights, or by asking the model.
    Immutable; any thread."""

    def __init__(
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
    ) -> None:
        """`model`: the ONNX file; `output` and `column`: where its score stands. `background`: 1 to 128 finished rows of the
        plan, one behind the other. `groups`: of each input of the plan its group, a place in `group_names`. `reasons`: (code,
        text for analysts, text for customers) of each group; an empty code: nothing is told of it.

        `background_scores`: of each background row the model's score, where the model is to be asked; nothing of it is read
        then. `are_probabilities`: so contributions are in log-odds.

        Raises CoreError (EXPLAIN_UNSUPPORTED) with what the model is instead of trees, or what is wrong with the background."""

    plan: FeaturePlan
    @property
    def method(self) -> int:
        """assay.v1.ExplanationMethod."""

    @property
    def is_asked(self) -> bool:
        """Nothing is read of the model: it is asked about rows that are mixed of the row and the background."""

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
        """An assay.v1.Explanation of one finished row that has this score, as bytes; None: it does not add up to the score.
        `by_input`: every input by itself, not by group. `top_k`: most contributions; 0: all.

        Of a model that is asked: `ask` scores finished rows, one behind the other, 256 at most, and is called until the largest
        standard error is a tenth of the largest contribution, within `rounds` (fewest, most; permutation.h has the cost of one).
        Raises CoreError (MODEL_OUTPUT_INVALID): a score is NaN or infinite.

        Releases the GIL but for `ask`."""

@final
class Engine:
    """Requests in, answers out. See ext/core/serving/engine.h."""

    def __init__(
        self,
        *,
        slots: int = 8192,
        batch_call_rows_max: int = 1024,
        answer_bytes_max: int = ...,
        lookup_timeout_ns_max: int = 50_000_000,
        near_cache_bytes_max: int = 0,
        near_cache_stale_ns_max: int = 600_000_000_000,
        tracing: bool = False,
        sample_ratio: float = 0.0,
        follows_parent: bool = True,
        slow_ns: int = 0,
        log_ratio: float = 0.0,
        logged_calls_max: int = 0,
        call_records_max: int = 2048,
        sample_one_in: int = 0,
        sampled_rows_max: int = 10_000,
        explain_threads: int = 1,
        explain_queue_rows_max: int = 1024,
        explain_inline_ns_max: int = 5_000_000,
        audit: AuditLog | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        """`explain_*`: threads that explain scores, how many rows may wait for one, and how long an interactive score waits for
        its explanation. With a ManualClock nothing is explained.

        `answer_bytes_max`: a ModelInfer whose outputs would be larger is refused (ANSWER_TOO_LARGE), not run. Default: none.

        `lookup_timeout_ns_max`: how long a row waits for its records from a remote store; two fifths of what is left of its
        deadline if that is less. With a ManualClock rows stop waiting in step_lookups() only.

        `near_cache_bytes_max`: memory of the near-cache, for records of views that readers give an age; 0: off, else at least
        1 MiB. `near_cache_stale_ns_max`: how old such a record may be where the store gives nothing.

        `tracing`: calls get a trace and are recorded if sampled (`sample_ratio` of those that nobody decided about;
        `follows_parent`: a valid traceparent decides), declined, or `slow_ns` slow (0: not for that). Failed calls are recorded
        always. At most `call_records_max` records wait for drain_records().

        `log_ratio`: that part of all calls is recorded for a line of the log, at most `logged_calls_max` between two
        drain_records().

        `sample_one_in`: the rows of one entity in so many are kept for served_rows(), the newest `sampled_rows_max`. 0: none.

        `audit`: where scores are recorded. Close it after stop()."""

    def open_queue(self) -> CompletionQueue: ...
    def add_lane(
        self,
        *,
        model: str,
        version: str,
        model_sha256: str,
        reader: FeatureReader,
        runner: OrtModel | PuppetModel | FaultyModel,
        runners: int = 1,
        threads: bool = True,
        score_output: int = 0,
        score_column: int = 0,
        thresholds: Sequence[tuple[float, int]] = (),
        batch_rows_max: int = 256,
        queue_rows_max: int = 4096,
        queue_delay_ns_max: int = 0,
        timeout_ns_default: int = 1_000_000_000,
        inline_overrun_ns: int = 0,
        runtime: str = "",
        drift: DriftEdges | None = None,
        is_default: bool = False,
        shadow: tuple[str, float] | None = None,
        card: Card | None = None,
        standby: OrtModel | PuppetModel | None = None,
        standby_runtime: str = "",
        explained: ExplainedModel | None = None,
    ) -> None:
        """`explained`: made with the reader's plan; None: requests that ask why are refused (EXPLAIN_UNSUPPORTED).

        `shadow`: no lane for clients but the model's shadow, in place of its former one: what its champion has answered is
        scored here once more and compared (shadow_stats). (the entity whose id decides, the share of them above 0). Raises
        CoreError (ROLLOUT_REFUSED) for another share.

        `runtime`: what runs the model, for the audit log: versions and device.

        `card` and `standby`, both or neither: `runner` is on that card; what the card cannot run `standby` runs on the CPU,
        and is on record with `standby_runtime`.

        `inline_overrun_ns` above 0: single rows that nothing waits before are run by submit itself, with the GIL. For models
        known to be quick: a run that takes longer sends rows to the runners for 100 times as long as it took.

        `drift`: rows are counted by these bins, one list of edges for each input of the plan. Raises CoreError
        (MODEL_UNSUPPORTED) where they are not that, or do not ascend."""

    def remove_lane(self, model: str, version: str) -> None:
        """Releases the GIL; returns when the lane's threads have ended. Raises CoreError (UNKNOWN_MODEL, UNKNOWN_VERSION,
        ROLLOUT_REFUSED: set_route() names it)."""

    def set_route(self, model: str, champion: str, challenger: str = "", entity: str = "", canary_share: float = 0.0) -> None:
        """Which version answers requests that name none: the champion, and for `canary_share` (0..1) of the entities of the kind
        `entity` the challenger (""; none). For "@champion" and "@challenger" too. One step, for calls that come from now on.
        Raises CoreError (UNKNOWN_MODEL, UNKNOWN_VERSION: not loaded; ROLLOUT_REFUSED)."""

    def stop_shadow(self, model: str) -> None:
        """Releases the GIL; returns when the shadow's threads have ended. Nothing where there is none."""

    def shadow_stats(self) -> list[ShadowStats]:
        """Of the shadows that there are."""

    # deadline_ns: time.monotonic_ns() based, 0: none. token: any integer the transport chooses; drain() gives it back.
    # traceparent: the header of that name, if tracing is on.
    # bytes: the response message of a row that was run inline; nothing will come out of drain() for it.
    def submit_score(
        self, data: bytes, deadline_ns: int, queue: CompletionQueue, token: int, traceparent: str | None = None
    ) -> bytes | Accepted | Refusal: ...
    def submit_batch(
        self, data: bytes, deadline_ns: int, queue: CompletionQueue, token: int, traceparent: str | None = None
    ) -> Accepted | Refusal:
        """Releases the GIL while decoding."""

    def submit_infer(
        self, data: bytes, deadline_ns: int, queue: CompletionQueue, token: int, traceparent: str | None = None
    ) -> bytes | Accepted | Refusal:
        """Releases the GIL where the request is long."""

    def submit_stream(
        self, data: bytes, deadline_ns: int, queue: CompletionQueue, token: int, traceparent: str | None = None
    ) -> bytes | Accepted | Refusal: ...
    def take_lookups(self, rows_max: int, *, waits: bool = True) -> LookupBatch | None:
        """Rows of lanes with a remote store that wait for their records, oldest first; None: the engine has stopped. Releases the
        GIL. Any thread, several at once.

        With `waits` it waits for some. While another batch is under way (taken, and neither given nor failed) rows are left to
        the thread that has it, until one of them has waited for a millisecond, or a quarter of its time if that is less. So a
        batch that somebody keeps delays all later rows by as much; give it, fail it or drop it. Without `waits`: whatever is
        there, at once; None: nothing is to be fetched."""

    def run_hops(self, connection: socket.socket, rows_max: int, timeout_s: float, slow_s: float) -> Hops:
        """Takes look-ups and fetches their records over `connection`, one MGET a batch, until something is not as usual.
        `connection`: of nobody else meanwhile, to a Redis that has all records, made, and without TLS. Releases the GIL. Any
        thread, several at once. Raises ConnectionError if the connection is closed."""

    def forget_records(self, keys: Sequence[bytes]) -> None:
        """These records were written by this process, or may have been: the near-cache forgets them, and what is being fetched
        of them is not kept. Before the writer is told. Any thread."""

    def step_lookups(self) -> int:
        """Settles the rows that have waited for their records long enough, here and now. Tests."""

    def cancel(self, call: int) -> bool:
        """Nobody waits for this call any more: its client left. False: it is finished, or about to come out of drain()."""

    def expire(self, call: int) -> bool:
        """The same, where the transport has answered DEADLINE_EXCEEDED: its rows count as expired."""

    def refuse(self, reason: str, detail: str = "") -> Refusal:
        """A refusal by reason, encoded as the core encodes its own. For the transport's own refusals."""

    def count_refused_call(self, refusal: Refusal) -> None:
        """A call ends with this refusal, and the core did not refuse it itself. ValueError: not a code of CODE_TABLE."""

    def refuse_call(self, reason: str, detail: str = "") -> Refusal:
        """refuse() and count_refused_call()."""

    def drain(self) -> None: ...
    def wait_idle(self, timeout_s: float) -> bool:
        """Releases the GIL."""

    def stop(self) -> None:
        """Ends all threads. Releases the GIL. Idempotent."""

    def step(self, model: str, version: str) -> int:
        """Runs one batch of a lane without threads, here and now. Tests."""

    def stats(self) -> EngineStats: ...
    def metrics(self) -> EngineMetrics: ...
    def drift(self) -> list[DriftCounts]:
        """Of the lanes that were added with `drift`."""

    def drain_records(self) -> list[CallRecord]:
        """What was worth telling since the last time: calls that were sampled, or were slow, failed or declined."""

    def served_rows(self, after: int, rows_max: int) -> list[ServedRow]:
        """At most `rows_max` sampled rows past position `after`, oldest first."""

    @property
    def is_tracing(self) -> bool:
        """Whether a traceparent means anything to it."""

    def set_sample_ratio(self, ratio: float) -> None:
        """What part of the calls is traced from now on, where the caller did not decide. 0..1."""

    def set_log_ratio(self, ratio: float) -> None:
        """What part of the calls is recorded for a line of the log from now on. 0..1."""

    def check_idle(self) -> None: ...

BLACK_BOX: Final[dict[str, int]]  # of its file: "format", "file_bytes", "slots", "errors"

def open_black_box(file: int, *, assay: str, build: str, python: str) -> None:
    """Starts to record what this process does, and to write it to the descriptor `file` if it dies by a fault
    (ext/core/base/black_box.h). `file`: BLACK_BOX["file_bytes"] of allocated blocks, not used for anything else; the box closes
    it. Raises CoreError (IO), and then the file is still the caller's; ValueError: one is open. From the main thread."""

def complete_black_box(runtime: str) -> None:
    """What is known only later: ONNX Runtime's version, and the libraries that are loaded by now. Raises CoreError (IO)."""

def close_black_box() -> None:
    """Says in the file that this process ends as it should. Idempotent."""

def check_access(listener: int, method: str, *, needs_certificate: bool, has_certificate: bool, roles: int) -> int:
    """Whether a call may be answered: the number of OK, UNKNOWN_METHOD, WRONG_LISTENER, MISSING_CERTIFICATE or MISSING_ROLE.

    `listener`: one of LISTENERS. `needs_certificate`: the listener wants one; else reaching it is the permission, and the rest is
    not looked at. `roles`: a sum of ROLES, those of the caller."""

def xxh64(data: bytes) -> int: ...
def crc32c(data: bytes) -> int: ...
def printable(text: bytes) -> str:
    """Text from outside made safe to show in an error: control characters escaped, at most 64 bytes, card numbers masked
    (base/status.h)."""

HAS_NATIVE_TRANSPORT: bool  # whether this build has it; its libraries may have been missing

class TransportStats(NamedTuple):
    accepted_connections: int
    open_connections: int
    closed_connections: dict[str, int]  # reason -> count; every reason stands there
    lingering_sockets: int  # closed for writing, read until their clients close them too
    cut_sockets: int  # of those that the server closed in the end
    open_streams: int  # ScoreStream calls
    open_forwarded_calls: int  # that the gRPC server behind answers
    waiting_calls: int  # in the engine's hands
    held_bytes: int  # by requests that are not whole and answers that are not read
    accept_rests: int  # times that accepting paused: no descriptor was left, or connections_max were open
    denied_calls: dict[str, int]  # by the policy: reason -> count

@final
class NativeTransport:
    """One port of the whole service: answers Score and ScoreBatch on threads of its own, which never take the GIL, and lets every
    other method through to a gRPC server on a Unix socket. See ext/core/transport/native_transport.h."""

    def __init__(
        self,
        engine: Engine,
        forward_path: str,
        *,
        io_threads: int = 1,  # 1..64
        receive_message_bytes_max: int = 4 << 20,
        send_message_bytes_max: int = 16 << 20,
        metadata_bytes_max: int = 16 << 10,
        connections_max: int = 10_000,
        connection_streams_max: int = 1000,
        forwarded_streams_max: int = 128,
        streams_max: int = 256,
        stream_messages_max: int = 64,
        held_bytes_max: int = 256 << 20,
        stream_age_s_max: float = 540.0,
        handshake_s_max: float = 10.0,
        request_s_max: float = 60.0,
        ping_interval_s_min: float = 10.0,
        keepalive_s: float = 60.0,
        keepalive_timeout_s: float = 20.0,
        idle_s_max: float = 300.0,
        age_s_max: float = 600.0,
        age_grace_s: float = 600.0,
        test_only_methods: Sequence[str] = (),  # forwarded for anyone, though no row of the policy table names them
    ) -> None: ...
    def start(self, fd: int) -> None:
        """Takes connections from the listening stream socket `fd`, which it owns from now on, whatever comes of it. Once. Raises
        CoreError (IO; INTERNAL where this build does not have the transport)."""
    def protect(self, certificate: bytes, key: bytes, client_authorities: bytes | None, roles: Mapping[str, int] | None) -> None:
        """TLS with these PEM texts; with `client_authorities` mTLS, and `roles` (principal -> sum of ROLES) says what each may
        do. Both or neither. Before start(), and again whenever it changes: open connections stay, and are asked for by the new
        roles. Raises CoreError where the PEM is not good; then nothing changes."""
    def drain_denials(self) -> list[tuple[str, bytes, bytes]]:
        """(reason, method, principal) of calls that the policy refused since the last time, as they came: 64 at most."""
    def drain(self, grace_s: float) -> None:
        """No more connections; those there are asked to go, and cut after `grace_s`. Returns at once."""
    def wait_closed(self, timeout_s: float) -> bool:
        """Whether no connection is open any more, at the latest after `timeout_s`. Releases the GIL."""
    def stop(self) -> None:
        """Cuts what is still open, ends the threads. Idempotent. Releases the GIL."""
    def stats(self) -> TransportStats: ...

# The load generator. Its numbers are those of load/arrivals.h.
LOAD_ARRIVALS: Final[dict[str, int]]  # "closed": 0, "constant": 1, "poisson": 2
LOAD_PHASES: Final[tuple[str, ...]]  # "new", "connecting", "warming up", "measuring", "draining", "ended"

class LoadSecond(NamedTuple):
    """What happened in one second of a run."""

    ok: int  # answers that came in it
    failed: int  # calls that ended otherwise
    p50_ns: int  # of ok; 0: there were none
    p99_ns: int
    max_ns: int

class LoadProgress(NamedTuple):
    """A look at a run under way. Counts are of all of it, the warm-up included."""

    phase: str  # of LOAD_PHASES
    elapsed_s: float  # since sending began
    sent: int
    ended: int
    ok: int
    in_flight: int
    backlog: int
    last_second: LoadSecond  # the last whole one

@final
class LoadHistogram:
    """Latencies of a load run's calls, each off by less than 0.1 %. Made by LoadRun.result()."""

    @property
    def count(self) -> int: ...
    @property
    def min_ns(self) -> int: ...
    @property
    def max_ns(self) -> int: ...
    @property
    def mean_ns(self) -> float: ...
    def quantile(self, q: float, lost: int = 0) -> int | None:
        """Nanoseconds that a share `q` of all calls does not pass; None: that is one of the `lost`, or there are none."""

    def buckets(self) -> list[tuple[int, int]]:
        """(nanoseconds, count) of the buckets that are not empty, in order."""

class LoadResult(NamedTuple):
    duration_s: float  # of the measured window
    ok: LoadHistogram  # of OK calls that were meant to be sent within it, from the time they were meant to be sent
    failed: LoadHistogram  # of calls that ended otherwise
    lag: LoadHistogram  # open loop: how late the generator was by its own fault
    outcomes: dict[str, int]  # "OK", "UNAVAILABLE", ..., "timed out", "connection lost" -> calls of the window
    messages: dict[str, str]  # the first grpc-message of each outcome, percent-encoded
    ok_in_window: int  # OK answers that came within the window
    offered: int  # calls that were meant to be sent within it
    dropped: int  # of them: found the backlog full
    unsent: int  # of them: still in the backlog when the run was over
    lost: int  # of them: without an answer in time, dropped and unsent ones included
    in_flight_max: int
    reconnects: int
    sent: int  # of the whole run, as the next two are
    sent_bytes: int
    received_bytes: int
    cpu_s: float  # of the generator's threads, in the window
    failure: str  # why the run ended early; empty: it did not
    seconds: tuple[LoadSecond, ...]  # from the start of the warm-up

@final
class LoadRun:
    """Sends distinct gRPC calls to a server, on threads of its own, and says how long the answers took. Where the build has no
    native transport it has no load generator either. See ext/core/load/load_run.h and arrivals.h."""

    def __init__(
        self,
        *,
        target: str,
        method: str,
        messages: str,
        threads: int = 1,
        connections: int = 1,
        streams: int = 1,
        arrivals: int = 0,
        rate_per_s: float = 0.0,
        backlog_max: int = 100_000,
        spin: bool = False,
        warm_up_s: float = 0.0,
        duration_s: float = 10.0,
        drain_s_max: float = 5.0,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 0.0,
        shuffle: bool = False,
        seed: int = 0,
        metadata: Sequence[tuple[str, str]] = (),
        tls: bool = False,
        tls_authorities: bytes = b"",
        tls_certificate: bytes = b"",
        tls_key: bytes = b"",
        tls_server_name: str = "",
    ) -> None:
        """`target`: HOST:PORT or unix:PATH. `method`: "/package.Service/Method". `messages`: a file of message_file.h, which is
        read here. `connections` (of all threads) x `streams` calls are open at most. `arrivals`: of LOAD_ARRIVALS, at
        `rate_per_s` unless closed. ValueError, OSError: what is wrong and what to do."""

    @property
    def message_count(self) -> int: ...
    def start(self) -> None:
        """Connects and begins to send. OSError: there is nothing to talk to. Once. Releases the GIL."""

    def progress(self) -> LoadProgress: ...
    def stop(self) -> None:
        """Sends nothing new; the run ends within a second or so."""

    def wait(self, timeout_s: float) -> bool:
        """Whether the run has ended, after waiting that long at most. Releases the GIL."""

    def result(self) -> LoadResult:
        """What was measured. ValueError: the run has not ended."""
