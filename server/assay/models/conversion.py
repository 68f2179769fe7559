"""Asks a child process to convert an ONNX model (convert_onnx.py): its tools bring a second ONNX Runtime, which stays there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from assay.features.rows import TensorArrays
from assay.models.arrays import save_arrays
from assay.models.convert_onnx import Job
from assay.models.inspection import OnnxInspection, child_environment
from assay.models.manifest import ConversionName
from assay.models.refusal import BundleRefusedError

WALL_SECONDS_MAX: Final = 3_600

Advance = Callable[[int, int], None]  # done, total


def convert_model(
    model_bytes: bytes,
    kind: ConversionName,
    inspection: OnnxInspection,
    rows: TensorArrays,
    *,
    score_output: str,
    calibration: str = "minmax",
    kept_nodes: tuple[str, ...] = (),
    observe: Advance | None = None,
) -> bytes:
    """The converted model. `rows` (n, elements) by ONNX input: what int8-static is calibrated on. Blocks for seconds or more.

    Raises BundleRefusedError with the reason where there is nothing to convert, or the tools fail.
    """
    shaped = {tensor.name: rows[tensor.name].reshape(-1, *tensor.dims) for tensor in inspection.inputs}
    with tempfile.TemporaryDirectory(prefix="assay-convert-") as scratch:
        place = Path(scratch)
        (place / "model.onnx").write_bytes(model_bytes)
        (place / "rows.npz").write_bytes(save_arrays(shaped))
        job = Job(
            kind=kind,
            model=str(place / "model.onnx"),
            out=str(place / "out.onnx"),
            rows=str(place / "rows.npz"),
            calibration=calibration,
            kept_nodes=kept_nodes,
            score_output=score_output,
        )
        return _run(job, place, observe)


def append_score_map(model_bytes: bytes, *, score_output: str, score_column: int, slope: float, offset: float) -> bytes:
    """The model with one more output, convert_onnx.SCORE_MAP_OUTPUT: sigmoid(slope * logit(score) + offset)."""
    with tempfile.TemporaryDirectory(prefix="assay-convert-") as scratch:
        place = Path(scratch)
        (place / "model.onnx").write_bytes(model_bytes)
        job = Job(
            kind="score-map",
            model=str(place / "model.onnx"),
            out=str(place / "out.onnx"),
            score_output=score_output,
            score_column=score_column,
            slope=slope,
            offset=offset,
        )
        return _run(job, place, None)


# --- implementation ---


def _run(job: Job, place: Path, observe: Advance | None) -> bytes:
    (place / "job.json").write_bytes(orjson.dumps(asdict(job)))
    with (place / "stderr").open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "assay.models.convert_onnx", str(place / "job.json")],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env=child_environment() | {"TMPDIR": str(place)},  # the tools' own files go when ours do
            text=True,
        )
        clock = threading.Timer(WALL_SECONDS_MAX, child.kill)
        clock.daemon = True
        clock.start()
        try:
            with child:
                for line in child.stdout or ():
                    done, _, total = line.partition(" ")
                    if observe and done.isdigit():
                        observe(int(done), int(total))
        except BaseException:  # Ctrl-C
            child.kill()
            raise
        finally:
            clock.cancel()
    if child.returncode != 0:
        lines = (place / "stderr").read_text(errors="replace").strip().splitlines()
        said = lines[-1][:500] if lines else f"exit {child.returncode}, or no answer within {WALL_SECONDS_MAX} s"
        raise BundleRefusedError("model.onnx", f"cannot be converted ({job.kind}): {said}", "see docs/quantisation.md")
    return Path(job.out).read_bytes()
