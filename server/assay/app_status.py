"""What the status of one server says beside the engine's numbers: what runs here, and how each part is."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from assay import __version__
from assay._core import OrtRuntime
from assay.audit.opening import OpenAudit
from assay.features.store import Store
from assay.models import cuda_machine
from assay.models.cuda_build import build_of
from assay.models.device import PROVIDER
from assay.models.plain import PlainModel
from assay.models.verify import VerifiedModel
from assay.observe.black_box import BlackBox
from assay.observe.crash_file import End
from assay.observe.logs import log_event
from assay.observe.status import Check, Identity, ModelIdentity
from assay.scoring.rollout import ModelRollout
from assay.transport.security import SecurityStats

CERTIFICATE_DAYS_MIN = 7  # left; then it is time to have a new one

log = logging.getLogger("assay")


def identity(models: Sequence[VerifiedModel | PlainModel], runtime: OrtRuntime) -> Identity:
    """What runs here. The driver is asked for where ONNX Runtime could use it."""
    build = build_of(Path(runtime.library_path)) if PROVIDER in runtime.providers else None
    driver = cuda_machine.find_driver() if build is not None else None
    return Identity(
        __version__,
        platform.python_version(),
        runtime.version,
        str(build.major) if build is not None else "",
        (driver.version or "") if driver is not None else "",
        model_identities(models),
    )


def model_identities(models: Iterable[VerifiedModel | PlainModel]) -> tuple[ModelIdentity, ...]:
    """What is loaded."""
    return tuple(ModelIdentity(model.name, model.version, model.model_sha256, str(model.placement.device)) for model in models)


def device_checks(models: Sequence[VerifiedModel | PlainModel]) -> Iterable[Check]:
    """Where models run, and whether one of them was meant to run elsewhere."""
    missed = [model for model in models if model.placement.obstacle is not None and not model.placement.obstacle.is_expected]
    devices = sorted({str(model.placement.device) for model in models})
    yield Check("device", "cpu instead of cuda" if missed else ",".join(devices), is_ok=not missed)


def rollout_checks(models: Iterable[ModelRollout]) -> Iterable[Check]:
    """What is being tried, and whether a guard took a version back since."""
    texts, is_ok = [], True
    for model in models:
        route = model.route
        if route is not None and route.canary_share > 0.0:
            texts.append(f"{model.name} canary {route.challenger} {route.canary_share:.1%}")
        if route is not None and route.shadow:
            texts.append(f"{model.name} shadow {route.shadow}")
        if model.last_breach:
            texts.append(f"{model.name} rolled back by its guard")
            is_ok = False
    if texts:
        yield Check("rollout", ", ".join(texts), is_ok=is_ok)


def store_checks(store: Store) -> Iterable[Check]:
    """Whether records can be had."""
    if store.core is not None:
        yield Check("store", "embedded")
    else:
        yield Check("store", "away" if store.is_away else "remote", is_ok=not store.is_away)


def audit_checks(audit: OpenAudit | None) -> Iterable[Check]:
    """Whether scores are recorded, and how many of those that were given are not."""
    if audit is None:
        yield Check("audit", "off")
        return
    stats = audit.log.stats()
    dropped = sum(stats.dropped.values())
    texts = [f"{audit.level} {stats.state}"]
    texts += [f"{dropped:,} without a record"] if dropped else []
    texts += [f"{stats.ring_dropped:,} gave way"] if stats.ring_dropped else []
    texts += [f"{audit.unshipped:,} to ship"] if audit.has_sink else []
    is_ok = stats.state == "writing"
    texts += [stats.last_error] if stats.last_error and not is_ok else []
    yield Check("audit", ", ".join(texts), is_ok=is_ok)


def certificate_checks(stats: SecurityStats) -> Iterable[Check]:
    """How long the listeners' certificate is good for."""
    if stats.certificate_expires_at is not None:
        days = (stats.certificate_expires_at - datetime.now(UTC)).total_seconds() / 86_400
        yield Check("certificate", f"{days:.1f} days", is_ok=days >= CERTIFICATE_DAYS_MIN)


def say_last_end(box: BlackBox) -> None:
    """One line where there is no black box, and one where the last process did not end as it should."""
    if box.problem is not None:
        log_event(log, logging.WARNING, "no black box: a crash will not be told", why=box.problem)
    if box.last is None:
        return
    last = box.last
    if last.end is End.CRASHED:
        at = datetime.fromtimestamp(last.ended_at_s, UTC).isoformat(timespec="seconds")
        log_event(
            log,
            logging.ERROR,
            "the last run crashed; `assay crash show` has its last moments",
            signal=last.signal,
            at=at,
            pid=last.pid,
            why=last.reason or None,
            file=f"{box.path}.last",
        )
    else:
        log_event(log, logging.WARNING, "the last run was ended without a word: killed, or the power went", pid=last.pid)
