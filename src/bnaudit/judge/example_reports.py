"""Small reports for the examples of measured rules: a healthy audit, and the same with one thing changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bnaudit.records.drift import Channels, Drift, Excess
from bnaudit.records.layer import Extent, FirstOrder, Gain, LayerReport
from bnaudit.records.report import DataInfo, LossInfo, ModelInfo, Report, RunInfo
from bnaudit.records.values import NOT_REQUESTED, Spread

CHANNELS = 16
BATCHES = 8
LAYERS = ("stem.bn", "block1.bn", "block2.bn", "head.bn")
_MARGIN = 0.04


def spread(value: float, by: float = 0.05) -> Spread:
    """A quantity that varies by a few percent over the batches."""
    return Spread(value, value * (1 - by), value * (1 + by), BATCHES)


def drift(signed: dict[int, float] | None = None, *, everywhere: float = 0.02) -> Drift:
    """A drift record of 16 channels.

    Args:
        signed: channel -> its signed drift.
        everywhere: that of the others, with alternating sign.
    """
    named = signed or {}
    values = [named.get(c, everywhere * (-1) ** c) for c in range(CHANNELS)]
    size = sorted(map(abs, values))
    middle = max(size[CHANNELS // 2] - 0.01, 0.005)
    return Drift(
        median=size[CHANNELS // 2],
        p95=size[-2],
        maximum=size[-1],
        channel=max(range(CHANNELS), key=lambda c: abs(values[c])),
        sampling_error=0.01,
        signed=tuple(values),
        margin=(_MARGIN,) * CHANNELS,
        least=tuple(max(abs(value) - 0.03, 0.0) for value in values),
        excess=Excess(middle, middle - 0.005, middle + 0.005),
        batches=BATCHES,
    )


def uniform(value: float) -> Drift:
    """The same signed drift in every channel."""
    return drift(dict.fromkeys(range(CHANNELS), value))


def statistics() -> Channels:
    """What a healthy layer shows."""
    return Channels((), (), 1.6, drift(), drift(), grad_xhat_norm=spread(0.02))


def layer(name: str) -> LayerReport:
    """A layer of 16 channels whose numbers are those of a trained one."""
    extent = Extent(spread(0.4), spread(0.8), spread(1.6))
    gain = Gain(spread(0.5), spread(1.2), spread(2.4), spread(0.3))
    order = FirstOrder(
        statistics="batch",
        predicted=spread(1.2),
        measured=spread(1.2),
        residual=2e-7,
        tolerance=1e-5,
        scale=spread(1.46),
        projection=spread(0.985, 0.002),
        removed_mean=spread(0.005),
        removed_xhat=spread(0.01),
        grad_out_norm=spread(0.02),
        grad_in_norm=spread(0.024),
        finite_difference=NOT_REQUESTED,
    )
    return LayerReport(
        name=name,
        call=1,
        kind="BatchNorm2d",
        channels=CHANNELS,
        m=2048,
        eps=1e-5,
        affine=True,
        tracks_running_stats=True,
        training_flag=False,
        origin=f"BatchNormalization node /{name}",
        gain_batch=gain,
        gain_running=gain,
        sigma=extent,
        leak=Extent(spread(4e-6), spread(1.6e-5), spread(6e-5)),
        first_order=order,
        statistics=statistics(),
    )


def report() -> Report:
    """A healthy audit of four layers on real data: no rule finds anything in it."""
    data = DataInfo("file", ("batch.npz",), BATCHES, 32, 256)
    loss = LossInfo(
        "cross_entropy",
        label_free=False,
        labels="batch.npz:labels",
        why="the labels are class indices",
        value=spread(0.05),
        guess=2.3026,
    )
    run = RunInfo("batch", "cpu", "float32", 0, ("first_order", "statistics"), data, loss, None)
    model = ModelInfo("model.onnx", "onnx", None, {}, (), (), 10_000, LAYERS)
    return Report(model, run, tuple(layer(name) for name in LAYERS), (), None)


def changed(**channels: dict[str, Any]) -> Report:
    """The healthy audit with fields of some layers' `Channels` set.

    Args:
        channels: place of the layer ("l0" the first) -> field -> value.
    """
    healthy = report()
    layers = list(healthy.layers)
    for place, fields in channels.items():
        index = int(place.removeprefix("l"))
        layers[index] = replace(layers[index], statistics=replace(statistics(), **fields))
    return replace(healthy, layers=tuple(layers))
