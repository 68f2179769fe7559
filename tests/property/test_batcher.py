"""The engine against a slow, readable model of it: every accepted call is answered exactly once, from its own rows, with the
outcome that the rules in ext/core/serving/batch_former.h give it; limits, order, priorities and deadlines hold; nothing leaks.

One thread, a clock that stands still, step() in place of runner threads: every run of this test is reproducible from its blob.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass, field

from google.rpc import error_details_pb2, status_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from assay import _core
from assay.v1 import scoring_pb2

SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))
MS = 1_000_000
EVENT_TIME_S = 1_522_540_831
SLOTS, CALL_ROWS_MAX, QUEUE_ROWS_MAX = 64, 8, 24
DEFAULT_TIMEOUT_NS, AGEING_NS = 1_000 * MS, 50 * MS
INTERACTIVE, BULK = 0, 1
BULK_SHARE = 4  # 1/32 of every place
PRIORITIES = (scoring_pb2.PRIORITY_UNSPECIFIED, scoring_pb2.PRIORITY_INTERACTIVE, scoring_pb2.PRIORITY_BULK)
REASONS = {row.number: row.reason for row in _core.CODE_TABLE}


def make_reader() -> _core.FeatureReader:
    builder = _core.PlanBuilder("batcher", "1", "ab" * 32)
    builder.entity("customer_id")
    amount = builder.request_feature("amount", _core.DTYPES["int64"], required=True)
    node = builder.feature_node(amount)
    tensor = builder.tensor("amounts", _core.TENSOR_TYPES["int64"], 1)
    builder.model_input("amount", node, tensor, 0, _core.WHEN_NULL["error"])
    return _core.FeatureReader(builder.build(), _core.EmbeddedStore())


READER = make_reader()


def make_request(amount: int, *, is_good: bool = True) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(transaction_id=f"tx-{amount}", entities={"customer_id": "c"})
    request.event_time.FromSeconds(EVENT_TIME_S)
    if is_good:
        request.features["amount"].int64_value = amount
    return request


def row_bytes(amount: int) -> bytes:
    read = READER.read(f"tx-{amount}", EVENT_TIME_S * 1_000_000, {"customer_id": "c"}, {"amount": amount})
    assert isinstance(read, _core.ReadRow), read
    return read.row


def reason_of(status: bytes) -> str:
    details = status_pb2.Status.FromString(status).details
    info = next(detail for detail in details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR))
    unpacked = error_details_pb2.ErrorInfo()
    info.Unpack(unpacked)
    return str(unpacked.reason)


@dataclass
class Row:
    call: Call
    amount: int
    queued_ns: int
    outcome: str = ""  # "" while it waits; "OK" or a reason


@dataclass
class Call:
    token: int
    handle: int
    kind: str  # "score", "batch" or "stream"
    deadline_ns: int
    rows: list[Row] = field(default_factory=list)
    abandoned: str = ""  # why nobody waits any more: "CANCELLED" or "DEADLINE_EXCEEDED"

    @property
    def is_done(self) -> bool:
        return all(row.outcome for row in self.rows)


class Model:
    """What the engine should do, said slowly."""

    def __init__(self, batch_rows_max: int) -> None:
        self.batch_rows_max = batch_rows_max
        self.queues: tuple[deque[Row], deque[Row]] = (deque(), deque())
        self.owed = 0  # to bulk rows, in 1/32 of a place
        self.calls: dict[int, Call] = {}  # those that hold slots, by token
        self.ended: Counter[str] = Counter()  # rows by outcome, when their call is freed
        self.runs: list[int] = []
        self.failures_left = 0
        self.poisoned: set[int] = set()
        self.inline_rows = 0

    @property
    def slots_used(self) -> int:
        return sum(len(call.rows) for call in self.calls.values())

    @property
    def queued(self) -> int:
        return len(self.queues[INTERACTIVE]) + len(self.queues[BULK])

    def refusal(self, rows: int, good_rows: int, priority: int) -> str:
        """Why a call of this shape is refused, or ""."""
        if self.slots_used + rows > SLOTS:
            return "SLOTS_EXHAUSTED"
        room = QUEUE_ROWS_MAX - self.queued + (len(self.queues[BULK]) if priority == INTERACTIVE else 0)
        return "QUEUE_FULL" if good_rows > room else ""

    def accept(self, call: Call, priority: int) -> None:
        self.calls[call.token] = call
        waiting = [row for row in call.rows if not row.outcome]
        while self.queued + len(waiting) > QUEUE_ROWS_MAX:
            self.end(self.queues[BULK].pop(), "SHED")
        self.queues[priority].extend(waiting)

    def is_free_for(self, priority: int) -> bool:
        """Whether no row of this priority or a higher one waits."""
        return not any(self.queues[: priority + 1])

    def run_inline(self) -> str:
        """What comes of a row that its submitter runs."""
        self.inline_rows += 1
        self.runs.append(1)
        if self.failures_left == 0:
            return "OK"
        self.failures_left -= 1
        return "MODEL_RUN_FAILED"

    def end(self, row: Row, outcome: str) -> None:
        row.outcome = outcome
        if row.call.abandoned and row.call.is_done:
            del self.calls[row.call.token]
            self.ended[row.call.abandoned] += len(row.call.rows)

    def step(self, now_ns: int) -> int:
        batch = self.form(now_ns)
        ranges = [batch] if batch else []
        while ranges:
            rows = ranges.pop(0)
            self.runs.append(len(rows))
            if self.failures_left > 0:
                self.failures_left -= 1
                is_failed = True
            else:
                is_failed = any(row.amount in self.poisoned for row in rows)
            if is_failed and len(rows) > 1:
                ranges = [rows[: len(rows) // 2], rows[len(rows) // 2 :], *ranges]
            else:
                for row in rows:
                    self.end(row, "MODEL_RUN_FAILED" if is_failed else "OK")
        return len(batch)

    def form(self, now_ns: int) -> list[Row]:
        bulk, places = self.queues[BULK], self.batch_rows_max
        reserved = 0
        if not bulk or self.queued <= places:
            self.owed = 0
        else:
            is_aged = now_ns - bulk[0].queued_ns > AGEING_NS
            due = max(places * BULK_SHARE, min(32, places * 8) if is_aged else 0)
            self.owed = min(self.owed + due, places * 32)
            reserved = self.owed // 32
        batch: list[Row] = []
        self.take(batch, BULK, reserved, now_ns)
        self.owed = max(0, self.owed - 32 * len(batch))
        self.take(batch, INTERACTIVE, places, now_ns)
        self.take(batch, BULK, places, now_ns)
        if not bulk:
            self.owed = 0
        return batch

    def take(self, batch: list[Row], priority: int, target: int, now_ns: int) -> None:
        while len(batch) < target and self.queues[priority]:
            row = self.queues[priority].popleft()
            if row.call.abandoned:
                self.end(row, row.call.abandoned)
            elif row.call.deadline_ns <= now_ns:
                self.end(row, "DEADLINE_EXCEEDED")
            else:
                batch.append(row)


class Batcher(RuleBasedStateMachine):
    @initialize(batch_rows_max=st.sampled_from([1, 3, 8]), is_inline=st.booleans())
    def start(self, batch_rows_max: int, is_inline: bool) -> None:
        self.is_inline = is_inline
        self.clock = _core.ManualClock()
        self.engine = _core.Engine(slots=SLOTS, batch_call_rows_max=CALL_ROWS_MAX, clock=self.clock)
        self.queue = self.engine.open_queue()
        self.puppet = _core.PuppetModel(rows_max=16)
        self.engine.add_lane(
            model="m",
            version="1",
            model_sha256="cd" * 32,
            reader=READER,
            runner=self.puppet,
            threads=False,
            batch_rows_max=batch_rows_max,
            queue_rows_max=QUEUE_ROWS_MAX,
            timeout_ns_default=DEFAULT_TIMEOUT_NS,
            inline_overrun_ns=MS if is_inline else 0,  # never an overrun: no time passes in a run
        )
        self.model = Model(batch_rows_max)
        self.amount = 0
        self.token = 0
        self.accepted_rows = 0
        self.refused_calls = 0
        self.handles: list[tuple[int, int]] = []  # (handle, token) of every call ever accepted

    def next_amounts(self, count: int) -> list[int]:
        self.amount += count
        return list(range(self.amount - count + 1, self.amount + 1))

    def check_inline(self, answer: bytes | _core.Accepted | _core.Refusal, kind: str, amount: int) -> None:
        """The answer is there at once: nothing is left in the core, and nothing will come through the queue."""
        assert not isinstance(answer, _core.Accepted)
        now = self.clock.now_ns()
        call = Call(self.token, 0, kind, now + 1)
        call.rows = [Row(call, amount, now, self.model.run_inline())]
        self.accepted_rows += 1
        self.check_answer(call, answer)

    def check_submission(
        self,
        submission: bytes | _core.Accepted | _core.Refusal,
        kind: str,
        amounts: list[int],
        good: list[bool],
        priority: int,
        timeout_ms: int,
    ) -> None:
        now = self.clock.now_ns()
        refusal = self.model.refusal(len(amounts), sum(good), priority)
        if refusal == "QUEUE_FULL" and kind == "stream":
            refusal = ""  # answered in the stream
            good = [False]
        elif refusal:
            assert isinstance(submission, _core.Refusal), refusal
            assert REASONS[submission.code] == reason_of(submission.rpc_status) == refusal
            self.refused_calls += 1
            return
        assert isinstance(submission, _core.Accepted), submission
        deadline = now + min(DEFAULT_TIMEOUT_NS, timeout_ms * MS if timeout_ms else DEFAULT_TIMEOUT_NS)
        assert submission.deadline_ns == deadline
        call = Call(self.token, submission.call, kind, deadline)
        bad_outcome = "QUEUE_FULL" if kind == "stream" else "INVALID_REQUEST"
        call.rows = [Row(call, a, now, "" if is_good else bad_outcome) for a, is_good in zip(amounts, good, strict=True)]
        assert submission.call not in {handle for handle, _ in self.handles}
        self.handles.append((submission.call, self.token))
        self.accepted_rows += len(amounts)
        self.model.accept(call, priority)

    @rule(
        priority=st.sampled_from(PRIORITIES),
        timeout_ms=st.sampled_from([0, 0, 5, 40, 2_000]),
        kind=st.sampled_from(["score", "stream"]),
    )
    def submit_one(self, priority: scoring_pb2.Priority, timeout_ms: int, kind: str) -> None:
        (amount,) = self.next_amounts(1)
        request = make_request(amount)
        request.priority = priority
        if timeout_ms:
            request.timeout.FromMilliseconds(timeout_ms)
        self.token += 1
        if kind == "score":
            submission = self.engine.submit_score(request.SerializeToString(), 0, self.queue, self.token)
        else:
            message = scoring_pb2.ScoreStreamRequest(request=request).SerializeToString()
            submission = self.engine.submit_stream(message, 0, self.queue, self.token)
        index = BULK if priority == PRIORITIES[2] else INTERACTIVE
        if self.is_inline and self.model.is_free_for(index) and self.model.slots_used < SLOTS:
            self.check_inline(submission, kind, amount)
        else:
            self.check_submission(submission, kind, [amount], [True], index, timeout_ms)

    @rule(
        good=st.lists(st.sampled_from([True, True, True, False]), min_size=1, max_size=CALL_ROWS_MAX),
        priority=st.sampled_from(PRIORITIES),
        timeout_ms=st.sampled_from([0, 20]),
    )
    def submit_batch(self, good: list[bool], priority: scoring_pb2.Priority, timeout_ms: int) -> None:
        amounts = self.next_amounts(len(good))
        requests = [make_request(amount, is_good=is_good) for amount, is_good in zip(amounts, good, strict=True)]
        batch = scoring_pb2.ScoreBatchRequest(requests=requests, priority=priority)
        if timeout_ms:
            batch.timeout.FromMilliseconds(timeout_ms)
        self.token += 1
        submission = self.engine.submit_batch(batch.SerializeToString(), 0, self.queue, self.token)
        self.check_submission(submission, "batch", amounts, good, INTERACTIVE if priority == PRIORITIES[1] else BULK, timeout_ms)

    @rule(bulk=st.integers(1, CALL_ROWS_MAX), rounds=st.integers(1, 12), ms=st.sampled_from([0, 0, 9]))
    def contend(self, bulk: int, rounds: int, ms: int) -> None:
        """Interactive rows keep coming while bulk rows wait: what shares and ageing are for."""
        self.submit_batch([True] * bulk, PRIORITIES[2], 0)
        for _ in range(rounds):
            for _ in range(min(self.model.batch_rows_max, 3)):
                self.submit_one(PRIORITIES[0], 0, "score")
            self.advance(ms)
            self.step()
            self.drain()

    @precondition(lambda self: self.handles)
    @rule(pick=st.integers(0, 1 << 30), is_recent=st.booleans(), is_expired=st.booleans())
    def abandon(self, pick: int, is_recent: bool, is_expired: bool) -> None:
        """Any call ever accepted: waiting, finished, cancelled before, or long gone and its slot used by another."""
        handles = self.handles[-6:] if is_recent else self.handles
        handle, token = handles[pick % len(handles)]
        call = self.model.calls.get(token)
        is_open = call is not None and not call.abandoned and not call.is_done
        assert (self.engine.expire if is_expired else self.engine.cancel)(handle) == is_open
        if call is not None and is_open:
            call.abandoned = "DEADLINE_EXCEEDED" if is_expired else "CANCELLED"

    @rule(ms=st.sampled_from([1, 4, 30, 60, 1_000]))
    def advance(self, ms: int) -> None:
        self.clock.advance_ns(ms * MS)

    @rule(runs=st.integers(1, 3))
    def fail_runs(self, runs: int) -> None:
        self.puppet.fail_next(runs)
        self.model.failures_left = runs

    @precondition(lambda self: self.amount > 0)
    @rule(back=st.integers(0, 5))
    def poison(self, back: int) -> None:
        amount = max(1, self.amount - back)
        self.puppet.poison(row_bytes(amount))
        self.model.poisoned.add(amount)

    @rule()
    def step(self) -> None:
        assert self.engine.step("m", "1") == self.model.step(self.clock.now_ns())
        assert self.puppet.batches == self.model.runs

    @rule()
    def drain(self) -> None:
        finished = dict(self.queue.drain())
        done = {token for token, call in self.model.calls.items() if call.is_done and not call.abandoned}
        assert set(finished) == done
        for token in done:
            self.check_answer(self.model.calls.pop(token), finished[token])

    def check_answer(self, call: Call, answer: bytes | _core.Refusal) -> None:
        is_late = self.clock.now_ns() >= call.deadline_ns
        for row in call.rows:
            if is_late and row.outcome == "OK":
                row.outcome = "DEADLINE_EXCEEDED"
            self.model.ended[row.outcome] += 1
        if isinstance(answer, _core.Refusal):
            assert call.kind == "score" or (call.kind == "batch" and is_late)
            expected = "DEADLINE_EXCEEDED" if call.kind == "batch" else call.rows[0].outcome
            assert REASONS[answer.code] == reason_of(answer.rpc_status) == expected
            return
        if call.kind == "batch":
            assert not is_late
            results = list(scoring_pb2.ScoreBatchResponse.FromString(answer).results)
        elif call.kind == "stream":
            result = scoring_pb2.ScoreResult.FromString(answer)  # the same fields as ScoreStreamResponse
            results = [result]
        else:
            response = scoring_pb2.ScoreResponse.FromString(answer)
            results = [scoring_pb2.ScoreResult(transaction_id=response.transaction_id, response=response)]
        assert len(results) == len(call.rows)
        for row, result in zip(call.rows, results, strict=True):
            assert result.transaction_id == f"tx-{row.amount}"
            if row.outcome == "OK":
                assert result.response.score == _core.PuppetModel.score_of(row_bytes(row.amount))
                assert not result.HasField("status")
            else:
                assert not result.HasField("response")
                assert reason_of(result.status.SerializeToString()) == row.outcome

    @invariant()
    def counters_agree(self) -> None:
        stats = self.engine.stats()
        assert stats.slots_used == self.model.slots_used
        assert stats.queued_rows == self.model.queued
        assert (stats.inline_rows, stats.inline_overruns) == (self.model.inline_rows, 0)
        assert stats.accepted_rows == self.accepted_rows
        assert stats.refused_calls == self.refused_calls
        ended = self.model.ended
        assert stats.answered_rows == ended["OK"]
        assert stats.cancelled_rows == ended["CANCELLED"]
        assert stats.shed_rows == ended["SHED"]
        assert sum(stats.expired_rows) == ended["DEADLINE_EXCEEDED"]
        assert stats.failed_rows == ended["MODEL_RUN_FAILED"] + ended["INVALID_REQUEST"] + ended["QUEUE_FULL"]

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        while self.model.queued > 0:
            self.step()
        self.drain()
        self.counters_agree()
        self.engine.check_idle()
        assert self.accepted_rows == sum(self.model.ended.values())
        self.engine.stop()


TestBatcher = Batcher.TestCase
TestBatcher.settings = settings(max_examples=150 * SCALE, stateful_step_count=60)
