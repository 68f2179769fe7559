"""The decoder of ModelInferRequest against google.protobuf: the same messages accepted, the same rows, damage survived."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from assay import _core
from assay.inference import open_inference_pb2 as pb

SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))
ROWS_MAX = 9
TYPES = _core.TENSOR_TYPES
FLOAT, WHOLE, TRUTH = TYPES["float32"], TYPES["int64"], TYPES["bool"]
INPUTS = (
    _core.InferShape("x", FLOAT, (2, 3), 0),
    _core.InferShape("n", WHOLE, (1,), 1),
    _core.InferShape("b", TRUTH, (), 2),
    _core.InferShape("d", TYPES["float64"], (2,), 3),
    _core.InferShape("i", TYPES["int32"], (3,), 4),
)
OUTPUTS = (
    _core.InferShape("label", WHOLE, (), 0),
    _core.InferShape("free", FLOAT, (-1,), 1),
    _core.InferShape("p", FLOAT, (2,), 2),
)
KINDS = {
    "x": ("FP32", "fp32_contents", np.float32),
    "n": ("INT64", "int64_contents", np.int64),
    "b": ("BOOL", "bool_contents", np.bool_),
    "d": ("FP64", "fp64_contents", np.float64),
    "i": ("INT32", "int_contents", np.int32),
}
PLAN = _core.FeaturePlan.of_tensors([(one.name, one.type, int(np.prod(one.dims, dtype=int))) for one in INPUTS])


def decode(data: bytes) -> _core.DecodedInfer | _core.Refusal:
    return PLAN.decode_infer_request(data, ROWS_MAX, INPUTS, OUTPUTS)


def make_values(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    values = {}
    for one in INPUTS:
        dtype = KINDS[one.name][2]
        shape = (rows, *one.dims)
        values[one.name] = (
            rng.normal(size=shape).astype(dtype) if np.dtype(dtype).kind == "f" else rng.integers(-5, 5, shape).astype(dtype)
        )
    return values


def make_request(values: dict[str, np.ndarray], order: list[str], *, is_raw: bool) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m", model_version="1", id="r")
    for name in order:
        datatype, field, _ = KINDS[name]
        tensor = request.inputs.add(name=name, datatype=datatype, shape=values[name].shape)
        if is_raw:
            request.raw_input_contents.append(values[name].tobytes())
        else:
            getattr(tensor.contents, field).extend(values[name].ravel().tolist())
    return request


def expected_rows(values: dict[str, np.ndarray], rows: int) -> bytes:
    """Each row as the plan lays it out."""
    matrix = np.zeros((rows, PLAN.row_bytes), np.uint8)
    for name, _, offset, _ in PLAN.segments:
        part = np.frombuffer(np.ascontiguousarray(values[name]).tobytes(), np.uint8).reshape(rows, -1)
        matrix[:, offset : offset + part.shape[1]] = part
    return matrix.tobytes()


def violations(refusal: _core.Refusal) -> dict[str, str]:
    status = status_pb2.Status.FromString(refusal.rpc_status)
    request = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(request):
            break
    return {one.field: one.description for one in request.field_violations}


@pytest.mark.parametrize("is_raw", [False, True])
def test_rows_are_what_was_sent(is_raw: bool) -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows = int(rng.integers(1, ROWS_MAX + 1))
        values = make_values(rng, rows)
        order = [one.name for one in INPUTS]
        rng.shuffle(order)
        request = make_request(values, order, is_raw=is_raw)
        request.parameters["priority"].uint64_param = seed % 4
        wanted = [name for name in ("p", "label") if rng.random() < 0.5]
        for name in wanted:
            request.outputs.add(name=name)
        decoded = decode(request.SerializeToString())
        assert isinstance(decoded, _core.DecodedInfer), f"seed {seed}: {decoded}"
        assert decoded.rows == expected_rows(values, rows), f"seed {seed}"
        assert set(decoded.outputs) == set(wanted or ("label", "p")), f"seed {seed}"
        assert decoded.is_bulk == (rows > 1 if seed % 4 == 0 else seed % 4 > 1), f"seed {seed}"
        assert (decoded.model, decoded.version, decoded.id) == ("m", "1", "r")


def test_what_protobuf_refuses_is_refused_and_nothing_else() -> None:
    """Damaged bytes: the verdict of google.protobuf, but for what is wrong with the meaning."""
    request = make_request(make_values(np.random.default_rng(1), 3), ["x", "n", "b", "d", "i"], is_raw=False)
    request.parameters["timeout"].int64_param = 5
    whole = request.SerializeToString()
    malformed = next(row.number for row in _core.CODE_TABLE if row.reason == "MALFORMED_MESSAGE")
    for seed in range(3000):
        chance = random.Random(seed)
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        damaged = bytes(data[: chance.randint(1, len(data))]) if chance.random() < 0.3 else bytes(data)
        try:
            pb.ModelInferRequest.FromString(damaged)
            is_read = True
        except DecodeError:
            is_read = False
        decoded = decode(damaged)
        is_refused = isinstance(decoded, _core.Refusal) and decoded.code == malformed
        assert is_read != is_refused, f"seed {seed}: protobuf {'read' if is_read else 'refused'} it; {decoded}"


def test_contents_without_end_are_refused() -> None:
    """protobuf joins what stands in several; each costs room and a walk for each tensor. Empty ones cost nothing."""
    rng = np.random.default_rng(1)
    data = make_request(make_values(rng, 1), [one.name for one in INPUTS], is_raw=True).SerializeToString()

    def with_contents(part: bytes, count: int) -> bytes:
        contents = (b"\x2a" + bytes([len(part)]) + part) * count
        size = len(contents)
        length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
        return data + b"\x2a" + length + contents

    def text(count: int, part: bytes) -> str:
        found = decode(with_contents(part, count))
        assert isinstance(found, _core.Refusal)  # an input without a name is one too many
        return found.message

    assert "more than 64 entries" in text(65, b"\x0a\x01\x01")
    assert "more than 64 entries" not in text(64, b"\x0a\x01\x01")
    assert "more than 64 entries" not in text(5000, b"")


def test_everything_wrong_is_named_at_once() -> None:
    request = make_request(make_values(np.random.default_rng(1), 2), ["x", "n", "b", "d"], is_raw=False)
    request.inputs[0].datatype = "FP64"
    request.inputs[1].shape[:] = [2, 7]
    request.inputs.add(name="stranger", datatype="FP32", shape=[2])
    request.inputs.add(name="b", datatype="BOOL", shape=[2])
    request.outputs.add(name="free")
    request.parameters["priority"].string_param = "high"
    request.outputs.add(name="p").parameters["classification"].int64_param = 2
    refusal = decode(request.SerializeToString())
    assert isinstance(refusal, _core.Refusal)
    assert set(violations(refusal)) == {
        'inputs["x"].datatype',
        'inputs["n"].shape',
        'inputs["stranger"]',
        'inputs["b"]',
        'inputs["i"]',
        'outputs["free"]',
        'parameters["priority"]',
        'outputs["classification"]',
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda request: request.raw_input_contents.append(b""), "raw_input_contents"),
        (lambda request: request.raw_input_contents.pop(), "raw_input_contents"),
        (lambda request: request.raw_input_contents.__setitem__(0, b"1"), "raw_input_contents"),
        (lambda request: request.raw_input_contents.__setitem__(2, b"\1\2"), "raw_input_contents"),
        (lambda request: request.inputs[0].contents.fp32_contents.append(1), 'inputs["x"].contents'),
        (lambda request: request.inputs[0].shape.__setitem__(0, 3), 'inputs["n"]'),
        (lambda request: setattr(request, "id", "i" * 129), "id"),
    ],
)
def test_raw_contents_that_do_not_fit(change: object, field: str) -> None:
    request = make_request(make_values(np.random.default_rng(1), 2), ["x", "n", "b", "d", "i"], is_raw=True)
    assert isinstance(decode(request.SerializeToString()), _core.DecodedInfer)
    change(request)  # type: ignore[operator]
    refusal = decode(request.SerializeToString())
    assert isinstance(refusal, _core.Refusal)
    assert field in violations(refusal)


@pytest.mark.parametrize(("rows", "reason"), [(0, "EMPTY_BATCH"), (ROWS_MAX, ""), (ROWS_MAX + 1, "TOO_MANY_ROWS")])
def test_the_number_of_rows_has_bounds(rows: int, reason: str) -> None:
    request = make_request(make_values(np.random.default_rng(1), rows), ["x", "n", "b", "d", "i"], is_raw=True)
    decoded = decode(request.SerializeToString())
    found = "" if isinstance(decoded, _core.DecodedInfer) else _core.CODE_TABLE[decoded.code].reason
    assert found == reason


# --- anything a client may write, against what the protocol says of the parsed message


class Spoiler:
    """Changes a good request at one or more places, as clients do."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rows = self.chance.randint(0, ROWS_MAX + 1)
        self.is_raw = self.chance.random() < 0.5
        order = [one.name for one in INPUTS]
        self.chance.shuffle(order)
        self.request = make_request(make_values(np.random.default_rng(seed), self.rows), order, is_raw=self.is_raw)
        changes = (self.shape, self.datatype, self.name, self.contents, self.raw, self.outputs, self.parameter, self.unknown)
        for change in self.chance.choices(changes, k=self.chance.randint(0, 3)):
            change()

    def data(self) -> bytes:
        return self.request.SerializeToString()

    def tensor(self) -> pb.ModelInferRequest.InferInputTensor:
        return self.chance.choice(self.request.inputs)

    def shape(self) -> None:
        shape = self.tensor().shape
        if not shape:  # changed twice
            return
        place = self.chance.randrange(len(shape))
        kind = self.chance.randrange(4)
        if kind == 0:
            shape[place] = self.chance.choice((-1, 0, -(2**63), 2**63 - 1, 2**62, 2**32, 2**31, 3, ROWS_MAX + 1))
        elif kind == 1:
            shape[:] = [self.chance.choice((2**32, 2**62, 2**63 - 1)) for _ in shape]  # their product overflows
        elif kind == 2:
            del shape[place]
        else:
            shape.extend([1] * self.chance.choice((1, 9)))

    def datatype(self) -> None:
        self.tensor().datatype = self.chance.choice(("FP32", "BF16", "BYTES", "INT8", "FP16", "UINT8", "", "fp32", "BOOL"))

    def name(self) -> None:
        self.tensor().name = self.chance.choice(("", "x", "n", "stranger", "X"))

    def contents(self) -> None:
        """More, fewer or other elements; beside raw contents they are too many."""
        tensor = self.tensor()
        mine = getattr(tensor.contents, KINDS[tensor.name][1]) if tensor.name in KINDS else tensor.contents.fp32_contents
        if self.chance.random() < 0.5 and mine:
            del mine[self.chance.randrange(len(mine)) :]
        elif self.chance.random() < 0.5:
            mine.extend([1] * self.chance.randint(1, 3))
        else:
            getattr(tensor.contents, self.chance.choice(("uint_contents", "uint64_contents", "fp64_contents"))).append(1)

    def raw(self) -> None:
        kept = self.request.raw_input_contents
        if self.chance.random() < 0.3 or not kept:
            kept.append(b"12345678"[: self.chance.randint(0, 8)])
        elif self.chance.random() < 0.5:
            kept.pop(self.chance.randrange(len(kept)))
        else:
            place = self.chance.randrange(len(kept))
            kept[place] = kept[place][: self.chance.randint(0, len(kept[place]))] + b"\2" * self.chance.randint(0, 2)

    def outputs(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            self.request.outputs.add(name=self.chance.choice(("label", "p", "free", "none", "")))

    def parameter(self) -> None:
        """`priority` and `timeout` in every form of the oneof; and parameters that mean nothing here."""
        value = self.request.parameters[self.chance.choice(("priority", "timeout", "hint"))]
        form = self.chance.choice(("bool_param", "int64_param", "string_param", "double_param", "uint64_param", "none"))
        numbers = (0, 1, 2, 7, 2**63 - 1)
        if form == "bool_param":
            value.bool_param = self.chance.random() < 0.5
        elif form == "int64_param":
            value.int64_param = self.chance.choice((*numbers, -1, -(2**63)))
        elif form == "uint64_param":
            value.uint64_param = self.chance.choice((*numbers, 2**64 - 1))
        elif form == "double_param":
            value.double_param = self.chance.choice((0.0, 1.0, float("nan")))
        elif form == "string_param":
            value.string_param = self.chance.choice(("", "1", "high"))
        else:
            value.SetInParent()

    def unknown(self) -> None:
        """Fields that this server does not know, of every wire type, in the message and in a tensor."""
        place = self.chance.choice((self.request, self.tensor()))
        place.MergeFromString(self.chance.choice((b"\xa2\x06\x03abc", b"\xa0\x06\x05", b"\xa5\x06abcd", b"\xa1\x06abcdefgh")))


def is_good_parameter(value: pb.InferParameter) -> bool:
    form = value.WhichOneof("parameter_choice")
    return form in (None, "uint64_param") or (form == "int64_param" and value.int64_param >= 0)


def elements_of(tensor: pb.ModelInferRequest.InferInputTensor) -> dict[str, int]:
    return {field.name: len(value) for field, value in tensor.contents.ListFields()}


def is_good(request: pb.ModelInferRequest) -> bool:
    """What the protocol says of it, and of this model: by the message as google.protobuf reads it."""
    tensors = {tensor.name: tensor for tensor in request.inputs}
    if len(request.inputs) != len(INPUTS) or set(tensors) != {one.name for one in INPUTS}:
        return False
    rows = request.inputs[0].shape[0] if request.inputs[0].shape else -1
    if not 1 <= rows <= ROWS_MAX or not all(is_good_parameter(request.parameters[key]) for key in ("priority", "timeout")):
        return False
    wanted = [output.name for output in request.outputs]
    if len(set(wanted)) != len(wanted) or not set(wanted) <= {"label", "p"}:
        return False
    if request.raw_input_contents and len(request.raw_input_contents) != len(request.inputs):
        return False
    for place, tensor in enumerate(request.inputs):
        one = next(one for one in INPUTS if one.name == tensor.name)
        datatype, field, dtype = KINDS[tensor.name]
        elements = rows * int(np.prod(one.dims, dtype=int))
        if tensor.datatype != datatype or list(tensor.shape) != [rows, *one.dims]:
            return False
        if not request.raw_input_contents:
            if elements_of(tensor) != {field: elements}:
                return False
            continue
        raw = request.raw_input_contents[place]
        if tensor.HasField("contents") or len(raw) != elements * np.dtype(dtype).itemsize:
            return False
        if dtype is np.bool_ and set(raw) - {0, 1}:
            return False
    return True


def values_of(request: pb.ModelInferRequest) -> dict[str, np.ndarray]:
    """REQUIRES: is_good()."""
    values = {}
    for place, tensor in enumerate(request.inputs):
        _, field, dtype = KINDS[tensor.name]
        raw = request.raw_input_contents
        flat = np.frombuffer(raw[place], dtype) if raw else np.array(getattr(tensor.contents, field), dtype)
        values[tensor.name] = flat.reshape(list(tensor.shape))
    return values


def test_what_is_accepted_is_what_the_protocol_says() -> None:
    good = 0
    for seed in range(4_000 * SCALE):
        data = Spoiler(seed).data()
        decoded = decode(data)
        request = pb.ModelInferRequest.FromString(data)
        expects = is_good(request)
        assert isinstance(decoded, _core.DecodedInfer) == expects, f"seed {seed}: {decoded}\n{request}"
        if not isinstance(decoded, _core.DecodedInfer):
            assert _core.CODE_TABLE[decoded.code].grpc_code == 3, f"seed {seed}: {decoded}"
            continue
        good += 1
        rows = request.inputs[0].shape[0]
        assert decoded.rows == expected_rows(values_of(request), rows), f"seed {seed}"
        wanted = {output.name for output in request.outputs} or {"label", "p"}
        assert set(decoded.outputs) == wanted, f"seed {seed}"
        value = request.parameters["priority"]
        level = value.uint64_param or value.int64_param
        assert decoded.is_bulk == (rows > 1 if level == 0 else level > 1), f"seed {seed}"
    assert 0.1 < good / (4_000 * SCALE) < 0.9, "the test sends both"
