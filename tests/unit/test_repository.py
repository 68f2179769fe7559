"""The directory of bundles: what is in it, and what was chosen."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.errors import ConfigError
from assay.models import repository as module
from assay.models.first_bundles import FirstBundle, first_bundles, within
from assay.models.repository import ROUTES_BYTES_MAX, ROUTES_FILE, Repository, Version, VersionState, is_name, version_key
from assay.models.route import Route


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def put(root: Path, name: str, version: str) -> Path:
    path = root / name / version
    path.mkdir(parents=True)
    (path / "manifest.yaml").write_text("format: 1\n")
    return path


def test_versions_are_in_the_order_people_count(repository: Repository) -> None:
    for version in ("10", "9", "1.10", "1.9", "2.5.0-onnx-int8", "2.5.0"):
        put(repository.root, "fraud", version)
    put(repository.root, "card", "1")
    versions = ["1.9", "1.10", "2.5.0", "2.5.0-onnx-int8", "9", "10"]
    assert repository.scan() == [("card", "1"), *(("fraud", version) for version in versions)]


def test_version_key_orders_what_has_no_numbers() -> None:
    assert sorted(["b", "a", "2", "a1", "1", "a-rc"], key=version_key) == ["a", "a1", "a-rc", "b", "1", "2"]


def test_a_version_is_there_once_its_manifest_is(repository: Repository) -> None:
    path = put(repository.root, "fraud", "2")
    (path / "manifest.yaml").unlink()
    assert (repository.scan(), repository.path_of("fraud", "2")) == ([], None)
    (path / "manifest.yaml").write_text("format: 1\n")
    assert (repository.scan(), repository.path_of("fraud", "2")) == ([("fraud", "2")], path)


def test_names_that_are_no_names_lead_nowhere(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    put(elsewhere, "fraud", "1")
    (repository.root / "linked").symlink_to(elsewhere / "fraud")
    (repository.root / "fraud").mkdir()
    (repository.root / "fraud" / "1").symlink_to(elsewhere / "fraud" / "1")
    (repository.root / ".hidden").mkdir()
    put(repository.root, "-x", "1")
    assert repository.scan() == []
    for name, version in [("linked", "1"), ("fraud", "1"), ("..", "."), ("fraud", "../1"), ("", ""), ("fraud\n", "1")]:
        assert repository.path_of(name, version) is None
        assert not (is_name(name) and is_name(version)) or name in ("linked", "fraud")


def test_only_so_many_versions_are_looked_at(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERSIONS_MAX", 3)
    for version in range(5):
        put(repository.root, "fraud", str(version))
    assert repository.scan() == [("fraud", "0"), ("fraud", "1"), ("fraud", "2")]


def test_no_directory_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rollout\.repository: .*not a directory; make it"):
        Repository(tmp_path / "missing")


# --- routes.json


def test_routes_are_kept_model_by_model(repository: Repository) -> None:
    assert repository.routes() == {}
    repository.keep_route("fraud", Route(champion="1"))
    repository.keep_route("card", Route(champion="7", challenger="8", canary_share=0.25))
    repository.keep_route("fraud", Route(champion="2", previous="1"))
    assert repository.routes() == {
        "card": Route(champion="7", challenger="8", canary_share=0.25),
        "fraud": Route(champion="2", previous="1"),
    }
    assert [path.name for path in repository.root.iterdir()] == [ROUTES_FILE]  # nothing left over
    assert os.stat(repository.root / ROUTES_FILE).st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "the file"),
        ("{", "the file"),
        ("[]", "the file"),
        ('{"format": 2, "models": {}}', "format"),
        ('{"format": 1, "models": {"fraud": {}}}', "models.fraud.champion"),
        ('{"format": 1, "models": {"fraud": {"champion": 1}}}', "models.fraud.champion"),
        ('{"format": 1, "models": {"../fraud": {"champion": "1"}}}', "models"),
        ('{"format": 1, "models": {"fraud": {"champion": "1", "canary_share": 2}}}', "models.fraud.canary_share"),
        ('{"format": 1, "models": {"fraud": {"champion": "1", "shadow": "2"}}}', "models.fraud"),
        ('{"format": 1, "models": {"fraud": {"champion": "1", "challenger": "1", "canary_share": 0.5}}}', "models.fraud"),
        (" " * (ROUTES_BYTES_MAX + 1), "larger than"),
    ],
)
def test_a_damaged_choice_is_refused_not_guessed(repository: Repository, text: str, named: str) -> None:
    (repository.root / ROUTES_FILE).write_text(text)
    with pytest.raises(ConfigError) as caught:
        repository.routes()
    assert named in str(caught.value)
    assert "mend it, or remove it" in str(caught.value)
    with pytest.raises(ConfigError):  # what cannot be read is not written over
        repository.keep_route("fraud", Route(champion="1"))
    assert (repository.root / ROUTES_FILE).read_text() == text


def test_a_write_that_fails_leaves_the_former_choice(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.keep_route("fraud", Route(champion="1"))

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        repository.keep_route("fraud", Route(champion="2"))
    assert repository.routes() == {"fraud": Route(champion="1")}
    assert [path.name for path in repository.root.iterdir()] == [ROUTES_FILE]


def test_servers_that_share_the_directory_lose_nothing_of_each_other(repository: Repository) -> None:
    write = (
        "import sys; from pathlib import Path\n"
        "from assay.models.repository import Repository; from assay.models.route import Route\n"
        "for i in range(30): Repository(Path(sys.argv[1])).keep_route(f'{sys.argv[2]}{i}', Route(champion=str(i)))"
    )
    command = [sys.executable, "-c", write, str(repository.root)]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert set(repository.routes()) == {f"{name}{i}" for name in ("a", "b") for i in range(30)}


# --- what became of a version


def test_states_move_as_the_picture_says() -> None:
    one = Version("fraud", "1")
    for state in (VersionState.LOADING, VersionState.FAILED, VersionState.LOADING, VersionState.READY):
        one.move(state, "why" if state is VersionState.FAILED else "")
    assert one.reason == ""
    for state in (VersionState.UNLOADING, VersionState.UNLOADED, VersionState.LOADING):
        one.move(state)
    with pytest.raises(AssertionError, match="loading -> unloaded"):
        one.move(VersionState.UNLOADED)


# --- what a server begins with


def begun(repository: Repository, default_model: str = "") -> list[tuple[str, str, bool]]:
    first = first_bundles(repository, repository.routes(), default_model)
    return [(one.path.parent.name, one.path.name, one.is_needed) for one in first]


def test_of_each_model_the_newest_number_begins(repository: Repository) -> None:
    for version in ("9", "10", "10-int8"):
        put(repository.root, "fraud", version)
    put(repository.root, "card", "a")
    assert begun(repository) == [("card", "a", True), ("fraud", "10", False)]  # of another than the default model none is needed
    assert begun(repository, "fraud") == [("fraud", "10", True), ("card", "a", False)]
    put(repository.root, "card", "b")
    assert begun(repository, "fraud") == [("fraud", "10", True)]  # which of card's is the newest cannot be told


def test_what_was_chosen_begins_its_champion_last(repository: Repository) -> None:
    for version in ("1", "2", "3", "4"):
        put(repository.root, "fraud", version)
    repository.keep_route("fraud", Route(champion="2", previous="1", challenger="4", shadow="9", shadow_share=1.0))
    assert begun(repository) == [("fraud", "1", False), ("fraud", "4", False), ("fraud", "2", True)]


def test_a_start_has_no_more_versions_than_may_be_loaded() -> None:
    first = [FirstBundle(Path(name), is_needed=name.isupper()) for name in ("a", "B", "c", "D")]
    assert within(first, 4) == (first, [])
    assert within(first, 3) == ([first[0], first[1], first[3]], [first[2]])
    assert within(first, 2) == ([first[1], first[3]], [first[0], first[2]])
    with pytest.raises(ConfigError, match=r"rollout.loaded_max: 1, and the server needs 2 versions at once: raise it"):
        within(first, 1)


def test_what_cannot_be_told_is_asked(repository: Repository) -> None:
    with pytest.raises(ConfigError, match=r"has no complete bundle \(NAME/VERSION with manifest\.yaml\); it has: nothing"):
        begun(repository)
    for version in ("blue", "green"):
        put(repository.root, "fraud", version)
    with pytest.raises(ConfigError, match="which of blue, green is the newest cannot be told") as caught:
        begun(repository)
    (repository.root / ROUTES_FILE).write_text(str(caught.value).rpartition("for example ")[2])
    assert begun(repository) == [("fraud", "blue", True)]
    with pytest.raises(ConfigError, match="has no model card; it has: fraud"):
        begun(repository, "card")
    repository.keep_route("fraud", Route(champion="red"))
    with pytest.raises(ConfigError, match="fraud red is the champion, and there is no such bundle: copy it back"):
        begun(repository)


def test_a_directory_that_another_process_keeps_locked_is_not_waited_for(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may read it can do that."""
    monkeypatch.setattr(module, "LOCK_S_MAX", 0.05)
    handle = os.open(repository.root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        with pytest.raises(OSError, match="another process has kept the repository locked"):
            repository.keep_route("fraud", Route(champion="1"))
    finally:
        os.close(handle)
    repository.keep_route("fraud", Route(champion="1"))


def test_what_is_kept_already_is_not_written(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.keep_route("fraud", Route(champion="1"))
    monkeypatch.setattr(module.tempfile, "mkstemp", lambda **_: pytest.fail("it was written"))
    repository.keep_route("fraud", Route(champion="1"))
