"""Which server a command finds by itself: sockets that killed servers left behind are nobody's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import typer

from assay.cli.admin_target import admin_target


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The runtime directory: one socket that a dead server left, and one that is served."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "assay"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "admin-1.sock"))
    with ExitStack() as alive:
        _serve(alive, folder / "admin-2.sock")
        yield folder


def _serve(stack: ExitStack, path: Path) -> None:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(path))
    listener.listen()


def test_a_socket_that_a_killed_server_left_is_passed_over(sockets: Path) -> None:
    assert admin_target(None) == f"unix:{sockets / 'admin-2.sock'}"


def test_of_several_servers_one_must_be_named(sockets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        _serve(stack, sockets / "admin-3.sock")
        with pytest.raises(typer.Exit):
            admin_target(None)
    told = capsys.readouterr().err
    assert "admin-2.sock" in told
    assert "admin-3.sock" in told
    assert "admin-1.sock" not in told


def test_without_a_live_server_the_command_says_so(sockets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sockets / "admin-2.sock").unlink()
    with pytest.raises(typer.Exit):
        admin_target(None)
    assert "no server has an admin socket" in capsys.readouterr().err


def test_a_target_that_is_named_is_taken_as_it_is() -> None:
    assert admin_target("unix:/nowhere") == "unix:/nowhere"
