"""Asks a child process what a bundle takes of memory (measure_memory.py), session and batches apart."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import orjson

from assay.models.bundle import Bundle
from assay.models.inspect_onnx import CPU_SECONDS_MAX
from assay.models.inspection import child_environment, last_words
from assay.models.manifest import MANIFEST_FILE, MODEL_FILE
from assay.models.measure_memory import OTHER_BUNDLE, UNMEASURABLE
from assay.models.refusal import BundleRefusedError

_WALL_SECONDS_MAX = CPU_SECONDS_MAX + 30


@dataclass(frozen=True)
class BatchMemory:
    """Measured on the CPU. `batch_bytes`: batch size -> what it and all smaller ones add to the session's."""

    session_bytes: int
    batch_bytes: dict[int, int]


def measure_batch_memory(bundle: Bundle, batch_rows_max: int) -> BatchMemory | None:
    """Runs golden rows in every batch size up to `batch_rows_max`, in a process of its own. Blocks for seconds. None: this kernel
    tells nobody a process's peak.

    Raises BundleRefusedError: the bundle was changed meanwhile, or the child did not live to answer.
    """
    arguments = [str(bundle.path), bundle.manifest_sha256, str(batch_rows_max)]
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "assay.models.measure_memory", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env=child_environment(),
            timeout=_WALL_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _unanswered(f"no answer within {_WALL_SECONDS_MAX} s") from None
    if child.returncode == UNMEASURABLE:
        return None
    if child.returncode == OTHER_BUNDLE:
        raise BundleRefusedError(MANIFEST_FILE, "it was changed while it was checked", "check it again when nobody writes it")
    if child.returncode != 0:
        raise _unanswered(last_words(child))
    value = orjson.loads(child.stdout)
    return BatchMemory(value["session_bytes"], dict(value["batches"]))


# --- implementation ---


def _unanswered(detail: str) -> BundleRefusedError:
    reason = f"its memory could not be measured ({detail})"
    return BundleRefusedError(MODEL_FILE, reason, "use a smaller model or a smaller --batch-rows-max")
