"""Reports built by hand, from healthy to hopeless: what the renderers have to cope with."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

from bnaudit.records.finding import Finding, Severity
from bnaudit.records.layer import (
    ChannelValues,
    Extent,
    FiniteDifference,
    FirstOrder,
    Gain,
    LayerReport,
)
from bnaudit.records.report import (
    DataInfo,
    Failure,
    LossInfo,
    ModelInfo,
    Report,
    RunInfo,
    TensorInfo,
)
from bnaudit.records.values import NOT_REQUESTED, Skipped, Spread



def spread(median: float, wobble: float = 0.02, n: int = 4) -> Spread:
    return Spread(median, median * (1 - wobble), median * (1 + wobble), n)


def gain(low: float, middle: float, high: float, share: float) -> Gain:
    return Gain(spread(low), spread(middle), spread(high), spread(share, 0.0))


def first_order(
    ratio: float,
    *,
    mean: float = 2e-4,
    xhat: float = 1.5e-3,
    residual: float = 3e-8,
    finite: FiniteDifference | Skipped = NOT_REQUESTED,
) -> FirstOrder:
    survives = 1 - mean - xhat
    return FirstOrder(
        statistics="batch",
        predicted=spread(ratio),
        measured=spread(ratio * (1 + 1e-7)),
        residual=residual,
        tolerance=1e-5,
        scale=spread(ratio**2 / survives),
        projection=spread(survives, 1e-4),
        removed_mean=spread(mean),
        removed_xhat=spread(xhat),
        grad_out_norm=spread(0.031, 0.6),
        grad_in_norm=spread(0.031 * ratio, 0.6),
        finite_difference=finite,
    )


def withheld(residual: float) -> FirstOrder:
    """An integrity failure as the measurement hands it on: the residual, and no other number."""
    wrong = Skipped("the gradient is not the one the closed form describes")
    return FirstOrder(
        statistics="batch",
        predicted=wrong,
        measured=wrong,
        residual=residual,
        tolerance=1e-5,
        scale=wrong,
        projection=wrong,
        removed_mean=wrong,
        removed_xhat=wrong,
        grad_out_norm=wrong,
        grad_in_norm=wrong,
        finite_difference=wrong,
    )


def layer(
    name: str,
    *,
    call: int = 1,
    channels: int = 64,
    m: int = 50176,
    gains: Gain | Skipped | None = None,
    order: FirstOrder | Skipped | None = None,
    values: ChannelValues | None = None,
) -> LayerReport:
    gains = gains or gain(0.41, 1.18, 3.2, 0.31)
    return LayerReport(
        name=name,
        call=call,
        kind="BatchNorm2d" if m > 64 else "BatchNorm1d",
        channels=channels,
        m=m,
        eps=1e-5,
        affine=True,
        tracks_running_stats=True,
        training_flag=False,
        origin=f"BatchNormalization node /{name}",
        gain_batch=gains,
        gain_running=gains,
        sigma=Extent(spread(0.2), spread(0.8), spread(2.5)),
        leak=Extent(spread(1e-6), spread(1.6e-5), spread(8e-5)),
        first_order=order or first_order(1.21),
        channel_values=values,
    )


MODEL = ModelInfo(
    path="resnet_digits.onnx",
    format="onnx",
    producer="pytorch 2.13.0",
    facts={"opset": "17"},
    inputs=(TensorInfo("image", ("batch", 3, 32, 32), "float32"),),
    outputs=("logits",),
    parameters=272_474,
    defined=(),
)

RUN = RunInfo(
    mode="batch",
    device="cpu",
    dtype="float32",
    seed=0,
    metrics=("first_order", "statistics"),
    data=DataInfo("file", ("digits.npz",), 4, 64, 1797),
    loss=LossInfo(
        "cross_entropy", False, "y in digits.npz", "one integer label a row", spread(0.0834, 0.2)
    ),
    verify_gradients=None,
    versions={"torch": "2.13.0", "numpy": "2.4.6"},
    seconds={"load": 0.21, "measure": 1.94},
)

SYNTHETIC = replace(
    RUN,
    data=DataInfo("synthetic", (), 8, 16, None, "standard normal"),
    loss=LossInfo("noise_mse", True, None, "no labels were given", spread(1.02)),
    notes=("The batch size of the file (1) was lifted to 16; the row check passed.",),
)


def healthy() -> Report:
    rows = [
        ("stem.bn", 16, 65536, gain(0.21, 1.62, 4.4, 0.125), first_order(1.93, xhat=8e-4)),
        ("layer1.0.bn1", 16, 65536, gain(0.52, 1.31, 2.6, 0.1875), first_order(1.29)),
        ("layer1.0.bn2", 16, 65536, gain(0.33, 0.94, 1.9, 0.5625), first_order(0.981)),
        ("layer2.0.bn1", 32, 16384, gain(0.48, 1.18, 2.1, 0.34375), first_order(1.21)),
        ("layer2.0.bn2", 32, 16384, gain(0.29, 0.81, 1.7, 0.71875), first_order(0.847)),
        ("layer2.0.shortcut.bn", 32, 16384, gain(0.18, 0.62, 1.2, 0.96875), first_order(0.655)),
        ("layer3.0.bn1", 64, 4096, gain(0.61, 1.09, 1.8, 0.359375), first_order(1.12)),
        ("layer3.0.bn2", 64, 4096, gain(0.4, 1.42, 3.1, 0.140625), first_order(1.55)),
        ("layer3.0.shortcut.bn", 64, 4096, gain(0.11, 0.334, 0.81, 1.0), first_order(0.334)),
        ("head.bn", 128, 64, gain(2.2, 5.7, 12.3, 0.0), first_order(5.02, mean=0.118, xhat=0.207)),
    ]
    layers = tuple(
        layer(name, channels=channels, m=m, gains=gains, order=order)
        for name, channels, m, gains, order in rows
    )
    model = replace(MODEL, defined=tuple(entry.name for entry in layers))
    return Report(model, RUN, layers, (), Severity.ERROR)


def _quotient(value: float, error: float = 1.1e-6) -> FiniteDifference:
    return FiniteDifference(value * (1 + error), value, error, 1e-6)


_SICK_FINDINGS = (
    Finding(
        "BN002",
        "integrity",
        Severity.ERROR,
        "backbone.stages.2.blocks.11.downsample.norm",
        "autograd's gradient differs from the closed form by 0.21 of |γ|/σ |G|, tolerance 1e-05",
        "report this with the model: the capture is wrong, and no number of this layer is shown",
        0.21,
        1e-5,
    ),
    Finding(
        "BN005",
        "eps-dominates",
        Severity.ERROR,
        "backbone.stem.bn",
        "eps makes up 86 % of the variance of the median channel: the layer scales by 1/sqrt(eps) "
        "whatever its input does",
        "lower the weight decay on the weights before this layer, or its eps, and train again",
        0.86,
        0.1,
    ),
    Finding(
        "BN011",
        "few-values",
        Severity.WARNING,
        "neck.pool.bn",
        "one value per channel: batch statistics do not exist",
        "pass --batch-size 2 or more",
        1,
        16,
    ),
    Finding(
        "BN011",
        "few-values",
        Severity.WARNING,
        "head.0.bn",
        "8 values per channel",
        "pass --batch-size 16 or more",
        8,
        16,
    ),
    Finding(
        "BN015",
        "not-executed",
        Severity.INFO,
        None,
        "1 of 7 BatchNorm layers was not executed: aux.bn",
        "audit the auxiliary head by itself, or ignore it if inference never uses it",
    ),
)


def sick() -> Report:
    alone = Skipped("one value per channel (m = 1)")
    layers = (
        layer(
            "backbone.stem.bn",
            channels=32,
            m=100352,
            gains=gain(0.0, 84.1, 316, 0.02),
            order=first_order(31.6, finite=_quotient(31.6)),
        ),
        layer("backbone.stages.0.blocks.0.norm", order=first_order(0.97)),
        replace(
            layer("backbone.stages.1.blocks.3.norm", channels=256, m=3136),
            first_order=Skipped("no gradient arrives: the output is detached from the loss"),
        ),
        layer(
            "backbone.stages.2.blocks.11.downsample.norm",
            channels=1024,
            m=784,
            order=withheld(0.21),
        ),
        replace(
            layer("neck.pool.bn", channels=1024, m=1, gains=gain(0.3, 0.9, 2, 0.6)),
            gain_batch=alone,
            sigma=alone,
            leak=alone,
            first_order=alone,
        ),
        layer(
            "head.0.bn",
            channels=512,
            m=8,
            gains=gain(1e-9, 0.8, 1.9, 0.7),
            order=first_order(0.0123, mean=0.31, xhat=0.36, finite=_quotient(0.0123, 4e-6)),
        ),
        replace(
            layer("head.0.bn", call=2, channels=512, m=8),
            first_order=replace(first_order(0.00034), predicted=Skipped("|G| is 0 in every batch")),
        ),
    )
    model = replace(
        MODEL,
        path="exports/detector_v3.onnx",
        parameters=25_557_032,
        defined=(*dict.fromkeys(entry.name for entry in layers), "aux.bn"),
        not_executed=("aux.bn",),
        instance_norms=2,
        notes=("3 BatchNorm layers were stored in training mode.",),
    )
    run = replace(SYNTHETIC, verify_gradients="2")
    return Report(model, run, layers, _SICK_FINDINGS, Severity.ERROR)


def no_batchnorm() -> Report:
    finding = Finding(
        "BN001",
        "no-batchnorm",
        Severity.ERROR,
        None,
        "the model has no BatchNorm layer; 53 Conv nodes have a bias that looks folded",
        "export in training mode, or with do_constant_folding=False",
    )
    model = replace(MODEL, path="mobilenet_folded.onnx", parameters=3_487_816)
    return Report(model, SYNTHETIC, (), (finding,), Severity.ERROR)


def not_run() -> Report:
    failure = Failure(
        "mobilenet.onnx: the graph uses the operator 'com.microsoft::FusedConv', which has no "
        "differentiable equivalent",
        "export the model again without graph optimisation",
        4,
    )
    model = replace(MODEL, path="mobilenet.onnx", defined=("features.0.1", "features.1.conv.0.1"))
    return Report(model, None, (), (), Severity.ERROR, failure=failure)


def stopped_midway() -> Report:
    report = healthy()
    failure = Failure("batch 2 of 4: out of memory on cuda:0", "pass --batch-size 32", 4)
    return replace(report, layers=report.layers[:2], failure=failure)


def running_mode() -> Report:
    report = healthy()
    assert report.run is not None
    layers = tuple(
        replace(
            entry,
            first_order=replace(
                entry.first_order,
                statistics="running",
                removed_mean=spread(0.0),
                removed_xhat=spread(0.0),
            ),
        )
        for entry in report.layers
        if isinstance(entry.first_order, FirstOrder)
    )
    return replace(report, run=replace(report.run, mode="running"), layers=layers)


def not_finite() -> Report:
    order = replace(
        first_order(1.2),
        measured=Spread(1.2, 1.1, inf, 4),
        residual=nan,
        finite_difference=FiniteDifference(nan, 1.2, nan, 1e-6),
    )
    values = ChannelValues((1.0, nan), (), (0.1, 0.2), (inf, -inf), (), (), (), ())
    entry = layer("bn", channels=2, gains=gain(nan, inf, inf, nan), order=order, values=values)
    finding = Finding("BN004", "variance", Severity.ERROR, "bn", "inf", "retrain", inf, 65504.0)
    return Report(replace(MODEL, defined=("bn",)), RUN, (entry,), (finding,), None)


def hostile() -> Report:
    name = "[bold red]x[/] \x1b[31mred\x1b[0m\r\n\u202egpj.exe\u200b \ud800 名前名前 ﬁ \x9b31m"
    finding = Finding("BN009", name, Severity.WARNING, name, name, name, 1.0, 2.0)
    model = replace(MODEL, path=name, producer=name, defined=(name,), notes=(name,))
    return Report(model, RUN, (layer(name),), (finding,), Severity.WARNING)


ALL = {
    make.__name__: make
    for make in (
        healthy,
        sick,
        no_batchnorm,
        not_run,
        stopped_midway,
        running_mode,
        not_finite,
        hostile,
    )
}
