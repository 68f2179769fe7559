"""One span for a run of the model that several traced calls shared, linked to them, and they to it.

    assay.batch    INTERNAL    formed .. scored    links: the server spans of its members that are told

It is the root of a trace of its own, for it is part of no call. A run is known by when it began and ended: two of one model do
not do both at the same nanosecond. Its ids are made of that and of a secret of this process, so that a member that is told in a
later message still finds it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from assay._core import STAGES, CallRecord

BATCH_SPAN: Final = "assay.batch"
RUNS_MAX: Final = 4096  # that are remembered, so that none is told twice

_STAMPS = {name: (start, end) for name, start, end in STAGES}
_FORMED, _ = _STAMPS["assemble"]
_STARTED, _SCORED = _STAMPS["infer"]


class Run(NamedTuple):
    """One run of a model over rows of several calls."""

    model: str
    version: str
    formed_ns: int
    started_ns: int
    scored_ns: int
    rows: int


class Ids(NamedTuple):
    trace_id: bytes
    span_id: bytes


class BatchSpans:
    """Remembers which runs were told. One thread."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(16)
        self._told: OrderedDict[Run, None] = OrderedDict()

    def ids(self, run: Run) -> Ids:
        digest = blake2b(repr(run).encode(), key=self._secret, digest_size=24).digest()
        return Ids(digest[:16], digest[16:])

    def take_new(self, runs: Sequence[Run]) -> list[Run]:
        """Of these the ones that were not told yet; from now on they are."""
        new = [run for run in dict.fromkeys(runs) if run not in self._told]
        self._told.update(dict.fromkeys(new))
        while len(self._told) > RUNS_MAX:
            self._told.popitem(last=False)
        return new


def run_of(record: CallRecord) -> Run | None:
    """The run that scored it, or its last row. None: it was not scored, or alone."""
    formed_ns, started_ns, scored_ns = (record.stamps_ns[index] for index in (_FORMED, _STARTED, _SCORED))
    if record.batch_rows < 2 or not scored_ns:
        return None
    return Run(record.model, record.version, formed_ns, started_ns, scored_ns, record.batch_rows)


def add_link(span: Span, ids: Ids) -> None:
    link = span.links.add()
    link.trace_id, link.span_id = ids
    link.flags = 0x100  # that it is not remote is known
