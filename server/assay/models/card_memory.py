"""How large a batch fits into a card's memory: at load each batch size is run there, smallest first, and what it took is
measured.

What a card has left is asked of CUDA (cudaMemGetInfo of the library that ONNX Runtime's wheel uses), so it counts other processes
and other models. Where nobody can tell, running out of memory is what counts.

A session's arena keeps what it has grown to. So the memory of a size is that of all sizes up to it, as in a server that has seen
them all; and after a size that does not fit the session is to be made anew.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assay._core import run_fault
from assay.errors import CoreError
from assay.models.cuda_build import CudaBuild
from assay.models.cuda_libraries import wheel_paths
from assay.observe.logs import log_event

log = logging.getLogger("assay.card")


@dataclass(frozen=True)
class FittingBatch:
    """One batch size that fits. `took_bytes`: of the card, beside the session's own; None: nobody could tell."""

    rows: int
    took_bytes: int | None


@dataclass(frozen=True)
class BatchFit:
    """Which batches a card holds."""

    wanted_rows: int
    sizes: tuple[FittingBatch, ...]  # that fit, ascending; at least one
    free_bytes: int | None  # on the card, beside the largest that fits
    obstacle: str = ""  # why not the next size; "": all fit

    @property
    def rows_max(self) -> int:
        return self.sizes[-1].rows

    def __str__(self) -> str:
        took = [item for item in self.sizes if item.took_bytes is not None]
        memory = f" ({', '.join(f'{item.rows}: {_mib(item.took_bytes)}' for item in took)})" if took else ""
        kept = f" of {self.wanted_rows}: {self.obstacle}" if self.obstacle else ""
        return f"batches of up to {self.rows_max}{kept}{memory}"


def fit_batches(
    sizes: Sequence[int], run: Callable[[int], object], free_bytes: Callable[[], int | None], reserve_bytes: int
) -> BatchFit:
    """Runs a batch of each of `sizes`, ascending, until one does not fit: its run is out of memory, or leaves less than
    `reserve_bytes`. Raises what `run` raises: where not one row fits, and for every other fault."""
    at_first = free_bytes()
    fitting: list[FittingBatch] = []
    left_bytes = at_first
    for rows in sizes:
        try:
            run(rows)
        except CoreError as error:
            if not fitting or run_fault(error.message) != "out of memory":
                raise
            return BatchFit(sizes[-1], tuple(fitting), left_bytes, f"{rows} rows ran out of memory")
        free = free_bytes()
        if fitting and free is not None and free < reserve_bytes:
            obstacle = f"{rows} rows leave {_mib(free)} free, less than cuda.memory_reserve_bytes ({_mib(reserve_bytes)})"
            return BatchFit(sizes[-1], tuple(fitting), left_bytes, obstacle)
        known = free is not None and at_first is not None
        fitting.append(FittingBatch(rows, max(0, at_first - free) if known else None))  # type: ignore[operator]
        left_bytes = free
    return BatchFit(sizes[-1], tuple(fitting), left_bytes)


def cuda_free_bytes(build: CudaBuild | None, index: int) -> int | None:
    """Free memory of a CUDA device, by CUDA's own count; None where nobody can tell. Starts CUDA on this thread."""
    if build is None:
        return None
    try:
        runtime = ctypes.CDLL(str(next(iter(wheel_paths(build.libraries[0])), build.libraries[0])))  # as open_libraries()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        is_told = runtime.cudaSetDevice(index) == 0 and runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
    except (OSError, AttributeError):  # no such library here, or none that answers
        return None
    return free.value if is_told else None


def say_fit(model: str, version: str, device: str, fit: BatchFit) -> None:
    """One line of the log; a warning where the card holds less than was asked for."""
    sizes = {str(item.rows): item.took_bytes for item in fit.sizes if item.took_bytes is not None}
    level, message = logging.INFO, "the card holds the batches that were asked for"
    if fit.obstacle:
        level, message = logging.WARNING, "the card holds smaller batches than were asked for"
    told = {"why": fit.obstacle} if fit.obstacle else {}
    log_event(
        log,
        level,
        message,
        model=model,
        version=version,
        device=device,
        batch_rows_max=fit.rows_max,
        wanted_rows=fit.wanted_rows,
        bytes_by_rows=" ".join(f"{rows}:{took}" for rows, took in sizes.items()) or "unknown",
        **told,
    )


# --- implementation ---


def _mib(count: int | None) -> str:
    return "unknown" if count is None else f"{count / (1 << 20):,.0f} MiB"
