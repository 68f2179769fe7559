"""assay.client as a strict type checker sees it: what users write is typed, what is wrong is found, nothing public is Any."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import assay.client

# `# says:` is what mypy must report on the line; every other line must be clean.
PROGRAM = """
from datetime import UTC, datetime
from assay.client import AsyncClient, Client, Decision, NoAnswer, Refused, Score, Tls, Transaction

def by_amount(transaction: Transaction, error: NoAnswer) -> Decision:
    reveal_type(error.violations)  # says: tuple[assay.client.errors.Violation, ...]
    return Decision.REVIEW

transaction = Transaction("t1", datetime.now(UTC), {"customer_id": "596"}, {"amount_minor": 5716, "is_abroad": True})
Transaction("t1", "now", {}, {})  # says: [arg-type]
Transaction("t1", datetime.now(UTC), {}, {"amount": None})  # says: [dict-item]

with Client("scoring:50051", tls=Tls(ca="ca.pem"), timeout_s=0.2, fallback=by_amount) as client:
    reveal_type(client)  # says: assay.client.client.Client
    score = client.score(transaction, model="card_fraud", include_inputs=True, metadata=[("a", "b"), ("c-bin", b"d")])
    reveal_type(score)  # says: assay.client.values.Score
    reveal_type(score.score)  # says: float | None
    reveal_type(score.inputs)  # says: typing.Mapping[str, bool | int | float | str] | None
    reveal_type(client.score_batch([transaction]))  # says: list[assay.client.values.Score | assay.client.values.Refused]
    reveal_type(client.is_serving())  # says: bool
    client.score(transaction, modle="card_fraud")  # says: [call-arg]
    client.score(transaction, priority="urgent")  # says: [arg-type]
    score.score = 1.0  # says: [misc]
Client("scoring:50051", fallback="APPROVE")  # says: [arg-type]
Client("scoring:50051", fallback=Decision.REVIEW)

async def main() -> None:
    async with AsyncClient("scoring:50051") as client:
        reveal_type(await client.score(transaction))  # says: assay.client.values.Score
        rows = await client.score_batch([transaction])
        reveal_type(rows[0])  # says: assay.client.values.Score | assay.client.values.Refused
        client.score(transaction)  # says: [unused-coroutine]
"""


def test_a_users_program_is_checked_strictly(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--no-incremental", str(file)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False)
    messages: dict[int, str] = {}
    for line in found.stdout.splitlines():
        if match := re.match(r".*program\.py:(\d+): (?:error|note): (.*)", line):
            messages[int(match[1])] = messages.get(int(match[1]), "") + match[2]
    expected = {
        number: match[1] for number, line in enumerate(PROGRAM.splitlines(), 1) if (match := re.search(r"# says: (.*)$", line))
    }
    assert messages.keys() == expected.keys(), found.stdout + found.stderr
    for number, words in expected.items():
        assert words in messages[number], f"line {number}: {messages[number]}"


def parts_of(hint: Any) -> set[Any]:
    """A type and all that it is made of."""
    return {hint if isinstance(hint, type) or hint is Any else type(hint)}.union(
        *(parts_of(part) for part in typing.get_args(hint) if not isinstance(part, (str, bytes)))
    )


@pytest.mark.parametrize("name", assay.client.__all__)
def test_no_public_signature_has_any(name: str) -> None:
    public = getattr(assay.client, name)
    if not isinstance(public, type):
        assert Any not in parts_of(public)
        return
    functions = [value for key, value in vars(public).items() if callable(value) and (key == "__init__" or key[0] != "_")]
    for hinted in [public, *functions]:
        for parameter, hint in typing.get_type_hints(hinted).items():
            assert Any not in parts_of(hint), f"{name}: {hinted} {parameter}: {hint}"
