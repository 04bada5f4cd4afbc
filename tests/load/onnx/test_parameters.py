"""The parameters of a loaded file are those its author trained: as many, shared alike, same names."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from bnaudit.load.onnx import load_onnx

from . import models

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.model import LoadedModel

EXPORTERS = ["torchscript", "dynamo"]
LEGACY: dict[str, Any] = {
    "opset_version": 17,
    "do_constant_folding": False,
    "training": torch.onnx.TrainingMode.PRESERVE,
}


class Siamese(nn.Module):
    """One encoder for two inputs; its last BatchNorm has no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3, bias=False)
        )
        self.last = nn.BatchNorm1d(3, affine=False)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The difference of the codes."""
        return self.last(self.encoder(a)) - self.last(self.encoder(b))


class Tokens(nn.Module):
    """An embedding whose matrix is the head's, too, and layers on three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.bn = nn.BatchNorm1d(4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores for each position."""
        x = self.bn(self.embedding(ids).transpose(1, 2)).transpose(1, 2)
        return self.head(self.mix(x))


class Convolutions(nn.Module):
    """Convolutions without bias, two BatchNorms as they are initialised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two blocks."""
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))


def trained(net: nn.Module) -> nn.Module:
    """Every parameter and statistic at random, as no initialiser leaves it."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return net.eval()


def exported(folder: Path, net: nn.Module, inputs: tuple[Any, ...], exporter: str) -> LoadedModel:
    path = folder / "net.onnx"
    dynamo = exporter == "dynamo"
    options: dict[str, Any] = {"optimize": False} if dynamo else LEGACY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, inputs, str(path), dynamo=dynamo, verbose=False, **options)
    return load_onnx(path)


def named(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in net.named_parameters()}


def renamed(model: LoadedModel) -> dict[str, tuple[int, ...]]:
    return {
        model.parameter_name(path): tuple(p.shape) for path, p in model.module.named_parameters()
    }


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_calls_of_one_layer_share_its_parameters(tmp_path: Path, exporter: str) -> None:
    net, inputs = trained(Siamese()), (torch.rand(6, 5), torch.rand(6, 5))
    model = exported(tmp_path, net, inputs, exporter)
    assert renamed(model) == named(net)
    live, found = net(*inputs), model.module(*inputs)
    assert torch.allclose(found, live, atol=1e-6)
    found.square().sum().backward()
    live.square().sum().backward()
    gradients = {model.parameter_name(path): p.grad for path, p in model.module.named_parameters()}
    for name, parameter in net.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-4, atol=1e-5), name  # type: ignore[arg-type]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_embeddings_and_added_biases_are_parameters(tmp_path: Path, exporter: str) -> None:
    net, ids = trained(Tokens()), torch.arange(12).reshape(3, 4) % 7
    model = exported(tmp_path, net, (ids,), exporter)
    # A matrix with two names goes by either.
    expected, found = (
        {name.replace("head.", "embedding."): shape for name, shape in names.items()}
        for names in (named(net), renamed(model))
    )
    assert found == expected
    assert sum(p.numel() for p in model.module.parameters()) == sum(
        p.numel() for p in net.parameters()
    )
    assert torch.allclose(model.module(ids), net(ids), atol=1e-5)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_layers_that_only_look_alike_share_nothing(tmp_path: Path, exporter: str) -> None:
    """Untrained: gammas, betas and statistics are equal, and exporters store them once."""
    net = Convolutions().eval()
    model = exported(tmp_path, net, (torch.rand(2, 3, 9, 9),), exporter)
    shapes = sorted(tuple(p.shape) for p in model.module.parameters())
    assert shapes == sorted(named(net).values())


def test_a_bias_of_zeros_in_the_file_stays(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "c.weight", "c.bias"], ["y"])]
    constants = {"c.weight": models.normal(4, 3, 1), "c.bias": np.zeros(4, np.float32)}
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3, 8]}, ["y"], constants))
    assert renamed(load_onnx(path)) == {"c.weight": (4, 3, 1), "c.bias": (4,)}


def test_single_numbers_and_hostile_names(tmp_path: Path) -> None:
    name = 'a."); raise SystemExit("'
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["a"]),
        helper.make_node("Add", ["a", name], ["b"]),
        helper.make_node("Add", ["b", "m.forward"], ["y"]),
    ]
    constants = {
        "scale": np.array([2], np.float32),
        name: models.normal(3),
        "m.forward": models.normal(3),
    }
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], constants))
    model = load_onnx(path)
    assert renamed(model) == {f"{name}.value": (3,), "m.forward.value": (3,)}
    models.assert_same(model, path, {"x": models.normal(4, 3)})


@pytest.mark.parametrize("operator", ["RandomNormalLike", "RandomUniformLike"])
def test_noise_follows_the_callers_seed(tmp_path: Path, operator: str) -> None:
    nodes = [helper.make_node(operator, ["x"], ["y"])]
    path = models.save(tmp_path, models.graph_model(nodes, {"x": ["n", 3]}, ["y"], {}))
    module, x = load_onnx(path).module, torch.zeros(1000, 3)
    torch.manual_seed(0)
    first = module(x)
    torch.manual_seed(0)
    assert torch.equal(module(x), first)
    mean, spread = {"RandomNormalLike": (0.0, 1.0), "RandomUniformLike": (0.5, 12**-0.5)}[operator]
    assert float(first.mean()) == pytest.approx(mean, abs=0.1)
    assert float(first.std()) == pytest.approx(spread, abs=0.1)
