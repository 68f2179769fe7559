"""How many rows a card is given: what its memory holds, with a reserve, as measured at load."""

from __future__ import annotations

import ctypes
import logging

import pytest

from assay.errors import CoreError
from assay.models import card_memory
from assay.models.card_memory import BatchFit, FittingBatch, cuda_free_bytes, fit_batches, say_fit
from assay.models.cuda_build import CUDA_13
from assay.models.invariance import buckets_up_to
from tests.support.cuda_messages import ILLEGAL_ADDRESS_AT_RUN, MEMORY_AT_RUN

GIB = 1 << 30


def run_failed(text: str) -> CoreError:
    return CoreError(0, "MODEL_RUN_FAILED", 13, text)


class FakeCard:
    """A card with a session on it, whose arena grows to the largest batch and never shrinks."""

    def __init__(self, *, total: int = 16 * GIB, session: int = GIB, row: int, neighbours: int = 0, is_told: bool = True) -> None:
        self.total, self.session, self.row = total, session, row
        self.neighbours, self.is_told = neighbours, is_told
        self.arena = session
        self.runs: list[int] = []

    def run(self, rows: int) -> None:
        self.runs.append(rows)
        wanted = self.session + rows * self.row
        if wanted + self.neighbours > self.total:
            raise run_failed(MEMORY_AT_RUN.text)
        self.arena = max(self.arena, wanted)

    def free_bytes(self) -> int | None:
        return self.total - self.neighbours - self.arena if self.is_told else None

    def fit(self, rows_max: int, reserve: int = 0) -> BatchFit:
        return fit_batches(buckets_up_to(rows_max), self.run, self.free_bytes, reserve)


def test_a_batch_of_512_that_worked_on_24_gib_does_not_on_16() -> None:
    """The post-mortem's: what was tried on one card is not what another holds."""
    row = 32 << 20
    assert FakeCard(row=row, total=24 * GIB).fit(512).rows_max == 512
    fit = FakeCard(row=row).fit(512)
    assert (fit.rows_max, fit.wanted_rows) == (256, 512)
    assert fit.obstacle == "512 rows ran out of memory"
    assert fit.sizes[-1] == FittingBatch(256, 8 * GIB)
    assert fit.free_bytes == 7 * GIB
    assert "batches of up to 256 of 512: 512 rows ran out of memory (1: 32 MiB, 2: 64 MiB" in str(fit)


def test_every_size_that_fits_is_run_and_measured() -> None:
    card = FakeCard(row=1 << 20)
    fit = card.fit(300)
    assert card.runs == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert [(item.rows, item.took_bytes) for item in fit.sizes] == [(rows, rows << 20) for rows in card.runs]
    assert (fit.rows_max, fit.obstacle) == (300, "")


@pytest.mark.parametrize(("reserve", "rows_max"), [(0, 512), (2 * GIB, 512), (2 * GIB + 1, 256), (9 * GIB, 128), (15 * GIB, 1)])
def test_what_is_left_must_be_the_reserve(reserve: int, rows_max: int) -> None:
    """512 rows leave 2 GiB, 256 leave 8.5, 1 leaves less than 15: one row is always tried, for the card is refused otherwise."""
    fit = FakeCard(row=26 << 20).fit(512, reserve)
    assert fit.rows_max == rows_max
    assert bool(fit.obstacle) == (rows_max < 512)
    if fit.obstacle:
        assert "memory_reserve_bytes" in fit.obstacle


def test_what_others_have_on_the_card_counts() -> None:
    assert FakeCard(row=16 << 20).fit(512).rows_max == 512
    assert FakeCard(row=16 << 20, neighbours=8 * GIB).fit(512).rows_max == 256


def test_where_nobody_can_tell_running_out_of_memory_counts() -> None:
    fit = FakeCard(row=32 << 20, is_told=False).fit(512, reserve=15 * GIB)
    assert fit.rows_max == 256
    assert {item.took_bytes for item in fit.sizes} == {None}
    assert str(fit) == "batches of up to 256 of 512: 512 rows ran out of memory"


def test_a_card_that_does_not_hold_a_row_is_none() -> None:
    with pytest.raises(CoreError) as refused:
        FakeCard(row=16 * GIB).fit(512)
    assert "Failed to allocate" in refused.value.message


def test_other_faults_are_no_matter_of_size() -> None:
    card = FakeCard(row=1)

    def run(rows: int) -> None:
        if rows == 4:
            raise run_failed(ILLEGAL_ADDRESS_AT_RUN.text)

    with pytest.raises(CoreError) as refused:
        fit_batches((1, 2, 4, 8), run, card.free_bytes, 0)
    assert "illegal memory access" in refused.value.message


def test_the_log_says_it_loudly_only_where_it_is_less_than_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "assay.card"):
        say_fit("net", "3", "cuda:0", FakeCard(row=1 << 20).fit(2))
        say_fit("net", "3", "cuda:0", FakeCard(row=32 << 20).fit(512))
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    told = vars(caplog.records[1])["assay_fields"]
    assert (told["batch_rows_max"], told["wanted_rows"], told["why"]) == (256, 512, "512 rows ran out of memory")
    assert told["bytes_by_rows"].startswith("1:33554432 2:67108864 ")


class FakeRuntime:
    """libcudart as far as it is asked."""

    def __init__(self, result: int) -> None:
        self.result = result

    def cudaSetDevice(self, index: int) -> int:  # noqa: N802
        assert index == 2
        return 0

    def cudaMemGetInfo(self, free: object, total: object) -> int:  # noqa: N802
        free._obj.value = 5 * GIB  # type: ignore[attr-defined]
        total._obj.value = 16 * GIB  # type: ignore[attr-defined]
        return self.result


@pytest.mark.parametrize(("result", "free"), [(0, 5 * GIB), (2, None)])
def test_cuda_is_asked_what_is_free(monkeypatch: pytest.MonkeyPatch, result: int, free: int | None) -> None:
    opened = []

    def open_library(name: str) -> FakeRuntime:
        opened.append(name)
        return FakeRuntime(result)

    monkeypatch.setattr(card_memory.ctypes, "CDLL", open_library)
    assert cuda_free_bytes(CUDA_13, 2) == free
    assert opened == ["libcudart.so.13"]


def test_without_cuda_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cuda_free_bytes(None, 0) is None

    def open_library(name: str) -> object:
        raise OSError(name)

    monkeypatch.setattr(card_memory.ctypes, "CDLL", open_library)
    assert cuda_free_bytes(CUDA_13, 0) is None
    monkeypatch.setattr(card_memory.ctypes, "CDLL", lambda name: ctypes.pythonapi)  # a library without that function
    assert cuda_free_bytes(CUDA_13, 0) is None
