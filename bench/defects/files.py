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


def _momentum(value: float) -> Change:
    def change(case: Subject) -> None:
        for name in case.norms():
            case.bn(name).momentum = value

    return change


def _fresh(batches: int) -> Change:
    """Statistics of so few batches that their initial values still count."""

    def change(case: Subject) -> None:
        for name in case.norms():
            case.bn(name).reset_running_stats()
        case.net.train()
        for place in range(batches):
            case.net(case.x[32 * place : 32 * (place + 1)])
        case.net.eval()

    return change


def _mean_nan(case: Subject) -> None:
    case.stored("bn2")[0][7] = float("nan")


def _half(case: Subject) -> None:
    """A conversion to float16 of a variance that it cannot hold."""
    case.stored("bns.1")[1][3] = 1e5
    case.net.half()
    case.x = case.x.half()


def _means(layer: str) -> Change:
    def change(case: Subject) -> None:
        case.stored(layer)[0].zero_()

    return change


def _one_training(layer: str) -> Change:
    def change(case: Subject) -> None:
        case.bn(layer).train()

    return change


def _eps(value: float) -> Change:
    def change(case: Subject) -> None:
        for name in case.norms():
            case.bn(name).eps = value

    return change


def _training(case: Subject) -> None:
    case.training = True
    case.net.train()


def _cut_off(layer: str, largest: float) -> Change:
    """Variances that a conversion cut off."""

    def change(case: Subject) -> None:
        case.stored(layer)[1].clamp_(max=largest)

    return change


def _without_statistics(*layers: str) -> Change:
    """track_running_stats=False."""

    def change(case: Subject) -> None:
        for layer in layers or tuple(case.norms()):
            bn = case.bn(layer)
            bn.running_mean = bn.running_var = bn.num_batches_tracked = None
            bn.track_running_stats = False

    return change


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
        "statistics of 3 batches",
        "conv",
        (None, "bns.0"),
        ("few-batches",),
        _fresh(3),
        ("torchscript",),
    ),
    Defect(
        "running means of one layer at 0",
        "conv",
        ("bns.2",),
        ("statistics-at-init",),
        _means("bns.2"),
    ),
    Defect(
        "running variances of one layer at 1",
        "depthwise",
        ("blocks.1.bn2",),
        ("statistics-at-init",),
        _variance("blocks.1.bn2", list(range(36)), 1.0),
    ),
    Defect("a running mean is NaN", "tabular", ("bn2",), ("non-finite",), _mean_nan),
    Defect("a variance of 1e5 in float16", "conv", ("bns.1",), ("half-range", "non-finite"), _half),
    Defect(
        "one gamma 100 times too large, the last layer",
        "conv",
        ("bns.3",),
        ("gain-outliers",),
        _gamma("bns.3", 100.0, [4]),
    ),
    Defect(
        "gamma of a layer 1e-8 times as large",
        "depthwise",
        ("blocks.2.bn3",),
        ("dead-gamma",),
        _gamma("blocks.2.bn3", 1e-8),
    ),
    Defect("eps of 0", "conv", (None, "bns.0"), ("unusual-eps",), _eps(0.0)),
    Defect(
        "one layer in training mode", "conv", ("bns.2",), ("training-mode",), _one_training("bns.2")
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
    Defect(
        "two gammas of 16 at 0", "conv", ("bns.1",), ("dead-gamma",), _gamma("bns.1", 0.0, [2, 9])
    ),
    Defect(
        "one gamma of 36 at 0",
        "depthwise",
        ("blocks.1.bn1",),
        ("dead-gamma",),
        _gamma("blocks.1.bn1", 0.0, [4]),
    ),
    Defect(
        "variances cut off at 65504",
        "raw_features",
        ("scaler",),
        ("half-range", "variance-drift"),
        _cut_off("scaler", 65504.0),
    ),
    Defect(
        "variances cut off at 10000",
        "raw_features",
        ("scaler",),
        ("half-range", "variance-drift"),
        _cut_off("scaler", 10000.0),
    ),
    Defect(
        "one layer without running statistics",
        "conv",
        ("bns.2",),
        ("training-mode",),
        _without_statistics("bns.2"),
        ("torchscript",),
    ),
    Defect(
        "no running statistics",
        "sequence",
        ("bn1", None),
        ("training-mode",),
        _without_statistics(),
        ("torchscript",),
    ),
)
