"""The manifest of a bundle: what its model eats, what its score means, where it comes from, and the hash of every file.

`manifest.yaml` is plain YAML: no anchors, no tags, no repeated keys, no unknown keys. It is written by `assay model pack`, and
checked here before anything else of a bundle is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Final, Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from assay._core import LIMITS
from assay.errors import FeatureSetError
from assay.features.yaml_document import dotted, parse_yaml
from assay.models.names import Name
from assay.models.reasons import Groups, ReasonTable, name_problems
from assay.models.refusal import BundleRefusedError

MANIFEST_FORMAT: Final = 1
MANIFEST_FILE: Final = "manifest.yaml"
MODEL_FILE: Final = "model.onnx"
FEATURE_SET_FILE: Final = "feature_set.yaml"
GOLDEN_FILE: Final = "golden.npz"
BASELINE_FILE: Final = "baseline.json"
BACKGROUND_FILE: Final = "background.npz"
# What a bundle may hold beside the manifest. Name -> most bytes.
FILE_BYTES_MAX: Final = {
    MODEL_FILE: 1 << 30,
    FEATURE_SET_FILE: 8 << 20,
    GOLDEN_FILE: 64 << 20,
    BASELINE_FILE: 16 << 20,
    BACKGROUND_FILE: 32 << 20,
}
OPTIONAL_FILES: Final = frozenset({BACKGROUND_FILE})
REQUIRED_FILES: Final = frozenset(FILE_BYTES_MAX) - OPTIONAL_FILES
MANIFEST_BYTES_MAX: Final = 1 << 20
PARAMETERS_MAX: Final = 256  # of a training
BACKGROUND_ROWS_MAX: Final = LIMITS["background_rows_max"]

_SHA256 = r"^[0-9a-f]{64}$"
UNKNOWN_COMMIT: Final = "unknown"

Sha256 = Annotated[str, Field(pattern=_SHA256)]
TensorName = Annotated[str, Field(min_length=1, max_length=256)]
DecisionName = Literal["challenge", "review", "decline"]
ConversionName = Literal["int8-static", "int8-dynamic", "fp16"]
TensorTypeName = Literal["float32", "int32", "int64", "bool", "float64"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TensorInput(_Part):
    """One ONNX input and the model inputs of the feature set that fill a row of it, in order."""

    tensor: TensorName
    dtype: TensorTypeName
    features: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1)]


class FeatureSetReference(_Part):
    """The feature set that the model was trained on. schema_hash covers every definition in it."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    schema_hash: Sha256


class ScoreOutput(_Part):
    """Where the score stands: ONNX output `output`, element `column` of a row."""

    output: TensorName
    column: Annotated[int, Field(ge=0)] = 0


class Threshold(_Part):
    """Scores at or above `score` get `decision`; the highest such threshold holds. Below all: approve."""

    decision: DecisionName
    score: Annotated[float, Field(allow_inf_nan=False)]


class Parent(_Part):
    """The bundle that this one was converted from, and how. Hash and version name it wherever it lies."""

    version: Name
    manifest_sha256: Sha256
    conversion: ConversionName


class Lineage(_Part):
    """Where the model comes from."""

    git_commit: Annotated[str, Field(pattern=rf"^([0-9a-f]{{40}}|{UNKNOWN_COMMIT})$")]
    git_is_dirty: bool  # true: the commit does not say everything (changes were not committed, or there is no repository)
    data_sha256: Sha256
    created: Annotated[AwareDatetime, Field(strict=False)]
    libraries: dict[str, str]
    mlflow_run: str | None = None
    parameters: dict[str, Annotated[str, Field(max_length=250)]] | None = Field(None, max_length=PARAMETERS_MAX)  # of that run
    parent: Parent | None = None  # of a quantised bundle; the commit and the data set are then those of its parent

    @model_validator(mode="after")
    def _unknown_is_dirty(self) -> Lineage:
        if self.git_commit == UNKNOWN_COMMIT and not self.git_is_dirty:
            raise ValueError("git_is_dirty: an unknown commit must be marked as dirty")
        return self


class Source(_Part):
    """The trained model that golden rows were scored with beside the ONNX file."""

    library: Annotated[str, Field(min_length=1, max_length=128)]  # name and version
    estimator: Annotated[str, Field(min_length=1, max_length=128)]
    tolerance: Annotated[float, Field(ge=0, le=1e-1, allow_inf_nan=False)]  # how far the two may be apart


class Training(_Part):
    """What was seen of the training when the bundle was packed (leaks.py)."""

    labelled_rows: Annotated[int, Field(ge=0)]
    frauds: Annotated[int, Field(ge=0)]
    split: Literal["time", "random", "unknown"]
    auc: dict[str, Annotated[float, Field(ge=0.5, le=1, allow_inf_nan=False)]]  # of each input alone
    accepted: list[str]  # inputs, or random-split, that somebody accepted by name


class Explanation(_Part):
    """What scores are explained by: the background's rows, and what people call that which makes a score high (reasons.py)."""

    background_rows: Annotated[int, Field(ge=1, le=BACKGROUND_ROWS_MAX)]
    groups: Groups | None = None  # every input in none of them stands for itself
    reasons: ReasonTable | None = None


class FileRecord(_Part):
    """One file of the bundle."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Manifest(_Part):
    """manifest.yaml. Immutable; every rule that needs only this file is checked on construction."""

    format: Literal[1]
    name: Name
    version: Name
    inputs: Annotated[list[TensorInput], Field(min_length=1, max_length=64)]
    outputs: Annotated[list[TensorName], Field(min_length=1, max_length=64)]
    feature_set: FeatureSetReference
    score: ScoreOutput
    thresholds: list[Threshold] = Field(default_factory=list)
    # How much a score may move with the batch it is in. 0: not by one bit (trees).
    batch_tolerance: Annotated[float, Field(ge=0, le=1e-3, allow_inf_nan=False)]
    # The batch changes scores and nothing can be done about it (dynamic INT8): the model is only ever given batches of one.
    is_batch_dependent: Literal[True] | None = None
    # How much a golden score may differ on another CPU or build than the one that packed.
    golden_tolerance: Annotated[float, Field(ge=0, le=1e-3, allow_inf_nan=False)] = 1e-6
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 1_000
    lineage: Lineage
    source: Source | None = None
    training: Training | None = None
    explanation: Explanation | None = None  # None: there is no background, and nothing can be explained
    files: dict[str, FileRecord]

    @field_validator("thresholds")
    @classmethod
    def _thresholds_rise(cls, thresholds: list[Threshold]) -> list[Threshold]:
        scores = [threshold.score for threshold in thresholds]
        if any(low >= high for low, high in pairwise(scores)):
            raise ValueError("expected thresholds in ascending order of score, each score once")
        if len({threshold.decision for threshold in thresholds}) != len(thresholds):
            raise ValueError("expected each decision once")
        return thresholds

    @field_validator("files")
    @classmethod
    def _files_are_known(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        if not REQUIRED_FILES <= set(files) <= set(FILE_BYTES_MAX):
            required = ", ".join(name for name in FILE_BYTES_MAX if name in REQUIRED_FILES)
            raise ValueError(f"expected exactly {required}, and may be {', '.join(OPTIONAL_FILES)}")
        return files

    @model_validator(mode="after")
    def _names_agree(self) -> Manifest:
        tensors = [tensor.tensor for tensor in self.inputs]
        features = [name for tensor in self.inputs for name in tensor.features]
        if len(set(tensors)) != len(tensors):
            raise ValueError("inputs: expected each tensor once")
        if len(set(features)) != len(features):
            raise ValueError("inputs: expected each feature once")
        if self.score.output not in self.outputs:
            raise ValueError("score.output: expected one of the outputs")
        return self

    @model_validator(mode="after")
    def _explanation_agrees(self) -> Manifest:
        if (self.explanation is None) != (BACKGROUND_FILE not in self.files):
            raise ValueError(f"explanation: expected with {BACKGROUND_FILE}, and only with it")
        if self.explanation is not None:
            inputs = [name for tensor in self.inputs for name in tensor.features]
            problems = name_problems(self.explanation.groups, self.explanation.reasons, inputs)
            if problems:
                raise ValueError(_joined([f"explanation.{dotted(item.path)}: {item.message}" for item in problems]))
        return self

    def batch_rows_max(self, wanted: int) -> int:
        """Most rows that a batch of this model may have, where the server would take `wanted`."""
        return 1 if self.is_batch_dependent else wanted

    def to_yaml(self) -> bytes:
        """The file's bytes: the same manifest gives the same bytes."""
        value = self.model_dump(mode="json", exclude_none=True, by_alias=True)
        return yaml.safe_dump(value, sort_keys=False, width=120, allow_unicode=False).encode("ascii")


def parse_manifest(data: bytes) -> Manifest:
    """Reads manifest.yaml. Raises BundleRefusedError with every violation: places and types, never values."""
    if len(data) > MANIFEST_BYTES_MAX:
        raise BundleRefusedError(MANIFEST_FILE, f"{len(data)} bytes, the limit is {MANIFEST_BYTES_MAX}", _MEND)
    try:
        value = parse_yaml(data.decode("utf-8"), MANIFEST_FILE).data
    except (FeatureSetError, UnicodeDecodeError) as error:
        text = str(error).removeprefix(f"{MANIFEST_FILE}:") if isinstance(error, FeatureSetError) else "not UTF-8"
        raise BundleRefusedError(
            MANIFEST_FILE, f"not strict YAML, line {text}" if text[:1].isdigit() else text.strip(), _MEND
        ) from None
    if type(value.get("format")) is not int or value["format"] != MANIFEST_FORMAT:  # neither 1.0 nor true
        raise _other_format(value.get("format"))
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        raise BundleRefusedError(MANIFEST_FILE, _describe(error), _MEND) from None


# --- implementation ---


_MEND = "write it with assay model pack"
_SHOWN_MAX = 10


def _other_format(found: object) -> BundleRefusedError:
    """A reader knows one format, whole: it never takes of a newer one what it happens to know."""
    reason = f"format {found!r:.20}, this assay reads format {MANIFEST_FORMAT}"
    if isinstance(found, int) and found > MANIFEST_FORMAT:
        mend = (
            "a newer assay packed it: upgrade this one (servers before those who pack), or pack the model again with this version"
        )
        return BundleRefusedError(MANIFEST_FILE, reason, mend)
    return BundleRefusedError(MANIFEST_FILE, reason, "pack the model again with this version")


def _describe(error: ValidationError) -> str:
    """Every violation: place and what was expected, and the type of what was there."""
    parts = []
    for item in error.errors(include_url=False, include_context=False):
        place = ".".join(str(step)[:64] for step in item["loc"]) or "manifest"
        got = "" if item["type"] in ("missing", "extra_forbidden") else f" (got {type(item['input']).__name__})"
        parts.append(f"{place}: {item['msg']}{got}")
    return _joined(parts)


def _joined(problems: Sequence[str]) -> str:
    shown = "; ".join(problems[:_SHOWN_MAX])
    return shown if len(problems) <= _SHOWN_MAX else f"{shown}; and {len(problems) - _SHOWN_MAX} more"


def utc_text(moment: datetime) -> str:
    """A time as manifests write it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
