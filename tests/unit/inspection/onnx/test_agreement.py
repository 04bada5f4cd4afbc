"""Names, parameters and facts are those that an audit of the same file has."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from bnaudit.inspection.onnx import inspect_onnx
from bnaudit.load.onnx import load_onnx

from . import nets

ROOT = Path(__file__).parents[4]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
FIXTURES = sorted((ROOT / "fixtures").rglob("*.onnx"))
LIGHTS = [
    LIGHT / f"light_{n}.onnx" for n in ("resnet50", "densenet121", "inception_v2", "shufflenet")
]
EXPORTS: dict[str, dict[str, Any]] = {
    "dynamo": nets.DYNAMO,
    "dynamo as it is": {**nets.DYNAMO, "optimize": False},
    "TorchScript": nets.TORCHSCRIPT,
    "TorchScript preserving": {**nets.TORCHSCRIPT, "training": nets.TRAINING.PRESERVE},
    "TorchScript training": {**nets.TORCHSCRIPT, "training": nets.TRAINING.TRAINING},
}


def compare(path: Path) -> int:
    """The number of layers whose parameters were compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_onnx(path)
    read = inspect_onnx(path)
    assert [b.name for b in read.batchnorms] == [b.name for b in loaded.batchnorms]
    assert [b.origin for b in read.batchnorms] == [b.origin for b in loaded.batchnorms]
    assert [b.channels for b in read.batchnorms] == [b.channels for b in loaded.batchnorms]
    assert list(read.facts.items()) == list(loaded.facts.items())
    assert read.producer == loaded.producer
    assert [(i.name, i.shape, i.dtype) for i in read.inputs] == [
        (i.name, i.shape, i.dtype) for i in loaded.inputs
    ]
    assert read.outputs == loaded.outputs
    return sum(
        _same_parameters(loaded.module, p, label, read) for p, label in loaded.labels.items()
    )


def _same_parameters(module: nn.Module, path: str, label: str, read: Any) -> bool:
    stored = next((layer for layer in read.batchnorms if layer.name == label), None)
    try:
        own = dict(module.get_submodule(path).state_dict())
    except AttributeError:
        return False
    if stored is None or "running_var" not in own:
        return False
    pairs = {"weight": stored.gamma, "bias": stored.beta}
    pairs |= {"running_mean": stored.running_mean, "running_var": stored.running_var}
    for name, values in pairs.items():
        np.testing.assert_allclose(
            np.array(values),
            own[name].double().numpy(),
            rtol=1e-5,
            atol=1e-6,
            err_msg=f"{label} {name}",
        )
    return True


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_fixtures(path: Path) -> None:
    assert compare(path) == len(inspect_onnx(path).batchnorms)


@pytest.mark.parametrize("path", LIGHTS, ids=lambda p: p.stem)
def test_real_topologies(path: Path) -> None:
    assert compare(path) == len(inspect_onnx(path).batchnorms) > 48


@pytest.mark.parametrize("how", EXPORTS)
@pytest.mark.parametrize("make", [nets.Residual, nets.PreActivation, nets.mlp, nets.upsampler])
def test_exports(tmp_path: Path, make: Any, how: str) -> None:
    path = nets.export(nets.trained(make()), tmp_path / "m.onnx", **EXPORTS[how])
    compare(path)


@pytest.mark.parametrize("how", ["dynamo as it is", "TorchScript preserving"])
def test_untrained_layers_whose_equal_weights_are_stored_once(tmp_path: Path, how: str) -> None:
    path = nets.export(nets.Residual().eval(), tmp_path / "m.onnx", **EXPORTS[how])
    assert compare(path) == 2


def test_a_layer_that_is_called_twice(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.bn(self.conv(self.bn(x)))
            return out

    net = nets.trained(Twice())
    path = nets.export(net, tmp_path / "m.onnx", **EXPORTS["TorchScript preserving"])
    assert compare(path) == 2  # calls
    inspection = inspect_onnx(path)
    assert [layer.name for layer in inspection.batchnorms] == ["bn"]
    assert "bn is called 2 times" in inspection.notes


def test_sizes(tmp_path: Path) -> None:
    net = nets.trained(nets.Residual())
    path = nets.export(net, tmp_path / "m.onnx", **EXPORTS["TorchScript preserving"])
    inspection = inspect_onnx(path)
    assert inspection.parameters == sum(p.numel() for p in net.parameters())
    assert inspection.size == path.stat().st_size
    assert inspection.weight_layers == 4
