"""The roles file: strict, and every error names its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay._core import ROLES
from assay.errors import ConfigError
from assay.transport.roles import PRINCIPALS_MAX, ROLE_NAMES, read_roles


def read(tmp_path: Path, text: str) -> dict[str, int]:
    path = tmp_path / "roles.yaml"
    path.write_text(text)
    return dict(read_roles(path))


def test_the_roles_are_the_cores() -> None:
    assert ROLE_NAMES == ("score", "read", "write", "admin")


def test_principals_of_every_kind_have_the_sum_of_their_roles(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
version: 1
principals:
  spiffe://bank.example/ns/payments/sa/core-banking: [score, read]
  dns:events.bank.internal: [write]
  cn:Fraud operations, Zürich: [read, admin]
""",
    )
    assert found == {
        "spiffe://bank.example/ns/payments/sa/core-banking": ROLES["score"] | ROLES["read"],
        "dns:events.bank.internal": ROLES["write"],
        "cn:Fraud operations, Zürich": ROLES["read"] | ROLES["admin"],
    }


def test_nobody_is_somebody(tmp_path: Path) -> None:
    assert read(tmp_path, "version: 1\nprincipals: {}\n") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "version: expected 1"),
        ("version: 2\nprincipals: {}", "version: expected 1"),
        ("version: true\nprincipals: {}", "version: expected 1"),
        ("version: '1'\nprincipals: {}", "version: expected 1"),
        ("version: 1", "principals: expected a mapping"),
        ("version: 1\nprincipals: [a]", "principals: expected a mapping of principals to roles, found list"),
        ("version: 1\nprincipals: {}\nprincipal: {}", "principal: no such key"),
        ("version: 1\nprincipals: {'dns:a': [scores]}", "dns:a: scores is no role; there are score, read, write, admin"),
        ("version: 1\nprincipals: {'dns:a': [anyone]}", "anyone is no role"),
        ("version: 1\nprincipals: {'dns:a': [[score]]}", "is no role"),
        ("version: 1\nprincipals: {'dns:a': score}", "expected a list of roles, found str"),
        ("version: 1\nprincipals: {'dns:a': []}", "expected a list of roles"),
        ("version: 1\nprincipals: {'dns:a': [score], 'dns:a': [admin]}", "the key stands twice"),
        ("version: 1\nprincipals: {'dns:*.bank.internal': [score]}", "no patterns"),
        ("version: 1\nprincipals: {'dns:Bank.internal': [score]}", "lower case"),
        ("version: 1\nprincipals: {'spiffe://bank.example': [score]}", "expected spiffe://TRUST_DOMAIN/PATH"),
        ("version: 1\nprincipals: {'spiffe://bank.example/a/*': [score]}", "no patterns"),
        ("version: 1\nprincipals: {'core.bank.internal': [score]}", "dns:NAME"),
        ("version: 1\nprincipals: {1: [score]}", "dns:NAME"),
        ('version: 1\nprincipals: {"cn:4929 4929 4929 4929\\n": [score]}', "dns:NAME"),
        ("version: 1\nprincipals: &a {'dns:a': *a}", "aliases"),
        ("version: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert says in str(caught.value)
    assert "roles.yaml" in str(caught.value)
    assert "4929 4929" not in str(caught.value)


@pytest.mark.parametrize(("count", "is_taken"), [(PRINCIPALS_MAX, True), (PRINCIPALS_MAX + 1, False)])
def test_there_is_a_greatest_number_of_principals(tmp_path: Path, count: int, is_taken: bool) -> None:
    text = "version: 1\nprincipals:\n" + "".join(f"  dns:c{index}: [score]\n" for index in range(count))
    if is_taken:
        assert len(read(tmp_path, text)) == count
    else:
        with pytest.raises(ConfigError, match=f"the limit is {PRINCIPALS_MAX}"):
            read(tmp_path, text)
