"""What stands between files and the store: blocks of lines, times, null counts, rejects, store URLs."""

from __future__ import annotations

import io
import json
import re
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import _core
from assay.errors import InputError, StoreError
from assay.features.compile import compile_plan
from assay.features.event_slice import EventSlice
from assay.features.feature_set import FeatureSet
from assay.features.line_blocks import LINE_BYTES_MAX, LineBlock, read_blocks
from assay.features.local_store import snapshot_path
from assay.features.null_counts import EVENT_KEYS, count_nulls
from assay.features.rejects import EXAMPLES_MAX, LinePlace, Reject, Rejects, Violation, encode
from assay.features.store import is_remote, open_store
from assay.features.times import format_time_us, parse_time_us

# --- blocks of lines


class Pieces:
    """Gives its bytes in the given pieces, as a pipe may. None: it has nothing for now."""

    def __init__(self, pieces: Sequence[bytes | None]) -> None:
        self._pieces = [*pieces, b""]

    def read(self, _: int) -> bytes | None:
        return self._pieces.pop(0)


PIECES = st.none() | st.binary(min_size=1, max_size=40).map(lambda data: data.replace(b"a", b"\n"))


@given(st.lists(PIECES, max_size=30))
def test_blocks_are_the_input_cut_at_newlines(pieces: list[bytes | None]) -> None:
    data = b"".join(filter(None, pieces))
    blocks = list(read_blocks(Pieces(pieces), 16))
    assert b"".join(block.data for block in blocks) == data
    for block in blocks:
        assert data[block.offset_bytes :].startswith(block.data)
        assert block.first_line == data.count(b"\n", 0, block.offset_bytes) + 1
        assert block.line_count == block.data.count(b"\n") + (block.data[-1:] not in (b"\n", b""))
        assert block.last_line == block.first_line + block.line_count - 1
    assert all(block.data.endswith(b"\n") or not block.data for block in blocks[:-1])


@given(st.lists(PIECES, max_size=30))
def test_every_read_comes_back(pieces: list[bytes | None]) -> None:
    """A pipe that stood still, or brought no newline, kept whoever reads from its flush, and from SIGTERM."""
    blocks = read_blocks(Pieces([*pieces, b"x" * (LINE_BYTES_MAX + 1), None, b"y", b"\nlast"]), 16)
    for _ in pieces:
        next(blocks)
    assert [block.is_too_long for block in blocks] == [False, True, False, False, False, False]


def test_a_line_without_end_is_cut_and_its_neighbours_are_kept() -> None:
    long = b"x" * (10 * LINE_BYTES_MAX)
    blocks = [block for block in read_blocks(io.BytesIO(b"one\n" + long + b"\ntwo\nthree"), 4_096) if block.data]
    assert [(block.first_line, block.is_too_long) for block in blocks] == [(1, False), (2, True), (3, False)]
    assert blocks[0].data == b"one\n"
    assert len(blocks[1].data) <= LINE_BYTES_MAX
    assert blocks[2].offset_bytes == len(b"one\n" + long + b"\n")
    assert (blocks[2].data, blocks[2].line_count) == (b"two\nthree", 2)
    assert [block.is_too_long for block in read_blocks(io.BytesIO(long), 4_096) if block.data] == [True]


# --- times


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2018-04-01T00:00:31Z", 1_522_540_831_000_000),
        ("2018-04-01T02:00:31+02:00", 1_522_540_831_000_000),
        ("2018-03-31T20:30:31.5-03:30", 1_522_540_831_500_000),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ("2020-02-29t12:00:00z", 1_582_977_600_000_000),
    ],
)
def test_times(text: str, time_us: int) -> None:
    assert parse_time_us(text) == time_us
    assert parse_time_us(format_time_us(time_us)) == time_us


@pytest.mark.parametrize(
    "text",
    [
        "2018-04-01T00:00:31",
        "2018-04-01",
        "2018-04-01 00:00:31Z",
        "20180401T000031Z",
        "2018-02-29T00:00:00Z",
        "2018-04-01T24:00:00Z",
        "2018-04-01T00:00:60Z",
        "2018-04-01T00:00:00+24:00",
        "2018-04-01T00:00:00+01:60",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2018-04-01T00:00:00.Z",
        "2018-04-01T00:00:00.1234567890Z",
        "2018-04-01T00:00:31Z\n",
        "٢٠١٨-04-01T00:00:31Z",
        "",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        parse_time_us(text)


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_times_of_python_are_times_of_the_core(time_us: int) -> None:
    """Attributes are parsed here, events in C++: one meaning."""
    builder = _core.PlanBuilder("times", "1", "0" * 64)
    builder.entity("customer_id")
    builder.tensor("input", _core.TENSOR_TYPES["float32"], 1)
    hour = builder.derived_node("hour", _core.OPERATIONS["hour"], [builder.event_time_node()])
    builder.model_input("hour", hour, 0, 0, _core.WHEN_NULL["error"])
    event = {"transaction_id": "1", "event_time": format_time_us(time_us), "entities": {"customer_id": "a"}, "features": {}}
    decoded = builder.build().decode_event_json(json.dumps(event).encode())
    assert isinstance(decoded, _core.DecodedTransaction), decoded
    assert decoded.event_time_us == time_us


# --- null counts

SPELLINGS = [
    b'{"features":{"amount":1,"rate":2.0}}',
    b'{"features":{"amount":1}}',
    b'{"features":{"amount":1,"rate":null}}',
    b'{"features":{"amount" : 1,\t"rate"\t:2.0}}',
    b'{"features":{"\\u0061mount":1,"rate":2.0}}',
    b'{"transaction_id":"amount","features":{"amount":1}}',
    b'{"transaction_id":"rate","features":{"amount":1}}',
    b'{"transaction_id":"\\"rate\\":","features":{"amount":1}}',
    b'{"entities":{},"features":null}',
    b"{}",
    b"",
    b"   ",
]


@given(st.lists(st.tuples(st.sampled_from(SPELLINGS), st.booleans()), max_size=12), st.booleans())
def test_null_counts_are_exact(lines: list[tuple[bytes, bool]], ends: bool) -> None:
    block = b"\n".join(line for line, _ in lines) + (b"\n" if ends else b"")
    rejected, offset = [], 0
    accepted = []
    for line, is_rejected in lines:
        if line.strip():
            (rejected if is_rejected else accepted).append(offset if is_rejected else line)
        offset += len(line) + 1
    features = [orjson.loads(line).get("features") or {} for line in accepted]
    expected = {name: sum(document.get(name) is None for document in features) for name in ("amount", "rate")}
    assert count_nulls(block, len(accepted), rejected, ["amount", "rate"]) == expected


TAKEN = ["transaction_id", "amount", "entities", "features", "label_time", "was_fraud"]  # as features too
NAMED = f"""
name: named
version: "1"
entities: [customer_id, terminal_id]
request_features: {{{", ".join(f"{name}: {{dtype: string, required: false}}" for name in TAKEN)}}}
views: {{customer: {{entity: customer_id, aggregates: {{n_1h: {{op: count, window: 1h}}}}}}}}
inputs: [n_1h]
"""


def documents(texts: st.SearchStrategy[str | None], fraud: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    drawn = {
        "transaction_id": st.sampled_from(["1", "features"]),
        "event_time": st.just("2018-04-01T00:00:31Z"),
        "entities": st.fixed_dictionaries({"customer_id": st.just("c")}, optional={"terminal_id": texts}),
        "features": st.fixed_dictionaries({}, optional=dict.fromkeys(TAKEN, texts)),
    }
    return st.lists(st.fixed_dictionaries(drawn, optional={"is_fraud": fraud}), max_size=8)


PLAIN = documents(st.sampled_from(["x", "features", "customer_id", "é"]), st.booleans())
ANY = documents(st.none() | st.sampled_from(["features", '"features":', "null", "\\"]), st.booleans() | st.just(5))


@given(PLAIN | ANY, st.booleans(), st.booleans())
def test_null_counts_are_json_s_whatever_a_feature_is_called(drawn: list[dict[str, Any]], ascii: bool, dense: bool) -> None:
    """A feature that is called as a key of the event was counted with it: its nulls came out negative."""
    piece = EventSlice(compile_plan(FeatureSet.parse(NAMED)), TAKEN)
    separators = (",", ":" if dense else " : ")
    data = "".join(json.dumps(document, ensure_ascii=ascii, separators=separators) + "\n" for document in drawn).encode()
    bad = {reject.place.line for reject in piece.take(LineBlock(data, 1, 0, len(drawn)))}
    good = [document for number, document in enumerate(drawn, 1) if number not in bad]
    assert piece.event_count == len(good)
    assert piece.null_counts == {name: sum(document["features"].get(name) is None for document in good) for name in TAKEN}


def test_the_keys_of_an_event_are_the_core_s() -> None:
    source = (Path(__file__).resolve().parents[2] / "ext/core/features/event_json.cc").read_text()
    assert set(re.findall(r'"(\w+)"', source.split("kKeyNames[] = {")[1].split("}")[0])) == EVENT_KEYS


# --- rejects


def test_rejects_keep_the_original_bytes(tmp_path: Path) -> None:
    violation = Violation("WRONG_TYPE", 'features["amount"]', "expected int64, found a float")
    text, binary = Reject(LinePlace(3, 100), (violation,), b'{"a":1}'), Reject(LinePlace(4, 108), (violation,), b"\xff\x00")
    path = tmp_path / "rejects.jsonl"
    with Rejects(path) as rejects:
        rejects.add_all([text] * (EXAMPLES_MAX + 5))
        rejects.add_all([binary])
    assert (rejects.count, len(rejects.examples)) == (EXAMPLES_MAX + 6, EXAMPLES_MAX)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert len(lines) == rejects.count
    assert lines[0] == {
        "reason": "WRONG_TYPE",
        "violations": [{"reason": "WRONG_TYPE", "field": 'features["amount"]', "description": "expected int64, found a float"}],
        "line": 3,
        "source_offset_bytes": 100,
        "original": '{"a":1}',
    }
    assert lines[-1]["original_base64"] == "/wA="
    assert path.stat().st_mode & 0o777 == 0o600
    assert "original" not in repr(text)
    assert "{" not in text.describe()
    assert encode(text).count(b"\n") == 1


def test_rejects_go_on_behind_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    one = Reject(LinePlace(1, 0), (), b"{}")
    for _ in range(2):
        with Rejects(path) as rejects:
            rejects.add_all([one])
    path.write_bytes(path.read_bytes()[:-9])  # a process died while it wrote
    with Rejects(path) as rejects:
        rejects.add_all([one])
    lines = path.read_bytes().splitlines()
    assert [len(lines), lines[0], lines[2]] == [3, lines[0], lines[0]]


def test_a_disk_that_fills_leaves_no_half_line_of_rejects(tmp_path: Path) -> None:
    """A block was written in part and then again behind its own half: a reject was lost."""
    path = tmp_path / "rejects.jsonl"
    rejects = [Reject(LinePlace(number, 0), (), b"x" * 1_000) for number in range(10)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with Rejects(path) as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
            for _ in range(3):
                with pytest.raises(OSError, match="File too large"):
                    file.add_all(rejects)
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            file.add_all(rejects)
            assert file.count == 10
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [json.loads(line)["line"] for line in path.read_bytes().splitlines()] == list(range(10))


def test_a_file_of_rejects_has_one_writer(tmp_path: Path) -> None:
    """A second process's failed write took the first one's lines back with its own."""
    path = tmp_path / "rejects.jsonl"
    with Rejects(path) as first:
        with pytest.raises(InputError, match="another process writes its own there; give each a file of its own"):
            Rejects(path)
        first.add_all([Reject(LinePlace(1, 0), (), b"{}")])
        assert path.read_bytes().count(b"\n") == 1
    Rejects(path).close()
    for _ in range(2):
        with Rejects(Path("/dev/null")), Rejects(Path("/dev/null")) as second:
            second.add_all([Reject(LinePlace(1, 0), (), b"{}")])


def test_rejects_that_cannot_be_written_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rejects cannot be written there: No such file or directory"):
        Rejects(tmp_path / "absent" / "rejects.jsonl")


# --- stores


def test_store_urls() -> None:
    assert snapshot_path("embedded:") is None
    assert snapshot_path("embedded:/a/b.snapshot") == Path("/a/b.snapshot")
    assert [is_remote(url) for url in ("embedded:", "redis://h", "rediss://h")] == [False, True, True]
    for url in ("mysql://user:secret@host/0", "embedded", "/a/b.snapshot", "", "REDIS://user:secret@host"):
        with pytest.raises(StoreError, match=r"this version has embedded: \(in memory\), embedded:PATH") as caught:
            open_store(url)
        assert "secret" not in str(caught.value)
    for url in ("redis://user:secret@host:no/0", "redis://[secret", "redis://:secret@a..b", "redis://:secret@:6379/0"):
        with pytest.raises(StoreError, match=r"not a Redis URL.* expected redis://HOST:PORT/DB") as caught:
            open_store(url)
        assert "secret" not in str(caught.value)


def test_options_of_a_store_s_url_that_are_ours_to_set_are_refused() -> None:
    for option in ("socket_timeout=30", "decode_responses=true", "ssl_cert_reqs=none", "max_connections=1"):
        with pytest.raises(StoreError, match=r"option is not supported or empty; rediss:// takes ssl_ca_certs") as caught:
            open_store(f"rediss://user:secret@host/0?{option}")
        assert "secret" not in str(caught.value)
    for url in ("redis://user:secret@host/0?ssl_ca_certs=a.pem", "rediss://user:secret@host/0?ssl_ca_certs="):
        with pytest.raises(StoreError, match="not supported or empty"):
            open_store(url)


def test_a_password_that_was_not_encoded_is_never_shown() -> None:
    for url in (
        "redis://:12/34secret@host:1/0",
        "redis://app:7/secret@host",
        "redis://:a?b@secret/0",
        "redis://:a#secret@host/0",
    ):
        with pytest.raises(StoreError, match="%2F %40") as caught:
            open_store(url)
        assert "secret" not in str(caught.value)
    assert open_store("redis://app:%2F%40secret@host:1/3").url == "redis://host:1/3"
    assert open_store("redis://[::1]:1/3").url == "redis://[::1]:1/3"


def test_a_store_in_memory_has_no_snapshot() -> None:
    with open_store("embedded:") as store:
        assert store.path is None
        assert not store.save()
        assert store.core.stats().record_count == 0


def test_a_snapshot_comes_back(tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'store.snapshot'}"
    with open_store(url) as store:
        assert store.save()
    with open_store(url, mode="read") as store:
        assert store.core.stats().record_count == 0
        with pytest.raises(StoreError, match="opened for reading"):
            store.save()


def test_a_store_has_one_writer(tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'store.snapshot'}"
    with open_store(url) as first:
        first.save()
        with pytest.raises(StoreError, match="in use by another process"):
            open_store(url)
        open_store(url, mode="read").close()
    open_store(url).close()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage", "empty"])
def test_a_damaged_snapshot_is_refused_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "store.snapshot"
    with open_store(f"embedded:{path}") as store:
        store.save()
    good = path.read_bytes()
    data = {"truncated": good[:-1], "flipped": bytes([good[0] ^ 1]) + good[1:], "garbage": b"\x80pickle" * 50, "empty": b""}[
        damage
    ]
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged or not a snapshot .*Nothing was changed.*move .* away"):
        open_store(f"embedded:{path}")
    assert path.read_bytes() == data
    path.write_bytes(good)
    open_store(f"embedded:{path}").close()


def test_a_place_that_cannot_be_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist; make it first"):
        open_store(f"embedded:{tmp_path / 'absent' / 'store.snapshot'}")
    with pytest.raises(StoreError, match="this is a directory"):
        open_store(f"embedded:{tmp_path}")
    with pytest.raises(StoreError, match="there is no such snapshot"):
        open_store(f"embedded:{tmp_path / 'store.snapshot'}", mode="read")
