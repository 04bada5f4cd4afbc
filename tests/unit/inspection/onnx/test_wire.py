"""The walker against protobuf itself, and against bytes that are no protobuf."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bnaudit.errors import InputError
from bnaudit.inspection.onnx import inspect_onnx, wire
from bnaudit.inspection.onnx.messages import model_of, tensor_of
from bnaudit.inspection.onnx.values import numbers
from tests.load.onnx import models

if TYPE_CHECKING:
    from pathlib import Path

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXT, TEXT, INT64, st.lists(st.tuples(TEXT, INT64), max_size=3))
def test_a_model_is_read_as_protobuf_writes_it(
    name: str, domain: str, version: int, opsets: list[tuple[str, int]]
) -> None:
    proto = onnx.ModelProto(
        ir_version=version, producer_name=name, domain=domain, model_version=version
    )
    for own, number in opsets:
        proto.opset_import.append(helper.make_opsetid(own, number))
    model = model_of(memoryview(proto.SerializeToString()))
    assert (model.producer, model.domain) == (name, domain)
    assert (model.version, model.ir_version) == (version, version)
    assert model.opsets == dict(opsets)


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=40), st.booleans())
def test_floats_packed_or_raw(values: list[float], raw: bool) -> None:
    array = np.array(values, np.float32)
    proto = helper.make_tensor("t", onnx.TensorProto.FLOAT, array.shape, array)
    if raw:
        proto = numpy_helper.from_array(array, "t")
    tensor = tensor_of(memoryview(proto.SerializeToString()))
    assert tensor.shape == array.shape
    assert numbers(_nowhere(), tensor) == tuple(array.tolist())


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (kind, raw)
        for kind in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT64", "INT32")
        for raw in (False, True)
    ],
)
def test_every_type_that_a_parameter_may_have(kind: str, raw: bool) -> None:
    code = getattr(onnx.TensorProto, kind)
    array = np.array([1.5, -2.0, 0.25, 3.0]).astype(helper.tensor_dtype_to_np_dtype(code))
    proto = numpy_helper.from_array(array) if raw else helper.make_tensor("t", code, (4,), array)
    assert proto.HasField("raw_data") is raw
    tensor = tensor_of(memoryview(proto.SerializeToString()))
    assert numbers(_nowhere(), tensor) == tuple(array.astype(np.float64).tolist())


def _nowhere() -> Path:
    from pathlib import Path

    return Path("nowhere.onnx")


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_damage(data: bytes) -> None:
    with contextlib.suppress(wire.DamagedError):
        for number, value in wire.fields(memoryview(data)):
            assert number > 0
            assert isinstance(value, int) or len(value) <= len(data)


def test_a_number_beyond_64_bits_is_damage() -> None:
    with pytest.raises(wire.DamagedError):
        list(wire.fields(memoryview(b"\x08" + b"\xff" * 11)))


def test_a_graph_in_two_pieces_is_one(tmp_path: Path) -> None:
    """What protobuf says of a field that comes twice."""
    whole = onnx.load(models.one_batchnorm(tmp_path))
    nodes, rest = onnx.ModelProto(), onnx.ModelProto()
    nodes.graph.node.extend(whole.graph.node)
    rest.CopyFrom(whole)
    del rest.graph.node[:]
    path = tmp_path / "pieces.onnx"
    path.write_bytes(rest.SerializeToString() + nodes.SerializeToString())
    assert inspect_onnx(path).batchnorms == inspect_onnx(models.save(tmp_path, whole)).batchnorms


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_and_cut_bytes_end_in_our_own_errors(data: st.DataObject) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = models.one_batchnorm(Path(folder))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
        with contextlib.suppress(InputError):
            inspect_onnx(path)
