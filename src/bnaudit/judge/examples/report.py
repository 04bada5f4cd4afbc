"""Reports of a healthy audit, and the same with one thing changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bnaudit.judge.examples.channels import BATCHES, spread, statistics
from bnaudit.judge.examples.deployment import deployment
from bnaudit.judge.examples.inspection import CHANNELS, LAYERS
from bnaudit.records.layer import Extent, FirstOrder, Gain, LayerReport
from bnaudit.records.matching import Matching, Mismatch
from bnaudit.records.model import ModelInfo
from bnaudit.records.report import Report
from bnaudit.records.run import DataInfo, LossInfo, RunInfo
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.records.weights import WeightSpace


def first_order(ratio: float = 1.2) -> FirstOrder:
    """A gradient-norm reduction that was measured as the theorem predicts it."""
    return FirstOrder(
        statistics="batch",
        predicted=spread(ratio),
        measured=spread(ratio),
        residual=2e-7,
        tolerance=1e-5,
        scale=spread(1.015 * ratio**2),
        projection=spread(0.985, 0.002),
        removed_mean=spread(0.005),
        removed_xhat=spread(0.01),
        grad_out_norm=spread(0.02),
        grad_in_norm=spread(0.02 * ratio),
        finite_difference=NOT_REQUESTED,
    )


def weight_space() -> WeightSpace:
    """Weight gradients within the minimax bound."""
    return WeightSpace(
        feeder="Conv2d block1.conv.weight",
        spectral_norm=spread(41.0),
        spectral_norm_centred=spread(29.0),
        grad_norm=spread(0.012),
        bound=spread(0.087),
        bound_centred=spread(0.061),
        bound_without=spread(0.12),
        tightness=spread(0.34),
        weight_ratio=spread(0.81),
        projection=spread(0.91),
        violations=0,
        residual=4e-7,
        tolerance=1e-4,
    )


def layer(name: str) -> LayerReport:
    """A layer of 16 channels whose numbers are those of a trained one."""
    extent = Extent(spread(0.4), spread(0.8), spread(1.6))
    gain = Gain(spread(0.5), spread(1.2), spread(2.4), spread(0.3))
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
        first_order=first_order(),
        weight_space=weight_space(),
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
        labels_are="classes",
    )
    run = RunInfo(
        "batch",
        "cpu",
        "float32",
        0,
        ("first_order", "statistics", "deployment", "weight_space"),
        data,
        loss,
        None,
    )
    model = ModelInfo("model.onnx", "onnx", None, {}, (), (), 10_000, LAYERS)
    layers = tuple(layer(name) for name in LAYERS)
    return Report(model, run, layers, findings=(), deployment=deployment())


def matched(**left: dict[int, float]) -> Report:
    """The healthy audit on batches that were matched to the running statistics.

    Args:
        left: layer, by its first name ("block2") -> channel -> what is left there.
    """
    healthy = report()
    layers = []
    for entry in healthy.layers:
        own = left.get(entry.name.partition(".")[0], {})
        each = tuple(own.get(c, 0.002) for c in range(CHANNELS))
        far = max(range(CHANNELS), key=lambda c: each[c])
        found = Mismatch(0.001, 0.001, 0.4, 1.2, each[far], far, each)
        layers.append(replace(entry, mismatch=found))
    matching = Matching((41,) * BATCHES, 60, 1.1, 2e-6)
    run = healthy.run
    assert run is not None  # noqa: S101  # what `report` makes
    data = DataInfo("matched", (), BATCHES, 32, matching=matching)
    return replace(healthy, run=replace(run, data=data), layers=tuple(layers))


def changed(name: str, **values: object) -> Report:
    """The healthy audit with fields of one layer set.

    Args:
        name: which layer.
        values: fields of `LayerReport`.
    """
    healthy = report()
    layers = [
        replace(entry, **values) if entry.name == name else entry  # type: ignore[arg-type]
        for entry in healthy.layers
    ]
    return replace(healthy, layers=tuple(layers))


def with_channels(**channels: dict[str, Any]) -> Report:
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


def withheld(residual: float) -> FirstOrder:
    """A measurement that contradicts the closed form: the residual and no other number."""
    wrong = Skipped("the gradient is not the one that the closed form describes")
    return replace(
        first_order(),
        predicted=wrong,
        measured=wrong,
        residual=residual,
        scale=wrong,
        projection=wrong,
        removed_mean=wrong,
        removed_xhat=wrong,
        grad_out_norm=wrong,
        grad_in_norm=wrong,
    )
