"""Where an audit log is kept: nobody else's hands in it, and nothing of it lost with the power."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from assay.audit import place
from assay.audit.place import KEY_BYTES, claim_writer
from assay.errors import ConfigError
from tests.support.audit_logs import write_log

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
STRANGER = 12_345


def claim(directory: Path) -> Path:
    claimed = claim_writer(directory)
    claimed.release()
    return claimed.path


def test_what_is_made_is_the_owner_s_alone(tmp_path: Path) -> None:
    writer = claim(tmp_path / "deep" / "spool")
    assert writer == tmp_path / "deep" / "spool" / "writer-0"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (writer, writer.parent, writer.parent / "key")] == [0o700, 0o700, 0o600]
    assert len((writer.parent / "key").read_bytes()) == KEY_BYTES
    assert sorted(os.listdir(writer.parent)) == ["key", "writer-0"]  # no draft


def test_every_name_is_on_the_disk_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[Path, set[str]]] = []
    monkeypatch.setattr(place, "sync_directory", lambda path: synced.append((path, set(os.listdir(path)))))
    spool = tmp_path / "deep" / "spool"
    claim(spool)
    for directory, name in ((tmp_path, "deep"), (tmp_path / "deep", "spool"), (spool, "key"), (spool, "writer-0")):
        assert any(path == directory and name in names for path, names in synced), name
    synced.clear()
    claim(spool)
    assert synced == []


def test_a_draft_of_a_key_that_a_killed_start_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    (tmp_path / f"key.{os.getpid()}").write_bytes(b"")
    (tmp_path / f"key.{'0' * 16}").write_bytes(b"")
    claim(tmp_path)


def test_no_new_key_is_made_beside_a_log(tmp_path: Path) -> None:
    """Its digests and tokens could never be checked again."""
    claim(tmp_path)
    write_log(tmp_path / "writer-0", 1)
    (tmp_path / "key").unlink()
    with pytest.raises(ConfigError, match="put the key back"):
        claim(tmp_path)
    assert not (tmp_path / "key").exists()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    claim(spool)
    for path in (spool / "writer-0", spool):
        path.chmod(0o777)
        with pytest.raises(ConfigError, match=r"audit\.spool: .* can be written by other users"):
            claim(spool)
        path.chmod(0o700)
    claim(spool)


def test_a_link_in_the_place_of_a_writer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    (spool / "writer-0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        claim(spool)
    assert os.listdir(tmp_path / "elsewhere") == []


@needs_root
@pytest.mark.parametrize("name", ["", "writer-0", "key"])
def test_what_belongs_to_another_user_is_refused(tmp_path: Path, name: str) -> None:
    spool = tmp_path / "spool"
    claim(spool)
    os.chown(spool / name, STRANGER, STRANGER)
    with pytest.raises(ConfigError, match="belongs to another user"):
        claim(spool)
