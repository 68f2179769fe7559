"""The `assay` command as users run it: help, configuration, the demo, one-shot scores, signals, exit codes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay import __version__
from assay.cli.main import SUBCOMMANDS, load_subcommand
from assay.cli.score import parse_value
from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.server import WAIT_S, ServeProcess, wait_until

DEMO_ARGUMENTS = [
    *("--id", "cli-1", "--time", DEMO_TIME.strftime("%Y-%m-%dT%H:%M:%SZ"), "--feature", "amount_minor=5716"),
    *("--entity", f"customer_id={DEMO_CUSTOMER_ID}", "--entity", f"terminal_id={DEMO_TERMINAL_ID}"),
]


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_") or name == "ASSAY_CACHE_DIR"}
    command = [sys.executable, "-m", "assay", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, env={**clean, **environment}, check=False
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ServeProcess]:
    with ServeProcess("--drain-delay", "0") as server:
        yield server


def score(server: ServeProcess, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return run("score", "--target", server.target, *arguments, **more)


# --- help, version, completion


def test_help_lists_every_command_and_the_exit_codes() -> None:
    found = run("--help", COLUMNS="200")
    assert found.returncode == 0
    for name, (_, _, text) in SUBCOMMANDS.items():
        assert name in found.stdout
        assert text in found.stdout
    assert "Exit codes" in found.stdout
    assert "\x1b" not in found.stdout


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_listed_help_is_the_commands_own(name: str) -> None:
    """main.py repeats the first line of each command's help so that `assay --help` need not import it."""
    assert (load_subcommand(name).help or "").strip().partition("\n")[0] == SUBCOMMANDS[name][2]
    found = run(name, "--help", COLUMNS="200")
    assert found.returncode == 0
    assert "Usage: " in found.stdout


def test_a_path_is_no_markup_and_moves_no_cursor() -> None:
    evil = "/none/a\x1b[2Jb[/x]c"  # short: no table folds it, wherever the tests run
    for found, exit_code, count in (
        (run("model", "check", evil), 4, 2),
        (run("doctor", ASSAY_MODELS=evil, COLUMNS="1000"), 3, 2),
        (run("config", "print", ASSAY_MODELS=evil, COLUMNS="1000"), 0, 1),
    ):
        said = found.stdout + found.stderr
        assert (found.returncode, said.count("a\\x1b[2Jb[/x]c"), "\x1b" in said) == (exit_code, count, False), said


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom assay.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'grpc', 'numpy', 'pydantic', 'onnx', 'pyarrow', 'assay._core', 'google.protobuf'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr


def test_version_names_what_matters() -> None:
    found = run("--version")
    assert found.returncode == 0
    for word in (f"assay {__version__}", "core ", "onnxruntime", "grpcio ", "Python "):
        assert word in found.stdout
    assert "missing" not in found.stdout


def test_a_wrong_command_or_option_is_usage() -> None:
    found = run("scor")
    assert found.returncode == 2
    assert "score" in found.stderr  # did you mean
    assert run("serve", "--no-such-option").returncode == 2
    assert "Usage: " in run().stdout + run().stderr


def test_the_shell_completes_commands_and_options() -> None:
    code = "import sys; sys.argv[0] = 'assay'; from assay.cli.main import main; main()"

    def complete(words: str, position: int) -> list[str]:
        environment = {**os.environ, "_ASSAY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        return found.stdout.split()

    assert complete("assay s", 1) == ["serve", "score", "status"]
    assert "--entity" in complete("assay score --en", 2)
    assert complete("assay config p", 2) == ["print"]


# --- config


def test_config_print_says_where_values_come_from(tmp_path: Path) -> None:
    file = tmp_path / "assay.yaml"
    file.write_text("engine: {slots: 5000}\nstore: {url: 'mysql://user:hunter2@host/0'}\n")
    arguments = ("config", "print", "--config", str(file), "--set", "drain.delay_s=1")
    found = run(*arguments, "--json", ASSAY_LISTEN="127.0.0.1:7")
    assert found.returncode == 0
    value = json.loads(found.stdout)
    assert value["engine.slots"] == {"value": 5000, "source": f"file {file}"}
    assert value["listen"] == {"value": "127.0.0.1:7", "source": "environment"}
    assert value["drain.delay_s"] == {"value": 1.0, "source": "command line"}
    assert value["lane.batch_rows_max"]["source"] == "default"
    human = run(*arguments)
    assert human.stderr == ""
    assert "engine.slots" in human.stdout
    assert "hunter2" not in found.stdout + found.stderr + human.stdout
    # In a pipe no line is broken: each key stands on the line of its value.
    assert all(re.match(r"[a-z_.]+ ", line) for line in human.stdout.splitlines()), human.stdout


def test_wrong_configuration_is_usage_with_a_hint() -> None:
    found = run("config", "print", "--set", "engine.slotz=5")
    assert found.returncode == 2
    assert "did you mean engine.slots?" in found.stderr
    found = run("serve", ASSAY_LISTN="x")
    assert found.returncode == 2
    assert "did you mean ASSAY_LISTEN?" in found.stderr
    assert "Traceback" not in found.stderr


def test_markup_in_a_value_is_text() -> None:
    """A path with brackets once ended the command with a MarkupError."""
    found = run("config", "print", "--set", "admin_socket=[/x]")
    assert found.returncode == 0, found.stderr
    assert "[/x]" in found.stdout


def test_config_schema_is_json_schema() -> None:
    assert json.loads(run("config", "schema").stdout)["properties"]["listen"]["type"] == "string"
    schema = json.loads(run("config", "schema", "--feature-set").stdout)
    assert {"entities", "views", "inputs"} <= set(schema["properties"])


# --- score


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5716", int, 5716),
        ("-5", int, -5),
        ("+5", int, 5),
        ("007", int, 7),
        ("9223372036854775807", int, 2**63 - 1),
        ("-9223372036854775808", int, -(2**63)),
        ("57.16", float, 57.16),
        ("1e3", float, 1000.0),
        (".5", float, 0.5),
        ("-0.5", float, -0.5),
        ("5.", float, 5.0),
        ("true", bool, True),
        ("false", bool, False),
        ("True", str, "True"),
        ("nan", str, "nan"),
        ("inf", str, "inf"),
        ("1_000", str, "1_000"),
        ("12-34", str, "12-34"),
        ("", str, ""),
        ("web", str, "web"),
        ('"5716"', str, "5716"),
        ('"', str, '"'),
        ("\N{ARABIC-INDIC DIGIT THREE}", str, "\N{ARABIC-INDIC DIGIT THREE}"),
    ],
)
def test_values_are_typed_by_their_looks(text: str, kind: type, value: Any) -> None:
    parsed = parse_value(text)
    assert (type(parsed), parsed) == (kind, value)


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="int64"):
        parse_value("1" * 5000)
    with pytest.raises(ValueError, match="float64"):
        parse_value("1e400")


def test_score_as_json_and_for_people(server: ServeProcess) -> None:
    found = score(server, *DEMO_ARGUMENTS, "--json")
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert answer["transaction_id"] == "cli-1"
    assert 0 <= answer["score"] <= 1
    assert answer["provenance"]["model"] == "card_fraud"
    assert len(answer["inputs"]) == 15
    assert "timings" in answer
    human = score(server, *DEMO_ARGUMENTS, COLUMNS="200")
    assert human.returncode == 0
    assert human.stderr == ""
    for word in (
        repr(answer["score"]),
        "APPROVE",
        "card_fraud 1",
        "customer_tx_count_30d",
        "infer",
        answer["provenance"]["schema_hash"][:16],
    ):
        assert word in human.stdout
    assert "\x1b" not in human.stdout


def test_score_from_a_file_and_from_stdin(server: ServeProcess, tmp_path: Path) -> None:
    request = {
        "transactionId": "file-1",
        "eventTime": "2018-05-09T10:30:00Z",
        "entities": {"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID},
        "features": {"amount_minor": {"int64Value": "5716"}},
    }
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    for found in (
        score(server, "--request", str(file), "--json"),
        score(server, "--request", "-", "--json", stdin=json.dumps(request)),
    ):
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["transaction_id"] == "file-1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--entity", "customer_id"], "NAME=VALUE"),
        (["--feature", "=5"], "NAME=VALUE"),
        (["--feature", "a=9223372036854775808"], "int64"),
        (["--feature", "a=-9223372036854775809"], "int64"),
        (["--feature", f"a={'1' * 5000}"], "int64"),
        (["--tls-certificate", "own.pem"], "--tls-key"),
        (["--tls-ca", "no-such-ca.pem"], "no-such-ca.pem"),
        (["--timeout", "61"], "60"),
        (["--time", "yesterday"], "2018-04-01T00:00:31Z"),
        (["--time", "2018-04-01T00:00:31"], "time zone"),
        (["--time", ""], "2018-04-01T00:00:31Z"),
        (["--entity", "customer_id=1", "--entity", "customer_id=2"], "given twice"),
        (["--request", "no-such-file.json"], "No such file"),
        (["--request", "-", "--id", "1"], "do not go with"),
        (["--request", "-"], "not a ScoreRequest"),
    ],
)
def test_wrong_usage_of_score(arguments: list[str], says: str) -> None:
    found = run("score", "--target", "127.0.0.1:1", *arguments, stdin="{]")
    assert found.returncode == 2, found.stderr
    assert says in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr


def test_a_refusal_is_decoded(server: ServeProcess) -> None:
    arguments = ["--entity", "customer_id=1", "--feature", "amount_minor=57.16"]
    found = score(server, *arguments, COLUMNS="200")
    assert found.returncode == 1
    assert 'features["amount_minor"] WRONG_TYPE' in found.stderr
    assert 'entities["terminal_id"] MISSING_ENTITY' in found.stderr
    assert "docs/errors.md" in found.stderr
    assert "57.16" not in found.stderr
    assert found.stderr.count("WRONG_TYPE") == found.stderr.count("expected int64") == 1, "the first line repeats the list"
    value = json.loads(score(server, *arguments, "--json").stdout)["error"]
    assert (value["code"], value["reason"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert {item["reason"] for item in value["violations"]} == {"WRONG_TYPE", "MISSING_ENTITY"}
    found = score(server, *DEMO_ARGUMENTS, "--model", "other")
    assert found.returncode == 1
    assert "UNKNOWN_MODEL" in found.stderr


def test_no_server_is_unhealthy() -> None:
    found = run("score", "--target", "127.0.0.1:1", *DEMO_ARGUMENTS)
    assert found.returncode == 3
    assert "assay serve" in found.stderr


# --- serve


def test_the_lines_that_serve_prints_can_be_pasted(transport: str) -> None:
    command = [
        sys.executable,
        "-m",
        "assay",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-socket",
        "off",
        "--set",
        "log_format=text",
        "--set",
        "metrics_listen=off",
        "--set",
        f"transport={transport}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line.strip())
                if line.startswith("Ctrl-C"):
                    break
            (pasted,) = [line for line in lines if re.match(r"\S*assay score ", line)]
            found = subprocess.run([*shlex.split(pasted), "--json"], capture_output=True, text=True, timeout=60, check=False)
            assert found.returncode == 0, found.stderr
            expected = json.loads(found.stdout)
            (grpcurl,) = [line for line in lines if line.startswith("grpcurl ")]
            words = shlex.split(grpcurl)
            assert json.loads(words[words.index("-d") + 1])["entities"]["customer_id"] == DEMO_CUSTOMER_ID
            tool = shutil.which("grpcurl") or shutil.which("grpcurl", path=Path(sys.executable).parent)
            if tool is not None:
                answer = subprocess.run([tool, *words[1:]], capture_output=True, text=True, timeout=30, check=True).stdout
                assert json.loads(answer)["score"] == expected["score"]
                # Details of an error are readable, too: reflection knows their types.
                words[words.index("-d") + 1] = "{}"
                refused = subprocess.run([tool, *words[1:]], capture_output=True, text=True, timeout=30, check=False)
                assert re.search(r'"reason": ?"INVALID_REQUEST"', refused.stderr), refused.stderr
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()


def test_the_demo_meets_full_windows(server: ServeProcess) -> None:
    inputs = {item["name"]: item["value"] for item in json.loads(score(server, *DEMO_ARGUMENTS, "--json").stdout)["inputs"]}
    assert inputs["customer_tx_count_30d"]["double_value"] > 50
    assert inputs["terminal_tx_count_30d"]["double_value"] > 5


def load_until(target: str, stop: threading.Event, failures: list[Any], answered: list[int]) -> None:
    with grpc.insecure_channel(target, options=[("grpc.enable_retries", 0)]) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        request = scoring_pb2.ScoreRequest(
            transaction_id="load", entities={"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID}
        )
        request.event_time.FromDatetime(DEMO_TIME)
        request.features["amount_minor"].int64_value = 5716
        while not stop.is_set():
            try:
                stub.Score(request, timeout=10)
                answered[0] += 1
            except grpc.RpcError as error:
                failures.append((error.code(), error.details()))


def test_sigterm_drains_a_loaded_server_and_exits_0() -> None:
    """The load goes on through the lame duck and stops, as a balancer's would, when health says NOT_SERVING for a while."""
    with ServeProcess("--drain-delay", "3") as server, grpc.insecure_channel(server.target) as channel:
        stop, failures, answered = threading.Event(), [], [0]
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        threads = [threading.Thread(target=load_until, args=(server.target, stop, failures, answered)) for _ in range(4)]
        for thread in threads:
            thread.start()
        server.signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        in_lame_duck = answered[0]
        wait_until(lambda: answered[0] > in_lame_duck + 20 or bool(failures), "calls are answered in the lame duck")
        stop.set()
        for thread in threads:
            thread.join(WAIT_S)
        assert list(watch) == []
        assert server.wait() == 0
        assert failures == []
        assert "drained" in server.stderr()


def test_a_second_signal_stops_at_once() -> None:
    with ServeProcess("--drain-delay", "60") as server:
        server.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in server.stderr(), "the drain begins")
        server.signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM


def test_events_outlive_a_restart(tmp_path: Path) -> None:
    """RecordEvents over the admin socket, SIGTERM, start again on the same snapshot: the window still counts them."""
    store = f"embedded:{tmp_path / 'store.snapshot'}"

    def count(server: ServeProcess) -> float:
        answer = json.loads(score(server, *DEMO_ARGUMENTS, "--json").stdout)
        return float({item["name"]: item["value"] for item in answer["inputs"]}["customer_tx_count_1d"]["double_value"])

    with ServeProcess("--store", store, "--drain-delay", "0") as server:
        assert count(server) == 1
        events = []
        for i in range(5):
            event = feature_pb2.Event(
                transaction_id=f"e{i}", entities={"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID}
            )
            event.event_time.FromSeconds(int(DEMO_TIME.timestamp()) - 60 * (i + 1))
            event.features["amount_minor"].int64_value = 1000
            events.append(event)
        with grpc.insecure_channel(server.admin_target) as channel:
            stub = feature_pb2_grpc.FeatureServiceStub(channel)
            assert stub.RecordEvents(iter([feature_pb2.RecordEventsRequest(events=events)]), timeout=10).recorded_count == 5
        assert count(server) == 6
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    with ServeProcess("--store", store, "--drain-delay", "0") as server:
        assert count(server) == 6


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--model", "no/such/bundle", "--audit-sink", "none"], 1, "no/such/bundle"),
        (["--model", "no/such/bundle"], 2, "audit.sink"),
        (["--store", "embedded:/no/such/directory/x"], 1, "/no/such/directory"),
        (["--store", "mysql://host"], 1, "not supported"),
        (["--store", "redis://user:hunter2@host"], 2, "ASSAY_STORE__URL"),
        (["--set", "store.url=redis://host/0?password=hunter2"], 2, "ASSAY_STORE__URL"),
        (["--audit-sink", "redis://:hunter2@host/0?stream=s"], 2, "ASSAY_AUDIT__SINK"),
        (["--set", "audit.sink=redis://:hunter2@host/0?stream=s"], 2, "ASSAY_AUDIT__SINK"),
        (["--log-level", "loud"], 2, "log_level"),
        (["--listen", "nonsense"], 2, "HOST:PORT"),
        (["--config", "no-such.yaml"], 2, "no-such.yaml"),
    ],
)
def test_serve_says_why_it_cannot_start(arguments: list[str], code: int, says: str) -> None:
    found = run("serve", "--listen", "127.0.0.1:0", "--admin-socket", "off", *arguments, COLUMNS="200")
    assert found.returncode == code, found.stderr
    assert says in found.stderr
    assert "Traceback" not in found.stderr
    assert "hunter2" not in found.stderr


def test_servers_that_share_a_port_have_admin_sockets_of_their_own(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with ServeProcess("--set", "reuse_port=true", "--admin-socket", "auto", environment=environment) as first:
        arguments = ("--set", "reuse_port=true", "--admin-socket", "auto", "--listen", first.target)
        with ServeProcess(*arguments, environment=environment) as second:
            assert second.target == first.target
            assert second.ready["admin_socket"] != first.ready["admin_socket"]
            for server in (first, second):
                with grpc.insecure_channel(server.admin_target) as channel:
                    status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status
                    assert status == health_pb2.HealthCheckResponse.SERVING


def test_a_port_that_is_taken(server: ServeProcess) -> None:
    found = run("serve", "--listen", server.target, "--admin-socket", "off")
    assert found.returncode == 2
    assert "choose another" in found.stderr
