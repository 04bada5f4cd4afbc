"""Scale layers are absorbed exactly where that changes nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper

from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path

S, T = models.normal(3, 1, 1, seed=1), models.normal(3, 1, 1, seed=2)
FEEDS = {"x": models.normal(2, 3, 4, 4)}


def build(folder: Path, nodes: list[Any], outputs: list[str], **changed: Any) -> Path:
    constants = models.batchnorm_constants("bn", 3) | {"s": S, "t": T} | changed
    all_nodes = [models.batchnorm("x", "a", "bn"), *nodes]
    proto = models.graph_model(all_nodes, {"x": ["n", 3, 4, 4]}, outputs, constants)
    return models.save(folder, proto)


MUL = helper.make_node("Mul", ["a", "s"], ["b"])
ADD = helper.make_node("Add", ["t", "b"], ["y"])


def test_scale_and_shift(tmp_path: Path) -> None:
    path = build(tmp_path, [MUL, ADD], ["y"])
    model = load_onnx(path)
    (layer,) = model.module.children()
    constants = models.batchnorm_constants("bn", 3)
    s, t = S.ravel(), T.ravel()
    parameters = dict(layer.named_parameters())
    np.testing.assert_allclose(parameters["weight"].detach(), constants["bn.weight"] * s, rtol=1e-6)
    np.testing.assert_allclose(
        parameters["bias"].detach(), constants["bn.bias"] * s + t, rtol=1e-5, atol=1e-6
    )
    assert any("1 scale layer was absorbed" in note for note in model.notes)
    models.assert_same(model, path, FEEDS)


def test_scale_alone(tmp_path: Path) -> None:
    path = build(tmp_path, [MUL, helper.make_node("Relu", ["b"], ["y"])], ["y"])
    model = load_onnx(path)
    assert len(list(model.module.children())) == 2
    models.assert_same(model, path, FEEDS)


@pytest.mark.parametrize(
    ("nodes", "outputs", "changed"),
    [
        ([MUL, ADD, helper.make_node("Relu", ["a"], ["z"])], ["y", "z"], {}),
        ([MUL, ADD], ["y", "a"], {}),
        ([MUL, ADD], ["y"], {"s": models.normal(4)}),
        ([MUL, ADD], ["y"], {"s": models.normal(3, 4, 4)}),
        ([MUL, ADD], ["y"], {"s": np.array(2.0, np.float32)}),
        ([helper.make_node("Mul", ["a", "a"], ["b"]), ADD], ["y"], {}),
    ],
    ids=["read_twice", "is_an_output", "last_axis", "elementwise", "scalar", "square"],
)
def test_left_alone(
    tmp_path: Path, nodes: list[Any], outputs: list[str], changed: dict[str, Any]
) -> None:
    path = build(tmp_path, nodes, outputs, **changed)
    model = load_onnx(path)
    assert not model.notes
    (path_of_bn,) = (key for key, label in model.labels.items() if label == "bn")
    weight = model.module.get_submodule(path_of_bn).get_parameter("weight")
    np.testing.assert_array_equal(weight.detach(), models.batchnorm_constants("bn", 3)["bn.weight"])
    models.assert_same(model, path, FEEDS)


def test_a_shift_that_others_read_stays(tmp_path: Path) -> None:
    nodes = [MUL, ADD, helper.make_node("Relu", ["b"], ["z"])]
    path = build(tmp_path, nodes, ["y", "z"])
    model = load_onnx(path)
    assert len(model.notes) == 1
    models.assert_same(model, path, FEEDS)
