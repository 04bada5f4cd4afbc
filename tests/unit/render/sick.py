"""A model with everything wrong that a report can tell of."""

from __future__ import annotations

from dataclasses import replace

from bnaudit.documents import Report
from bnaudit.records.drift import Channels
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.layer import Extent, FiniteDifference, LayerReport
from bnaudit.records.values import Skipped

from .builders import (
    first_order,
    gain,
    layer,
    second_order,
    second_order_withheld,
    spread,
    weight_space,
    weight_space_withheld,
    withheld,
)
from .settings import MODEL, SYNTHETIC


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


_ALONE = Skipped("one value per channel (m = 1)")
_SYNTHETIC_DRIFT = Skipped("synthetic data says nothing about the running statistics")
_NO_FIRST_ORDER = Skipped("first order was not measured here")


def conspicuous() -> Channels:
    return Channels(
        dead_gamma=(3, 7, 12),
        dead_gradient=tuple(range(0, 32, 4)),
        gain_outlier=34.2,
        mean_drift=_SYNTHETIC_DRIFT,
        variance_drift=_SYNTHETIC_DRIFT,
    )


def _sick_layers() -> tuple[LayerReport, ...]:
    return (
        replace(
            layer(
                "backbone.stem.bn",
                channels=32,
                m=100352,
                gains=gain(0.0, 84.1, 316, 0.02),
                order=first_order(31.6, finite=_quotient(31.6)),
                curvature=second_order(2.2, slack=-0.97, holds=0.0),
                space=weight_space("Conv2d backbone.stem.conv.weight", ratio=12.1, violations=2),
                statistics=conspicuous(),
            ),
            leak=Extent(spread(0.31), spread(0.86), spread(0.99)),
        ),
        layer(
            "backbone.stages.0.blocks.0.norm",
            order=first_order(0.97),
            curvature=second_order_withheld(0.0034),
            space=weight_space_withheld("Conv2d backbone.stages.0.blocks.0.conv.weight", 0.41),
        ),
        replace(
            layer("backbone.stages.1.blocks.3.norm", channels=256, m=3136),
            first_order=Skipped("no gradient arrives: the output is detached from the loss"),
            second_order=_NO_FIRST_ORDER,
            weight_space=_NO_FIRST_ORDER,
        ),
        layer(
            "backbone.stages.2.blocks.11.downsample.norm",
            channels=1024,
            m=784,
            order=withheld(0.21),
            curvature=_NO_FIRST_ORDER,
            space=_NO_FIRST_ORDER,
        ),
        replace(
            layer("neck.pool.bn", channels=1024, m=1, gains=gain(0.3, 0.9, 2, 0.6)),
            gain_batch=_ALONE,
            sigma=_ALONE,
            leak=_ALONE,
            first_order=_ALONE,
            second_order=_NO_FIRST_ORDER,
            weight_space=_NO_FIRST_ORDER,
            statistics=Channels((), *(_ALONE,) * 4, grad_xhat_norm=_ALONE),
        ),
        layer(
            "head.0.bn",
            channels=512,
            m=8,
            gains=gain(1e-9, 0.8, 1.9, 0.7),
            order=first_order(0.0123, mean=0.31, xhat=0.36, finite=_quotient(0.0123, 4e-6)),
            space=Skipped("fed by an Add: no single weight multiplies its input"),
        ),
        replace(
            layer("head.0.bn", call=2, channels=512, m=8),
            first_order=replace(first_order(0.00034), predicted=Skipped("|G| is 0 in every batch")),
            second_order=Skipped("both sides are zero: the loss is linear behind this layer"),
            weight_space=replace(
                weight_space("Linear head.0.weight"), projection=Skipped("a division by zero")
            ),
        ),
    )


def sick() -> Report:
    layers = _sick_layers()
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
    return Report(
        model,
        run,
        layers,
        findings=_SICK_FINDINGS,
        fail_on=Severity.ERROR,
        twins=Skipped("a twin's loss differs from the model's: the forward pass is not repeatable"),
        gradient_scale=spread(321.0),
    )
