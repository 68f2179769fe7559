"""The look of `assay ingest --check`, taken again and again while events are ingested: did the definition change upstream?"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from assay.features.feature_set import FeatureSet
from assay.features.observed_events import ObservedEvents, null_share, type_shares
from assay.models.baseline import Baseline
from assay.models.event_check import EventCheck, EventChecker
from assay.models.reservoir import Reservoir

SAMPLE_EVENTS = 2_000
SAMPLE_S_MIN = 10.0
EVENT_BYTES_MAX = 16 << 10  # longer ones are not looked at


class SampledEventWatch:
    """One sample after the other, each uniform over the events that came while it was open. It ends once it has SAMPLE_EVENTS and
    is SAMPLE_S_MIN old; the thread that calls take() looks at it then. Memory: one sample, at most 31 MiB."""

    def __init__(
        self,
        feature_set: FeatureSet,
        baseline: Baseline,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """Raises FeatureSetError."""
        self._checker = EventChecker(feature_set, baseline)
        self._features = tuple(feature_set.request_features)
        self._clock = clock
        self._rng = rng or random.Random()
        self._observed = ObservedEvents()
        self._open()

    @property
    def observed(self) -> ObservedEvents:
        return self._observed

    def take(self, lines: Sequence[bytes]) -> None:
        self._sample.show([line for line in lines if len(line) <= EVENT_BYTES_MAX])
        if self._sample.seen_count >= SAMPLE_EVENTS and self._clock() >= self._ends_at_s:
            self._observed = self._observed_in(self._checker.check(list(self._sample.items)))
            self._open()

    # --- implementation ---

    def _open(self) -> None:
        self._sample: Reservoir[bytes] = Reservoir(SAMPLE_EVENTS, self._rng)
        self._ends_at_s = self._clock() + SAMPLE_S_MIN

    def _observed_in(self, found: EventCheck) -> ObservedEvents:
        reports = {name: found.fields[f"features.{name}"] for name in self._features}
        nulls = {name: null_share(report) for name, report in reports.items()}
        return ObservedEvents(
            sample_count=self._observed.sample_count + 1,
            null_shares={name: share for name, share in nulls.items() if share is not None},
            type_shares={(name, dtype): share for name in reports for dtype, share in type_shares(reports[name]).items()},
            shifts=found.shifts,
        )
