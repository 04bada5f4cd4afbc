"""BN012: a momentum that looks inverted, or never updates."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.statics import activations, without
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report

_ROUNDING = 1e-6
"""1 - 0.9 and the like in float32."""


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    layers = [bn for bn in activations(inspection) if bn.momentum is not None]
    hits = [hit for bn in layers if (hit := _hit(rule, inspection, bn, bn.momentum or 0.0))]
    yield from findings(rule, hits, len(layers), "have an unusual momentum")


def _hit(rule: Rule, inspection: Inspection, bn: BatchNormStatics, momentum: float) -> Hit | None:
    # An inference graph does not use it, and converters write what they like.
    graded = Severity.INFO if inspection.kind == "onnx" else rule.severity
    limit = rule.limit("largest")
    if not isfinite(momentum) or not -_ROUNDING <= momentum <= 1 + _ROUNDING:
        return Hit(bn.name, f"momentum is {momentum:.4g}, outside 0 to 1", graded, momentum, limit)
    if momentum <= _ROUNDING:
        return Hit(
            bn.name,
            "momentum is 0: in further training the running statistics stay as they are",
            Severity.INFO,
            momentum,
            0.0,
            fix="none for inference; set momentum to 0.1 before training further",
        )
    if momentum <= limit:
        return None
    if momentum >= 1 - _ROUNDING:
        fact = "momentum is 1: the running statistics are those of the last batch alone"
    else:
        fact = (
            f"momentum is {momentum:.4g} in PyTorch's convention: the last batch counts for "
            f"{momentum:.1%} of the running statistics; {1 - momentum:.4g} was probably meant"
        )
    return Hit(bn.name, fact, graded, momentum, limit)


def _not_applicable(subject: Inspection | Report) -> str | None:
    return without(subject, "momentum", "momentum") if isinstance(subject, Inspection) else None


def _sick() -> Inspection:
    return replace(examples.changed("head.bn", momentum=0.99), kind="torchscript")


RULE = Rule(
    id="BN012",
    name="unusual-momentum",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Looks for a momentum that is 0, above 1/2 or outside 0 to 1, in PyTorch's convention.",
    why="In PyTorch momentum is the weight of the new batch (0.1 by default); in TensorFlow, Keras, Caffe "
    "and ONNX it is the weight of the old average (0.99, 0.9). Copied without inverting it, 0.99 makes the "
    "running statistics those of the last batch, and inference depends on which batch that was. Published "
    "code had this (torchvision's MaxViT: 0.99). momentum 0 keeps the statistics as they are in any further "
    "training. In an ONNX file momentum is not used in inference and converters write it freely, so there "
    "it is an info.",
    fix="set momentum to 1 minus the other framework's value and recompute the running statistics "
    "(bnaudit recalibrate)",
    references=(
        "https://github.com/pytorch/examples/issues/289",
        "https://github.com/pytorch/vision/issues/8250",
        "https://github.com/kazuto1011/deeplab-pytorch/issues/79",
        "https://github.com/gmalivenko/pytorch2keras/issues/70",
        "https://github.com/Cadene/pretrained-models.pytorch/issues/5",
    ),
    thresholds=(
        Threshold(
            "largest",
            0.5,
            "momentum above it is unusual",
            "above 1/2 the last batch outweighs all batches before it together",
        ),
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
