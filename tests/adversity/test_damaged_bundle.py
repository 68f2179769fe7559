"""Damaged and hostile bundles: each is refused with the file, the reason and what to do, and nothing is loaded or run."""

from __future__ import annotations

import io
import os
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import assay
from assay.demo.paths import bundle_path
from assay.models import bundle as bundle_module
from assay.models.arrays import ARRAYS_MAX, load_arrays, save_arrays
from assay.models.foreign import PICKLE_SUFFIXES, refuse_foreign_model
from assay.models.manifest import FILE_BYTES_MAX
from assay.models.refusal import BundleRefusedError
from assay.models.verify import verify_bundle
from tests.support.bundles import edit_manifest, pack, rewrite, runtime
from tests.support.onnx_models import linear_model, tree_model

FILES = ["manifest.yaml", *FILE_BYTES_MAX]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tree_model(), tmp_path_factory.mktemp("models"))


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "tiny" / "1"))


def refusal(bundle: Path) -> BundleRefusedError:
    with pytest.raises(BundleRefusedError) as caught:
        verify_bundle(bundle, runtime(), batch_rows_max=8)
    assert caught.value.mend
    assert "4111" not in str(caught.value)
    return caught.value


# --- the directory


@pytest.mark.parametrize("name", FILES)
def test_missing_file(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert (refusal(bundle).file, "missing" in refusal(bundle).reason) == (name, True)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_and_flip_is_seen(bundle: Path, name: str) -> None:
    """At 12 places of every file: cut off there, and one bit turned there."""
    whole = (bundle / name).read_bytes()
    for place in np.linspace(0, len(whole) - 2, 12).astype(int):
        (bundle / name).write_bytes(whole[:place])
        assert refusal(bundle).file in (name, *FILES)
        flipped = bytearray(whole)
        flipped[place] ^= 1
        if name == "manifest.yaml":
            # A manifest is not hashed by itself; a bit in it either breaks a rule or changes something that is compared.
            continue
        (bundle / name).write_bytes(bytes(flipped))
        assert refusal(bundle).file == name


def test_unlisted_file(bundle: Path) -> None:
    (bundle / "notes.txt").write_text("hello")
    assert "notes.txt" in refusal(bundle).reason


def test_unlisted_directory(bundle: Path) -> None:
    (bundle / "data").mkdir()
    assert "data" in refusal(bundle).reason


@pytest.mark.parametrize("name", FILES)
def test_symbolic_link(bundle: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (bundle / name).rename(elsewhere)
    (bundle / name).symlink_to(elsewhere)
    assert (refusal(bundle).file, refusal(bundle).reason) == (name, "is a symbolic link")


@pytest.mark.parametrize("name", FILES)
def test_hard_link(bundle: Path, tmp_path: Path, name: str) -> None:
    os.link(bundle / name, tmp_path / "other-name")
    assert refusal(bundle).file == name
    assert "hard links" in refusal(bundle).reason


def test_packaged_demo_may_be_hard_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv and conda install by hard link from their caches: the demo must load from such an installation, and only the demo."""
    package = tmp_path / "site-packages" / "assay"
    place = package / "demo" / "bundle" / "card_fraud" / "1"
    shutil.copytree(bundle_path(), place)
    os.link(place / "model.onnx", tmp_path / "cache-entry")
    assert "hard links" in refusal(place).reason
    monkeypatch.setattr(assay, "__file__", str(package / "__init__.py"))
    assert bundle_module.read_bundle(place).manifest.name == "card_fraud"


def test_named_pipe_does_not_hang(bundle: Path) -> None:
    (bundle / "baseline.json").unlink()
    os.mkfifo(bundle / "baseline.json")
    assert refusal(bundle).reason == "is not a plain file"


def test_directory_in_place_of_a_file(bundle: Path) -> None:
    (bundle / "baseline.json").unlink()
    (bundle / "baseline.json").mkdir()
    assert refusal(bundle).file == "baseline.json"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(bundle: Path) -> None:
    (bundle / "model.onnx").chmod(0)
    assert "cannot be opened" in refusal(bundle).reason


def test_path_that_cannot_be_opened(tmp_path: Path) -> None:
    """A name too long for the file system is an answer, not a traceback."""
    assert "cannot be read" in refusal(tmp_path / ("x" * 300)).reason


def test_oversized_file_is_not_read_whole(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILE_BYTES_MAX, "model.onnx", 1_000)
    with (bundle / "model.onnx").open("wb") as file:
        file.truncate(1_001)
    assert "larger than 1000 bytes" in refusal(bundle).reason
    with (bundle / "model.onnx").open("wb") as file:
        file.truncate(1_000)
    assert "larger" not in refusal(bundle).reason


def test_renamed_bundle_cannot_pass_for_another(bundle: Path) -> None:
    other = bundle.with_name("2")
    bundle.rename(other)
    assert "the directory is tiny/2" in refusal(other).reason
    model = other.parent.with_name("good")
    other.parent.rename(model)
    (model / "2").rename(model / "1")
    assert "the directory is good/1" in refusal(model / "1").reason


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(linear_model().SerializeToString())
    assert "not a directory" in refusal(tmp_path / "model.onnx").reason


def test_what_was_hashed_is_what_is_used(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change after they were read change nothing: there is no second read."""
    read_files = bundle_module.read_files

    def read_then_change(path: Path) -> bundle_module.RawFiles:
        raw = read_files(path)
        for file in path.iterdir():
            file.write_bytes(b"changed")
        return raw

    monkeypatch.setattr("assay.models.verify.read_files", read_then_change)
    assert verify_bundle(bundle, runtime(), batch_rows_max=8).name == "tiny"


# --- pickles: made by hand, because nothing of ours may import the module that writes them

PICKLES = {
    "protocol 2": b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00trueR.",
    "protocol 4": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00.",
    "protocol 5": b"\x80\x05\x95\x00",
    "protocol 0": b"cos\nsystem\n(S'true'\ntR.",
    "gzip": b"\x1f\x8b\x08\x00" + bytes(20),
    "zlib": zlib.compress(b"\x80\x04\x95"),
}


def torch_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [*PICKLES, "torch"])
def test_pickle_is_refused_by_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(PICKLES.get(kind) or torch_archive())
    said = refusal(path)
    assert "pickle" in said.reason
    assert "runs any code" in said.reason
    assert "assay model pack" in said.mend


@pytest.mark.parametrize("suffix", sorted(PICKLE_SUFFIXES))
def test_pickle_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix.upper()}"
    path.write_bytes(b"anything")
    assert "pickle" in refusal(path).reason


def test_pickle_inside_a_bundle(bundle: Path) -> None:
    (bundle / "model.joblib").write_bytes(b"x")
    assert "pickle" in refusal(bundle).reason
    (bundle / "model.joblib").unlink()
    rewrite(bundle, "model.onnx", lambda _: PICKLES["protocol 4"])
    assert refusal(bundle).file == "model.onnx"


@pytest.mark.parametrize(
    ("content", "kind"), [(b"\x89HDF\r\n\x1a\n", "HDF5"), (b"tree\nversion=v4\n", "LightGBM"), (b'{"learner":{}}', "JSON")]
)
def test_other_formats_are_named(content: bytes, kind: str) -> None:
    with pytest.raises(BundleRefusedError, match=kind):
        refuse_foreign_model("model.bin", content)


def test_onnx_is_not_foreign() -> None:
    for model in (tree_model(), linear_model()):
        refuse_foreign_model("model.onnx", model.SerializeToString())


def test_loading_never_reaches_pickle(bundle: Path) -> None:
    """An audit hook sees every global that an unpickler looks up; loading a whole bundle looks up none."""
    looked_up: list[str] = []
    is_watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if is_watching and event == "pickle.find_class":
            looked_up.append(str(arguments))

    sys.addaudithook(watch)
    verify_bundle(bundle, runtime(), batch_rows_max=8)
    is_watching = False
    assert looked_up == []


# --- an attacker who can also rewrite the hashes


def with_manifest(**changes: Any) -> Callable[[Path], None]:
    return lambda bundle: edit_manifest(bundle, lambda value: value.update(changes))


SOUND = np.array([[50, 0, 1], [50, 0, 7], [150, 1, 7]], np.float32)
ENDLESS = np.zeros((1 << 40, 0), np.float32)  # rows for no bytes


def with_background(**arrays: Any) -> Callable[[Path], None]:
    return lambda bundle: rewrite(bundle, "background.npz", lambda data: save_arrays(arrays))


def unlist_background(value: dict[str, Any]) -> None:
    del value["explanation"], value["files"]["background.npz"]


@pytest.mark.parametrize(
    ("damage", "file", "reason"),
    [
        (lambda b: rewrite(b, "feature_set.yaml", lambda data: data.replace(b"100", b"10")), "feature_set.yaml", "schema hash"),
        (lambda b: rewrite(b, "feature_set.yaml", lambda data: data.replace(b'"1"', b'"2"')), "feature_set.yaml", "version"),
        (lambda b: rewrite(b, "feature_set.yaml", lambda data: b"\xff\xfe"), "feature_set.yaml", "UTF-8"),
        (lambda b: rewrite(b, "feature_set.yaml", lambda data: b"a: [1"), "feature_set.yaml", "YAML"),
        (lambda b: rewrite(b, "baseline.json", lambda data: b"{"), "baseline.json", "not JSON"),
        (lambda b: rewrite(b, "baseline.json", lambda data: data.replace(b"is_night", b"is_light")), "baseline.json", "inputs"),
        (lambda b: rewrite(b, "baseline.json", lambda data: drop_count(data)), "baseline.json", "one count more than edges"),
        (lambda b: rewrite(b, "golden.npz", lambda data: b"PK"), "golden.npz", "npz"),
        (lambda b: rewrite(b, "golden.npz", lambda data: golden(score=np.zeros(2))), "golden.npz", "rows"),
        (lambda b: rewrite(b, "golden.npz", lambda data: golden(score=np.full(3, 0.5))), "golden.npz", "score differently"),
        (lambda b: rewrite(b, "golden.npz", lambda data: golden(score=np.full(3, np.nan))), "golden.npz", "NaN"),
        (lambda b: rewrite(b, "golden.npz", lambda data: golden(score=np.zeros(3, np.float32))), "golden.npz", "float64"),
        (lambda b: rewrite(b, "golden.npz", lambda data: golden(tensor_0=np.zeros((3, 4), np.float32))), "golden.npz", "(3, 3)"),
        (lambda b: rewrite(b, "golden.npz", lambda data: golden(tensor_1=np.zeros((3, 4), np.float32))), "golden.npz", "arrays"),
        (lambda b: rewrite(b, "golden.npz", lambda data: golden(tensor_0=ENDLESS)), "golden.npz", "1 to 256 golden rows"),
        (lambda b: rewrite(b, "golden.npz", lambda data: golden(tensor_0=np.float32(1))), "golden.npz", "1 to 256 golden rows"),
        (lambda b: rewrite(b, "background.npz", lambda data: b"PK"), "background.npz", "npz"),
        (lambda b: rewrite(b, "background.npz", lambda data: data[:-40]), "background.npz", "npz"),
        (with_background(), "background.npz", "tensor_0"),
        (with_background(tensor_0=SOUND, score=np.zeros(3)), "background.npz", "found others"),
        (with_background(tensor_0=SOUND[:, :2]), "background.npz", "(3, 3)"),
        (with_background(tensor_0=SOUND.astype(np.float64)), "background.npz", "float32 (3, 3), got float64"),
        (with_background(tensor_0=SOUND[:0]), "background.npz", "expected 1 to 128 background rows"),
        (with_background(tensor_0=np.zeros((129, 3), np.float32)), "background.npz", "expected 1 to 128 background rows"),
        (with_background(tensor_0=ENDLESS), "background.npz", "expected 1 to 128 background rows"),
        (with_background(tensor_0=np.float32(1)), "background.npz", "expected 1 to 128 background rows"),
        (with_background(tensor_0=SOUND), "manifest.yaml", "background_rows: background.npz holds 3 rows, not 128"),
        (with_manifest(explanation={"background_rows": 127}), "manifest.yaml", "holds 128 rows, not 127"),
        (with_manifest(explanation=None), "manifest.yaml", "only with it"),
        (lambda b: edit_manifest(b, unlist_background), "background.npz", "the manifest does not list it"),
        (lambda b: rewrite(b, "model.onnx", lambda data: linear_model().SerializeToString()), "golden.npz", "score differently"),
        (lambda b: rewrite(b, "model.onnx", lambda data: data[:-20]), "model.onnx", ""),
        (with_manifest(outputs=["score", "more"]), "manifest.yaml", "outputs"),
        (with_manifest(score={"output": "score", "column": 7}), "manifest.yaml", "1 column(s)"),
        (
            with_manifest(inputs=[{"tensor": "other", "dtype": "float32", "features": ["amount", "is_night", "tx_count_1d"]}]),
            "",
            "",
        ),
        (with_manifest(inputs=[{"tensor": "input", "dtype": "float32", "features": ["amount", "is_night"]}]), "", "tx_count_1d"),
        (
            with_manifest(inputs=[{"tensor": "input", "dtype": "float64", "features": ["amount", "is_night", "tx_count_1d"]}]),
            "",
            "",
        ),
    ],
)
def test_rewritten_hashes_do_not_help(bundle: Path, damage: Callable[[Path], None], file: str, reason: str) -> None:
    damage(bundle)
    said = refusal(bundle)
    assert not file or said.file == file, said
    assert reason in said.reason, said


def test_handmade_background_passes(bundle: Path) -> None:
    """The counterpart of the cases above, at the limits."""
    for count in (1, 3, 128):
        with_background(tensor_0=np.resize(SOUND, (count, 3)))(bundle)
        with_manifest(explanation={"background_rows": count})(bundle)
        found = verify_bundle(bundle, runtime(), batch_rows_max=8).explanation
        assert found is not None
        assert len(found.background) == count


def test_a_background_that_scores_nothing_is_refused(tmp_path: Path) -> None:
    """Nothing can be compared with it. Here the model is at fault: golden rows are finite, the background is not."""
    bundle = pack(linear_model(), tmp_path, batch_tolerance=1e-6, background_rows=3)
    with_background(tensor_0=np.full((3, 3), np.nan, np.float32))(bundle)
    said = refusal(bundle)
    assert (said.file, "a background row scores NaN" in said.reason) == ("background.npz", True)


def drop_count(data: bytes) -> bytes:
    value = orjson.loads(data)
    value["score"]["counts"].pop()
    return orjson.dumps(value)


def golden(**changes: np.ndarray[Any, Any]) -> bytes:
    """Three rows that the tree model scores 0.09375, 0.3125 and 0.8125."""
    return save_arrays({"tensor_0": SOUND, "score": np.array([0.09375, 0.3125, 0.8125]), **changes})


def test_handmade_golden_rows_pass(bundle: Path) -> None:
    """The counterpart of the cases above: with the right scores the same rewriting is accepted."""
    rewrite(bundle, "golden.npz", lambda data: golden())
    assert verify_bundle(bundle, runtime(), batch_rows_max=8).version == "1"


# --- npz


def npy(header: str, body: bytes) -> bytes:
    text = header.encode() + b" " * ((64 - (10 + len(header) + 1) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_arrays_survive() -> None:
    arrays = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3),
        "i": np.array([[1 << 60]], np.int64),
        "b": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float64),
        "column_major": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    loaded = load_arrays(save_arrays(arrays), "golden.npz")
    assert loaded.keys() == arrays.keys()
    for name, values in arrays.items():
        assert loaded[name].dtype == values.dtype
        assert np.array_equal(loaded[name], values)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            npz({"a.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", PICKLES["protocol 4"])}),
            "objects would need pickle",
        ),
        (npz({"a.npy": npy("{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }", b"\0" * 16)}), "not numbers"),
        # 8 TB by the header, 8 bytes by the file: must not be allocated.
        (npz({"a.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", b"\0" * 8)}), "cut off"),
        (npz({"a.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", b"\0" * 8)}), ""),
        (npz({"a.npy": npy("__import__('os').system('true')", b"")}), "not a whole array"),
        (npz({"a.npy": b"\x93NUM"}), "not a whole array"),
        (npz({"readme.txt": b"hello"}), "no array"),
        (
            npz(
                {
                    f"a{i}.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", b"\0" * 8)
                    for i in range(ARRAYS_MAX + 1)
                }
            ),
            "limits",
        ),
        (npz({"a.npy": b"\0" * (257 << 20)}, zipfile.ZIP_DEFLATED), "limits"),
        (b"", "not a whole npz file"),
        (b"PK\x03\x04" + bytes(100), "not a whole npz file"),
    ],
    ids=["object", "string", "terabytes", "negative", "code", "short", "text", "many", "bomb", "empty", "garbage"],
)
def test_hostile_arrays(data: bytes, reason: str) -> None:
    with pytest.raises(BundleRefusedError) as caught:
        load_arrays(data, "golden.npz")
    assert reason in caught.value.reason


def test_archive_that_lies_about_its_size() -> None:
    """A central directory that promises 8 bytes for a member that unpacks to a million is refused."""
    data = bytearray(npz({"a.npy": b"\0" * 1_000_000}, zipfile.ZIP_DEFLATED))
    place = data.rindex(struct.pack("<L", 1_000_000))
    data[place : place + 4] = struct.pack("<L", 8)
    with pytest.raises(BundleRefusedError):
        load_arrays(bytes(data), "golden.npz")


def test_random_damage_of_arrays_is_an_answer() -> None:
    seed = 7
    random = np.random.default_rng(seed)
    whole = np.frombuffer(golden(), np.uint8)
    for round_number in range(500):
        data = whole.copy()
        places = random.integers(0, len(data), random.integers(1, 6))
        data[places] = random.integers(0, 256, len(places))
        try:
            load_arrays(data.tobytes(), "golden.npz")
        except BundleRefusedError:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}, round {round_number}") from error
