"""Serving equals replay, to the bit: what a server answers while events flow in is the score of the replayed row.

History goes into a snapshot, a server process starts on it, and the payments that follow are scored over the public port and then
recorded over the admin socket, one by one and in order. The same payments go through replay(); its matrix is scored by ONNX
Runtime's own Python API. Payments of one customer in one second, an entity too hot to be held exactly, windows that end on the
second and a week recorded in bulk and out of order are among them.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from assay import _core
from assay.demo.paths import bundle_path
from assay.demo.simulator import SECONDS_PER_DAY, SimulatorParameters, simulate
from assay.features.compile import compile_plan
from assay.features.ingest import ingest_events
from assay.features.replay import replay
from assay.features.rows import input_columns
from assay.features.store import open_store
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.demo_scores import assert_same_bits, feature_set, onnx_scores, shown_inputs
from tests.support.payments import Payments, published_payments
from tests.support.server import ServeProcess

RPC_S = 30.0
FEATURES_EVERY = 7  # one answer in this many is asked for its model inputs
AGAIN_EVERY = 5  # one payment in this many is scored again as soon as it is recorded
BULK_EVENTS = 1_000
SLICE_ROWS = 240  # scored by ScoreBatch and ScoreStream against the history, before anything is recorded

HOT_CUSTOMER, HOT_TERMINAL = 900_001, 900_002
HOT_PER_DAY = 12  # the newest 256 events are held exactly: three weeks of these, so 30-day windows reach into tiles


@dataclass(frozen=True)
class Case:
    """Payments in order; `history`, `live` and `bulk` are positions. Live: scored, then recorded; bulk: recorded."""

    payments: Payments
    history: NDArray[np.int64]
    steps: list[tuple[str, NDArray[np.int64]]]  # ("live" or "bulk", positions), in time's order

    @property
    def live(self) -> NDArray[np.int64]:
        return np.concatenate([positions for kind, positions in self.steps if kind == "live"])


@dataclass
class Served:
    """What the server said, by position."""

    scores: dict[int, float] = field(default_factory=dict)
    inputs: dict[int, list[float]] = field(default_factory=dict)
    approximate: set[int] = field(default_factory=set)  # some window was folded from tiles
    again: dict[int, float] = field(default_factory=dict)  # at once after it was recorded
    at_the_end: dict[int, float] = field(default_factory=dict)
    approximate_at_the_end: set[int] = field(default_factory=set)
    after_repeats: dict[int, float] = field(default_factory=dict)
    batch: dict[int, tuple[float, list[float]]] = field(default_factory=dict)  # score and inputs, against the history alone
    stream: dict[int, tuple[float, list[float]]] = field(default_factory=dict)
    recorded: list[tuple[int, feature_pb2.RecordEventsResponse]] = field(default_factory=list)  # events sent, answer
    repeated: list[tuple[int, feature_pb2.RecordEventsResponse]] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    case: Case
    served: Served
    replayed: NDArray[np.float32]  # (n, inputs): the replayed row of every payment
    replayed_scores: NDArray[np.float32]  # (n,)
    history_rows: dict[int, NDArray[np.float32]]  # what a reader of the history's snapshot sees of the slice
    restarted: NDArray[np.uint8]  # rows of probes from the snapshot that the server left
    ingested: NDArray[np.uint8]  # the same rows from a store that took all events in one go


@pytest.fixture(scope="module", params=["simulated", "published", pytest.param("published_day", marks=pytest.mark.torture)])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    if request.param == "simulated":
        case = simulated_case()
    else:
        # 2018-05-13 is the first day with full windows on which a customer pays twice in one second (at 18:13:41).
        case = published_case(request.getfixturevalue("published_data"), day=42, hour=0 if "day" in request.param else 18)
    return make_run(case, tmp_path_factory.mktemp(request.param))


def test_every_score_is_that_of_onnx_runtime_on_the_replayed_row(run: Run) -> None:
    live = run.case.live
    scores = np.array([run.served.scores[position] for position in live.tolist()])
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, scores.astype(np.float32), err_msg="a score is not the double that equals its float32")
    assert_same_bits(scores, run.replayed_scores[live], run.case.payments.take(live))
    assert len(np.unique(scores)) > len(live) / 20, "too few different scores to prove anything"


def test_every_model_input_shown_is_the_replayed_one(run: Run) -> None:
    assert len(run.served.inputs) >= len(run.case.live) // FEATURES_EVERY
    positions = np.array(list(run.served.inputs), np.int64)
    assert_same_bits(np.array(list(run.served.inputs.values())), run.replayed[positions], run.case.payments.take(positions))


def test_all_live_events_were_new_and_a_repeat_of_all_of_them_changes_nothing(run: Run) -> None:
    for sent, answer in run.served.recorded:
        assert answer == feature_pb2.RecordEventsResponse(recorded_count=sent)
    assert sum(sent for sent, _ in run.served.repeated) == len(run.case.live)
    for sent, answer in run.served.repeated:
        assert answer == feature_pb2.RecordEventsResponse(duplicate_count=sent)
    assert run.served.after_repeats == run.served.at_the_end


def test_a_recorded_payment_scores_as_before_it_was_recorded(run: Run) -> None:
    assert len(run.served.again) >= len(run.case.live) // AGAIN_EVERY
    assert run.served.again == {position: run.served.scores[position] for position in run.served.again}
    # At the end too: nothing that happened after it is counted. But for payments of the same second, and for windows said to be
    # approximate: folded from tiles, or asked so late that the oldest events have expired.
    is_followed = is_followed_in_the_same_second(run.case.payments)
    compared = {position for position in run.served.at_the_end if not is_followed[position]} - run.served.approximate_at_the_end
    assert len(compared) > len(run.served.at_the_end) / 4
    different = {position for position in compared if run.served.at_the_end[position] != run.served.scores[position]}
    assert not different, run.case.payments.ids[sorted(different)]


def test_payments_of_one_second_are_counted_in_the_order_of_their_ids(run: Run) -> None:
    payments, live = run.case.payments, run.case.live
    counts = run.replayed[:, feature_set().input_names.index("customer_tx_count_7d")]
    is_followed = is_followed_in_the_same_second(payments)
    pairs = [position for position in live.tolist() if is_followed[position] and payments.customers[position] != HOT_CUSTOMER]
    assert pairs, "no two payments of one customer in one second: the rule was not exercised"
    for position in pairs:
        later = next(
            other for other in range(position + 1, len(payments)) if payments.customers[other] == payments.customers[position]
        )
        assert payments.seconds[later] == payments.seconds[position]
        assert counts[later] == counts[position] + 1


def test_counts_are_exact_unless_they_are_flagged_as_approximate(run: Run) -> None:
    payments, live, flagged = run.case.payments, run.case.live, run.served.approximate
    has_hot = bool((payments.customers == HOT_CUSTOMER).any())
    assert bool(flagged) == has_hot, "tiles must stand in for exact events where an entity is hot, and nowhere else"
    assert {int(payments.customers[position]) for position in flagged} <= {HOT_CUSTOMER}
    for name, entities, delay_days in (("customer", payments.customers, 0), ("terminal", payments.terminals, 7)):
        for days in (1, 7, 30):
            found = run.replayed[live, feature_set().input_names.index(f"{name}_tx_count_{days}d")]
            errors = np.abs(found - exact_counts(payments, entities, delay_days, days)[live])
            is_flagged = np.isin(live, list(flagged))
            assert not errors[~is_flagged].any()
            # A tile is at most 1/24 of the window wide, and the hot customer pays at an even pace.
            assert errors[is_flagged].max(initial=0) <= HOT_PER_DAY * days / 24


def test_batch_and_stream_score_the_same_state_to_the_same_bits(run: Run) -> None:
    positions = list(run.history_rows)
    rows = np.stack(list(run.history_rows.values()))
    scores = onnx_scores(rows)
    payments = run.case.payments.take(np.array(positions, np.int64))
    for answers in (run.served.batch, run.served.stream):
        assert sorted(answers) == sorted(positions)
        assert_same_bits(np.array([answers[position][1] for position in positions]), rows, payments)
        assert_same_bits(np.array([answers[position][0] for position in positions]), scores, payments)


def test_the_snapshot_left_by_the_server_holds_what_it_recorded(run: Run) -> None:
    np.testing.assert_array_equal(run.restarted, run.ingested)


# --- cases


def simulated_case() -> Case:
    """Days 40 and 48 live, what lies between in bulk: day 48 sees the labels of day 40 and of the week before it."""
    simulated = simulate(SimulatorParameters(seed=11, customers=220, terminals=400, days=49, radius=10.0))
    midnight = int(simulated.midnight.timestamp())
    genuine = Payments(
        np.arange(len(simulated)).astype(np.str_),
        midnight + simulated.seconds,
        simulated.customer_ids.astype(np.int64),
        simulated.terminal_ids.astype(np.int64),
        simulated.amounts_cents,
        simulated.is_fraud,
    )
    parts = [genuine, _hot_payments(midnight, 49), _same_second_payments(genuine, midnight, (39, 40, 47, 48))]
    payments = Payments.join(parts).in_order()
    days = (payments.seconds - midnight) // SECONDS_PER_DAY
    shuffle = np.random.default_rng(5).permutation
    return Case(
        payments,
        shuffle(np.flatnonzero(days < 40)),
        [
            ("live", np.flatnonzero(days == 40)),
            ("bulk", shuffle(np.flatnonzero((days > 40) & (days < 48)))),
            ("live", np.flatnonzero(days == 48)),
        ],
    )


def published_case(folder: Path, *, day: int, hour: int) -> Case:
    """The published payments of one day from `hour` on; all before are history."""
    payments = published_payments(folder, days=day + 1)
    start = int(np.datetime64("2018-04-01", "s").astype(np.int64)) + day * SECONDS_PER_DAY + hour * 3600
    is_live = payments.seconds >= start
    return Case(payments, np.flatnonzero(~is_live), [("live", np.flatnonzero(is_live))])


def _hot_payments(midnight: int, days: int) -> Payments:
    """At the same seconds every day: each window of one ends exactly on another, which must be left out."""
    per_day = np.arange(HOT_PER_DAY) * 3_600 + 6 * 3_600
    seconds = (midnight + np.arange(days)[:, None] * SECONDS_PER_DAY + per_day).ravel()
    count = len(seconds)
    ids = np.char.add("hot", np.arange(count).astype(np.str_))
    cents = 100 + np.arange(count) * 37 % 9_000
    terminals = np.full(count, HOT_TERMINAL)
    return Payments(ids, seconds, np.full(count, HOT_CUSTOMER), terminals, cents, np.arange(count) % 11 == 0)


def _same_second_payments(payments: Payments, midnight: int, days: tuple[int, ...]) -> Payments:
    """Five payments of one customer at one terminal in one second, with ids that bytes or length alone would order wrongly."""
    columns: list[tuple[str, int, int, int, int, bool]] = []
    for index, day in enumerate(days):
        for k in range(6):
            digits = 10 ** (7 + k)
            ids = [f"{digits - 1}{index}", f"{digits}{index}", f"0{digits - 1}{index}", f"b{day}{k}", f"aa{day}{k}"]
            payer = (day * 6 + k) * 97 % len(payments)
            second = midnight + day * SECONDS_PER_DAY + 30_000 + k * 7_200
            entities = int(payments.customers[payer]), int(payments.terminals[payer])
            columns += [(id, second, *entities, 1_000 * (place + 1), place == 0) for place, id in enumerate(ids)]
    ids, seconds, customers, terminals, cents, frauds = (np.array(column) for column in zip(*columns, strict=True))
    return Payments(ids, seconds, customers, terminals, cents, frauds)


# --- the run


def make_run(case: Case, folder: Path) -> Run:
    plan = compile_plan(feature_set())
    events = folder / "events.jsonl"
    case.payments.take(np.random.default_rng(6).permutation(len(case.payments))).write(events)  # in no order
    replayed = _replay(case, events, folder / "features.parquet")
    snapshot = f"embedded:{folder / 'store.snapshot'}"
    case.payments.take(case.history).write(folder / "history.jsonl")
    _ingest(folder / "history.jsonl", len(case.history), snapshot)
    history_rows = _read_slice(case, plan, snapshot)

    served = Served()
    arguments = ("--model", str(bundle_path()), "--store", snapshot, "--drain-delay", "0")
    with ServeProcess(*arguments) as server, _Client(server, case.payments) as client:
        positions = list(history_rows)
        served.batch = client.score_batch(positions)
        served.stream = client.score_stream(positions)
        for kind, step in case.steps:
            if kind == "bulk":
                served.recorded += client.record(step)
            else:
                _score_and_record(client, step, served)
        last = case.steps[-1][1][::3]
        for position in last.tolist():
            response = client.score(position)
            served.at_the_end[position] = response.score
            if is_approximate(response):
                served.approximate_at_the_end.add(position)
        served.repeated = client.record(case.live)
        served.after_repeats = {position: client.score(position).score for position in last.tolist()}
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.stderr()

    everything = f"embedded:{folder / 'everything.snapshot'}"
    _ingest(events, len(case.payments), everything)
    probes = (_read_probes(case.payments, plan, url) for url in (snapshot, everything))
    return Run(case, served, replayed, onnx_scores(replayed), history_rows, *probes)


def is_followed_in_the_same_second(payments: Payments) -> NDArray[np.bool_]:
    """Whether the same customer pays again in the same second, shape (n,)."""
    order = np.lexsort((np.arange(len(payments)), payments.seconds, payments.customers))
    customers, seconds = payments.customers[order], payments.seconds[order]
    is_followed = np.zeros(len(payments), np.bool_)
    is_followed[order[:-1]] = (customers[1:] == customers[:-1]) & (seconds[1:] == seconds[:-1])
    return is_followed


def exact_counts(payments: Payments, entities: NDArray[np.int64], delay_days: int, days: int) -> NDArray[np.int64]:
    """How many payments of the same entity lie in (t - delay - days, t - delay], up to the payment itself, shape (n,)."""
    counts = np.zeros(len(payments), np.int64)
    order = np.argsort(entities, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(entities[order]) != 0])
    for own in np.split(order, starts[1:]):
        seconds = payments.seconds[own]
        ends = seconds - delay_days * SECONDS_PER_DAY
        upper = np.searchsorted(seconds, ends, side="right") if delay_days else np.arange(1, len(own) + 1)
        counts[own] = upper - np.searchsorted(seconds, ends - days * SECONDS_PER_DAY, side="right")
    return counts


class _Client:
    """One connection to each listener of a server; all messages are about payments at positions."""

    def __init__(self, server: ServeProcess, payments: Payments) -> None:
        self._payments = payments
        self._positions = {str(id): position for position, id in enumerate(payments.ids.tolist())}
        self._channels = [grpc.insecure_channel(target) for target in (server.target, server.admin_target)]
        self._scoring = scoring_pb2_grpc.ScoringServiceStub(self._channels[0])
        self._features = feature_pb2_grpc.FeatureServiceStub(self._channels[1])

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels:
            channel.close()

    def score(self, position: int, *, include_features: bool = False) -> scoring_pb2.ScoreResponse:
        request = self._payments.request(position)
        request.include_features = include_features
        response = self._scoring.Score(request, timeout=RPC_S)
        assert response.HasField("score")
        assert response.transaction_id == request.transaction_id
        return response

    def record(self, positions: NDArray[np.int64]) -> list[tuple[int, feature_pb2.RecordEventsResponse]]:
        """Records events in messages of BULK_EVENTS; (events, answer) a call."""
        answers = []
        for first in range(0, len(positions), BULK_EVENTS):
            chosen = positions[first : first + BULK_EVENTS].tolist()
            message = feature_pb2.RecordEventsRequest(events=[self._payments.event(position) for position in chosen])
            answers.append((len(chosen), self._features.RecordEvents(iter([message]), timeout=RPC_S)))
        return answers

    def score_batch(self, positions: list[int]) -> dict[int, tuple[float, list[float]]]:
        requests = [self._payments.request(position) for position in positions]
        message = scoring_pb2.ScoreBatchRequest(requests=requests, include_features=True)
        results = self._scoring.ScoreBatch(message, timeout=RPC_S).results
        assert [result.transaction_id for result in results] == [request.transaction_id for request in requests]
        return self._answers(results)

    def score_stream(self, positions: list[int]) -> dict[int, tuple[float, list[float]]]:
        requests = [self._payments.request(position) for position in positions]
        for request in requests:
            request.include_features = True
        messages = (scoring_pb2.ScoreStreamRequest(request=request) for request in requests)
        return self._answers(self._scoring.ScoreStream(messages, timeout=RPC_S))

    def _answers(self, results: Any) -> dict[int, tuple[float, list[float]]]:
        answers = {}
        for result in results:
            assert not result.HasField("status"), result.status
            answers[self._positions[result.transaction_id]] = (result.response.score, shown_inputs(result.response))
        return answers


def is_approximate(response: scoring_pb2.ScoreResponse) -> bool:
    """Whether a window was; nothing else may be wrong."""
    kinds = {degradation.kind for degradation in response.degradations}
    assert kinds <= {scoring_pb2.DEGRADATION_KIND_WINDOW_APPROXIMATE}
    return bool(kinds)


def _score_and_record(client: _Client, positions: NDArray[np.int64], served: Served) -> None:
    for index, position in enumerate(positions.tolist()):
        shows_features = index % FEATURES_EVERY == 0
        response = client.score(position, include_features=shows_features)
        served.scores[position] = response.score
        if shows_features:
            served.inputs[position] = shown_inputs(response)
        if is_approximate(response):
            served.approximate.add(position)
        served.recorded += client.record(np.array([position]))
        if index % AGAIN_EVERY == 0:
            served.again[position] = client.score(position).score


def _replay(case: Case, events: Path, out: Path) -> NDArray[np.float32]:
    """The replayed matrix (n, inputs) of all payments."""
    summary = replay(feature_set(), events, out)
    assert (summary.row_count, summary.duplicate_count, summary.late_count) == (len(case.payments), 0, 0)
    table = pq.read_table(out)
    assert table["transaction_id"].to_pylist() == case.payments.ids.tolist()
    return np.stack([table[name].to_numpy() for name in feature_set().input_names], axis=1)


def _ingest(events: Path, count: int, url: str) -> None:
    """As `assay ingest` does."""
    plan = compile_plan(feature_set())
    with open_store(url) as store:
        summary = ingest_events(events, store.writer(plan), plan, feature_set())
        assert (summary.recorded_count, summary.rejected_count) == (count, 0)
        store.save()


def _read_slice(case: Case, plan: _core.FeaturePlan, url: str) -> dict[int, NDArray[np.float32]]:
    """Rows of the first live payments as a reader of the snapshot sees them: no server, no event log."""
    with open_store(url, mode="read") as store:
        reader = _core.FeatureReader(plan, store.core)
        positions = case.live[:SLICE_ROWS]
        packed = np.stack([_read(reader, case.payments, position, 0) for position in positions.tolist()])
    rows = np.stack(list(input_columns(plan, packed).values()), axis=1)
    return dict(zip(positions.tolist(), rows, strict=True))


def _read_probes(payments: Payments, plan: _core.FeaturePlan, url: str) -> NDArray[np.uint8]:
    """Rows (p, row_bytes) of payments by every customer, and at every terminal, a while after the last event."""
    _, customers = np.unique(payments.customers, return_index=True)
    _, terminals = np.unique(payments.terminals, return_index=True)
    delay_s = int(payments.seconds[-1]) + 3_600
    with open_store(url, mode="read") as store:
        reader = _core.FeatureReader(plan, store.core)
        return np.stack([_read(reader, payments, int(p), delay_s) for p in np.concatenate([customers, terminals])])


def _read(reader: _core.FeatureReader, payments: Payments, position: int, second: int) -> NDArray[np.uint8]:
    """One packed row at `second`; 0: the payment's own."""
    row = reader.read(
        str(payments.ids[position]) if second == 0 else "probe",
        1_000_000 * (second or int(payments.seconds[position])),
        {"customer_id": str(payments.customers[position]), "terminal_id": str(payments.terminals[position])},
        {"amount_minor": int(payments.cents[position])},
    )
    assert isinstance(row, _core.ReadRow)
    return np.frombuffer(row.row, np.uint8)
