"""Networks as they are found: onnx's own classic models, and PyTorch's exporter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def with_random_weights(name: str, folder: Path) -> Path:
    """The light models' weights are constant: every channel equal would hide most mistakes."""
    proto = onnx.load(LIGHT / f"light_{name}.onnx")
    shapes = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    draw, nodes = models.rng(1), []
    weights = {name: value.shape for name, value in shapes.items() if value.dtype == np.float32}
    for node in proto.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            weights[node.output[0]] = tuple(int(s) for s in shapes[node.input[0]])
        else:
            nodes.append(node)
    variances = {n.input[4] for n in nodes if n.op_type == "BatchNormalization"}
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)
    shapes |= {key: _draw(draw, shape, key in variances) for key, shape in weights.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in shapes.items())
    proto.ir_version = 8
    return models.save(folder, proto)


def _draw(draw: np.random.Generator, shape: tuple[int, ...], positive: bool) -> NDArray[Any]:
    if positive:
        value = draw.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        value = draw.standard_normal(shape) * (0.1 if len(shape) == 2 else 1.0)
        value = value / np.sqrt(np.prod(shape[1:]))
    else:
        value = 1 + 0.3 * draw.standard_normal(shape)
    return value.astype(np.float32)


@pytest.mark.parametrize(
    ("name", "layers", "first", "absorbed"),
    [
        ("resnet50", 53, "gpu_0/res_conv1_bn", 0),
        ("densenet121", 121, "conv1/bn", 121),
        ("inception_v2", 69, "conv1/7x7_s2/bn", 69),
        ("shufflenet", 49, "gpu_0/conv3_0_bn", 0),
    ],
)
def test_light_models(tmp_path: Path, name: str, layers: int, first: str, absorbed: int) -> None:
    path = with_random_weights(name, tmp_path)
    model = load_onnx(path)
    names = {layer.name for layer in model.batchnorms}
    assert len(names) == layers
    assert names <= set(model.labels.values())
    assert len({layer.name for layer in model.batchnorms}) == layers
    assert model.batchnorms[0].name == first
    found = [m for m in model.module.modules() if isinstance(m, _BatchNorm)]
    assert len(found) == layers
    assert any(note.startswith(f"{absorbed} scale") for note in model.notes) == bool(absorbed)
    (spec,) = model.inputs
    batches = [models.normal(*spec.shape, seed=seed) for seed in range(3)]  # type: ignore[misc]
    models.assert_same(model, path, {spec.name: batches[0]})
    models.assert_lifted(model, path, spec.name, batches)


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(gate)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.tail = nn.Sequential(
            Squeeze(channels), nn.Sequential(nn.BatchNorm2d(channels), nn.Hardswish())
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.tail(self.bn1(self.conv(x))), x], 1)


class Net(nn.Module):
    """Two inputs, a reshape with a static batch, an upsampling, a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.SiLU())
        self.blocks = nn.ModuleList([Block(4), Block(8)])
        self.shared = nn.BatchNorm2d(16)
        self.up = nn.Upsample(scale_factor=2)
        self.head = nn.Linear(16 * 14 * 14, 6)
        self.side = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.GELU())

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.up(self.shared(self.shared(x).relu()))
        return self.head(x.view(x.shape[0], -1)) + self.side(y)


LAYERS = ["stem.1", "blocks.0.bn1", "blocks.0.tail.1.0", "blocks.1.bn1", "blocks.1.tail.1.0",
          "shared", "side.1"]  # fmt: skip


def network(*, trained: bool) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if trained and isinstance(module, _BatchNorm):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
    return net, (torch.randn(2, 3, 16, 16), torch.randn(2, 5))


def exported(
    folder: Path, net: nn.Module, inputs: tuple[torch.Tensor, ...], opset: int, **how: Any
) -> Path:
    path = folder / "net.onnx"
    export: Callable[..., object] = torch.onnx.export
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(net, inputs, path, opset_version=opset, dynamo=False, **how)
    net.eval()
    return path


@pytest.mark.parametrize("opset", [9, 11, 13, 15, 17, 18, 20])
@pytest.mark.parametrize("mode", ["PRESERVE", "TRAINING"])
@pytest.mark.parametrize("trained", [True, False])
def test_torchscript_exports(tmp_path: Path, opset: int, mode: str, trained: bool) -> None:
    """Untrained weights are merged between layers; the names must survive that."""
    net, inputs = network(trained=trained)
    training = getattr(torch.onnx.TrainingMode, mode)
    path = exported(tmp_path, net, inputs, opset, training=training)
    model = load_onnx(path)
    assert sorted(layer.name for layer in model.batchnorms) == sorted(LAYERS)
    assert model.facts["exporter"] == "torch.onnx TorchScript"
    assert (model.static_batch, model.lifted) == (2, True)
    with torch.no_grad():
        torch.testing.assert_close(model.module(*inputs), net(*inputs), rtol=1e-4, atol=1e-5)
        twice = tuple(torch.cat([x, x.flip(0), x]) for x in inputs)
        torch.testing.assert_close(model.module(*twice), net(*twice), rtol=1e-4, atol=1e-5)


def test_dynamo_exports(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    net, inputs = network(trained=True)
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, inputs, path, dynamo=True, optimize=False, verbose=False)
    model = load_onnx(path)
    assert sorted(layer.name for layer in model.batchnorms) == sorted(LAYERS)
    assert model.facts["exporter"] == "torch.onnx dynamo"
    with torch.no_grad():
        torch.testing.assert_close(model.module(*inputs), net(*inputs), rtol=1e-4, atol=1e-5)
        twice = tuple(torch.cat([x, x.flip(0), x]) for x in inputs)
        torch.testing.assert_close(model.module(*twice), net(*twice), rtol=1e-4, atol=1e-5)
