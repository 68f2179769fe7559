"""Packing, proving and loading bundles with a real ONNX Runtime; the demo's bundle and history."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from assay import _core
from assay.demo import history
from assay.demo.paths import bundle_path, feature_set_path
from assay.errors import BundleError, InputError
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import input_columns, pack_rows, unpack_rows
from assay.models.bundle import read_bundle
from assay.models.golden import GOLDEN_ROWS_MAX, choose_golden, parse_golden
from assay.models.invariance import buckets_up_to
from assay.models.manifest import BACKGROUND_ROWS_MAX
from assay.models.pack import Commit, Rows
from assay.models.reasons import load_reasons
from assay.models.verify import CHECKS, CheckResult, verify_bundle
from tests.support.bundles import FEATURE_SET, pack, pack_request, runtime, sample_rows
from tests.support.onnx_models import dynamic_int8_model, linear_model, make_model, tree_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tree_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tree_model(), tmp_path_factory.mktemp("models"), created=datetime(2026, 11, 23, tzinfo=UTC))


def test_every_check_passes_and_is_named(tree_bundle: Path) -> None:
    results: list[CheckResult] = []
    verify_bundle(tree_bundle, runtime(), observe=results.append)
    assert tuple(result.check for result in results) == CHECKS
    assert all(result.detail and result.refusal is None for result in results)


def test_verified_model_scores_like_onnxruntime(tree_bundle: Path) -> None:
    verified = verify_bundle(tree_bundle, runtime(), batch_rows_max=32)
    tensors = {"input": np.array([[50, 0, 1], [50, 0, 7], [150, 1, 1], [150, 1, 7]], np.float32)}
    rows = pack_rows(verified.plan, tensors)
    ours = verified.model.run_rows(verified.plan, rows, verified.score_output)[:, verified.score_column]
    theirs = onnxruntime.InferenceSession(verified.bundle.model_bytes).run(["score"], tensors)[0][:, 0]
    assert ours.astype(np.float32).tobytes() == theirs.tobytes()
    assert verified.thresholds == ((0.4, _core.DECISIONS["challenge"]), (0.7, _core.DECISIONS["decline"]))
    assert (verified.name, verified.version, verified.timeout_ns_default) == ("tiny", "1", 1_000_000_000)


def test_warm_up_measures_a_row(tree_bundle: Path) -> None:
    verified = verify_bundle(tree_bundle, runtime(), batch_rows_max=8)
    assert 0 < verified.row_run_ns < 1_000_000_000
    assert verified.has_fixed_work


def test_same_input_gives_same_bytes(tree_bundle: Path, tmp_path: Path) -> None:
    again = pack(tree_model(), tmp_path, created=datetime(2026, 11, 23, tzinfo=UTC))
    for file in sorted(tree_bundle.iterdir()):
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_manifest_hashes_everything(tree_bundle: Path) -> None:
    bundle = read_bundle(tree_bundle)
    assert {file.name for file in tree_bundle.iterdir()} == {"manifest.yaml", *bundle.manifest.files}
    for name, record in bundle.manifest.files.items():
        data = (tree_bundle / name).read_bytes()
        assert (record.sha256, record.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert bundle.model_sha256 == bundle.manifest.files["model.onnx"].sha256
    assert bundle.manifest.feature_set.schema_hash == FeatureSet.parse(FEATURE_SET.decode()).schema_hash


def test_baseline_counts_the_rows(tree_bundle: Path) -> None:
    baseline = verify_bundle(tree_bundle, runtime(), batch_rows_max=8).baseline
    amounts = sample_rows().columns["amount"].astype(np.float32)
    histogram = baseline.inputs["amount"]
    edges = np.array(histogram.edges)
    assert histogram.counts[0] == int((amounts < edges[0]).sum())
    assert histogram.counts[-1] == int((amounts >= edges[-1]).sum())
    assert sum(histogram.counts) == baseline.rows == len(amounts)
    # The four leaves' sums: 0.09375 and 0.3125 below the thresholds, 0.59375 above the first, 0.8125 above both.
    counts = sample_rows().columns["tx_count_1d"]
    assert baseline.alert_rates["challenge"] == pytest.approx(np.mean(amounts >= 100))
    assert baseline.alert_rates["decline"] == pytest.approx(np.mean((amounts >= 100) & (counts >= 3)))


def test_version_never_changes_unless_forced(tmp_path: Path) -> None:
    from assay.models.pack import pack_bundle

    first = pack(tree_model(), tmp_path)
    before = read_bundle(first).manifest_sha256
    with pytest.raises(BundleError, match="this version exists"):
        pack(linear_model(), tmp_path)
    assert read_bundle(first).manifest_sha256 == before
    pack_bundle(pack_request(linear_model()), tmp_path, runtime(), is_replacing=True)
    assert read_bundle(first).manifest_sha256 != before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"], "scratch was left behind"


def test_failed_pack_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        pack(dynamic_int8_model(), tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_dynamic_int8_is_refused_for_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"a score moves by .* in a batch of \d+ with .* neighbours") as caught:
        pack(dynamic_int8_model(), tmp_path)
    assert "quantise statically" in str(caught.value)


def batch_relative_model() -> onnx.ModelProto:
    """A model that normalises over the batch: what BatchNormalization left in training mode would do."""
    nodes = [
        onnx.helper.make_node("ReduceMean", ["input"], ["mean"], axes=[0], keepdims=1),
        onnx.helper.make_node("Sub", ["input", "mean"], ["relative"]),
        onnx.helper.make_node("ReduceMean", ["relative"], ["margin"], axes=[1], keepdims=1),
        onnx.helper.make_node("Sigmoid", ["margin"], ["score"]),
    ]
    return make_model(nodes)


def clipping_model() -> onnx.ModelProto:
    """Changes a score only when a neighbour is wild: ordinary rows never reach the clip, so only the wild ones tell."""
    limit = onnx.numpy_helper.from_array(np.array(1e4, np.float32), "limit")
    small = onnx.numpy_helper.from_array(np.array(1e-3, np.float32), "small")
    nodes = [
        onnx.helper.make_node("ReduceMax", ["input"], ["top"], keepdims=0),
        onnx.helper.make_node("Max", ["top", "limit"], ["range"]),
        onnx.helper.make_node("Div", ["limit", "range"], ["factor"]),
        onnx.helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1], keepdims=1),
        onnx.helper.make_node("Mul", ["mean", "factor"], ["scaled"]),
        onnx.helper.make_node("Mul", ["scaled", "small"], ["margin"]),
        onnx.helper.make_node("Sigmoid", ["margin"], ["score"]),
    ]
    return make_model(nodes, initializers=[limit, small])


def test_batch_dependence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"a score moves by .* with (ordinary|wild) neighbours"):
        pack(batch_relative_model(), tmp_path)
    with pytest.raises(BundleError, match=r"a score moves by .* with wild neighbours"):
        pack(clipping_model(), tmp_path)


def test_declared_tolerance_is_what_is_allowed(tmp_path: Path) -> None:
    """The linear model is within 1e-6 of itself in any batch; a tolerance is a bound, not a wish."""
    pack(linear_model(), tmp_path, batch_tolerance=1e-6)
    with pytest.raises(BundleError, match=r"the manifest allows 0\.001"):
        pack(dynamic_int8_model(), tmp_path, name="int8", batch_tolerance=1e-3)


def nan_model() -> onnx.ModelProto:
    """log(amount - 100): NaN below 100."""
    shift = onnx.numpy_helper.from_array(np.array([100, 0, 0], np.float32), "shift")
    nodes = [
        onnx.helper.make_node("Sub", ["input", "shift"], ["moved"]),
        onnx.helper.make_node("Log", ["moved"], ["logs"]),
        onnx.helper.make_node("ReduceMean", ["logs"], ["score"], axes=[1], keepdims=1),
    ]
    return make_model(nodes, initializers=[shift])


def test_scores_must_be_finite(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="NaN or infinite"):
        pack(nan_model(), tmp_path)


def test_unknown_score_output_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model has score"):
        pack(tree_model(), tmp_path, score_output="probabilities")
    with pytest.raises(BundleError, match=r"1 column\(s\)|score is in column 1"):
        pack(tree_model(), tmp_path, score_column=1)


def test_rows_must_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no numeric column for tx_count_1d"):
        pack(tree_model(), tmp_path, rows=Rows(columns={"amount": np.ones(3), "is_night": np.ones(3)}))
    with pytest.raises(InputError, match=r"expected float32 \(3, 3\), got float64"):
        pack(tree_model(), tmp_path, rows=Rows(tensors={"input": np.ones((3, 3))}))
    with pytest.raises(InputError, match="at least one row"):
        pack(tree_model(), tmp_path, rows=Rows(tensors={"input": np.ones((0, 3), np.float32)}))


def test_model_with_several_inputs(tmp_path: Path) -> None:
    """Two ONNX inputs share the feature set's inputs, in the order that the mapping names."""
    first = onnx.helper.make_tensor_value_info("behaviour", onnx.TensorProto.FLOAT, ["n", 2])
    second = onnx.helper.make_tensor_value_info("payment", onnx.TensorProto.FLOAT, ["n", 1])
    nodes = [
        onnx.helper.make_node("Concat", ["payment", "behaviour"], ["all"], axis=1),
        onnx.helper.make_node("ReduceMean", ["all"], ["score"], axes=[1], keepdims=1),
    ]
    model = make_model(nodes, inputs=[first, second])
    mapping = {"behaviour": ["tx_count_1d", "is_night"], "payment": ["amount"]}
    with pytest.raises(InputError, match="--input NAME=FEATURE"):
        pack(model, tmp_path)
    bundle = pack(model, tmp_path, tensor_features=mapping)
    verified = verify_bundle(bundle, runtime(), batch_rows_max=16)
    tensors = {"behaviour": np.array([[2, 1]], np.float32), "payment": np.array([[9]], np.float32)}
    rows = pack_rows(verified.plan, tensors)
    assert verified.model.run_rows(verified.plan, rows, 0)[0, 0] == pytest.approx(4.0)
    assert {name: values[0] for name, values in input_columns(verified.plan, rows).items()} == {
        "amount": 9,
        "is_night": 1,
        "tx_count_1d": 2,
    }


def test_dirty_commit_is_recorded(tmp_path: Path) -> None:
    bundle = pack(tree_model(), tmp_path, commit=Commit("unknown", is_dirty=True))
    lineage = read_bundle(bundle).manifest.lineage
    assert (lineage.git_commit, lineage.git_is_dirty) == ("unknown", True)


def test_rows_pack_and_unpack() -> None:
    plan = compile_plan(FeatureSet.load(feature_set_path()))
    random = np.random.default_rng(5)
    tensors = {"input": random.normal(size=(40, 15)).astype(np.float32)}
    assert unpack_rows(plan, pack_rows(plan, tensors))["input"].tobytes() == tensors["input"].tobytes()
    with pytest.raises(ValueError, match="expected the tensors input"):
        pack_rows(plan, {"other": tensors["input"]})


@pytest.mark.parametrize("count", [1, 2, 100, 50_000])
def test_golden_rows_cover_the_high_scores(count: int) -> None:
    random = np.random.default_rng(6)
    rows = np.arange(count, dtype=np.uint64).view(np.uint8).reshape(count, 8)
    scores = random.beta(0.05, 5, count)
    chosen = choose_golden(rows, scores)
    assert 1 <= len(chosen) <= min(count, GOLDEN_ROWS_MAX)
    assert (np.diff(chosen) > 0).all()
    assert int(np.argmax(scores)) in chosen
    assert int(np.argmin(scores)) in chosen


def test_golden_rows_are_distinct() -> None:
    rows = np.zeros((1_000, 8), np.uint8)
    assert len(choose_golden(rows, np.zeros(1_000))) == 1


def test_buckets() -> None:
    assert buckets_up_to(1) == (1,)
    assert buckets_up_to(8) == (1, 2, 4, 8)
    assert buckets_up_to(100) == (1, 2, 4, 8, 16, 32, 64, 100)


# --- the demo


def test_demo_bundle_verifies_and_is_small() -> None:
    verified = verify_bundle(bundle_path(), runtime())
    assert (verified.name, verified.version) == ("card_fraud", "1")
    assert verified.bundle.manifest.batch_tolerance == 0.0
    assert sum(len(data) for data in verified.bundle.files.values()) < 300_000


def test_demo_feature_set_is_the_example() -> None:
    """Two copies, one truth: the packaged one must be the example's, byte for byte (copy it and train again)."""
    assert feature_set_path().read_bytes() == (ROOT / "examples" / "card_fraud" / "feature_set.yaml").read_bytes()


@pytest.mark.parametrize("example", ["card_fraud", "online_payments"])
def test_examples_have_a_reason_for_every_player(example: str) -> None:
    directory = ROOT / "examples" / example
    inputs = FeatureSet.load(directory / "feature_set.yaml").input_names
    found = load_reasons(directory / "reasons.yaml", inputs)
    assert found.groups is not None
    assert found.reasons is not None
    grouped = {name for members in found.groups.values() for name in members}
    assert {reason.player for reason in found.reasons.codes} == {*found.groups, *(set(inputs) - grouped)}
    assert any(reason.customer is None for reason in found.reasons.codes), "some of what the model sees would teach a thief"


def test_the_demo_is_explained_in_the_words_of_the_example() -> None:
    verified = verify_bundle(bundle_path(), runtime(), batch_rows_max=4)
    said = load_reasons(ROOT / "examples" / "card_fraud" / "reasons.yaml", verified.plan.input_names)
    section, explanation = verified.bundle.manifest.explanation, verified.explanation
    assert section is not None
    assert explanation is not None
    assert (section.groups, section.reasons) == (said.groups, said.reasons)
    assert len(explanation.background) == BACKGROUND_ROWS_MAX
    assert None not in explanation.reasons
    assert explanation.players == (
        *("amount", "payment_time", "customer_activity", "customer_spending", "terminal_activity", "terminal_risk"),
    )


def test_demo_golden_scores_reach_every_decision() -> None:
    verified = verify_bundle(bundle_path(), runtime(), batch_rows_max=4)
    _, scores = parse_golden(verified.bundle.files["golden.npz"], verified.plan)
    assert scores.min() < 0.05
    assert scores.max() >= verified.thresholds[-1][0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def read_demo_row(store: _core.EmbeddedStore) -> dict[str, float]:
    plan = compile_plan(FeatureSet.load(feature_set_path()))
    entities = {"customer_id": history.DEMO_CUSTOMER_ID, "terminal_id": history.DEMO_TERMINAL_ID}
    read = _core.FeatureReader(plan, store).read(
        "demo", int(history.DEMO_TIME.timestamp() * 1e6), entities, {"amount_minor": 5716}
    )
    assert isinstance(read, _core.ReadRow), read
    assert not read.imputed, "the demo's sample request meets empty windows"
    columns = input_columns(plan, np.frombuffer(read.row, np.uint8)[None, :])
    return {name: float(values[0]) for name, values in columns.items()}


def test_demo_history_fills_every_window_and_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    made = history.demo_store(lambda done, total: seen.append((done, total)), cache=tmp_path)
    assert seen[-1][0] == seen[-1][1] > 250_000
    row = read_demo_row(made)
    assert row["customer_tx_count_30d"] > 50
    assert row["terminal_tx_count_30d"] > 20
    assert row["terminal_tx_count_1d"] >= 1

    def no_simulation(parameters: object) -> None:
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(history, "simulate", no_simulation)
    assert read_demo_row(history.demo_store(cache=tmp_path)) == row


def test_damaged_cache_is_made_anew(cache: Path) -> None:
    row = read_demo_row(history.demo_store(cache=cache))
    (snapshot,) = cache.glob("*.snapshot")
    whole = snapshot.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5_000] + b"\x00" * 64 + whole[5_064:]):
        snapshot.write_bytes(damaged)
        assert read_demo_row(history.demo_store(cache=cache)) == row
        assert snapshot.read_bytes() == whole, "the cache was not mended, or the history is not reproducible"


def load_in_process(cache: str, results: multiprocessing.Queue[str]) -> None:
    results.put(json.dumps(read_demo_row(history.demo_store(cache=Path(cache)))))


def test_processes_share_one_making(tmp_path: Path) -> None:
    """Two servers start at once on a fresh machine: both get the same whole history, and one file is left."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=load_in_process, args=(str(tmp_path), results)) for _ in range(2)]
    for process in processes:
        process.start()
    rows = {results.get(timeout=120) for _ in processes}
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert len(rows) == 1
    assert len(list(tmp_path.glob("*.snapshot"))) == 1


def test_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    assert read_demo_row(history.demo_store(cache=blocked / "cache"))["customer_tx_count_30d"] > 50


def test_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ASSAY_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert history.cache_directory() == tmp_path / "assay"
    monkeypatch.setenv("ASSAY_CACHE_DIR", str(tmp_path / "own"))
    assert history.cache_directory() == tmp_path / "own"
