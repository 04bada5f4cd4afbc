"""BN005: the running statistics are those of initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule
from bnaudit.judge.statics import (
    activations,
    affine_untouched,
    half_untouched,
    like_instance_norm,
    statistics_untouched,
    without,
)
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    tracked = [
        bn
        for bn in activations(inspection)
        if bn.running_var and not like_instance_norm(inspection, bn)  # BN004 tells of these
    ]
    untouched = [bn for bn in tracked if statistics_untouched(bn)]
    untrained = len(untouched) == len(tracked) and all(affine_untouched(bn) for bn in untouched)
    hits = []
    for bn in tracked:
        half = half_untouched(bn)
        if half is not None:
            hits.append(_half(rule, bn, half))
        elif statistics_untouched(bn):
            hits.append(_hit(rule, inspection, bn, untrained=untrained))
    if untrained:
        shared = "are as they were initialised: this network was not trained"
    else:
        shared = "have running statistics that no data gave"
    yield from findings(rule, hits, len(tracked), shared)


def _half(rule: Rule, bn: BatchNormStatics, half: str) -> Hit:
    other = "running_var" if half == "running_mean" else "running_mean"
    return Hit(
        bn.name,
        f"{half} is exactly {0 if half == 'running_mean' else 1} in every channel, while data gave {other}",
        rule.severity,
        float(len(bn.running_mean or ())),
        0.0,
        confidence="read from the file; a conversion that moved this statistic into gamma, beta or the "
        "weights in front would look the same",
    )


def _fact(bn: BatchNormStatics) -> str:
    mean, variance = (bn.running_mean or (0.0,))[0], (bn.running_var or (0.0,))[0]
    fact = f"running_mean is exactly {mean:g} and running_var exactly {variance:g} in every channel"
    if (mean, variance) == (0, 1):
        return fact
    return (
        f"{fact}: {'where Caffe starts' if mean == variance == 0 else 'no data gives such values'}"
    )


def _hit(rule: Rule, inspection: Inspection, bn: BatchNormStatics, *, untrained: bool) -> Hit:
    fact = _fact(bn)
    counted = (float(len(bn.running_var or ())), 0.0)  # channels without statistics of their own
    if bn.batches_tracked:
        fact += f", although num_batches_tracked says {bn.batches_tracked}"
    if untrained:
        severity = Severity.INFO if inspection.kind == "module" else Severity.WARNING
        fix = "audit a trained checkpoint; on an untrained network drift and leak mean nothing"
        return Hit(bn.name, fact, severity, *counted, fix=fix)
    if affine_untouched(bn):
        return Hit(
            bn.name,
            f"{fact}; gamma and beta are constants too, so training never ran this layer",
            Severity.WARNING,
            *counted,
            fix="remove the layer if nothing uses it, or load the weights that belong to it",
        )
    return Hit(
        bn.name,
        f"{fact}, while gamma or beta were trained",
        rule.severity,
        *counted,
        confidence="read from the file; statistics that were absorbed into gamma and beta, as "
        "Detectron's frozen layers do, look the same",
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Inspection):
        return None
    return without(subject, "running_var", "running statistics")


def _sick() -> Inspection:
    zeros, ones = (0.0,) * examples.CHANNELS, (1.0,) * examples.CHANNELS
    return examples.changed("block2.bn", running_mean=zeros, running_var=ones)


RULE = Rule(
    id="BN005",
    name="statistics-at-init",
    severity=Severity.ERROR,
    needs=Needs.FILE,
    summary="Looks for running statistics that no data gave: mean 0, variance 1, or both equal in all "
    "channels.",
    why="In inference such a layer does not normalise at all: it passes its input through gamma and beta, "
    "which were trained for normalised values. Checkpoints were published so: the statistics were never "
    "updated (momentum 0, a training loop that stayed in eval mode), or not saved and not loaded. "
    "num_batches_tracked is not evidence of either: it is reset and loaded independently. Whole networks "
    "with gamma 1 and beta 0 as well are simply untrained, which is a warning for a file and an info for a "
    "live module. Caffe models whose statistics were absorbed into gamma and beta have (0, 1) on purpose. "
    "Other values that are equal in all channels are placeholders (0.02 in the light models of the onnx "
    "package) or an initialisation that ran on zeros (0 and 0.9 in an untrained YOLO).",
    fix="run batches of training data through the network in training mode "
    "(or bnaudit recalibrate), and save again",
    references=(
        "https://github.com/cleinc/bts/issues/90",
        "https://github.com/deezer/spleeter/issues/151",
        "https://github.com/tensorflow/tensorflow/issues/11965",
        "https://github.com/pytorch/pytorch/issues/110361",
        "https://github.com/open-mmlab/mmdetection/issues/1217",
        "https://github.com/facebookresearch/Detectron/issues/189",
        "https://github.com/ultralytics/ultralytics/issues/17469",
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=_sick,
    not_applicable=_not_applicable,
)
