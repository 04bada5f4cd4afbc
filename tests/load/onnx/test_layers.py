"""What is one layer in a file: calls that share every tensor, whatever a tool has stored only once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import bnaudit
from bnaudit.inspection import inspect_file
from bnaudit.load.onnx import load_onnx

from . import models
from .test_parameters import EXPORTERS, exported, trained

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = ("weight", "bias", "running_mean", "running_var")


def two_on_one_value(folder: Path, merged: tuple[str, ...], **changes: Any) -> Path:
    """x -> BN a and BN b -> their sum, with some tensors stored once for both."""
    constants = models.batchnorm_constants("a", 3) | models.batchnorm_constants("b", 3, seed=1)
    for suffix in merged:
        del constants[f"b.{suffix}"]
    constants |= changes
    parameters = [f"{'a' if s in merged else 'b'}.{s}" for s in SUFFIXES]
    nodes = [
        models.batchnorm("x", "p", "a", name="first"),
        helper.make_node("BatchNormalization", ["x", *parameters], ["q"], name="second"),
        helper.make_node("Add", ["p", "q"], ["y"]),
    ]
    return models.save(folder, models.graph_model(nodes, {"x": ["n", 3, 4]}, ["y"], constants))


def names(path: Path) -> list[str]:
    """The layers, on which loader and reader have to agree."""
    loaded, read = load_onnx(path), inspect_file(path)
    assert [layer.name for layer in read.batchnorms] == [layer.name for layer in loaded.batchnorms]
    return [layer.name for layer in loaded.batchnorms]


@pytest.mark.parametrize(
    ("merged", "layers"),
    [
        ((), ["a", "b"]),
        (("running_mean", "running_var"), ["a", "b"]),
        (("bias", "running_mean", "running_var"), ["a", "b"]),
        (("weight", "running_mean", "running_var"), ["a", "b"]),
        (("weight", "bias"), ["a", "b"]),
        (SUFFIXES, ["a"]),
    ],
)
def test_equal_tensors_that_are_stored_once(
    tmp_path: Path, merged: tuple[str, ...], layers: list[str]
) -> None:
    assert names(two_on_one_value(tmp_path, merged)) == layers


def test_each_layer_has_its_own_gamma_and_beta(tmp_path: Path) -> None:
    path = two_on_one_value(tmp_path, ("running_mean", "running_var"))
    report = bnaudit.audit(path, batch_size=8)
    assert [(layer.name, layer.call) for layer in report.layers] == [("a", 1), ("b", 1)]
    constants = models.batchnorm_constants("b", 3, seed=1)
    (found,) = [layer for layer in inspect_file(path).batchnorms if layer.name == "b"]
    np.testing.assert_array_equal(np.array(found.gamma, np.float32), constants["b.weight"])
    np.testing.assert_array_equal(np.array(found.beta, np.float32), constants["b.bias"])


def test_a_nan_in_the_second_gamma_does_not_pass(tmp_path: Path) -> None:
    gamma = np.array([1, np.nan, 1], np.float32)
    path = two_on_one_value(tmp_path, ("running_mean", "running_var"), **{"b.weight": gamma})
    assert any("b: gamma has 1 of 3" in note for note in load_onnx(path).notes)


def test_parameters_in_constant_nodes_are_told_apart_by_value(tmp_path: Path) -> None:
    constants = models.batchnorm_constants("bn", 3)
    nodes = []
    for index, gamma in enumerate((np.ones(3), np.ones(3), np.full(3, 2.0))):
        value = numpy_helper.from_array(gamma.astype(np.float32))
        nodes.append(helper.make_node("Constant", [], [f"gamma{index}"], value=value))
        inputs = ["x" if index == 0 else f"v{index}", f"gamma{index}", "bn.bias"]
        inputs += ["bn.running_mean", "bn.running_var"]
        output = "y" if index == 2 else f"v{index + 1}"
        nodes.append(helper.make_node("BatchNormalization", inputs, [output], name=f"call{index}"))
    del constants["bn.weight"]
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], constants))
    assert len(names(path)) == 2


class Twice(nn.Module):
    """A layer without gamma and beta that is called twice: exporters make up new ones for each call."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(torch.relu(self.bn(x)))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_calls_of_a_layer_without_parameters(tmp_path: Path, exporter: str) -> None:
    exported(tmp_path, trained(Twice()), (torch.rand(4, 3),), exporter)
    assert names(tmp_path / "net.onnx") == ["bn"]
