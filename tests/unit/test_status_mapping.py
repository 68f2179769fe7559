"""The core's table of codes, the gRPC statuses it becomes, and docs/errors.md: three places, one truth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from assay._core import CODE_TABLE, CodeRow, Engine, Refusal
from assay.transport.status import STATUS_CODES, abort, trailers

ERRORS_MD = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
ROWS = [row for row in CODE_TABLE if row.reason != "OK"]


@pytest.fixture(scope="module")
def engine() -> Any:
    engine = Engine(slots=4, batch_call_rows_max=1)
    yield engine
    engine.stop()


def test_numbers_are_positions_and_reasons_are_unique() -> None:
    assert [row.number for row in CODE_TABLE] == list(range(len(CODE_TABLE)))
    assert len({row.reason for row in CODE_TABLE}) == len(CODE_TABLE)
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{1,62}", row.reason) for row in CODE_TABLE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.reason)
def test_each_code_becomes_a_status_with_details(engine: Engine, row: CodeRow) -> None:
    refusal = engine.refuse(row.reason)
    assert (refusal.code, refusal.grpc_code) == (row.number, row.grpc_code)
    assert STATUS_CODES[row.grpc_code].value[0] == row.grpc_code != 0
    status = status_pb2.Status.FromString(refusal.rpc_status)
    assert (status.code, status.message) == (row.grpc_code, refusal.message)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (row.reason, "assay")
    retries = [detail for detail in status.details if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)]
    assert len(retries) == (row.retry_ms > 0)
    # Only what another try may mend says so, and only UNAVAILABLE may be tried again by rule (AIP-194).
    assert row.retry_ms == 0 or row.grpc_code == grpc.StatusCode.UNAVAILABLE.value[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.reason)
def test_pushback_goes_with_a_retry_delay(engine: Engine, row: CodeRow) -> None:
    refusal = engine.refuse(row.reason)
    for _ in range(20):
        metadata = dict(trailers(refusal))
        assert metadata.pop("grpc-status-details-bin") == refusal.rpc_status
        if row.retry_ms > 0:
            assert row.retry_ms * 0.5 <= int(str(metadata.pop("grpc-retry-pushback-ms"))) <= row.retry_ms * 1.5
        assert metadata == {}


async def test_abort_carries_code_message_and_trailers(engine: Engine) -> None:
    class Context:
        async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> NoReturn:
            raise LookupError(code, details, trailing_metadata)

    refusal = Refusal(*engine.refuse("UNKNOWN_MODEL", "no such thing"))
    with pytest.raises(LookupError) as caught:
        await abort(Context(), refusal)  # type: ignore[arg-type]
    assert caught.value.args[:2] == (grpc.StatusCode.NOT_FOUND, refusal.message)
    assert "no such thing" in refusal.message


def sections() -> dict[str, str]:
    """Reason -> text of its section in docs/errors.md."""
    parts = re.split(r"^### ([A-Z0-9_]+)\n", ERRORS_MD.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_document_has_every_reason_once_and_no_other() -> None:
    names = re.findall(r"^### ([A-Z0-9_]+)$", ERRORS_MD.read_text(), flags=re.MULTILINE)
    assert sorted(names) == sorted(row.reason for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.reason)
def test_the_document_says_status_cause_mend_and_retry(row: CodeRow) -> None:
    text = sections()[row.reason]
    assert f"`{STATUS_CODES[row.grpc_code].name}`" in text.partition("\n\n")[0]
    assert "**Cause.**" in text
    assert "**Mend.**" in text
    said = re.search(r"retry after ([0-9]+) ms", text)
    assert (int(said[1]) if said else 0) == row.retry_ms
