"""`assay features describe`, `diff`, and `show --target`: a server and a file say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assay.cli.features import app
from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TIME
from assay.demo.paths import bundle_path, feature_set_path
from assay.features.feature_set import FeatureSet
from tests.support.server import FEATURE_SET, LocalServer, ServeProcess

AT = ("--at", DEMO_TIME.isoformat())


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"NO_COLOR": "1", "COLUMNS": "200"})


@pytest.fixture(scope="module")
def demo() -> Iterator[ServeProcess]:
    with ServeProcess("--drain-delay", "0") as server:
        yield server


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(FEATURE_SET)
    return path


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("entity", [("customer_id", DEMO_CUSTOMER_ID), ("terminal_id", "unheard-of")])
def test_a_server_shows_what_its_store_shows(demo: ServeProcess, form: tuple[str, ...], entity: tuple[str, str]) -> None:
    here, there = run("show", *entity, *AT, *form), run("show", *entity, *AT, *form, "--target", demo.admin_target)
    assert (here.exit_code, there.exit_code) == (0, 0), there.output
    assert there.stdout == here.stdout
    assert "tx_count_30d" in there.stdout


def test_the_public_port_shows_nobody_and_says_who_does(demo: ServeProcess) -> None:
    found = run("show", "customer_id", DEMO_CUSTOMER_ID, "--target", demo.target)
    assert (found.exit_code, "WRONG_LISTENER" in found.stderr, "--target unix:PATH" in found.stderr) == (1, True, True)
    found = run("show", "customer_id", DEMO_CUSTOMER_ID, "--target", demo.target, "--json")
    assert json.loads(found.stdout)["error"]["reason"] == "WRONG_LISTENER"


def test_describe_says_the_same_of_a_server_and_of_the_file(demo: ServeProcess) -> None:
    for form in ((), ("--json",)):
        there = run("describe", "--target", demo.target, *form)
        assert (there.exit_code, there.stdout) == (0, run("describe", *form).stdout), there.output
    described = json.loads(there.stdout)
    demo_set = FeatureSet.load(feature_set_path())
    assert described["schema_hash"] == demo_set.schema_hash
    assert [view["view_hash"] for view in described["views"]] == [demo_set.view_hash(name).hex() for name in demo_set.views]
    text = run("describe").stdout
    for name in (*demo_set.request_features, *demo_set.derived, *demo_set.input_names, *demo_set.views):
        assert name in text


def test_diff_of_the_same_is_0_and_of_another_is_4(demo: ServeProcess, tmp_path: Path, tiny: Path) -> None:
    sources = (feature_set_path(), bundle_path(), demo.target)  # a file, a bundle, a server
    for source in sources:
        found = run("diff", sources[0], source)
        assert (found.exit_code, found.stdout.splitlines()[-1]) == (0, "to do: nothing"), found.output
    edited = tmp_path / "edited.yaml"
    edited.write_text(feature_set_path().read_text().replace("delay: 7d", "delay: 6d").replace('version: "1"', 'version: "2"'))
    found = run("diff", demo.target, edited)
    assert found.exit_code == 4
    assert "card_fraud 1 -> card_fraud 2" in found.stdout
    assert "  changed  delay: 7d -> 6d" in found.stdout
    assert "  view customer: kept" in found.stdout
    assert "  view terminal: new ones beside the old" in found.stdout
    document = json.loads(run("diff", demo.target, edited, "--json").stdout)
    old, new = FeatureSet.load(feature_set_path()), FeatureSet.load(edited)
    assert document["changes"] == [{"part": "view terminal", "name": "delay", "change": "changed", "how": "7d -> 6d"}]
    assert document["views"][1] == {
        "name": "terminal",
        "rows": "new",
        "old_view_hash": old.view_hash("terminal").hex(),
        "new_view_hash": new.view_hash("terminal").hex(),
    }
    assert (document["touches_models"], len(document["to_do"])) == (True, 2)
    assert document["old"] == {"name": "card_fraud", "version": "1", "schema_hash": old.schema_hash}


def test_what_is_wrong_is_said(tmp_path: Path, tiny: Path) -> None:
    for arguments, exit_code, says in (
        (("diff", tiny, tmp_path / "none.yaml"), 1, "cannot be read"),
        (("diff", tiny, tmp_path), 1, "feature_set.yaml: cannot be read"),
        (("diff", tiny, "127.0.0.1:1"), 3, "is a server running at 127.0.0.1:1?"),
        (("describe", "--target", "127.0.0.1:1", "--feature-set", tiny), 2, "give one of them"),
        (
            ("show", "customer_id", "1", "--target", "127.0.0.1:1", "--store", "embedded:x"),
            2,
            "leave --store and --feature-set out",
        ),
    ):
        found = run(*arguments)
        assert (found.exit_code, says in " ".join(found.stderr.split())) == (exit_code, True), found.output


def test_one_of_several_models_is_asked_for() -> None:
    with LocalServer() as server:
        found = run("describe", "--target", server.addresses.public, "--model", "puppet", "--version", "1", "--json")
        assert json.loads(found.stdout)["name"] == "tiny"
        found = run("describe", "--target", server.addresses.public, "--model", "none")
        assert (found.exit_code, "UNKNOWN_MODEL" in found.stderr) == (1, True)
