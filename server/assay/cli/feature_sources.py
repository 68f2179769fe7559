"""Where commands find a feature set: a file, a bundle, the demo's, or a running server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import pairs
from assay.cli.output import EXIT_USAGE, fail
from assay.errors import FeatureSetError

if TYPE_CHECKING:
    from assay.client import Tls
    from assay.features.feature_set import FeatureSet
    from assay.models.baseline import Baseline

SOURCE = "A feature set (YAML), a bundle's directory, or a running server (HOST:PORT, unix:PATH)."
FeatureSetOption = Annotated[
    Path | None, typer.Option("--feature-set", help="Feature set (YAML). Default: the demo's.", dir_okay=False)
]
Target = Annotated[str | None, typer.Option(metavar="HOST:PORT|unix:PATH", help="Ask this running server.", show_default=False)]
Model = Annotated[str, typer.Option(help="With --target: of which model. Default: the server's.")]
Version = Annotated[str, typer.Option(help="With --target: of which version. Default: the one that serves.")]
AttributesOption = Annotated[
    list[str] | None,
    typer.Option(metavar="VIEW=FILE", help="Rows of an attribute view, past ones too: JSON lines or Parquet. Repeatable."),
]


def load_feature_set(path: Path | None) -> FeatureSet:
    """The feature set at `path`, or the demo's. Raises FeatureSetError."""
    from assay.features.feature_set import FeatureSet

    if path is None:
        from assay.demo.paths import feature_set_path

        path = feature_set_path()
    return FeatureSet.load(path)


def load_training_data(path: Path | None, bundle: str | None) -> tuple[FeatureSet, Baseline | None]:
    """The feature set at `path`, else the bundle's, else the demo's; and what the bundle's model learned. Raises AssayError."""
    if bundle is None:
        return load_feature_set(path), None
    from assay.models.bundle import read_bundle
    from assay.models.event_check import training_data
    from assay.models.locate import locate_bundle

    bundles, baseline = training_data(read_bundle(locate_bundle(bundle)))
    return (bundles if path is None else load_feature_set(path)), baseline


def attribute_files(options: list[str] | None) -> dict[str, Path]:
    """The --attributes of a command that replays. Ends the command where one is not VIEW=FILE."""
    files = pairs("--attributes", options or [], "VIEW=FILE")
    if "" in files.values():
        fail("--attributes: expected VIEW=FILE", EXIT_USAGE)
    return {view: Path(path) for view, path in files.items()}


def served_feature_set(target: str, tls: Tls | None, model: str = "", version: str = "", *, as_json: bool = False) -> FeatureSet:
    """The one that a server's model reads. Ends the command where the server says no. Raises FeatureSetError."""
    from assay.cli.feature_calls import describe_feature_set
    from assay.features.feature_set import FeatureSet
    from assay.v1.feature_pb2 import DescribeFeatureSetRequest

    request = DescribeFeatureSetRequest(model=model, version=version)
    described = describe_feature_set(target, tls, request, as_json=as_json)
    feature_set = FeatureSet.parse(described.yaml, target)
    if feature_set.schema_hash != described.schema_hash:
        raise FeatureSetError(
            f"{target}: its feature set {described.name} has schema hash {described.schema_hash}, this assay reads the same file "
            f"as {feature_set.schema_hash}; use the assay of the server's version"
        )
    return feature_set


def find_feature_set(source: str, tls: Tls | None, *, as_json: bool = False) -> FeatureSet:
    """A YAML file, a bundle's directory, or a server's target. Raises FeatureSetError."""
    from assay.features.feature_set import FeatureSet
    from assay.models.manifest import FEATURE_SET_FILE

    path = Path(source)
    if path.is_dir():
        return FeatureSet.load(path / FEATURE_SET_FILE)
    if path.exists() or not _is_target(source):
        return FeatureSet.load(path)
    return served_feature_set(source, tls, as_json=as_json)


# --- implementation ---


def _is_target(source: str) -> bool:
    return source.startswith("unix:") or re.fullmatch(r"[^/]+:[0-9]{1,5}", source) is not None
