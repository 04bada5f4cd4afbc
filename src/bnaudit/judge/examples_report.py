"""Small reports for the examples of rules that judge a run: healthy, to be changed in one place."""

from __future__ import annotations

from dataclasses import replace

from bnaudit.judge.examples import LAYERS
from bnaudit.records.drift import Channels, Drift
from bnaudit.records.layer import Extent, FirstOrder, Gain, LayerReport
from bnaudit.records.report import DataInfo, LossInfo, ModelInfo, Report, RunInfo
from bnaudit.records.values import NOT_REQUESTED, Skipped, Spread
from bnaudit.records.weights import WeightSpace

BATCHES = 8


def spread(value: float) -> Spread:
    """A quantity that varies by 2 % over the batches."""
    return Spread(value, 0.98 * value, 1.02 * value, BATCHES)


def first_order(ratio: float = 1.2) -> FirstOrder:
    """A gradient-norm reduction that was measured as the theorem predicts it."""
    return FirstOrder(
        statistics="batch",
        predicted=spread(ratio),
        measured=spread(ratio),
        residual=3e-8,
        tolerance=1e-5,
        scale=spread(ratio**2),
        projection=spread(0.998),
        removed_mean=spread(2e-4),
        removed_xhat=spread(1.8e-3),
        grad_out_norm=spread(0.03),
        grad_in_norm=spread(0.03 * ratio),
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


def channels() -> Channels:
    """No dead channels, and batches that agree with the running statistics."""
    mean = Drift(median=0.02, p95=0.06, maximum=0.09, channel=3, sampling_error=0.004)
    variance = Drift(median=0.05, p95=0.14, maximum=0.2, channel=11, sampling_error=0.008)
    return Channels((), (), 1.8, mean, variance)


def layer(name: str) -> LayerReport:
    """A layer of 16 channels and 4096 values a channel in which nothing is conspicuous."""
    gain = Gain(spread(0.8), spread(1.2), spread(2.4), spread(0.3))
    return LayerReport(
        name=name,
        call=1,
        kind="BatchNorm2d",
        channels=16,
        m=4096,
        eps=1e-5,
        affine=True,
        tracks_running_stats=True,
        training_flag=False,
        origin=f"BatchNormalization node /{name}",
        gain_batch=gain,
        gain_running=gain,
        sigma=Extent(spread(0.4), spread(0.8), spread(1.3)),
        leak=Extent(spread(6e-6), spread(1.6e-5), spread(6e-5)),
        first_order=first_order(),
        weight_space=weight_space(),
        statistics=channels(),
    )


def report() -> Report:
    """A healthy audit on real data: no rule finds anything in it."""
    model = ModelInfo(
        path="model.onnx",
        format="onnx",
        producer="pytorch 2.13.0",
        facts={"opset": "18"},
        inputs=(),
        outputs=("logits",),
        parameters=10_000,
        defined=LAYERS,
    )
    run = RunInfo(
        mode="batch",
        device="cpu",
        dtype="float32",
        seed=0,
        metrics=("first_order", "statistics", "weight_space"),
        data=DataInfo("file", ("batch.npz",), BATCHES, 64, 64 * BATCHES),
        loss=LossInfo("cross_entropy", False, "y in batch.npz", "one integer a row", spread(0.08)),
        verify_gradients=None,
    )
    return Report(model, run, tuple(layer(name) for name in LAYERS), (), None)


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


def without_batchnorm() -> Report:
    """An audit that found no BatchNorm."""
    healthy = report()
    return replace(healthy, layers=(), model=replace(healthy.model, defined=()))


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
