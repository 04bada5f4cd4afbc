"""Files in the style of other exporters than PyTorch's, and operator sets newer than those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import bnaudit
from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = onnx.defs.onnx_opset_version()


def tf2onnx() -> onnx.ModelProto:
    """Keras: pictures as (N, H, W, C), transposed around each layer; names with ':0' and slashes."""
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    keras = "model/bn/FusedBatchNormV3"
    nodes = [
        helper.make_node("Transpose", ["input_1"], ["t"], perm=[0, 3, 1, 2], name="Transpose__1"),
        helper.make_node(
            "Conv", ["t", "kernel"], ["c"], name="model/conv/Conv2D",
            auto_pad="SAME_UPPER", kernel_shape=[3, 3], strides=[2, 2],
        ),
        helper.make_node(
            "BatchNormalization", ["c", *(f"model/bn/{n}/read:0" for n in names)], [f"{keras}:0"],
            name=keras, epsilon=1e-3,
        ),
        helper.make_node("Relu", [f"{keras}:0"], ["r"], name="model/relu/Relu"),
        helper.make_node("Transpose", ["r"], ["n"], perm=[0, 2, 3, 1], name="Transpose__9"),
        helper.make_node("ReduceMean", ["n"], ["m"], axes=[1, 2], keepdims=0, name="model/gap/Mean"),
        helper.make_node("MatMul", ["m", "dense"], ["d"], name="model/dense/MatMul"),
        helper.make_node("Softmax", ["d"], ["Identity:0"], axis=-1),
    ]  # fmt: skip
    values = models.batchnorm_constants("x", 4).values()
    constants = {f"model/bn/{n}/read:0": v for n, v in zip(names, values, strict=True)} | {
        "kernel": models.normal(4, 3, 3, 3),
        "dense": models.normal(4, 5),
    }
    return models.graph_model(
        nodes, {"input_1": ["unk__7", 9, 9, 3]}, ["Identity:0"], constants,
        opset=13, producer_name="tf2onnx", producer_version="1.16.1",
    )  # fmt: skip


def paddle() -> onnx.ModelProto:
    """Paddle: weights in Constant nodes, shapes computed by the graph, names of its own."""
    names = [f"batch_norm_0.{suffix}" for suffix in ("w_0", "b_0", "w_1", "w_2")]
    values = models.batchnorm_constants("bn", 4).values()
    weights = dict(zip(names, values, strict=True))
    weights["conv2d_0.w_0"] = models.normal(4, 3, 3, 3)
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in weights.items()
    ]
    nodes += [
        helper.make_node("Conv", ["x", "conv2d_0.w_0"], ["conv.tmp_0"], name="p2o.Conv.0", pads=[1] * 4),
        helper.make_node(
            "BatchNormalization", ["conv.tmp_0", *names], ["batch_norm_0.tmp_2"],
            name="p2o.BatchNormalization.0",
        ),
        helper.make_node("HardSigmoid", ["batch_norm_0.tmp_2"], ["h"], alpha=0.2),
        helper.make_node("Shape", ["h"], ["s"], name="p2o.Shape.0"),
        helper.make_node("Slice", ["s", "zero", "one", "zero"], ["n"], name="p2o.Slice.0"),
        helper.make_node("Concat", ["n", "rest"], ["target"], axis=0, name="p2o.Concat.0"),
        helper.make_node("Reshape", ["h", "target"], ["y"], name="p2o.Reshape.0"),
    ]  # fmt: skip
    constants = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])}
    return models.graph_model(
        nodes, {"x": [-1, 3, -1, -1]}, ["y"], constants, opset=11, producer_name="PaddlePaddle"
    )


@pytest.mark.parametrize(
    ("proto", "shape", "name"),
    [(tf2onnx(), (6, 9, 9, 3), "model/bn"), (paddle(), (6, 3, 8, 8), "batch_norm_0")],
    ids=["tf2onnx", "paddle"],
)
def test_other_writers(
    tmp_path: Path, proto: onnx.ModelProto, shape: tuple[int, ...], name: str
) -> None:
    path = models.save(tmp_path, proto)
    model = load_onnx(path)
    x = models.normal(*shape)
    models.assert_same(model, path, {model.inputs[0].name: x})
    report = bnaudit.audit(path, data=torch.from_numpy(x), metrics=("first_order",))
    assert [layer.name for layer in report.layers if layer.measured] == [name]


@pytest.mark.parametrize("opset", range(18, NEWEST + 1))
def test_every_newer_operator_set(tmp_path: Path, opset: int) -> None:
    """onnxruntime does not run the newest; the same nodes mean the same in opset 17."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        models.batchnorm("a", "b", "bn"),
        helper.make_node("HardSwish", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Transpose", ["d"], ["e"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["e"], ["f"], to=1),
        helper.make_node("Reshape", ["f", "shape"], ["g"]),
        helper.make_node("Softmax", ["g"], ["y"], axis=1),
    ]
    constants: dict[str, Any] = models.batchnorm_constants("bn", 4) | {
        "w": models.normal(4, 3, 3, 3),
        "shape": np.array([0, -1]),
    }
    shape: dict[str, list[int | str]] = {"x": ["n", 3, 6, 6]}
    old = models.graph_model(nodes, shape, ["y"], constants, opset=17)
    reference = models.save(tmp_path, old, "old.onnx")
    new = models.graph_model(nodes, shape, ["y"], constants, opset=opset, ir_version=13)
    model = load_onnx(models.save(tmp_path, new))
    assert model.facts["opset"] == str(opset)
    models.assert_same(model, reference, {"x": models.normal(2, 3, 6, 6)})
