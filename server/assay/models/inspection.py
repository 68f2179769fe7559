"""Asks a child process what an ONNX model holds (inspect_onnx.py), so that a hostile file can only hurt that child."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from assay.models.foreign import refuse_foreign_model
from assay.models.inline_onnx import REFUSED as INLINE_REFUSED
from assay.models.inspect_onnx import CPU_SECONDS_MAX
from assay.models.manifest import FILE_BYTES_MAX, MODEL_FILE
from assay.models.onnx_operators import BESIDE_LINEAR_OPERATORS, INT8_OPERATORS, LINEAR_OPERATORS, TREE_OPERATORS
from assay.models.quiet import is_quiet, make_idle
from assay.models.refusal import BundleRefusedError

# The environment a child needs to find Python's packages; nothing else of ours (secrets) reaches it.
_ENVIRONMENT_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
_WALL_SECONDS_MAX = CPU_SECONDS_MAX + 30
_IDLE_SECONDS_MAX = 2.0  # how long a quiet thread waits for what takes only what nobody else wants


@dataclass(frozen=True)
class OnnxTensor:
    """One input or output as the file declares it. dims: without the batch axis, -1 is free. type: ONNX's, 0: no tensor."""

    name: str
    type: int
    dims: tuple[int, ...]


@dataclass(frozen=True)
class OnnxProblem:
    """One thing that is wrong with a model: `check` is one of inspect_onnx.CHECKS."""

    check: str
    reason: str
    mend: str


@dataclass(frozen=True)
class OnnxInspection:
    """What a model holds and what is wrong with it."""

    problems: tuple[OnnxProblem, ...]
    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    opsets: dict[str, int]
    operators: dict[str, int]  # "domain:operator" -> count
    node_count: int
    constant_bytes: int
    has_fixed_work: bool  # fixed_work.py
    exporter: tuple[str, str] = ("", "")  # what wrote the file, and its version, as the file says; may be empty

    @property
    def is_tree_ensemble(self) -> bool:
        """Trees must give the same bits in any batch; other models may declare a tolerance."""
        return any(name.rsplit(":", 1)[1] in TREE_OPERATORS for name in self.operators)

    @property
    def is_linear(self) -> bool:
        """By its operators alone: one that weighs its inputs, and others that bend nothing."""
        counts = Counter[str]()
        for name, count in self.operators.items():
            counts[name.rsplit(":", 1)[1]] += count
        return sum(counts[name] for name in LINEAR_OPERATORS) == 1 and set(counts) <= LINEAR_OPERATORS | BESIDE_LINEAR_OPERATORS

    @property
    def is_int8(self) -> bool:
        """Quantised: it computes with integers of 8 bits."""
        return any(name.rsplit(":", 1)[1] in INT8_OPERATORS for name in self.operators)


def inspect_model(model_bytes: bytes, file: str = "model.onnx") -> OnnxInspection:
    """Parses and checks a model in a child process. Blocks for about a second.

    Raises BundleRefusedError where the child did not live to answer: the model needs too much time or memory to be looked at.
    """
    child = _run_child(file, "assay.models.inspect_onnx", model_bytes)
    if child.returncode != 0:
        raise _unanswered(file, last_words(child))
    return _decode(child.stdout)


def read_model(path: Path) -> tuple[bytes, OnnxInspection]:
    """A model that somebody exported, as one file, and what inspect_model() says of it. Tensors that it keeps in plain files
    beside it are taken in; in a bundle nothing of that is allowed. Blocks for a second or three.

    Raises BundleRefusedError: a pickle or another foreign file, too large, data elsewhere. OSError: cannot be read.
    """
    file = str(path)
    with path.open("rb") as opened:
        model_bytes = opened.read(FILE_BYTES_MAX[MODEL_FILE] + 1)
    if len(model_bytes) > FILE_BYTES_MAX[MODEL_FILE]:
        raise BundleRefusedError(
            file, f"is larger than {FILE_BYTES_MAX[MODEL_FILE]} bytes", "quantise it: docs/bundles.md, Limits"
        )
    refuse_foreign_model(file, model_bytes)
    inspection = inspect_model(model_bytes, file)
    if any(problem.check == "external data" for problem in inspection.problems):
        model_bytes = _inlined(path)
        inspection = inspect_model(model_bytes, file)
    return model_bytes, inspection


def child_environment() -> dict[str, str]:
    """Of a child that looks into a model: what it needs to find Python's packages, no secrets, one thread."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def last_words(child: subprocess.CompletedProcess[bytes]) -> str:
    """How such a child ended."""
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"exit {child.returncode}: {lines[-1][:200] if lines else 'no message'}"


# --- implementation ---


def _inlined(path: Path) -> bytes:
    child = _run_child(str(path), "assay.models.inline_onnx", b"", str(path.absolute()))
    if child.returncode == INLINE_REFUSED:
        refusal = orjson.loads(child.stdout)
        raise BundleRefusedError(str(path), refusal["reason"], refusal["mend"])
    if child.returncode != 0:
        raise _unanswered(str(path), last_words(child))
    return child.stdout


def _run_child(file: str, module: str, model_bytes: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", module, *arguments]
    if is_quiet():
        with suppress(subprocess.TimeoutExpired):  # nobody leaves it anything: then once more, with a little
            return _answer_of(command, model_bytes, _IDLE_SECONDS_MAX, start=make_idle)
    try:
        return _answer_of(command, model_bytes, _WALL_SECONDS_MAX)
    except subprocess.TimeoutExpired as error:
        raise _unanswered(file, f"no answer within {_WALL_SECONDS_MAX} s") from error


def _answer_of(
    command: list[str], model_bytes: bytes, seconds_max: float, start: Callable[[int], None] = lambda pid: None
) -> subprocess.CompletedProcess[bytes]:
    """`start`: is told the child's number before it has anything to do."""
    pipe = subprocess.PIPE
    # The directory: relative paths in a model must find nothing of ours.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", env=child_environment()) as child:
        start(child.pid)
        try:
            answer, words = child.communicate(model_bytes, seconds_max)
        finally:
            child.kill()  # where it has not ended
    return subprocess.CompletedProcess(command, child.returncode, answer, words)


def _unanswered(file: str, detail: str) -> BundleRefusedError:
    reason = f"the model could not be inspected within its limits of time and memory ({detail})"
    return BundleRefusedError(file, reason, "the file is damaged or hostile, or too large to serve: docs/bundles.md, Limits")


def _decode(document: bytes) -> OnnxInspection:
    value = orjson.loads(document)
    return OnnxInspection(
        tuple(OnnxProblem(**problem) for problem in value["problems"]),
        tuple(OnnxTensor(item["name"], item["type"], tuple(item["dims"])) for item in value["inputs"]),
        tuple(OnnxTensor(item["name"], item["type"], tuple(item["dims"])) for item in value["outputs"]),
        value["opsets"],
        value["operators"],
        value["node_count"],
        value["constant_bytes"],
        value["has_fixed_work"],
        (value["exporter"][0], value["exporter"][1]),
    )
