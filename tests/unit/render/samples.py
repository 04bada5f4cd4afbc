"""Reports put together by hand, from healthy to hopeless: what the renderers have to cope with."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

from bnaudit.documents import Report
from bnaudit.judge.examples.deployment import deployment
from bnaudit.records.curvature import CurvatureRow
from bnaudit.records.drift import Channels, Drift
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.layer import ChannelValues, FiniteDifference, FirstOrder
from bnaudit.records.run import Failure
from bnaudit.records.twins import ParameterEffect, Twin, Upstream
from bnaudit.records.values import NOT_REQUESTED, Skipped, Spread

from .builders import (
    drift,
    first_order,
    gain,
    inconspicuous,
    layer,
    second_order,
    spread,
    weight_space,
)
from .settings import MODEL, RUN, SYNTHETIC
from .sick import conspicuous, sick

# Of the layers of `healthy`, in their order: rho, slack, share of the channels within the bound.
_CURVATURES = (
    (4.1e-5, -0.62, 0.0625),
    (1.3e-4, -0.55, 0.125),
    (2.9e-4, -0.31, 0.25),
    (8.8e-5, -0.48, 0.15625),
    (3.7e-4, 0.04, 0.40625),
    (6.2e-4, 0.21, 0.6875),
    (2.5e-4, -0.12, 0.34375),
    (9.9e-5, -0.71, 0.03125),
    (-1.1e-4, 0.55, 1.0),
    (7.3e-3, -0.82, 0.0078125),
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
        layer(
            name,
            channels=channels,
            m=m,
            gains=gains,
            order=order,
            curvature=second_order(rho, slack=slack, holds=holds),
        )
        for (name, channels, m, gains, order), (rho, slack, holds) in zip(
            rows, _CURVATURES, strict=True
        )
    )
    model = replace(MODEL, defined=tuple(entry.name for entry in layers))
    return Report(
        model, RUN, layers, findings=(), fail_on=Severity.ERROR, gradient_scale=spread(3.12, 0.1)
    )


def first_order_only() -> Report:
    """Only what `--metrics first_order` gives."""
    report = healthy()
    assert report.run is not None
    return replace(
        report,
        run=replace(report.run, metrics=("first_order",)),
        layers=tuple(
            replace(entry, second_order=NOT_REQUESTED, statistics=NOT_REQUESTED)
            for entry in report.layers
        ),
        gradient_scale=NOT_REQUESTED,
    )


def _effect(name: str, norm: float, ratio: float) -> ParameterEffect:
    return ParameterEffect(name, norm, norm * ratio)


def twins() -> tuple[Twin, ...]:
    frozen = (
        _effect("stem.conv.weight", 0.0412, 2.31),
        ParameterEffect("stem.conv.bias", 1.2e-10, 0.0031),
        _effect("layer1.0.conv1.weight", 0.0208, 1.72),
        _effect("layer1.0.conv2.weight", 0.0196, 0.93),
        _effect("layer3.0.conv2.weight", 0.0117, 1.08),
        _effect("head.fc1.weight", 0.0871, 1.38),
    )
    identity = (
        _effect("stem.conv.weight", 0.0412, 0.183),
        ParameterEffect("stem.conv.bias", 1.2e-10, 0.0019),
        _effect("layer1.0.conv1.weight", 0.0208, 0.242),
        _effect("layer1.0.conv2.weight", 0.0196, 0.319),
        _effect("layer3.0.conv2.weight", 0.0117, 0.731),
        _effect("head.fc1.weight", 0.0871, 0.611),
    )
    return (
        Twin("frozen", None, 0.0, 0.1021, 0.1704, frozen),
        Twin("identity", None, 0.0, 0.1021, 0.0561, identity),
    )


def everything() -> Report:
    """All metrics, nothing wrong."""
    report = healthy()
    assert report.run is not None
    layers = tuple(
        replace(
            entry,
            weight_space=weight_space(
                f"Conv2d {entry.name.replace('bn', 'conv')}.weight"
                if entry.m > 64
                else "Linear head.fc1.weight",
                norm=211 / (1 + place),
                grad=0.0412 / (1 + 0.4 * place),
                bound=0.631 / (1 + 0.5 * place),
                tight=0.05 + 0.04 * place,
                ratio=1.81 - 0.15 * place,
            ),
        )
        for place, entry in enumerate(report.layers)
    )
    further = ("deployment", "upstream", "weight_space", "twins")
    run = replace(report.run, metrics=(*report.run.metrics, *further))
    return replace(
        report,
        run=run,
        layers=layers,
        twins=twins(),
        upstream=Upstream(0.1021, 0.0561, 6),
        deployment=deployment(),
    )


def drifted() -> Report:
    """Data that was normalised otherwise than in training."""
    report = healthy()
    moved = Channels((), (), 6.1, drift(0.61, 1.93, 17), drift(0.9, 3.2, 40))
    one = replace(inconspicuous(), mean_drift=drift(0.01, 4.1, 5))
    layers = (
        replace(report.layers[0], statistics=moved),
        *(replace(entry, statistics=one) for entry in report.layers[1:-1]),
        replace(report.layers[-1], statistics=replace(moved, gain_outlier=1.2)),
    )
    again = tuple(replace(entry, call=2) for entry in layers)
    return replace(report, layers=layers + again)


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
    return Report(model, SYNTHETIC, (), findings=(finding,), fail_on=Severity.ERROR)


def not_run() -> Report:
    failure = Failure(
        "mobilenet.onnx: the graph uses the operator 'com.microsoft::FusedConv', which has no "
        "differentiable equivalent",
        "export the model again without graph optimisation",
        4,
    )
    model = replace(MODEL, path="mobilenet.onnx", defined=("features.0.1", "features.1.conv.0.1"))
    return Report(model, None, (), findings=(), fail_on=Severity.ERROR, failure=failure)


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
            second_order=Skipped("the theorem is about batch statistics (--mode batch)"),
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
    curvature = replace(
        second_order(1.0, rows=(CurvatureRow(nan, 1.0, inf), CurvatureRow(0.1, 0.1, 0.2))),
        rayleigh=Spread(nan, nan, nan, 1),
        bound_slack=Spread(inf, inf, inf, 1),
    )
    space = replace(weight_space("conv"), weight_ratio=Spread(inf, inf, inf, 1))
    entry = layer(
        "bn",
        channels=2,
        gains=gain(nan, inf, inf, nan),
        order=order,
        curvature=curvature,
        space=space,
        statistics=Channels((), (), inf, Drift(0.1, nan, nan, 1, 0.1), drift(1.0, inf, 0)),
        values=ChannelValues((1.0, nan), (), (0.1, 0.2), (inf, -inf), (), (), (), ()),
    )
    finding = Finding("BN004", "variance", Severity.ERROR, "bn", "inf", "retrain", inf, 65504.0)
    twin = Twin("frozen", "bn", nan, 0.0, inf, (ParameterEffect("w", nan, 1.0),))
    model = replace(MODEL, defined=("bn",))
    return Report(
        model, RUN, (entry,), findings=(finding,), twins=(twin,), gradient_scale=spread(inf)
    )


def hostile() -> Report:
    name = "[bold red]x[/] \x1b[31mred\x1b[0m\r\n\u202egpj.exe\u200b \ud800 名前名前 ﬁ \x9b31m"
    finding = Finding("BN009", name, Severity.WARNING, name, name, name, 1.0, 2.0)
    model = replace(MODEL, path=name, producer=name, defined=(name,), notes=(name,))
    effects = tuple(ParameterEffect(name, 1.0, 2.0 + place) for place in range(2))
    entry = layer(name, space=weight_space(name), statistics=conspicuous())
    return Report(
        model,
        RUN,
        (entry,),
        findings=(finding,),
        fail_on=Severity.WARNING,
        twins=(Twin(name, name, 0.0, 1.0, 2.0, effects),),
    )


ALL = {
    make.__name__: make
    for make in (
        healthy,
        first_order_only,
        everything,
        drifted,
        sick,
        no_batchnorm,
        not_run,
        stopped_midway,
        running_mode,
        not_finite,
        hostile,
    )
}
