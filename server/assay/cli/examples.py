"""What to paste into a shell once a server serves: the same call with grpcurl and with `assay score`."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay._core import FeaturePlan
    from assay.app import App
    from assay.features.definitions import RequestFeature
    from assay.features.feature_set import FeatureSet
    from assay.transport.server import Addresses

SAMPLE_BYTES_MAX = 1 << 20

# By Protection: what each client needs to get in. The files are the caller's own, so their names are to be replaced.
_GRPCURL_OPTIONS = {
    "plaintext": "-plaintext",
    "TLS": "-cacert CA.pem",
    "mTLS": "-cacert CA.pem -cert CLIENT.pem -key CLIENT.key",
}
_SCORE_OPTIONS = {
    "plaintext": [],
    "TLS": ["--tls-ca", "CA.pem"],
    "mTLS": ["--tls-ca", "CA.pem", "--tls-certificate", "CLIENT.pem", "--tls-key", "CLIENT.key"],
}


def example_lines(app: App, addresses: Addresses) -> list[str]:
    """Two commands that score one transaction: the sample beside the default model's bundle if it has one, else a made-up one. Of
    a plain model: one that asks for its tensors."""
    from assay.models.plain import PlainModel

    model, target, protection = app.models[0], addresses.public, addresses.protection.value
    grpcurl = f"grpcurl {_GRPCURL_OPTIONS[protection]}"
    score = [_program(), "score", "--target", target, *_SCORE_OPTIONS[protection]]
    if isinstance(model, PlainModel):
        body = shlex.quote(json.dumps({"name": model.name}))
        return [f"{grpcurl} -d {body} {target} inference.GRPCInferenceService/ModelMetadata"]
    sample = None if app.config.is_demo else find_sample_request(model.bundle.path, model.plan)
    if sample is not None:
        path = _relative(sample)
        return [
            f"{grpcurl} -d @ {target} assay.v1.ScoringService/Score < {shlex.quote(path)}",
            shlex.join([*score, "--request", path]),
        ]
    transaction = example_request(model.feature_set, is_demo=app.config.is_demo)
    body = shlex.quote(json.dumps(transaction, separators=(",", ":")))
    return [
        f"{grpcurl} -d {body} {target} assay.v1.ScoringService/Score",
        shlex.join([*score, *_score_words(transaction)]),
    ]


def find_sample_request(bundle: Path, plan: FeaturePlan) -> Path | None:
    """The sample_request.json that `assay init` wrote beside a bundle's versions, if this version would take it."""
    from google.protobuf import json_format

    from assay._core import DecodedTransaction
    from assay.models.starter_files import SAMPLE_REQUEST_FILE
    from assay.v1.scoring_pb2 import ScoreRequest

    path = bundle.parent / SAMPLE_REQUEST_FILE
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        with path.open("rb") as file:
            request = json_format.Parse(file.read(SAMPLE_BYTES_MAX), ScoreRequest())
    except (OSError, json_format.ParseError, UnicodeDecodeError):
        return None
    is_ours = request.model in ("", bundle.parent.name) and not request.version
    return path if is_ours and isinstance(plan.decode_score_request(request.SerializeToString()), DecodedTransaction) else None


def example_request(feature_set: FeatureSet, *, is_demo: bool) -> dict[str, Any]:
    """A ScoreRequest, as JSON, that the server would answer."""
    if is_demo:
        from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME

        return {
            "transactionId": "demo-1",
            "eventTime": DEMO_TIME.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "entities": {"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID},
            "features": {"amount_minor": {"int64Value": "5716"}},
        }
    samples: dict[str, tuple[str, Any]] = {
        "float64": ("doubleValue", 1.0),
        "int64": ("int64Value", "1"),
        "bool": ("boolValue", True),
        "string": ("stringValue", "text"),
    }
    features = {}
    for name, feature in feature_set.request_features.items():
        if not feature.is_required:
            continue
        kind, value = samples[feature.dtype]
        if feature.dtype == "float64":
            value = float(_near_one(feature))
        elif feature.dtype == "int64":
            value = str(_near_one(feature))  # the bounds of an int64 are whole numbers
        features[name] = {kind: value}
    return {
        "transactionId": "example-1",
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "entities": dict.fromkeys(feature_set.entities, "1"),
        "features": features,
    }


# --- implementation ---


def _near_one(feature: RequestFeature) -> float:
    """A number in its declared range."""
    lowest = 1 if feature.minimum is None else max(1, feature.minimum)
    return lowest if feature.maximum is None else min(lowest, feature.maximum)


def _score_words(transaction: dict[str, Any]) -> list[str]:
    words = ["--id", transaction["transactionId"], "--time", transaction["eventTime"]]
    for name, value in transaction["entities"].items():
        words += ["--entity", f"{name}={value}"]
    for name, value in transaction["features"].items():
        (kind, plain), *_ = value.items()
        text = json.dumps(plain) if kind in ("doubleValue", "boolValue") else str(plain)
        words += ["--feature", f"{name}={text}"]
    return words


def _program() -> str:
    """How a person can call us: by name where the PATH knows it, else by the path of this environment's script."""
    if shutil.which("assay"):
        return "assay"
    return _relative(Path(sys.executable).parent / "assay")


def _relative(path: Path) -> str:
    """As a person in this directory would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
