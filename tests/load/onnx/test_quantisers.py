"""QONNX's quantisers: forward by the definition, backward straight through, and called what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import helper

import bnaudit
from bnaudit.load.onnx import load_onnx
from tests.load.onnx import models

if TYPE_CHECKING:
    from pathlib import Path

DOMAIN = "qonnx.custom_op.general"

# A column of the table of rounding modes in QONNX's documents, row by row.
NUMBERS = [5.5, 2.5, 1.6, 1.1, 1.0, -1.0, -1.1, -1.6, -2.5, -5.5]
ROUNDED = {
    "ROUND": [6, 2, 2, 1, 1, -1, -1, -2, -2, -6],
    "CEIL": [6, 3, 2, 2, 1, -1, -1, -1, -2, -5],
    "FLOOR": [5, 2, 1, 1, 1, -1, -2, -2, -3, -6],
    "UP": [6, 3, 2, 2, 1, -1, -2, -2, -3, -6],
    "DOWN": [5, 2, 1, 1, 1, -1, -1, -1, -2, -5],
    "half_up": [6, 3, 2, 1, 1, -1, -1, -2, -3, -6],
    "HALF_DOWN": [5, 2, 2, 1, 1, -1, -1, -2, -2, -5],
}


def quantiser(operator: str, inputs: list[str], output: str, domain: str, **given: Any) -> Any:
    return helper.make_node(operator, inputs, [output], domain=domain, **given)


def alone(
    path: Path, operator: str, numbers: dict[str, Any], domain: str = DOMAIN, **given: Any
) -> Any:
    """Behind a BatchNorm that changes nothing, as far as float32 can see."""
    nodes = [
        models.batchnorm("x", "z", "bn"),
        quantiser(operator, ["z", *numbers], "y", domain, **given),
    ]
    ones, zeros = np.ones(10, np.float32), np.zeros(10, np.float32)
    constants = {"bn.weight": ones, "bn.bias": zeros, "bn.running_mean": zeros}
    constants |= {"bn.running_var": ones - np.float32(1e-5)}
    constants |= {k: np.array(v, np.float32) for k, v in numbers.items()}
    proto = models.graph_model(nodes, {"x": ["n", 10]}, ["y"], constants)
    proto.opset_import.append(helper.make_opsetid(domain, 1))
    return load_onnx(models.save(path, proto))


@pytest.mark.parametrize("mode", ROUNDED)
@pytest.mark.parametrize("operator", ["Quant", "IntQuant"])
def test_rounding_is_that_of_the_documents(mode: str, operator: str, tmp_path: Path) -> None:
    numbers = {"scale": 1.0, "zero": 0.0, "bits": 8}
    model = alone(tmp_path, operator, numbers, rounding_mode=mode)
    x = torch.tensor([NUMBERS])
    with torch.no_grad():
        found = model.module(x * (1 + 1e-7)) if mode == "none" else model.module(x)
    assert found.tolist()[0] == ROUNDED[mode]


@pytest.mark.parametrize("domain", [DOMAIN, "finn.custom_op.general", "onnx.brevitas"])
@pytest.mark.parametrize(
    ("signed", "narrow", "low", "high"),
    [(1, 0, -8, 7), (1, 1, -7, 7), (0, 0, 0, 15), (0, 1, 0, 14)],
)
def test_range_scale_and_gradient(
    domain: str, signed: int, narrow: int, low: int, high: int, tmp_path: Path
) -> None:
    numbers = {"scale": 0.25, "zero": 1.0, "bits": 4}
    model = alone(tmp_path, "Quant", numbers, domain, signed=signed, narrow=narrow)
    x = torch.linspace(-6, 6, 80).reshape(8, 10).requires_grad_()
    y = model.module(x)
    steps = np.clip(np.asarray(x.tolist()) / 0.25 + 1.0, low, high)
    np.testing.assert_allclose(y.tolist(), (np.round(steps) - 1.0) * 0.25, atol=1e-6)
    y.sum().backward()
    assert x.grad is not None
    inside = (steps > low) & (steps < high)
    np.testing.assert_allclose(x.grad.numpy()[inside], 1.0, rtol=1e-4)
    outside = ~inside & (np.abs(steps - low) + np.abs(steps - high) >= high - low)
    assert np.abs(x.grad.numpy()[outside]).max(initial=0.0) <= 0.5 + 1e-3
    (note,) = (n for n in model.notes if "straight-through" in n)
    assert note.startswith("1 quantiser nodes (Quant)")


def test_two_poles(tmp_path: Path) -> None:
    model = alone(tmp_path, "BipolarQuant", {"scale": 0.5})
    with torch.no_grad():
        found = model.module(torch.tensor([[-2.0, -0.1, 0.0, 0.1, 3.0] * 2]))
    assert found.tolist() == [[-0.5, -0.5, 0.5, 0.5, 0.5] * 2]


def network(path: Path, *, norm: bool = True, operator: str = "Quant") -> Path:
    """A convolution with quantised weights and activations, as Brevitas exports it."""
    settings = {"scale": 0.05, "zero": 0.0, "bits": 4.0}
    nodes = [
        quantiser(operator, ["w", *settings], "wq", DOMAIN, narrow=1),
        helper.make_node("Conv", ["x", "wq"], ["c"], name="conv"),
        *([models.batchnorm("c", "z", "bn")] if norm else []),
        helper.make_node("Relu", ["z" if norm else "c"], ["r"]),
        quantiser(operator, ["r", *settings], "y", DOMAIN, signed=0),
    ]
    constants = {"w": models.normal(4, 3, 3, 3)}
    constants |= models.batchnorm_constants("bn", 4) if norm else {}
    constants |= {k: np.array(v, np.float32) for k, v in settings.items()}
    proto = models.graph_model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], constants)
    proto.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return models.save(path, proto)


@pytest.mark.parametrize("operator", ["Quant", "IntQuant"])
def test_a_network_with_them_is_audited_and_they_are_named(operator: str, tmp_path: Path) -> None:
    report = bnaudit.audit(network(tmp_path, operator=operator), data=torch.randn(64, 3, 8, 8))
    assert [(layer.name, layer.measured) for layer in report.layers] == [("bn", True)]
    assert [n for n in report.model.notes if n.startswith(f"2 quantiser nodes ({operator}) run as")]


def test_without_batchnorm_it_is_a_quantised_file(tmp_path: Path) -> None:
    path = network(tmp_path, norm=False)
    for report in (bnaudit.inspect(path), bnaudit.audit(path)):
        assert report.exit_code == 3
        assert "quantis" in next(f.message for f in report.findings if f.rule == "BN001")


def test_a_mode_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(bnaudit.BnauditError, match="rounding mode SIDEWAYS"):
        alone(tmp_path, "Quant", {"scale": 1.0, "zero": 0.0, "bits": 8}, rounding_mode="SIDEWAYS")
