"""Defects that the file itself shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from bench.defects.cases import Defect, Subject

if TYPE_CHECKING:
    from bench.defects.cases import Change


def _reset(*layers: str) -> Change:
    def change(case: Subject) -> None:
        for layer in layers or tuple(case.norms()):
            mean, var = case.stored(layer)
            mean.zero_()
            var.fill_(1.0)

    return change


def _variance(layer: str, channels: list[int], value: float) -> Change:
    def change(case: Subject) -> None:
        case.stored(layer)[1][channels] = value

    return change


def _gamma(layer: str, value: float, channels: slice | list[int] = slice(None)) -> Change:
    def change(case: Subject) -> None:
        case.bn(layer).weight[channels] *= value

    return change


def _beta(layer: str, channel: int, value: float) -> Change:
    def change(case: Subject) -> None:
        case.bn(layer).bias[channel] = value

    return change


def _momentum(value: float) -> Change:
    def change(case: Subject) -> None:
        for name in case.norms():
            case.bn(name).momentum = value

    return change


def _tracked(value: int) -> Change:
    def change(case: Subject) -> None:
        for name in case.norms():
            counter = case.bn(name).num_batches_tracked
            if counter is not None:
                counter.fill_(value)

    return change


def _training(case: Subject) -> None:
    case.training = True
    case.net.train()


class _Twice(nn.Module):
    """A second BatchNorm behind the first."""

    def __init__(self, bn: nn.Module, channels: int) -> None:
        super().__init__()
        self.first = bn
        self.second = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


def _twice(case: Subject) -> None:
    from bench.defects.cases import recompute

    bns = case.net.get_submodule("bns")
    assert isinstance(bns, nn.ModuleList)  # noqa: S101
    bns[1] = _Twice(bns[1], 16).eval().requires_grad_(False)
    recompute(case, layers=("bns.1.second",))


class _Dropped(nn.Module):
    """Dropout in front of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.drop(x))
        return out


def _dropout(case: Subject) -> None:
    bns = case.net.get_submodule("bns")
    assert isinstance(bns, nn.ModuleList)  # noqa: S101
    bns[2] = _Dropped(bns[2]).eval()


DEFECTS = (
    Defect(
        "statistics of one layer at 0 and 1",
        "conv",
        ("bns.1",),
        ("statistics-at-init",),
        _reset("bns.1"),
    ),
    Defect(
        "all statistics at 0 and 1",
        "depthwise",
        ("bn", None),
        ("statistics-at-init",),
        _reset(),
    ),
    Defect(
        "a running variance is NaN",
        "conv",
        ("bns.2",),
        ("non-finite",),
        _variance("bns.2", [3], float("nan")),
    ),
    Defect(
        "a running variance is infinite",
        "sequence",
        ("bn1",),
        ("non-finite",),
        _variance("bn1", [0], float("inf")),
    ),
    Defect(
        "a running variance is negative",
        "concat",
        ("bns.1",),
        ("negative-variance",),
        _variance("bns.1", [2], -0.1),
    ),
    Defect(
        "half of gamma is 0", "conv", ("bns.1",), ("dead-gamma",), _gamma("bns.1", 0.0, slice(0, 8))
    ),
    Defect(
        "all of gamma is 0",
        "depthwise",
        ("blocks.2.bn3",),
        ("dead-gamma",),
        _gamma("blocks.2.bn3", 0.0),
    ),
    Defect(
        "one gamma 1000 times too large",
        "preactivation",
        ("block2.bn1",),
        ("gain-outliers",),
        _gamma("block2.bn1", 1000.0, [4]),
    ),
    Defect(
        "one variance near 0",
        "tabular",
        ("bn1",),
        ("gain-outliers", "variance-drift"),
        _variance("bn1", [9], 1e-6),
    ),
    Defect(
        "variances of half a layer at 0",
        "conv",
        ("bns.3",),
        ("collapsed-variance", "variance-drift", "gain-outliers"),
        _variance("bns.3", list(range(12)), 0.0),
    ),
    Defect(
        "momentum 0.9, the inverted convention",
        "conv",
        (None, "bns.0"),
        ("unusual-momentum",),
        _momentum(0.9),
    ),
    Defect(
        "3 batches tracked",
        "conv",
        (None, "bns.0"),
        ("few-batches",),
        _tracked(3),
        ("torchscript",),
    ),
    Defect("saved in training mode", "conv", (None, "bns.0"), ("training-mode",), _training),
    Defect(
        "BatchNorm behind BatchNorm",
        "conv",
        ("bns.1.second", "bns.1.first"),
        ("batchnorm-after-batchnorm",),
        _twice,
        ("onnx",),
    ),
)
