"""`assay audit` as users run it, on the logs of two servers: one on each transport, one of them with digests of half its rows."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assay._core import HAS_NATIVE_TRANSPORT
from assay.client import Client, Transaction
from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME
from assay.demo.paths import bundle_path
from tests.support.audit_logs import RawSegment, append, label, open_log, segments, spool_with_key
from tests.support.commands import run_command
from tests.support.server import WAIT_S, ServeProcess, wait_until

CARD = "4111111111111111"
COUNT = 60
SAMPLED = ("audit.inputs=sample", "audit.sample_one_in=2")


@dataclass(frozen=True)
class Written:
    """A spool, and the scores that clients were given, by writer and transaction."""

    spool: Path
    scores: dict[str, dict[str, float]]
    stderr: str


def transactions(rng: random.Random) -> list[Transaction]:
    return [
        Transaction(
            f"tx-{number}",
            DEMO_TIME + timedelta(seconds=number),
            {"customer_id": str(DEMO_CUSTOMER_ID) if number % 5 else f"new-{number}", "terminal_id": str(DEMO_TERMINAL_ID)},
            {"amount_minor": rng.randrange(100, 80_000)},
        )
        for number in range(COUNT)
    ] + [Transaction(f"pan {CARD}", DEMO_TIME, {"customer_id": "1", "terminal_id": "1"}, {"amount_minor": 100})]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    spool = tmp_path_factory.mktemp("audit") / "spool"
    rows = transactions(random.Random(5))
    scores: dict[str, dict[str, float]] = {}
    stderr = ""
    first = "native" if HAS_NATIVE_TRANSPORT else "grpcio"
    # The first one goes on while the second takes a writer's directory of its own.
    with serve(spool, first) as full, serve(spool, "grpcio", *SAMPLED) as sampled:
        for writer, server in (("writer-0", full), ("writer-1", sampled)):
            with Client(server.target, timeout_s=10.0) as client:
                single = {row.transaction_id: client.score(row).score for row in rows[:10]}
                batch = client.score_batch(rows[10:])
            scores[writer] = {
                **single,
                **{row.transaction_id: answer.score for row, answer in zip(rows[10:], batch, strict=True)},
            }  # type: ignore[union-attr]
        for server in (full, sampled):
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            stderr += server.stderr()
    return Written(spool, scores, stderr)


def serve(spool: Path, transport: str, *assignments: str) -> ServeProcess:
    options = [f"audit.spool={spool}", f"transport={transport}", *assignments]
    return ServeProcess("--drain-delay", "0", *(argument for option in options for argument in ("--set", option)))


def run(*arguments: str, spool: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command("audit", *arguments, *(["--spool", str(spool)] if spool else []), **environment)


def answer(*arguments: str, spool: Path, exit_code: int = 0) -> Any:
    found = run(*arguments, "--json", spool=spool)
    assert found.returncode == exit_code, found.stderr
    return json.loads(found.stdout)


@pytest.fixture
def copied(written: Written, tmp_path: Path) -> Path:
    shutil.copytree(written.spool, tmp_path / "spool")
    return tmp_path / "spool"


# --- tail


def test_tail_shows_the_newest_records_of_all_writers(written: Written) -> None:
    lines = run("tail", "-n", "6", spool=written.spool).stdout.splitlines()
    assert len(lines) == 6
    assert lines == sorted(lines), "oldest first"
    assert {line.split()[1] for line in lines} == {"writer-0", "writer-1"}
    found = run("tail", "-n", "1000", "--json", spool=written.spool).stdout.splitlines()
    documents = [json.loads(line) for line in found]
    assert [item["type"] for item in documents].count("score") == 2 * (COUNT + 1)
    assert [item["written"] for item in documents] == sorted(item["written"] for item in documents)


def test_tail_takes_what_is_asked_for(written: Written) -> None:
    found = run("tail", "-n", "1000", "--type", "score", "--decision", "decline", "--json", spool=written.spool)
    documents = [json.loads(line) for line in found.stdout.splitlines()]
    assert documents
    assert {item["decision"] for item in documents} == {"decline"}
    assert all(item["score"] >= item["thresholds"]["decline"] for item in documents)
    assert run("tail", "--model", "another", spool=written.spool).stdout == ""
    assert len(run("tail", "-n", "3", "--model", "card_fraud", spool=written.spool).stdout.splitlines()) == 3
    assert run("tail", "-n", "0", spool=written.spool).stdout == ""
    assert run("tail", "--type", "none", spool=written.spool).returncode == 2


def test_tail_follows_until_ctrl_c(tmp_path: Path) -> None:
    log = open_log(spool_with_key(tmp_path))
    append(log, [label("before")])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "assay", "audit", "tail", "--follow", "--json", "--spool", str(tmp_path)]
    with out.open("wb") as stdout, subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True) as process:

        def ids() -> list[str]:
            documents = [json.loads(line) for line in out.read_text().splitlines()]
            return [item["transaction_id"] for item in documents if item["type"] == "label"]

        wait_until(lambda: ids() == ["before"], "what stood there")
        append(log, (label(f"t{number}", 2_000) for number in range(1_200)))  # into another segment
        other = open_log(tmp_path / "writer-1")
        append(other, [label("of another server")])
        wait_until(lambda: len(ids()) == 1_202, "what came")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert sorted(ids()) == sorted(["before", *(f"t{number}" for number in range(1_200)), "of another server"])
    log.close()
    other.close()


def test_tail_ends_quietly_with_its_reader(written: Written) -> None:
    command = f"{sys.executable} -m assay audit tail -n 1000 --json --spool {written.spool} | head -n 1"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, len(found.stdout.splitlines()), found.stderr) == (0, 1, "")


# --- find


def test_find_gives_both_servers_scores_to_the_bit(written: Written) -> None:
    for transaction in ("tx-0", "tx-9", "tx-10", "tx-59"):
        found = answer("find", transaction, spool=written.spool)
        assert {item["writer"] for item in found} == {"writer-0", "writer-1"}
        for item in found:
            assert item["score"] == written.scores[item["writer"]][transaction]
            assert item["call"] == ("score" if int(transaction[3:]) < 10 else "score_batch")
            assert item["transaction_id"] == transaction
            assert item["model"] == "card_fraud"
            assert len(item["stages_ms"]) == 5
        assert found[0]["score"] == found[1]["score"], "the same bits on both transports"
    text = run("find", "tx-0", spool=written.spool).stdout
    for word in ("tx-0", "card_fraud", "amount", "customer_tx_count_7d", "challenge", "infer"):
        assert word in text


def test_find_of_nothing_says_so(written: Written) -> None:
    for transaction in ("tx-", "tx-599", "x-0", "nobody"):
        found = run("find", transaction, "--json", spool=written.spool)
        assert (found.returncode, json.loads(found.stdout)) == (4, [])
        assert "no record" in found.stderr


def test_a_card_number_is_found_by_its_token_and_stands_nowhere(written: Written, tmp_path: Path) -> None:
    spaced = " ".join(CARD[place : place + 4] for place in range(0, 16, 4))
    (found, again) = answer("find", f"pan {CARD}", spool=written.spool)
    assert found["is_tokenised"]
    assert re.fullmatch(r"pan card-[0-9a-f]{24}", found["transaction_id"])
    assert answer("find", found["transaction_id"], spool=written.spool) == [found, again]
    outputs = [written.stderr]
    shipped = copy_of(written.spool, tmp_path)
    command = [sys.executable, "-m", "assay", "audit", "ship", "--once", "--sink", f"jsonl:{tmp_path / 'out'}"]
    ship = subprocess.run([*command, "--spool", str(shipped)], capture_output=True, text=True, timeout=60, check=True)
    outputs += [ship.stderr, *(path.read_text() for path in (tmp_path / "out").glob("*.jsonl"))]
    assert found["transaction_id"] in outputs[-1]
    for arguments in (
        ("find", f"pan {CARD}"),
        ("find", f"pan {CARD}", "--json"),
        ("find", spaced),
        ("tail", "-n", "1000", "--json"),
        ("tail", "-n", "1000"),
        ("replay", f"pan {CARD}", "--bundle", str(bundle_path())),
        ("verify", "--json"),
    ):
        said = run(*arguments, spool=written.spool)
        outputs += [said.stdout, said.stderr]
    for path in written.spool.rglob("*"):
        if path.is_file():
            outputs.append(path.read_bytes().decode("latin-1"))
    assert not [text for text in outputs if CARD in text or spaced in text]
    without_key = copy_of(written.spool, tmp_path / "other")
    (without_key / "key").unlink()
    said = run("find", f"pan {CARD}", spool=without_key)
    assert said.returncode == 1
    assert "token" in said.stderr
    assert CARD not in said.stderr
    assert answer("find", "tx-1", spool=without_key)


def copy_of(spool: Path, place: Path) -> Path:
    return Path(shutil.copytree(spool, place / "copied"))


# --- verify


def test_verify_says_how_much_is_sound(written: Written) -> None:
    found = answer("verify", spool=written.spool)
    assert found["is_sound"]
    for log in found["logs"]:
        raw = RawSegment.parse(segments(written.spool / log["writer"])[0].read_bytes())
        records = [record for block in raw.blocks for record in block.records]
        assert (log["records"], log["last_sequence"]) == (len(records), len(records))
        assert log["head"] == raw.blocks[-1].chain.hex()
        assert log["log_id"] == raw.log_id.hex()
        assert log["keys"] == {raw.key_id.hex(): True}
        assert (log["findings"], log["dropped"]) == ([], {})
    text = run("verify", spool=written.spool).stdout
    assert "sound" in text
    assert all(log["head"] in text for log in found["logs"])
    head = found["logs"][0]["head"]
    assert run("verify", "--head", head, spool=written.spool).returncode == 0
    assert run("verify", "--head", "f" * 64, spool=written.spool).returncode == 1
    for wrong in (("--head", "zz"), ("--from", "yesterday"), ("--to", "2026-01-01")):
        assert run("verify", *wrong, spool=written.spool).returncode == 2


def test_verify_names_the_damaged_place(copied: Path) -> None:
    path = segments(copied / "writer-0")[0]
    block = RawSegment.parse(path.read_bytes()).blocks[2]
    with path.open("r+b") as file:
        file.seek(block.offset + 50)
        file.write(b"\xff\xff")
    found = answer("verify", spool=copied, exit_code=1)
    (finding,) = found["logs"][0]["findings"]
    assert (finding["file"], finding["offset"], finding["first_sequence"], finding["is_damage"]) == (
        str(path),
        block.offset,
        block.first_sequence,
        True,
    )
    assert [log["is_sound"] for log in found["logs"]] == [False, True]
    said = run("verify", spool=copied)
    assert said.returncode == 1
    assert f"{path} at {block.offset:,}" in said.stdout
    assert "damaged" in said.stdout
    assert "damaged" in run("tail", spool=copied).stderr, "who reads a damaged log is told"


def test_a_part_of_a_log_can_be_verified(written: Written) -> None:
    found = answer("verify", "--from", "5", "--to", "9", spool=written.spool)
    assert [log["records"] for log in found["logs"]] == [5, 5]
    whole = answer("verify", spool=written.spool)["logs"][0]
    found = answer("verify", "--from", whole["first_written"], "--to", whole["last_written"], spool=written.spool / "writer-0")
    assert found["logs"][0]["records"] == whole["records"]
    found = answer("verify", "--from", "2999-01-01T00:00:00Z", spool=written.spool)
    assert [log["records"] for log in found["logs"]] == [0, 0]


def test_shipped_files_are_verified_too(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "assay", "audit", "ship", "--once", "--sink", f"jsonl:{out}", "--spool", str(copied)]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    found = run("verify", "--jsonl", str(out), "--json")
    whole = {log["log_id"]: log["records"] for log in answer("verify", spool=copied)["logs"]}
    assert found.returncode == 0
    assert {log["log_id"]: log["records"] for log in json.loads(found.stdout)["logs"]} == whole
    path = next(out.glob("*.jsonl"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5] + lines[7:]))
    said = run("verify", "--jsonl", str(out))
    assert said.returncode == 1
    assert "missing: " in said.stdout
    assert "not whole" in said.stdout
    assert run("verify", "--jsonl", str(out), "--head", "f" * 64).returncode == 2
    assert run("verify", "--jsonl", str(tmp_path / "none")).returncode == 1


def test_what_somebody_sent_moves_no_cursor_and_is_no_markup(tmp_path: Path) -> None:
    evil = "a\x1b[2Jb[/x]c\nd"
    log = open_log(spool_with_key(tmp_path))
    append(log, [label(evil)])
    log.close()
    for arguments in (("tail",), ("find", evil), ("verify",)):
        found = run(*arguments, spool=tmp_path)
        assert found.returncode == 0
        assert "\x1b" not in found.stdout + found.stderr
    assert len(run("tail", "--type", "label", spool=tmp_path).stdout.splitlines()) == 1
    assert "a\\x1b[2Jb[/x]c" in run("find", evil, spool=tmp_path).stdout
    assert answer("find", evil, spool=tmp_path)[0]["transaction_id"] == evil


# --- replay


def test_every_score_of_both_transports_is_computed_again_to_the_bit(written: Written) -> None:
    found = answer("replay", "--all", "--bundle", str(bundle_path()), spool=written.spool)
    assert found["different"] == 0
    assert found["same"] + found["cannot"] == 2 * (COUNT + 1)
    assert 0 < found["cannot"] < COUNT + 1, "the second server kept digests of about a half"
    assert ["only a digest" in why for why in found["cannot_because"]] == [True]
    sampled = answer("replay", "--all", "--sample", "7", "--bundle", str(bundle_path()), spool=written.spool)
    assert sampled["same"] + sampled["cannot"] == 7


def test_one_score_is_shown_with_its_bits(written: Written) -> None:
    (found, other) = answer("replay", "tx-0", "--bundle", str(bundle_path()), spool=written.spool / "writer-0") * 2
    assert found["outcome"] == "same"
    assert found["recorded"] == found["recomputed"]
    assert float.fromhex(found["recorded"]["score_hex"]) == written.scores["writer-0"]["tx-0"]
    assert found == other
    again = answer(
        "replay", "--sequence", str(found["sequence"]), "--bundle", str(bundle_path()), spool=written.spool / "writer-0"
    )
    assert again == [found]
    text = run("replay", "tx-0", "--bundle", str(bundle_path()), spool=written.spool / "writer-0").stdout
    assert text.count(found["recorded"]["score_hex"]) == 2
    assert "the same" in text


def digest_only(spool: Path) -> dict[str, Any]:
    lines = run("tail", "-n", "1000", "--type", "score", "--json", spool=spool / "writer-1").stdout.splitlines()
    found: dict[str, Any] = next(item for item in map(json.loads, lines) if item["inputs"] is None)
    assert found["row"] is None
    assert len(found["row_digest"]) == 32
    return found


def test_a_score_with_a_digest_alone_is_computed_again_from_inputs_that_somebody_has(written: Written, tmp_path: Path) -> None:
    record = digest_only(written.spool)
    arguments = ("replay", record["transaction_id"], "--bundle", str(bundle_path()))
    said = run(*arguments, spool=written.spool / "writer-1")
    assert said.returncode == 3
    assert "only a digest of its inputs was kept" in said.stdout
    assert "--row-json" in said.stdout
    # The other server was given the same transaction and kept the row.
    (twin,) = answer("find", record["transaction_id"], spool=written.spool / "writer-0")
    row = tmp_path / "row.json"
    row.write_text(json.dumps(twin["inputs"]))
    (found,) = answer(*arguments, "--row-json", str(row), spool=written.spool / "writer-1")
    assert (found["outcome"], found["row_source"], found["recomputed"]) == ("same", "file", found["recorded"])
    row.write_text(json.dumps({**twin["inputs"], "amount": 1.0}))
    said = run(*arguments, "--row-json", str(row), spool=written.spool / "writer-1")
    assert said.returncode == 3
    assert "not those of this score" in said.stdout
    for text in ("{}", "[1]", "not json", json.dumps({**twin["inputs"], "amount": "x"})):
        row.write_text(text)
        assert run(*arguments, "--row-json", str(row), spool=written.spool / "writer-1").returncode == 1


def forged(spool: Path, change: Any) -> Path:
    """writer-0's log with one score changed, in a chain that fits."""
    from assay.v1 import audit_pb2

    path = segments(spool / "writer-0")[0]
    raw = RawSegment.parse(path.read_bytes())
    records = [list(block.records) for block in raw.blocks]
    for place, record in enumerate(records[1]):
        parsed = audit_pb2.AuditRecord.FromString(record)
        change(parsed)
        records[1][place] = parsed.SerializeToString()
    anew = RawSegment(raw.first_sequence, raw.log_id, raw.key_id, raw.chain, raw.made_us)
    for block, theirs in zip(raw.blocks, records, strict=True):
        anew.add(theirs, block.written_us)
    anew.write(spool / "writer-0")
    assert run("verify", spool=spool / "writer-0").returncode == 0
    return spool / "writer-0"


def one_bit_more(record: Any) -> None:
    if record.HasField("score"):
        (bits,) = struct.unpack("<q", struct.pack("<d", record.score.score))
        (record.score.score,) = struct.unpack("<d", struct.pack("<q", bits + 1))


def another_decision(record: Any) -> None:
    if record.HasField("score"):
        record.score.decision = 4 if record.score.decision == 1 else 1


def another_runtime(record: Any) -> None:
    one_bit_more(record)
    if record.HasField("lineage"):
        record.lineage.runtime = "assay 0.0.1, ONNX Runtime 1.0.0, aarch64, cpu"


def another_device(record: Any) -> None:
    one_bit_more(record)
    if record.HasField("lineage"):
        record.lineage.runtime = record.lineage.runtime.removesuffix("cpu") + "cuda:0"


@pytest.mark.parametrize(
    ("change", "exit_code", "why"),
    [
        (one_bit_more, 1, "the score differs"),
        (another_decision, 1, "the score is the same, the decision differs"),
        (another_runtime, 3, "Bits are promised per build and CPU class"),
        (another_device, 3, "Bits are promised per device"),
    ],
)
def test_a_difference_is_found_and_called_one_only_where_bits_are_promised(
    copied: Path, change: Any, exit_code: int, why: str
) -> None:
    said = run("replay", "tx-0", "--bundle", str(bundle_path()), spool=forged(copied, change))
    assert said.returncode == exit_code, said.stderr
    assert why in said.stdout
    differs = exit_code == 1
    everything = ("replay", "--all", "--bundle", str(bundle_path()))
    found = answer(*everything, spool=copied / "writer-0", exit_code=int(differs))
    assert (found["different"], len(found["different_ones"])) == (int(differs), int(differs))


def a_bit_more_beside_others(record: Any) -> None:
    one_bit_more(record)
    if record.HasField("score"):
        record.score.batch_rows = 7


def much_more_beside_others(record: Any) -> None:
    a_bit_more_beside_others(record)
    if record.HasField("score"):
        record.score.score += 1e-3


@pytest.mark.parametrize(
    ("change", "exit_code", "why"),
    [
        (a_bit_more_beside_others, 3, "lets scores move with the batch, by 1e-06, and it ran with 7 rows"),
        (much_more_beside_others, 1, "the score differs"),
        (one_bit_more, 1, "the score differs"),  # it ran alone
    ],
)
def test_what_the_batch_may_have_moved_is_not_called_different(
    copied: Path, tmp_path: Path, change: Any, exit_code: int, why: str
) -> None:
    bundle = shutil.copytree(bundle_path(), tmp_path / "card_fraud" / "1")
    manifest = (bundle / "manifest.yaml").read_text()
    assert "batch_tolerance: 0.0\n" in manifest
    (bundle / "manifest.yaml").write_text(manifest.replace("batch_tolerance: 0.0\n", "batch_tolerance: 1.0e-06\n"))
    said = run("replay", "tx-0", "--bundle", str(bundle), spool=forged(copied, change))
    assert said.returncode == exit_code, said.stderr
    assert why in said.stdout


def test_another_model_is_no_replay(written: Written, copied: Path) -> None:
    def other_model(record: Any) -> None:
        if record.HasField("lineage"):
            record.lineage.provenance.model_sha256 = "0" * 64

    said = run("replay", "tx-0", "--bundle", str(bundle_path()), spool=forged(copied, other_model))
    assert said.returncode == 3
    assert "another model gave it" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        ((), 2, "say what to replay"),
        (("tx-0", "--all", "--bundle", "B"), 2, "say what to replay"),
        (("tx-0",), 2, "--bundle"),
        (("tx-0", "--sample", "3", "--bundle", "B"), 2, "--sample goes with --all"),
        (("nobody", "--bundle", "B"), 4, "no such score"),
        (("--sequence", "9999999", "--bundle", "B"), 4, "no such score"),
        (("tx-0", "--bundle", "/no/such/bundle"), 1, "no such directory"),
    ],
)
def test_what_cannot_be_asked_is_said(written: Written, arguments: tuple[str, ...], exit_code: int, said: str) -> None:
    found = run("replay", *(str(bundle_path()) if item == "B" else item for item in arguments), spool=written.spool)
    assert found.returncode == exit_code
    assert said in found.stderr


# --- where the log is


def test_the_spool_is_found_by_the_configuration(written: Written, tmp_path: Path) -> None:
    assert run("tail", "-n", "1", ASSAY_AUDIT__SPOOL=str(written.spool)).stdout.count("\n") == 1
    file = tmp_path / "assay.yaml"
    file.write_text(f"audit: {{spool: '{written.spool}'}}\n")
    assert run("tail", "-n", "1", "--config", str(file)).stdout.count("\n") == 1
    state = tmp_path / "state"
    shutil.copytree(written.spool, state / "assay" / "audit")
    assert run("tail", "-n", "1", XDG_STATE_HOME=str(state)).stdout.count("\n") == 1
    assert run("tail", "-n", "1", spool=segments(written.spool / "writer-1")[0]).stdout.count("\n") == 1


def test_where_no_log_is_each_command_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for spool in (tmp_path / "none", tmp_path / "empty"):
        for arguments in (("tail",), ("find", "x"), ("verify",), ("replay", "x", "--bundle", str(bundle_path()))):
            found = run(*arguments, spool=spool)
            assert found.returncode == 1, arguments
            assert "--spool" in found.stderr
            assert found.stdout == ""
