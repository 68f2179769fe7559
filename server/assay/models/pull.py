"""A bundle from a run of MLflow: fetched into a directory beside its place, proved, and only then renamed into it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from assay._core import OrtRuntime
from assay.errors import InputError
from assay.models.manifest import MANIFEST_BYTES_MAX, MANIFEST_FILE, Manifest, parse_manifest
from assay.models.mlflow_runs import fetch
from assay.models.pack import put_in_place, refuse_existing
from assay.models.refusal import BundleRefusedError
from assay.models.verify import verify_bundle


@dataclass(frozen=True)
class PulledBundle:
    place: Path
    manifest: Manifest


def pull_bundle(
    source: str, tracking_uri: str | None, out: Path, runtime: OrtRuntime, *, is_replacing: bool = False
) -> PulledBundle:
    """Writes OUT/NAME/VERSION from `source` (mlflow:runs:/RUN/ARTIFACT). Nothing is left behind when it fails.

    Raises InputError: no such run or artifact, or no bundle. BundleError: it was refused, it is of another run, or that version
    exists and `is_replacing` is false.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=out) as name:
        scratch = Path(name)
        fetched = fetch(source, tracking_uri, scratch)
        if fetched.onnx_file is not None:
            raise InputError(
                f"{source}: a model of MLflow's ONNX flavour, which has no feature set and no golden rows; make a bundle of it: "
                f"assay model pack --model {source} --feature-set feature_set.yaml --rows rows.parquet --name NAME "
                "--version VERSION --score-output OUTPUT"
            )
        with (fetched.directory / MANIFEST_FILE).open("rb") as file:
            manifest = parse_manifest(file.read(MANIFEST_BYTES_MAX + 1))
        _check_run(manifest, fetched.run.run_id)
        place = out / manifest.name / manifest.version
        refuse_existing(place, is_replacing=is_replacing)
        built = scratch / manifest.name / manifest.version
        built.parent.mkdir()
        fetched.directory.rename(built)
        verify_bundle(built, runtime)
        put_in_place(built, place, scratch)
    return PulledBundle(place, manifest)


# --- implementation ---


def _check_run(manifest: Manifest, run_id: str) -> None:
    """A bundle says which run made it, and that is the one it comes from: else its lineage leads nowhere."""
    said = manifest.lineage.mlflow_run
    if said != run_id:
        raise BundleRefusedError(
            MANIFEST_FILE,
            f"it is of {'no run' if said is None else f'run {said[:40]}'}, and lies in run {run_id}",
            "pack it with --mlflow-run (assay.pack: mlflow_run=) and log it in that run",
        )
