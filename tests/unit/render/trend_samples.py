"""Runs, made up, for pages and documents."""

from __future__ import annotations

from bnaudit.documents import TrendReport
from bnaudit.records.training import LayerState, LayerTrend, Moment
from bnaudit.records.values import Skipped
from bnaudit.summary.course import course

_STEPS = [100.0 * i for i in range(1, 13)]
_WOBBLE = (1.0, 1.03, 0.98, 1.01, 0.97, 1.02, 1.0, 0.99, 1.04, 0.96, 1.01, 1.0)


def _layer(name: str, gains: list[float], *, measured: bool) -> LayerTrend:
    none = Skipped("not requested")
    states = tuple(
        LayerState(
            name=name,
            channels=64,
            gain=gain,
            gain_minimum=gain / 4,
            gain_maximum=gain * 3,
            leak=1e-4 * gain,
            leak_maximum=1e-2,
            dead_gamma=i // 4,
            batch_gain=1.1 * gain if measured else none,
            batch_leak=1e-4 * gain if measured else none,
            measured=0.9 * gain if measured else none,
            predicted=0.9 * gain if measured else none,
            removed=0.02 if measured else none,
            dead_gradient=0 if measured else none,
        )
        for i, gain in enumerate(gains)
    )
    return LayerTrend(
        name=name,
        channels=64,
        gain=course(_STEPS, gains),
        batch_gain=course(_STEPS, [1.1 * g for g in gains]) if measured else none,
        leak=course(_STEPS, [1e-4 * g for g in gains]),
        measured=course(_STEPS, [0.9 * g for g in gains]) if measured else none,
        dead_first=0,
        dead_last=2,
        states=states,
    )


def falling(*, measured: bool = False) -> TrendReport:
    """Two layers fall, one does not; a file is broken, one is another network's."""
    fall = [4 * 0.8**i * w for i, w in enumerate(_WOBBLE)]
    late = [2 * 0.9 ** max(0, i - 5) * w for i, w in enumerate(_WOBBLE)]
    layers = {"layer1.0.bn1": fall, "layer2.0.downsample.1": late, "layer4.1.bn2": list(_WOBBLE)}
    moments = [Moment(path=f"runs/step_{s:g}.pt", place=s, layers=3) for s in _STEPS]
    lost = [
        Moment(
            path="runs/step_1300.pt", place=1300.0, missing="cannot be read (a cut-off zip file)"
        ),
        Moment(path="runs/\x1b[31mother.pt", place=None, missing="another network"),
    ]
    return TrendReport(
        runs=("runs",),
        code="package.nets:resnet" if measured else None,
        axis="step",
        moments=(*moments, *lost),
        network=course(_STEPS, late),
        network_of="stored",
        layers=tuple(_layer(name, gains, measured=measured) for name, gains in layers.items()),
        versions={"torch": "2.13.0"} if measured else {},
        notes=("where a file stores no eps, 1e-05, PyTorch's default, is assumed",),
    )
