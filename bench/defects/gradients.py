"""Defects that gradients show: dead channels and layers, scales, collapsed weights, NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.defects.cases import Defect, Subject, recompute

if TYPE_CHECKING:
    from bench.defects.cases import Change

_DEAD = ("dead-gradient",)


def _switched_off(layer: str, count: int | None = None) -> Change:
    """A beta so low that the ReLU behind is never on."""

    def change(case: Subject) -> None:
        beta = case.bn(layer).bias
        beta[:count] = -60.0

    return change


def _unread(layer: str, inputs: slice) -> Change:
    """Weights behind that no longer read some channels, as after half a pruning."""

    def change(case: Subject) -> None:
        case.weight(layer)[:, inputs] = 0

    return change


def _collapsed(conv: str, outputs: slice) -> Change:
    """Weights in front decayed to nothing, and statistics that followed."""

    def change(case: Subject) -> None:
        case.weight(conv)[outputs] = 0
        recompute(case)

    return change


def _eps(layer: str, eps: float) -> Change:
    def change(case: Subject) -> None:
        case.bn(layer).eps = eps

    return change


class _Deep(nn.Module):
    """Forty layers without a skip connection, as initialised."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(40):
            layers += [nn.Linear(64 if i == 0 else 48, 48), nn.BatchNorm1d(48), nn.ReLU()]
        self.body = nn.Sequential(nn.Flatten(), *layers)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.body(x))
        return out


def _deep(case: Subject) -> None:
    torch.manual_seed(0)
    case.net = _Deep().eval().requires_grad_(False)
    recompute(case)


def _faint_branch(case: Subject) -> None:
    """A residual branch multiplied by next to nothing."""
    case.weight("block1.conv2").mul_(1e-6)
    recompute(case)


class _Roots(nn.Module):
    """The root of what a mask switches off: infinity times 0 in its derivative."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.convs, self.bns, self.fc = net.convs, net.bns, net.fc

    def forward(self, x: Tensor) -> Tensor:
        for conv, bn in zip(self.convs, self.bns, strict=True):  # type: ignore[arg-type]
            y = bn(conv(x))
            x = y * (y > 0)
        out: Tensor = self.fc(x.sqrt().mean((2, 3)))  # type: ignore[operator]
        return out


def _roots(case: Subject) -> None:
    case.net = _Roots(case.net).eval()


def _one_class(case: Subject) -> None:
    """A label file of one class: every sample pulls the same way."""
    case.labels = torch.zeros_like(case.labels)


DEFECTS = (
    Defect("4 of 16 ReLUs always off", "conv", ("bns.1",), _DEAD, _switched_off("bns.1", 4)),
    Defect("12 of 24 ReLUs always off", "conv", ("bns.2",), _DEAD, _switched_off("bns.2", 12)),
    Defect("6 of 24 channels not read", "conv", ("bns.2",), _DEAD, _unread("convs.3", slice(0, 6))),
    Defect("8 of 32 units not read", "tabular", ("bn1",), _DEAD, _unread("fc2", slice(4, 12))),
    Defect("a whole layer off", "conv", ("bns.2",), _DEAD, _switched_off("bns.2")),
    Defect("a whole layer off", "sequence", ("bn3",), _DEAD, _switched_off("bn3")),
    Defect(
        "hard-swish always off",
        "depthwise",
        ("blocks.0.bn2",),
        _DEAD,
        _switched_off("blocks.0.bn2", 9),
    ),
    Defect("the head reads nothing", "tabular", ("bn3",), _DEAD, _unread("head", slice(None))),
    Defect("the head reads nothing", "preactivation", ("bn",), _DEAD, _unread("fc", slice(None))),
    Defect("40 layers without skips", "conv", ("body.2",), ("gradient-scale",), _deep),
    Defect(
        "a residual branch near 0",
        "preactivation",
        ("block1.bn2", "block1.bn1"),
        ("gradient-scale",),
        _faint_branch,
    ),
    Defect("labels of one class", "conv", ("bns.3",), ("small-projection",), _one_class),
    Defect(
        "half of the weights decayed to 0",
        "depthwise",
        ("blocks.1.bn1",),
        ("constant-channels", "collapsed-variance"),
        _collapsed("blocks.1.expand", slice(0, 18)),
    ),
    Defect(
        "a third of the weights decayed to 0",
        "sequence",
        ("bn2",),
        ("constant-channels", "collapsed-variance"),
        _collapsed("conv2", slice(0, 8)),
    ),
    Defect(
        "eps of 10", "conv", ("bns.2",), ("constant-channels", "unusual-eps"), _eps("bns.2", 10.0)
    ),
    Defect("root of masked values", "conv", ("bns.3",), ("not-finite",), _roots),
)
