"""`assay features describe`, `diff`, and `show --target`: a server and a file say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner, Result

from assay.cli.features import app
from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TIME
from assay.demo.paths import bundle_path, feature_set_path
from assay.features.feature_set import FeatureSet
from assay.features.served_rows import RowSample, write_sample
from assay.v1 import feature_pb2, feature_pb2_grpc
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


def test_describe_takes_what_diff_takes(demo: ServeProcess, tiny: Path) -> None:
    of_the_demo = run("describe").stdout
    for source in (feature_set_path(), bundle_path(), demo.target):
        assert run("describe", source).stdout == of_the_demo
    assert run("describe", tiny).stdout == run("describe", "--feature-set", tiny).stdout != of_the_demo


def test_show_says_that_its_moment_is_long_after_all_that_is_stored(demo: ServeProcess) -> None:
    for source in ((), ("--target", demo.admin_target)):
        late = run("show", "customer_id", DEMO_CUSTOMER_ID, "--at", "2019-05-09T12:00:00Z", *source)
        assert "nothing of customer counts at this moment: the newest is 365.1 d earlier" in late.stderr
        assert "--at TIME asks for another" in late.stderr
        for quiet in (("show", "customer_id", DEMO_CUSTOMER_ID, *AT), ("show", "customer_id", "unheard-of", *AT)):
            assert run(*quiet, *source).stderr == ""


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
        (("describe", "--target", "127.0.0.1:1", "--feature-set", tiny), 2, "give one of them"),
        (("describe", tiny, "--feature-set", tiny), 2, "give one of them"),
        (("describe", tmp_path / "none.yaml"), 1, "cannot be read"),
        (
            ("show", "customer_id", "1", "--target", "127.0.0.1:1", "--store", "embedded:x"),
            2,
            "leave --store and --feature-set out",
        ),
    ):
        found = run(*arguments)
        assert (found.exit_code, says in " ".join(found.stderr.split())) == (exit_code, True), found.output


def test_no_server_is_3(tmp_path: Path, tiny: Path) -> None:
    out, target = tmp_path / "out", ("--target", "127.0.0.1:1")
    for command in (
        ("show", "customer_id", "1", *target),
        ("describe", *target),
        ("served-rows", "--out", out, *target),
        ("check-skew", "--events", out, *target),
        ("diff", tiny, "127.0.0.1:1"),
        ("diff", "127.0.0.1:1", tiny),
    ):
        found = run(*command)
        assert (found.exit_code, "is a server running at 127.0.0.1:1?" in found.stderr) == (3, True), found.output


@pytest.mark.parametrize(
    ("given", "says"),
    [(["profile"], "--attributes: expected VIEW=FILE"), (["p=a", "p=b"], "--attributes p: given twice")],
)
def test_attributes_are_a_file_for_each_view(tmp_path: Path, given: list[str], says: str) -> None:
    options = [option for text in given for option in ("--attributes", text)]
    for command in (("replay", "--out", tmp_path / "out"), ("check-skew", "--rows", tmp_path / "rows")):
        found = run(*command, "--events", tmp_path / "events", *options)
        assert (found.exit_code, says in found.stderr) == (2, True), found.output


def test_one_of_several_models_is_asked_for() -> None:
    with LocalServer() as server:
        found = run("describe", "--target", server.addresses.public, "--model", "puppet", "--version", "1", "--json")
        assert json.loads(found.stdout)["name"] == "tiny"
        found = run("describe", "--target", server.addresses.public, "--model", "none")
        assert (found.exit_code, "UNKNOWN_MODEL" in found.stderr) == (1, True)


# --- what a server sends, or a file from elsewhere holds, is shown as text

EVIL = "a\x1b[2Jb[/x]c"  # a terminal would be cleared; rich takes [/x] for the end of a tag that nobody began
SHOWN = "a\\x1b[2Jb[/x]c"
EVIL_SET = FEATURE_SET.replace('version: "1"', f'version: "{SHOWN}"\ndescription: "{SHOWN}"').replace(
    "default: web",
    f'default: "{SHOWN}"',  # YAML reads the escape
)


@contextmanager
def answering(**answers: Message) -> Iterator[str]:
    """The target of a FeatureService whose methods answer so, whatever they are asked."""
    servicer = feature_pb2_grpc.FeatureServiceServicer()
    for method, answer in answers.items():
        setattr(servicer, method, lambda _request, _context, answer=answer: answer)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    feature_pb2_grpc.add_FeatureServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def shown(exit_code: int, *arguments: str | Path) -> str:
    """What a command says, once it is known to move no cursor."""
    found = run(*arguments)
    assert (found.exit_code, "\x1b" in found.output) == (exit_code, False), (found.output, found.exception)
    return found.output


def described() -> feature_pb2.DescribeFeatureSetResponse:
    return feature_pb2.DescribeFeatureSetResponse(yaml=EVIL_SET, schema_hash=FeatureSet.parse(EVIL_SET).schema_hash)


def test_foreign_text_of_show() -> None:
    answer = feature_pb2.GetFeaturesResponse()
    answer.provenance.feature_set = answer.provenance.feature_set_version = EVIL
    view = answer.views.add(view=EVIL, entity=EVIL, is_found=True, rejected_reason=EVIL, rejected_detail=EVIL)
    view.values.add(name=EVIL, definition=EVIL, is_null=True)
    with answering(GetFeatures=answer) as target:
        assert shown(0, "show", "customer_id", "1", "--target", target).count(SHOWN) == 7
    with answering(GetFeatures=feature_pb2.GetFeaturesResponse()) as target:
        assert "no view of the feature set is of b[/x]" in shown(0, "show", "b[/x]", "1", "--target", target)


def test_foreign_text_of_describe_and_diff(tiny: Path) -> None:
    with answering(DescribeFeatureSet=described()) as target:
        assert shown(0, "describe", "--target", target).count(SHOWN) == 3  # version, description, a default
        assert shown(4, "diff", tiny, target).count(SHOWN) == 2


def test_foreign_text_of_served_rows_and_check_skew(tmp_path: Path) -> None:
    feature_set = FeatureSet.parse(EVIL_SET)
    answer = feature_pb2.GetServedRowsResponse(input_names=feature_set.input_names)
    answer.provenance.model = answer.provenance.version = EVIL
    answer.provenance.schema_hash = feature_set.schema_hash
    evil, rows, events = tmp_path / "evil.yaml", tmp_path / "rows.jsonl", tmp_path / "events.jsonl"
    evil.write_text(EVIL_SET)
    events.write_text("")
    write_sample(RowSample(EVIL, EVIL, EVIL, EVIL, feature_set.schema_hash, feature_set.input_names, ()), rows)
    with answering(GetServedRows=answer, DescribeFeatureSet=described()) as target:
        assert shown(0, "served-rows", "--target", target, "--out", tmp_path / "out").count(SHOWN) == 2
        for source in (("--target", target), ("--rows", rows)):  # no rows: nothing could be compared
            assert shown(4, "check-skew", *source, "--events", events, "--feature-set", evil).count(SHOWN) == 2
        assert shown(1, "check-skew", "--rows", rows, "--events", events).count(SHOWN) == 4  # of another feature set
