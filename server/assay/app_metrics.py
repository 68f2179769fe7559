"""What /metrics shows beside the engine: the parts of one server as the families of observe/metrics.py, from one look at each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from assay import __version__
from assay._core import BUILD, FeaturePlan
from assay.audit.opening import OpenAudit
from assay.features.store import Store
from assay.models.plain import PlainModel
from assay.models.repository import VersionState
from assay.models.verify import VerifiedModel
from assay.scoring.rollout import Rollout
from assay.transport.security import SecurityStats
from assay.transport.server import Transport

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# observe/metrics.py loads prometheus_client, so it is imported at the first look.


def build_source(models: Sequence[VerifiedModel | PlainModel], runtime_version: str) -> Iterable[Metric]:
    """What this server is made of, and what it serves."""
    from assay.observe.metrics import ServedModel, build_families

    served = [
        ServedModel(
            model.name,
            model.version,
            model.model_sha256,
            model.feature_set_text,
            model.plan.schema_hash,
            str(model.placement.device),
        )
        for model in models
    ]
    return build_families({"version": __version__, "compiler": BUILD["compiler"], "onnxruntime": runtime_version}, served)


def feature_source(plans: Iterable[FeaturePlan]) -> Iterable[Metric]:
    """What the plans of the models counted. A feature is counted by its name, whatever feature set has it."""
    from assay.observe.metrics import feature_families

    accepted: Counter[str] = Counter()
    for plan in plans:
        accepted.update(plan.accepted_ints())
    return feature_families(accepted)


def store_source(store: Store) -> Iterable[Metric]:
    """The records in this process, or whether those elsewhere can be had."""
    from assay.observe.metrics import remote_store_families, store_families

    return remote_store_families(store.is_away) if store.core is None else store_families(store.core.stats())


def audit_source(audit: OpenAudit | None) -> Iterable[Metric]:
    """The audit log, and how far its sink has come."""
    from assay.observe.audit_metrics import audit_families

    if audit is not None:
        audit.take_shipped()
        return audit_families(audit.log.stats(), bytes_max=audit.bytes_max, has_sink=audit.has_sink)
    return audit_families(None, bytes_max=0, has_sink=False)


def rollout_source(rollout: Rollout) -> Iterable[Metric]:
    """Versions by state, what answers, and what came of shadows."""
    from assay.observe.rollout_metrics import LabelledVersion, rollout_families, shadow_families

    models = rollout.status()
    versions = [one for model in models for one in model.versions]
    labelled = [LabelledVersion(one.name, one.version, label) for one in versions for label in one.labels]
    shares = {model.name: model.route.canary_share for model in models if model.route is not None}
    yield from rollout_families(
        {state.value: sum(one.state is state for one in versions) for state in VersionState}, labelled, shares, rollout.rollbacks
    )
    yield from shadow_families(model.shadow for model in models if model.shadow is not None)


def transport_source(transport: Transport, streams_max: int) -> Iterable[Metric]:
    """What came in beside scores, and the connections of the native transport."""
    from assay.observe.metrics import listener_families, transport_families

    yield from transport_families(transport.open_streams, streams_max, transport.event_counts)
    native = transport.native_stats
    if native is not None:
        yield from listener_families(native)


def security_source(stats: SecurityStats) -> Iterable[Metric]:
    """Who was turned away, and the files of TLS and roles."""
    from assay.observe.metrics import FileStats, security_families

    files = {
        "certificate": FileStats(stats.certificate_reloads, stats.certificate_rejections),
        "roles": FileStats(stats.roles_reloads, stats.roles_rejections),
    }
    return security_families(stats.denied_calls, stats.certificate_expires_at, files)
