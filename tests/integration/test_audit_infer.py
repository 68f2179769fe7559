"""The audit of ModelInfer: every row has its record, and is computed again from it: a plain model's and a bundle's."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import shutil
import signal
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from assay._core import OrtRuntime
from assay.audit.place import read_key
from assay.audit.records import Entry
from assay.audit.replaying import Outcome, Replayer
from assay.audit.searching import find_transaction
from assay.audit.segments import log_directories
from assay.cli.audit import app
from assay.demo.paths import bundle_path
from assay.inference import open_inference_pb2 as pb
from assay.inference import open_inference_pb2_grpc as rpc
from assay.models.ort_library import find_library
from tests.support.onnx_models import linear_model, tree_model, wide_model
from tests.support.server import ServeProcess

BUNDLE = "card_fraud"
WIDE_COLUMNS = 65  # 260 bytes: the record has a digest alone


@dataclass(frozen=True)
class Written:
    spool: Path
    models: Path
    score: float  # of the bundle's only row


def ask(stub: rpc.GRPCInferenceServiceStub, model: str, rows: np.ndarray, id_: str) -> pb.ModelInferResponse:
    (tensor,) = stub.ModelMetadata(pb.ModelMetadataRequest(name=model), timeout=20).inputs
    request = pb.ModelInferRequest(model_name=model, id=id_, raw_input_contents=[rows.tobytes()])
    request.inputs.add(name=tensor.name, datatype="FP32", shape=rows.shape)
    return stub.ModelInfer(request, timeout=20)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    models, spool = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("audit") / "spool"
    (models / "trees.onnx").write_bytes(tree_model().SerializeToString())
    (models / "linear.onnx").write_bytes(linear_model().SerializeToString())
    (models / "wide.onnx").write_bytes(wide_model(WIDE_COLUMNS).SerializeToString())
    paths = (*(str(models / f"{name}.onnx") for name in ("trees", "linear", "wide")), str(bundle_path()))
    options = [option for path in paths for option in ("--model", path)]
    random = np.random.default_rng(11)
    with ServeProcess(*options, "--drain-delay", "0", "--set", f"audit.spool={spool}") as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = rpc.GRPCInferenceServiceStub(channel)
            ask(stub, "trees", random.normal(size=(3, 3)).astype(np.float32) * 100, "of-trees")
            ask(stub, "linear", random.normal(size=(2, 3)).astype(np.float32), "of-linear")
            ask(stub, "wide", random.normal(size=(1, 3)).astype(np.float32), "of-wide")
            (tensor,) = stub.ModelMetadata(pb.ModelMetadataRequest(name=BUNDLE), timeout=20).inputs
            answer = ask(stub, BUNDLE, random.random((1, *tensor.shape[1:])).astype(np.float32), "of-bundle")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    outputs = dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    return Written(spool, models, float(np.frombuffer(outputs["probabilities"], np.float32)[1]))


def run(*arguments: str, spool: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--spool", str(spool)])
    return done.exit_code, done.stdout


def entries(spool: Path, id_: str) -> list[Entry]:
    return find_transaction(log_directories(spool), id_, pytest.fail)


def test_every_row_has_a_record(written: Written) -> None:
    code, text = run("tail", "-n", "100", "--type", "score", "--json", spool=written.spool)
    found = [json.loads(line) for line in text.splitlines()]
    assert code == 0
    assert [(item["transaction_id"], item["model"]) for item in found] == [
        *[("of-trees", "trees")] * 3,
        *[("of-linear", "linear")] * 2,
        ("of-wide", "wide"),
        ("of-bundle", BUNDLE),
    ]
    assert {(item["call"], item["decision"]) for item in found} == {("model_infer", "unspecified")}
    assert [item["score"] for item in found[:6]] == [None] * 6, "a plain model has no score"
    assert found[6]["score"] == written.score
    assert [item["outputs_digest"] is None for item in found] == [True] * 5 + [False, True]
    assert [len(base64.b64decode(item["outputs"] or "")) for item in found] == [8] * 5 + [0, 16]
    label, _, probability = struct.unpack("<qff", base64.b64decode(found[6]["outputs"]))
    assert (label, probability) == (written.score > 0.5, written.score)
    assert run("verify", spool=written.spool)[0] == 0


def test_each_is_computed_again(written: Written) -> None:
    wide, trees = written.models / "wide.onnx", written.models / "trees.onnx"
    for id_, model in (("of-wide", wide), ("of-trees", trees), ("of-bundle", bundle_path())):
        code, text = run("replay", id_, "--bundle", str(model), "--json", spool=written.spool)
        found = json.loads(text)
        assert code == 0, text
        assert {item["outcome"] for item in found} == {"same"}
    assert found[0]["recomputed"] == found[0]["recorded"]
    assert found[0]["recorded"]["score"] == written.score
    both = [option for name in ("trees.onnx", "linear.onnx") for option in ("--bundle", str(written.models / name))]
    code, text = run("replay", "--all", *both, "--json", spool=written.spool)
    found = json.loads(text)
    assert (code, found["different"], found["same"] + found["cannot"]) == (0, 0, 7)
    assert found["same"] >= 3
    assert any("another model gave it: card_fraud" in why for why in found["cannot_because"])


def test_why_it_cannot_be_told(written: Written, tmp_path: Path) -> None:
    shutil.copytree(written.spool, tmp_path / "spool")
    (tmp_path / "spool" / "key").unlink()
    code, text = run("replay", "of-wide", "--bundle", str(written.models / "wide.onnx"), spool=tmp_path / "spool")
    assert code == 3
    assert "cannot be checked without the log's key" in text
    code, text = run("replay", "of-trees", "--bundle", str(written.models / "linear.onnx"), spool=written.spool)
    assert code == 3
    assert "another model gave it: trees 1" in text


def with_score(entry: Entry, **changes: Any) -> Entry:
    record = copy.deepcopy(entry.record)
    for field, value in changes.items():
        setattr(record.score, field, value)
    return dataclasses.replace(entry, record=record)


def test_a_difference_is_one_only_where_the_batch_cannot_have_made_it(written: Written) -> None:
    paths = [written.models / f"{name}.onnx" for name in ("trees", "linear", "wide")]
    replayer, key = Replayer(paths, OrtRuntime(str(find_library()))), read_key(written.spool)

    def outcome(id_: str, **changes: Any) -> tuple[Outcome, str]:
        replay = replayer.replay(with_score(entries(written.spool, id_)[0], **changes), None, key)
        return replay.outcome, replay.why

    assert outcome("of-trees") == (Outcome.SAME, "")
    assert outcome("of-wide") == (Outcome.SAME, "")
    assert outcome("of-wide", outputs_digest=bytes(16)) == (Outcome.DIFFERENT, "the outputs differ")
    assert outcome("of-trees", outputs=bytes(8), batch_rows=9) == (Outcome.DIFFERENT, "the outputs differ")
    assert outcome("of-linear", outputs=bytes(8), batch_rows=1) == (Outcome.DIFFERENT, "the outputs differ")
    found, why = outcome("of-linear", outputs=bytes(8), batch_rows=2)
    assert found is Outcome.CANNOT
    assert "they may move with the batch" in why
