"""What follows from a step of a rollout: the route is kept in the repository, a shadow begins or ends.

A thread of its own does it, for which a step waits at most SETTLE_S_MAX.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from assay.errors import ConfigError, CoreError
from assay.features.store import Store
from assay.models.repository import Repository
from assay.models.route import Route
from assay.models.verify import VerifiedModel
from assay.observe.logs import log_event
from assay.scoring.scoring import Scoring

SETTLE_S_MAX = 2.0

log = logging.getLogger("assay.rollout")

FindShadow = Callable[[str], tuple[Route, VerifiedModel | None, str]]


class Settler:
    """Thread-safe."""

    def __init__(self, scoring: Scoring, store: Store, repository: Repository | None, find_shadow: FindShadow) -> None:
        """`find_shadow`: of a model its route now, the loaded version that is its shadow (None: there is none), and the entity
        whose id decides about a share. Never called with a lock held."""
        self._scoring = scoring
        self._store = store
        self._repository = repository
        self._find_shadow = find_shadow
        self._shadows: dict[str, tuple[str, float, str]] = {}  # of the thread: version, share, beside which champion
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="assay-settle")
        self._lock = threading.Lock()  # guards what follows
        self._settling: dict[str, Future[None]] = {}  # by model, the last
        self._unkept: set[str] = set()  # models whose route could not be written

    def close(self, timeout_s: float) -> None:
        """Gives what is under way a moment. Idempotent."""
        with self._lock:
            settling = list(self._settling.values())
        wait(settling, timeout_s)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def is_kept(self, name: str) -> bool:
        """Whether a start would come back with this model's route."""
        with self._lock:
            return self._repository is not None and name not in self._unkept

    def settle(self, name: str, *, waits: bool = True) -> None:
        """As things are when its turn comes: the last step stays, whoever was first. `waits`: a moment, so that who asked
        knows."""
        with self._lock:
            last = self._settling.get(name)
            if last is None or last.running() or last.done():
                last = self._settling[name] = self._executor.submit(self._settle_now, name)
        try:
            last.result(SETTLE_S_MAX if waits else 0.0)
        except TimeoutError:
            if waits:
                log_event(log, logging.WARNING, "what follows from a step takes long: a disk or a model hangs", model=name)
                with self._lock:
                    self._unkept.add(name)  # until it is

    def settle_shadow(self, name: str) -> None:
        """Makes the core's shadow what the route says: anew beside another champion, so that counts belong to one pair. On the
        thread, or before the first settle()."""
        route, model, entity = self._find_shadow(name)
        wanted = (route.shadow, route.shadow_share, route.champion if route.shadow else "")
        if wanted == self._shadows.get(name, ("", 0.0, "")):
            return
        self._shadows[name] = ("", 0.0, "")  # should the next step fail: then there is none
        try:
            if model is None:
                self._scoring.engine.stop_shadow(name)
            else:
                self._scoring.add_shadow(model, self._store, entity, route.shadow_share)
        except CoreError as error:
            log_event(log, logging.ERROR, "the shadow could not be changed", model=name, why=error.message)
            return
        self._shadows[name] = wanted

    # --- implementation. On the thread

    def _settle_now(self, name: str) -> None:
        try:
            self._keep(name)
            self.settle_shadow(name)
        except Exception:
            log.exception("what follows from a step failed")

    def _keep(self, name: str) -> None:
        if self._repository is None:
            return
        route, _, _ = self._find_shadow(name)
        try:
            self._repository.keep_route(name, route)
            why = ""
        except (OSError, ConfigError) as error:
            why = (error.strerror or "") if isinstance(error, OSError) else str(error)
        with self._lock:
            self._unkept = self._unkept | {name} if why else self._unkept - {name}
        if why:
            log_event(log, logging.WARNING, "route not kept: a restart comes back with the former one", model=name, why=why)
