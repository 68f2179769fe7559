"""Runs of MLflow: what a training logs there, and what is fetched from there, with where it came from.

MLflow's own reader of models is never asked: it would run what somebody pickled. Only files are copied, by names that are looked
at first; a bundle is then proved and an ONNX file inspected as if it had come from anywhere. The module `mlflow` is imported when
it is needed and by nothing else (pip install 'assay[mlflow]').
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from assay.errors import FeatureSetError, InputError
from assay.features.yaml_document import parse_yaml
from assay.models.foreign import has_pickle_suffix
from assay.models.manifest import (
    FILE_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    MANIFEST_FILE,
    MODEL_FILE,
    PARAMETERS_MAX,
    REQUIRED_FILES,
    UNKNOWN_COMMIT,
)
from assay.models.pack import Commit

SCHEME: Final = "mlflow:"
FILES_MAX: Final = 64  # of one artifact
MLMODEL_FILE: Final = "MLmodel"
_MLMODEL_BYTES_MAX: Final = 1 << 20
_RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})/(.{1,500})")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}")
# What a run says of itself. The first is MLflow's own.
_COMMIT_TAG, _DIRTY_TAG, _DATA_TAG = "mlflow.source.git.commit", "assay.git_is_dirty", "assay.data_sha256"
BUNDLE_ARTIFACT: Final = "bundle"  # what train.py logs it as


@dataclass(frozen=True)
class RunLineage:
    """What a run says of a training."""

    run_id: str
    commit: Commit  # unknown and dirty where it does not say
    data_sha256: str | None
    parameters: dict[str, str]


@dataclass(frozen=True)
class Fetched:
    """Files of an artifact, copied into `directory`: a bundle's, or an ONNX model (`onnx_file`) with what lies beside it."""

    run: RunLineage
    directory: Path
    onnx_file: Path | None  # None: a bundle


@dataclass
class TrainingRun:
    """A run that is under way."""

    run_id: str
    client: Any

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, name, value)

    def log_bundle(self, place: Path) -> None:
        """Keeps the files of a packed bundle, for `assay model pull mlflow:runs:/RUN/bundle`."""
        for file in sorted(place.iterdir()):
            self.client.log_artifact(self.run_id, str(file), BUNDLE_ARTIFACT)


@contextmanager
def training_run(
    tracking_uri: str, experiment: str, commit: Commit, data_sha256: str, parameters: Mapping[str, object]
) -> Iterator[TrainingRun]:
    """A run of MLflow that says where a model comes from. It ends as FINISHED, or as FAILED where the block raises.

    `tracking_uri`: sqlite:///FILE, a directory, or a server. Raises InputError where MLflow is not there or says no.
    """
    mlflow = _mlflow()
    with _told(f"MLflow at {_shown(tracking_uri)}"):
        client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        known = client.get_experiment_by_name(experiment)
        experiment_id = client.create_experiment(experiment) if known is None else known.experiment_id
        tags = {_COMMIT_TAG: commit.commit, _DIRTY_TAG: str(commit.is_dirty).lower(), _DATA_TAG: data_sha256}
        run = client.create_run(experiment_id, tags=tags)
        for name, value in parameters.items():
            client.log_param(run.info.run_id, name, value)
    ended = "FAILED"
    try:
        yield TrainingRun(run.info.run_id, client)
        ended = "FINISHED"
    finally:
        client.set_terminated(run.info.run_id, ended)


def fetch(source: str, tracking_uri: str | None, into: Path) -> Fetched:
    """Copies the artifact `source` (mlflow:runs:/RUN/PATH) into the empty directory `into`. None: MLflow's own default store.

    Raises InputError: another form, no such run or artifact, an artifact that holds neither a bundle nor an ONNX model.
    """
    run_id, path = _parse_source(source)
    mlflow = _mlflow()
    with _told(source):
        run = mlflow.MlflowClient(tracking_uri=tracking_uri).get_run(run_id)
        artifact = _Artifact(mlflow, f"runs:/{run_id}/{path}", tracking_uri, into)
        names = artifact.names()
        if run.info.status != "FINISHED":
            raise InputError(f"{source}: the run is {run.info.status}; take one that is FINISHED")
        lineage = _lineage(run)
        if MANIFEST_FILE in names:
            wanted = [name for name in FILE_BYTES_MAX if name in REQUIRED_FILES or name in names]
            return Fetched(lineage, artifact.copy([MANIFEST_FILE, *wanted]), None)
        if MLMODEL_FILE not in names:
            found = ", ".join(sorted(names)[:5]) or "nothing"
            raise InputError(
                f"{source}: holds {found}: no bundle and no model of MLflow; name the artifact that {BUNDLE_ARTIFACT!r} or the "
                "model was logged as"
            )
        directory = artifact.copy([MLMODEL_FILE])
        onnx_file = _onnx_file(source, directory / MLMODEL_FILE)
        artifact.copy([name for name in names if name != MLMODEL_FILE and not has_pickle_suffix(name)])
        if not (directory / onnx_file).is_file():
            raise InputError(f"{source}: {MLMODEL_FILE} names {onnx_file}, and there is no such file; log the model again")
        return Fetched(lineage, directory, directory / onnx_file)


def refuse_unsaid_commit(run: RunLineage, *, is_allowed: bool) -> None:
    """Raises InputError where the run does not say which commit, all of it, trained its model."""
    if run.commit.is_dirty and not is_allowed:
        said = "no git commit" if run.commit.commit == UNKNOWN_COMMIT else "not that all was committed"
        raise InputError(
            f"run {run.run_id}: it says {said}, so the lineage would not say what made this model; where you know it, set its "
            f"tags {_COMMIT_TAG} (40 hex digits) and {_DIRTY_TAG}=false, or pass --allow-dirty (the manifest then says so)"
        )


# --- implementation ---


def _mlflow() -> Any:
    # Nothing of a training leaves this machine but to the store that was named.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    try:
        import mlflow
    except ImportError as error:
        raise InputError(f"MLflow cannot be imported ({error.name}); pip install 'assay[mlflow]'") from None
    return mlflow


@contextmanager
def _told(of: str) -> Iterator[None]:
    """What MLflow and its stores raise as one error of ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise InputError(f"{of}: {said}; check the run, the artifact and --tracking-uri") from None


def _shown(tracking_uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", tracking_uri)


def _parse_source(source: str) -> tuple[str, str]:
    match = _RUN.fullmatch(source.removeprefix(SCHEME)) if source.startswith(SCHEME) else None
    path = match[2].strip("/") if match else ""
    if match is None or not all(_PLAIN_NAME.fullmatch(part) for part in path.split("/")):
        raise InputError(
            f"{source[:200]}: expected mlflow:runs:/RUN/ARTIFACT, with the 32 hex digits of a run and the name that the bundle "
            f"or model was logged as, for example mlflow:runs:/{'0' * 32}/{BUNDLE_ARTIFACT}"
        )
    return match[1], path


class _Artifact:
    """One directory of a run, whose names are looked at before anything is copied."""

    def __init__(self, mlflow: Any, uri: str, tracking_uri: str | None, into: Path) -> None:
        self._mlflow = mlflow
        self._uri = uri
        self._tracking_uri = tracking_uri
        self._into = into
        self._sizes: dict[str, int | None] = {}

    def names(self) -> frozenset[str]:
        """Of the plain files in it."""
        from mlflow.artifacts import list_artifacts

        entries = list_artifacts(artifact_uri=self._uri, tracking_uri=self._tracking_uri)
        self._sizes = {PurePosixPath(entry.path).name: entry.file_size for entry in entries if not entry.is_dir}
        if not entries:
            raise InputError(
                f"{SCHEME}{self._uri}: there is no such artifact, or it is empty; see the run's page for their names"
            )
        if len(entries) > FILES_MAX:
            most = len(FILE_BYTES_MAX) + 1
            raise InputError(f"{SCHEME}{self._uri}: {len(entries)} files, a bundle has at most {most}; name another artifact")
        for name in self._sizes:
            if not _PLAIN_NAME.fullmatch(name):
                raise InputError(f"{SCHEME}{self._uri}: a file in it has a name that is none of ours; log the bundle again")
        return frozenset(self._sizes)

    def copy(self, names: list[str]) -> Path:
        """Copies these files of it, and says where they are now."""
        from mlflow.artifacts import download_artifacts

        limits = {**FILE_BYTES_MAX, MANIFEST_FILE: MANIFEST_BYTES_MAX, MLMODEL_FILE: _MLMODEL_BYTES_MAX}
        directory = self._into / "files"
        directory.mkdir(exist_ok=True)
        for name in names:
            if name not in self._sizes:
                raise InputError(f"{SCHEME}{self._uri}: {name} is missing; log the bundle again")
            limit = limits.get(name, FILE_BYTES_MAX[MODEL_FILE])
            if (self._sizes[name] or 0) > limit:
                raise InputError(f"{SCHEME}{self._uri}: {name} is larger than {limit} bytes; see docs/bundles.md, Limits")
            with tempfile.TemporaryDirectory(dir=self._into) as landing:
                got = download_artifacts(artifact_uri=f"{self._uri}/{name}", dst_path=landing, tracking_uri=self._tracking_uri)
                shutil.copyfile(got, directory / name)
        return directory


def _lineage(run: Any) -> RunLineage:
    tags, data = run.data.tags, run.data.tags.get(_DATA_TAG, "")
    commit = tags.get(_COMMIT_TAG, "")
    is_known = re.fullmatch(r"[0-9a-f]{40}", commit) is not None
    parameters = {_printed(name): _printed(value) for name, value in sorted(run.data.params.items())}
    if len(parameters) > PARAMETERS_MAX:
        raise InputError(f"run {run.info.run_id}: {len(parameters)} parameters, a manifest takes {PARAMETERS_MAX}; log fewer")
    return RunLineage(
        run_id=run.info.run_id,
        # MLflow does not say whether all was committed. Who knows it says so.
        commit=Commit(commit if is_known else UNKNOWN_COMMIT, is_dirty=not is_known or tags.get(_DIRTY_TAG) != "false"),
        data_sha256=data if re.fullmatch(r"[0-9a-f]{64}", data) else None,
        parameters=parameters,
    )


def _printed(text: str) -> str:
    """A name or a value as a manifest takes it."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= 250 else plain[:247] + "..."


def _onnx_file(source: str, mlmodel: Path) -> str:
    """The name of the ONNX file that a model of MLflow keeps. Raises InputError."""
    try:
        flavors = parse_yaml(mlmodel.read_text(encoding="utf-8")[: _MLMODEL_BYTES_MAX + 1], MLMODEL_FILE).data.get("flavors")
    except (FeatureSetError, UnicodeDecodeError):
        raise InputError(f"{source}: {MLMODEL_FILE} is not YAML; log the model again") from None
    onnx = flavors.get("onnx") if isinstance(flavors, dict) else None
    if not isinstance(onnx, dict):
        found = ", ".join(sorted(map(str, flavors)))[:200] if isinstance(flavors, dict) else "none"
        raise InputError(
            f"{source}: a model of the flavours {found}, which MLflow keeps as a pickle or in a library's own form; never loaded "
            "here. Log it with mlflow.onnx.log_model, or log the bundle of assay.pack as an artifact"
        )
    name = onnx.get("data")
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name) or has_pickle_suffix(name):
        raise InputError(f"{source}: {MLMODEL_FILE} names no ONNX file; log it with mlflow.onnx.log_model")
    return name
