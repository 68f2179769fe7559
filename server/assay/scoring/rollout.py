"""Rolling models out: which versions are loaded, which answer, and how one is taken back.

A version is loaded, proved and warmed on a quiet thread beside those that serve; then one step puts it among them. What answers
is a route for each model (models/route.py): one value, changed in one step, then kept in the repository. A guard watches what was
just promoted, or is in the canary, and takes it back by itself.

THREADS. Any. The lock that guards routes and tables is held for moments. Loads wait for each other. What follows from a step is
settled by a thread of its own (settler.py): a disk that hangs keeps no rollback waiting, and no guard.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from assay._core import ShadowStats, printable
from assay.config import RolloutConfig
from assay.errors import AssayError, ConfigError, CoreError
from assay.features.store import Store
from assay.models.quiet import become_quiet
from assay.models.refusal import BundleRefusedError
from assay.models.repository import Repository, Version, VersionState, version_key
from assay.models.route import Route
from assay.models.verify import VerifiedModel
from assay.observe.logs import log_event
from assay.scoring.guard import Observed, Watch
from assay.scoring.scoring import Scoring
from assay.scoring.settler import Settler

TICK_S = 1.0  # between two looks of the guard
CLOSE_S_MAX = 5.0  # of a thread that may hang with a disk or a model
REASON_MAX = 1000  # letters of why a bundle was refused

log = logging.getLogger("assay.rollout")

Prove = Callable[[Path], VerifiedModel]
Result = TypeVar("Result")


class RolloutError(AssayError):
    """What was asked for cannot be done; nothing was changed. `reason`: by the table of codes."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class VersionStatus:
    """One version, for people."""

    name: str
    version: str
    state: VersionState
    labels: tuple[str, ...]  # champion, challenger, previous, shadow
    reason: str  # of FAILED
    device: str  # empty: it is not loaded


@dataclass(frozen=True)
class ModelRollout:
    """One model, for people."""

    name: str
    route: Route | None  # None: nothing of it is loaded
    is_kept: bool  # a start would come back with this route
    versions: tuple[VersionStatus, ...]
    guarded: tuple[str, ...]  # versions that a guard watches: what was promoted, and what is in the canary
    last_breach: str  # why a guard took a version back last; empty: never
    shadow: ShadowStats | None


class Rollout:
    """Of one server. start() once it serves, close() before the engine ends."""

    def __init__(
        self,
        scoring: Scoring,
        store: Store,
        prove: Prove,
        config: RolloutConfig,
        repository: Repository | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`prove`: verify_bundle(), with the server's settings. `repository`: None where the models were named one by one."""
        self._scoring = scoring
        self._store = store
        self._prove = prove
        self._config = config
        self._repository = repository
        self._clock = clock
        self._default_model = ""
        self._loading = threading.Lock()  # one load at a time
        self._settler = Settler(scoring, store, repository, self._find_shadow)
        self._lock = threading.RLock()  # guards what follows
        self._versions: dict[tuple[str, str], Version] = {}
        self._models: dict[tuple[str, str], VerifiedModel] = {}  # those that are loaded, oldest first
        self._routes: dict[str, Route] = {}
        self._watches: dict[tuple[str, str], Watch] = {}  # by name and version
        self._breaches: dict[str, str] = {}
        self._rollbacks = {"asked": 0, "guard": 0}
        # Threads that it starts inherit its priority: lanes are started elsewhere.
        self._quiet = ThreadPoolExecutor(max_workers=1, thread_name_prefix="assay-prove", initializer=become_quiet)
        self._end = threading.Event()
        # A thread each: the guard waits for no load.
        self._threads = [threading.Thread(target=self._run_guard, name="assay-guard", daemon=True)]
        if config.watch_s > 0 and repository is not None:
            self._threads.append(threading.Thread(target=self._run_watch, name="assay-watch", daemon=True))

    # --- at the start

    def add_first(self, models: Sequence[VerifiedModel], routes: Mapping[str, Route], default_model: str) -> None:
        """What the server starts with; of several versions of a model without a route the last answers. Raises AssayError."""
        self._default_model = default_model
        for model in models:
            self._add(model)
        for name in dict.fromkeys(model.name for model in models):
            newest = [model.version for model in models if model.name == name][-1]
            # What could not be loaded this time is still what was chosen: that stays as it is kept.
            self._begin_route(name, routes.get(name) or Route(champion=newest), keeps=name not in routes)
        self.look()

    def start(self) -> None:
        """Begins to watch: what is guarded, and the repository if it is to be watched."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Begins nothing new, and gives what is under way a moment. Idempotent."""
        self._end.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(CLOSE_S_MAX)
        self._quiet.shutdown(wait=False, cancel_futures=True)
        self._settler.close(CLOSE_S_MAX)

    # --- what there is

    @property
    def models(self) -> tuple[VerifiedModel, ...]:
        """That are loaded: those that answer requests for the default model first."""
        with self._lock:
            order = sorted(self._models.values(), key=self._place_of)
        return tuple(order)

    def look(self) -> None:
        """Looks through the repository for versions that came or went. Reads a directory: not where a scrape waits."""
        if self._repository is None:
            return
        try:
            there = self._repository.scan()
        except OSError as error:  # a disk that says no is no empty one: nothing has changed
            log_event(log, logging.WARNING, "the repository cannot be read", why=error.strerror or "")
            return
        seen = set(there)
        with self._lock:
            for name, version in there:
                self._versions.setdefault((name, version), Version(name, version))
            idle = (VersionState.FOUND, VersionState.FAILED, VersionState.UNLOADED)
            for key in [key for key, one in self._versions.items() if one.state in idle and key not in seen]:
                del self._versions[key]

    def status(self) -> list[ModelRollout]:
        """Of every model, by name, as of the last look()."""
        shadows = {stats.model: stats for stats in self.shadow_stats()}
        with self._lock:
            names = sorted({name for name, _ in self._versions})
            return [self._model_status(name, shadows.get(name)) for name in names]

    def model_status(self, name: str) -> ModelRollout | None:
        """Of one model; None: there is none of this name."""
        return next((one for one in self.status() if one.name == name), None)

    def shadow_stats(self) -> list[ShadowStats]:
        return self._scoring.engine.shadow_stats()

    @property
    def rollbacks(self) -> dict[str, int]:
        """By who wanted them: "asked", "guard"."""
        with self._lock:
            return dict(self._rollbacks)

    # --- changing it. All raise RolloutError

    def load(self, name: str, version: str) -> None:
        """Loads, proves and warms a version. Nothing where it is loaded. Blocks for seconds; loads wait for each other."""
        with self._loading:
            path = self._path_of(name, version)
            self._refuse_other_champion(name, version)
            one = self._begin_load(name, version)
            if one is None:
                return
            started = time.monotonic()
            try:
                model = self._quiet.submit(self._prove, path).result()
                _refuse_slow(model)
                self._add(model)
            except Exception as error:
                raise self._failed(one, error) from error
            with self._lock:
                is_first = name not in self._routes
            if is_first:
                self._begin_route(name, Route(champion=version), keeps=True)
            seconds = round(time.monotonic() - started, 3)
            log_event(log, logging.INFO, "model loaded", model=name, version=version, duration_s=seconds)

    def unload(self, name: str, version: str) -> None:
        """Takes a version out of memory once its calls have ended. Of the version before the champion too: then a rollback leads
        nowhere. Blocks until they have."""
        with self._lock:
            self._require_loaded(name, version)
            route = self._routes[name]
            held = [label for label in route.labels_of(version) if label != "previous"]
            if held:
                raise RolloutError("ROLLOUT_REFUSED", f"{name} {version} is the {held[0]}: give that to another version first")
            if (name, route.champion) in self._watches and version == route.previous:
                detail = f"{name} {version} is what the guard of {route.champion} would go back to: wait until it is done"
                raise RolloutError("ROLLOUT_REFUSED", detail)
            self._versions[name, version].move(VersionState.UNLOADING)
            del self._models[name, version]  # from here on nobody gives it a label
            self._set_route(name, route.of_loaded({one for model, one in self._models if model == name}))
        self._settler.settle(name)
        self._call(lambda: self._scoring.remove_model(name, version))
        with self._lock:
            self._versions[name, version].move(VersionState.UNLOADED)
        log_event(log, logging.INFO, "model unloaded", model=name, version=version)

    def promote(self, name: str, version: str) -> None:
        """This version is the champion from now on; the former one stays loaded, and a rollback leads back to it."""
        with self._lock:
            self._require_loaded(name, version)
            route = self._routes[name]
            if version == route.champion:
                return
            former = self._look_at(name, route.champion)
            self._set_route(name, route.promoted(version))
            self._breaches.pop(name, None)
            self._end_watches(name)
            self._guard(name, version, route.champion, ends=True, former_before=former)
        log_event(log, logging.INFO, "promoted", model=name, version=version, previous=route.champion)
        self._settler.settle(name)

    def rollback(self, name: str) -> None:
        """Undoes the last step: a canary that runs is ended; where none does, the champion before this one answers again."""
        self._roll_back(name)

    def set_canary(self, name: str, version: str, share: float) -> None:
        """The challenger, and which share (0..1) of the entities it answers. An empty version: there is none any more."""
        _check_share(share)
        with self._lock:
            route = self._require_route(name)
            if version:
                self._require_loaded(name, version)
            if version == route.champion:
                raise RolloutError("ROLLOUT_REFUSED", f"{name} {version} is the champion, and answers everybody already")
            if share > 0.0 and not version:
                raise RolloutError("ROLLOUT_REFUSED", "a share above 0 needs the version that answers it")
            self._set_route(name, route.with_canary(version, share))
            self._end_watches(name, but=route.champion)  # of the canary before
            if share > 0.0:
                self._guard(name, version, route.champion, ends=False)
        log_event(log, logging.INFO, "canary set", model=name, version=version or "none", share=share)
        self._settler.settle(name)

    def set_shadow(self, name: str, version: str, share: float) -> None:
        """Which version scores once more what the champion has answered, for which share of the entities. 0: none does."""
        _check_share(share)
        with self._lock:
            route = self._require_route(name)
            if share > 0.0:
                self._require_loaded(name, version)
                if version == route.champion:
                    raise RolloutError("ROLLOUT_REFUSED", f"{name} {version} is the champion: it cannot be compared with itself")
            self._set_route(name, route.with_shadow(version if share > 0.0 else "", share))
        log_event(log, logging.INFO, "shadow set", model=name, version=version if share > 0.0 else "none", share=share)
        self._settler.settle(name)

    def tick(self) -> None:
        """One look at what is guarded. A thread does it every TICK_S; tests by hand."""
        with self._lock:
            watches = list(self._watches.items())
        for (name, _), watch in watches:
            try:
                self._judge(name, watch)
            except Exception:  # one model's trouble leaves the others guarded
                log.exception("the guard of a rollout failed")

    # --- implementation

    def _judge(self, name: str, watch: Watch) -> None:
        drift = self._scoring.drift.report(name, watch.version)
        breach = watch.check(drift.prediction_drift if drift is not None else None, self._config.guard)
        if breach is not None:
            self._roll_back(name, watch, breach)
        elif watch.is_over(self._clock()):
            self._end_watch(name, watch)

    def _run_guard(self) -> None:
        while not self._end.wait(TICK_S):
            self.tick()

    def _run_watch(self) -> None:
        while not self._end.wait(self._config.watch_s):
            try:
                self._load_new()
            except Exception:
                log.exception("the watch of the repository failed")

    def _load_new(self) -> None:
        """What the repository has and nobody has tried yet; none while there is no room."""
        self.look()
        with self._lock:
            new = [key for key, one in self._versions.items() if one.state is VersionState.FOUND]
        for name, version in new:
            if self._end.is_set() or len(self.models) >= self._config.loaded_max:
                return
            try:
                self.load(name, version)
            except RolloutError:
                continue  # it is in the log, and in the version's state

    def _path_of(self, name: str, version: str) -> Path:
        if self._repository is None:
            raise RolloutError("ROLLOUT_REFUSED", "this server has no repository to load from: start it with --repository DIR")
        path = self._repository.path_of(name, version)
        if path is None:
            raise RolloutError("ROLLOUT_REFUSED", f"{name} {version}: no complete bundle of this name in {self._repository.root}")
        return path

    def _roll_back(self, name: str, breached: Watch | None = None, why: str = "") -> None:
        """`breached` and `why`: of a guard; nothing happens where somebody has changed what it watched."""
        with self._lock:
            route = self._require_route(name)
            if breached is not None and self._watches.get((name, breached.version)) is not breached:
                return
            is_canary = route.canary_share > 0.0 and (breached is None or breached.version == route.challenger)
            if is_canary:
                back, after = route.challenger, route.without_canary()
            elif route.previous:
                back, after = route.champion, route.rolled_back()
            else:
                raise RolloutError("ROLLOUT_REFUSED", f"{name}: no canary runs, and no version before {route.champion} is loaded")
            self._set_route(name, after)
            self._end_watches(name, but=route.champion if is_canary else "")
            self._rollbacks["guard" if why else "asked"] += 1
            if why:
                self._breaches[name] = f"{back}: {why}"
        level = logging.ERROR if why else logging.WARNING
        log_event(log, level, "rolled back", model=name, version=back, champion=after.champion, why=why or "asked for")
        self._settler.settle(name, waits=breached is None)

    def _end_watch(self, name: str, watch: Watch) -> None:
        with self._lock:
            if self._watches.get((name, watch.version)) is not watch:
                return  # changed meanwhile
            del self._watches[name, watch.version]
        if watch.intervals:
            log_event(log, logging.INFO, "the guard found nothing", model=name, version=watch.version)
        else:
            log_event(log, logging.WARNING, "the guard saw too few rows to judge by", model=name, version=watch.version)

    def _end_watches(self, name: str, *, but: str = "") -> None:
        """REQUIRES: the lock is held. `but`: a version that stays guarded if it is."""
        for key in [key for key in self._watches if key[0] == name and key[1] != but]:
            del self._watches[key]

    def _refuse_other_champion(self, name: str, version: str) -> None:
        """The first version of a model that is loaded answers: that is for the one that was chosen."""
        with self._lock:
            if self._repository is None or name in self._routes:
                return
        kept = self._call(self._repository.routes).get(name)
        if kept is not None and kept.champion != version:
            detail = f"{name}: {kept.champion} was chosen as its champion (routes.json): load that first"
            raise RolloutError("ROLLOUT_REFUSED", detail)

    def _begin_load(self, name: str, version: str) -> Version | None:
        """LOADING from here on. None: it is loaded."""
        with self._lock:
            if (name, version) in self._models:
                return None
            if len(self._models) >= self._config.loaded_max:
                detail = f"{len(self._models)} versions are loaded, which is rollout.loaded_max: unload one first"
                raise RolloutError("ROLLOUT_REFUSED", detail)
            one = self._versions.setdefault((name, version), Version(name, version))
            if one.state is VersionState.UNLOADING:
                raise RolloutError("ROLLOUT_REFUSED", f"{name} {version} is being unloaded: its last calls have not ended")
            one.move(VersionState.LOADING)
            return one

    def _failed(self, one: Version, error: Exception) -> RolloutError:
        reason = "a fault of the server: its log has the traceback"
        if isinstance(error, AssayError):  # it may name files, and a file's name may be any bytes
            reason = printable(str(error).encode(errors="backslashreplace"))[:REASON_MAX]
        with self._lock:
            one.move(VersionState.FAILED, reason)
        if not isinstance(error, AssayError):
            log.error("loading failed", exc_info=error)
        log_event(log, logging.ERROR, "bundle refused", model=one.name, version=one.version, why=reason)
        return RolloutError("BUNDLE_REFUSED", f"{one.name} {one.version}: {reason}")

    def _add(self, model: VerifiedModel) -> None:
        """It can be named from here on."""
        self._scoring.add_model(model, self._store, is_default=model.name == self._default_model)
        with self._lock:
            self._models[model.name, model.version] = model
            one = self._versions.setdefault((model.name, model.version), Version(model.name, model.version))
            if one.state is not VersionState.LOADING:
                one.move(VersionState.LOADING)
            one.move(VersionState.READY)

    def _begin_route(self, name: str, route: Route, *, keeps: bool) -> None:
        """As it was kept, without what is not loaded. `keeps`: it is written."""
        with self._lock:
            route = route.of_loaded({version for model, version in self._models if model == name})
            self._set_route(name, route)
            if route.canary_share > 0.0:
                self._guard(name, route.challenger, route.champion, ends=False)
        if keeps:
            self._settler.settle(name)
        else:
            self._settler.settle_shadow(name)

    def _set_route(self, name: str, route: Route) -> None:
        """The one step. REQUIRES: the lock is held, all versions that it names are loaded."""
        entity = self._entity_of(name, route)
        share = route.canary_share
        self._call(lambda: self._scoring.set_route(name, route.champion, route.challenger, entity if share > 0.0 else "", share))
        self._routes[name] = route

    def _find_shadow(self, name: str) -> tuple[Route, VerifiedModel | None, str]:
        """For the settler, as things are now."""
        with self._lock:
            route = self._routes[name]
            return route, self._models.get((name, route.shadow)), self._entity_of(name, route)

    def _entity_of(self, name: str, route: Route) -> str:
        """Whose id decides about a share: the first entity of the champion's feature set."""
        return self._models[name, route.champion].feature_set.entities[0]

    def _guard(self, name: str, version: str, former: str, *, ends: bool, former_before: Observed | None = None) -> None:
        window_s = self._config.guard.window_s
        if window_s == 0:
            return
        self._watches[name, version] = Watch(
            version,
            former,
            look=lambda which: self._look_at(name, which),
            ends_at_s=self._clock() + window_s if ends else None,
            former_before=former_before,
        )

    def _look_at(self, name: str, version: str) -> Observed | None:
        lanes = self._scoring.engine.metrics().lanes
        return next((Observed.of(lane) for lane in lanes if (lane.model, lane.version) == (name, version)), None)

    def _require_route(self, name: str) -> Route:
        if name not in self._routes:
            raise RolloutError("UNKNOWN_MODEL", "no version of this model is loaded")
        return self._routes[name]

    def _require_loaded(self, name: str, version: str) -> None:
        self._require_route(name)
        if (name, version) not in self._models:
            raise RolloutError("UNKNOWN_VERSION", "this version is not loaded: load it first")

    def _call(self, change: Callable[[], Result]) -> Result:
        try:
            return change()
        except CoreError as error:
            raise RolloutError(error.reason, error.message) from error
        except ConfigError as error:
            raise RolloutError("ROLLOUT_REFUSED", str(error)) from error

    def _place_of(self, model: VerifiedModel) -> tuple[bool, str, bool]:
        route = self._routes.get(model.name)
        return model.name != self._default_model, model.name, route is None or route.champion != model.version

    def _model_status(self, name: str, shadow: ShadowStats | None) -> ModelRollout:
        route = self._routes.get(name)
        ours = [one for one in self._versions.values() if one.name == name]
        return ModelRollout(
            name=name,
            route=route,
            is_kept=self._settler.is_kept(name),
            versions=tuple(self._version_status(one, route) for one in sorted(ours, key=lambda one: version_key(one.version))),
            guarded=tuple(version for model, version in self._watches if model == name),
            last_breach=self._breaches.get(name, ""),
            shadow=shadow,
        )

    def _version_status(self, one: Version, route: Route | None) -> VersionStatus:
        model = self._models.get((one.name, one.version))
        device = str(model.placement.device) if model is not None else ""
        labels = route.labels_of(one.version) if route is not None else ()
        return VersionStatus(one.name, one.version, one.state, labels, one.reason, device)


# --- implementation ---


def _refuse_slow(model: VerifiedModel) -> None:
    """A model whose lone row takes as long as a call may has no answer for anybody."""
    if model.row_run_ns >= model.timeout_ns_default:
        reason = f"a row takes {model.row_run_ns / 1e6:.0f} ms alone, and a call at most {model.timeout_ns_default / 1e6:.0f} ms"
        raise BundleRefusedError("model.onnx", reason, "make the model quicker, or pack it with a larger --timeout-ms")


def _check_share(share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise RolloutError("ROLLOUT_REFUSED", "share: expected 0 to 1")
