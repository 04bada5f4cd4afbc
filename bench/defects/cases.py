"""What a case is: a healthy network with its data, and one change to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.defects.data import held_back, trained


@dataclass(slots=True)
class Subject:
    """A network and what it is audited with; a case changes it in place.

    Attributes:
        net: in evaluation mode, parameters frozen.
        x: held-back inputs.
        labels: theirs.
        options: of the audit, besides data and labels.
        opset: of the ONNX file.
        dynamo: whether torch.export writes the ONNX file.
        training: whether the file is written in training mode.
    """

    net: nn.Module
    x: Tensor
    labels: Tensor
    options: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    dynamo: bool = False
    training: bool = False

    def bn(self, name: str) -> nn.modules.batchnorm._BatchNorm:
        """The BatchNorm layer of this name."""
        layer = self.net.get_submodule(name)
        assert isinstance(layer, nn.modules.batchnorm._BatchNorm)  # noqa: S101
        return layer

    def stored(self, name: str) -> tuple[Tensor, Tensor]:
        """Running mean and variance of a layer, to be changed in place."""
        layer = self.bn(name)
        assert layer.running_mean is not None  # noqa: S101
        assert layer.running_var is not None  # noqa: S101
        return layer.running_mean, layer.running_var

    def weight(self, name: str) -> Tensor:
        """The weight of a layer, to be changed in place."""
        return self.net.get_submodule(name).get_parameter("weight")

    def norms(self) -> list[str]:
        """Names of the BatchNorm layers."""
        kind = nn.modules.batchnorm._BatchNorm
        return [name for name, module in self.net.named_modules() if isinstance(module, kind)]


def subject(net: str) -> Subject:
    """A healthy network with its held-back rows."""
    return Subject(trained(net), *held_back(net))


Change = Callable[[Subject], None]


@dataclass(frozen=True, slots=True)
class Defect:
    """One injected defect.

    Attributes:
        name: a phrase.
        net: the healthy network it is put into.
        layers: where a finding about it is right; None for the model as a whole.
        rules: names of rules of which any finds it.
        change: puts it in.
        formats: in which files it can exist.
    """

    name: str
    net: str
    layers: tuple[str | None, ...]
    rules: tuple[str, ...]
    change: Change
    formats: tuple[str, ...] = ("onnx", "torchscript")


@dataclass(frozen=True, slots=True)
class Harmless:
    """A change after which nothing is wrong."""

    name: str
    nets: tuple[str, ...]
    change: Change
    formats: tuple[str, ...] = ("onnx", "torchscript")


def recompute(case: Subject, x: Tensor | None = None, layers: tuple[str, ...] = ()) -> None:
    """Sets running statistics to those of some inputs, all layers from one pass in training mode.

    Args:
        case: the network.
        x: the inputs; those of the case by default.
        layers: which layers keep the new statistics; all by default.
    """
    names = layers or tuple(case.norms())
    kept = {name: [t.clone() for t in case.stored(name)] for name in case.norms()}
    momenta = {name: case.bn(name).momentum for name in case.norms()}
    for name in case.norms():
        case.bn(name).momentum = 1.0
    with torch.no_grad():
        case.net.train()(case.x if x is None else x)
    case.net.eval()
    for name, momentum in momenta.items():
        case.bn(name).momentum = momentum
        if name not in names:
            for now, before in zip(case.stored(name), kept[name], strict=True):
                now.copy_(before)
