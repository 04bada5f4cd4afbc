"""Operator sets before 7: onnxruntime does not run them, numpy knows what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = ("weight", "bias", "running_mean", "running_var")


@pytest.mark.parametrize(
    ("shape", "axis", "aligned"),
    [((3,), 1, (3, 1, 1)), ((3, 4), 1, (3, 4, 1)), ((4,), 3, (4,)), ((4,), None, (4,))],
)
@pytest.mark.parametrize("fed", [False, True])
def test_broadcasting_before_opset_7(
    tmp_path: Path, shape: tuple[int, ...], axis: int | None, aligned: tuple[int, ...], fed: bool
) -> None:
    where: dict[str, Any] = {} if axis is None else {"axis": axis}
    nodes = [
        models.batchnorm("x", "a", "bn", is_test=1),
        helper.make_node("Add", ["a", "b"], ["y"], broadcast=1, **where),
    ]
    b, x = models.normal(*shape), models.normal(2, 3, 4, 4)
    inputs = {"x": (2, 3, 4, 4)} | ({"b": shape} if fed else {})
    constants = models.batchnorm_constants("bn", 3) | ({} if fed else {"b": b})
    proto = models.graph_model(nodes, inputs, ["y"], constants, opset=6)
    model = load_onnx(models.save(tmp_path, proto))
    scale, shift, mean, var = (constants[f"bn.{n}"].reshape(3, 1, 1) for n in _NAMES)
    wanted = (x - mean) / np.sqrt(var + 1e-5) * scale + shift + b.reshape(aligned)
    (result,) = models.computed(model, {"x": x, "b": b})
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)


def test_prelu_before_opset_7_has_a_slope_a_channel(tmp_path: Path) -> None:
    slope, x = models.normal(3), models.normal(2, 3, 3, 3)
    node = helper.make_node("PRelu", ["x", "slope"], ["y"])
    proto = models.graph_model([node], {"x": (2, 3, 3, 3)}, ["y"], {"slope": slope}, opset=6)
    (result,) = models.computed(load_onnx(models.save(tmp_path, proto)), {"x": x})
    np.testing.assert_allclose(result, np.where(x < 0, x * slope.reshape(3, 1, 1), x), rtol=1e-6)


@pytest.mark.parametrize("opset", range(1, 7))
def test_the_oldest_operator_sets(tmp_path: Path, opset: int) -> None:
    hint: dict[str, Any] = {"consumed_inputs": [0]} if opset < 6 else {}
    axis: dict[str, Any] = {} if opset < 4 else {"axis": 1}
    reshape = helper.make_node("Reshape", ["c"], ["d"], shape=[0, -1])
    if opset >= 5:
        reshape = helper.make_node("Reshape", ["c", "shape"], ["d"])
    kind = "FLOAT" if opset < 6 else 1
    nodes = [
        models.batchnorm("x", "a", "bn", is_test=1, **hint),
        helper.make_node("Relu", ["a"], ["b"], **hint),
        helper.make_node("Concat", ["b", "b"], ["c"], **axis),
        reshape,
        helper.make_node("Gemm", ["d", "w", "k"], ["e"], broadcast=1),
        helper.make_node("Cast", ["e"], ["y"], to=kind),
    ]
    constants = models.batchnorm_constants("bn", 3) | {
        "w": models.normal(6 * 4, 5),
        "k": models.normal(5),
        "shape": np.array([0, -1]),
    }
    proto = models.graph_model(
        nodes, {"x": (2, 3, 2, 2)}, ["y"], constants, opset=opset, ir_version=3
    )
    x = models.normal(2, 3, 2, 2)
    scale, shift, mean, var = (constants[f"bn.{n}"].reshape(3, 1, 1) for n in _NAMES)
    b = np.maximum((x - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)
    wanted = np.concatenate([b, b], 1).reshape(2, -1) @ constants["w"] + constants["k"]
    model = load_onnx(models.save(tmp_path, proto))
    (result,) = models.computed(model, {"x": x})
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [7, 8])
@pytest.mark.parametrize("batch", [2, "n"])
@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4), (3,)])
def test_statistics_of_each_position(
    tmp_path: Path, shape: tuple[int, ...], batch: int | str, opset: int
) -> None:
    """spatial=0: with values of shape (C, H, W) each position is normalised by its own."""
    constants = {
        name: value.reshape(shape)
        for name, value in models.batchnorm_constants("bn", int(np.prod(shape))).items()
    }
    nodes = [
        models.batchnorm("x", "a", "bn", spatial=0, epsilon=1e-3),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    proto = models.graph_model(
        nodes, {"x": (batch, *shape)}, ["y"], constants, opset=opset, ir_version=3
    )
    path = models.save(tmp_path, proto)
    model = load_onnx(path)
    assert [layer.channels for layer in model.batchnorms] == [np.prod(shape)]
    models.assert_same(model, path, {"x": models.normal(2, *shape)})


def test_one_value_a_channel_behind_a_convolution(tmp_path: Path) -> None:
    """MXNet writes spatial=0 for it; onnxruntime folds it into the convolution, as one of spatial=1."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        models.batchnorm("c", "y", "bn", spatial=0),
    ]
    constants = models.batchnorm_constants("bn", 5) | {"w": models.normal(5, 3, 1, 1)}
    proto = models.graph_model(nodes, {"x": (1, 3, 4, 4)}, ["y"], constants, opset=8, ir_version=3)
    path, x = models.save(tmp_path, proto), models.normal(1, 3, 4, 4)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (result,) = models.computed(load_onnx(path), {"x": x})
    np.testing.assert_allclose(result, session.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)
