"""BN008: an eps that no framework has by default, and eps that differs within one model."""

from __future__ import annotations

from collections import Counter
from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.examples import inspection as examples
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.statics import activations, without
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection
from bnaudit.summary.gain import leaks, middle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.report import Report

_SHOWN = 3


def _inspect(rule: Rule, inspection: Inspection) -> Iterator[Finding]:
    layers = [bn for bn in activations(inspection) if bn.eps is not None]
    hits = [hit for bn in layers if (hit := _hit(rule, bn, bn.eps or 0.0))]
    yield from findings(rule, hits, len(layers), "have an unusual eps")
    yield from _mixed(rule, layers)


def _hit(rule: Rule, bn: BatchNormStatics, eps: float) -> Hit | None:
    largest, smallest = rule.limit("largest"), rule.limit("smallest")
    if not isfinite(eps) or eps < 0:
        return Hit(bn.name, f"eps is {eps:g}", Severity.ERROR, eps, 0.0)
    zero = (bn.running_var or ()).count(0)
    if eps == 0:
        divides = f", and the variance of {zero} channels is 0: they divide by zero" if zero else ""
        severity = Severity.ERROR if zero else rule.severity
        return Hit(bn.name, f"eps is 0{divides}; PyTorch 2.10 refuses it", severity, 0.0, smallest)
    if eps > largest:
        leak = middle(leaks(bn))
        changes = leak > rule.limit("leak")
        return Hit(
            bn.name,
            f"eps is {eps:g}, {leak:.1%} of what the median channel is divided by",
            rule.severity if changes else Severity.INFO,
            eps,
            largest,
        )
    if eps < smallest:
        amplified = (
            f"; it multiplies {zero} channels of variance 0 by {eps**-0.5:.0e}" if zero else ""
        )
        severity = rule.severity if zero else Severity.INFO
        return Hit(bn.name, f"eps is {eps:g}{amplified}", severity, eps, smallest)
    return None


def _mixed(rule: Rule, layers: list[BatchNormStatics]) -> Iterator[Finding]:
    """Layers whose eps is not that of most layers; float32 does not make a difference."""
    counts = Counter(f"{bn.eps:.3g}" for bn in layers)
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    others = [bn.name for bn in layers if f"{bn.eps:.3g}" != usual]
    shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
    yield rule.finding(
        "eps differs within the model: "
        + ", ".join(f"{eps} in {count}" for eps, count in counts.most_common())
        + f" layers ({shown})",
        layer=others[0] if len(others) == 1 else None,
        severity=Severity.INFO,
        observed=float(len(counts)),
        threshold=1.0,
        fix="none if the parts of the network were written so; otherwise give all layers the eps that they "
        "were trained with",
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    return without(subject, "eps", "eps") if isinstance(subject, Inspection) else None


RULE = Rule(
    id="BN008",
    name="unusual-eps",
    severity=Severity.WARNING,
    needs=Needs.FILE,
    summary="Looks for an eps of 0, below or above what frameworks use, or mixed within one model.",
    why="eps is part of the function that was trained: 1e-5 in PyTorch, Paddle and ONNX, 1e-3 in Keras and "
    "TensorFlow. A conversion that keeps the weights and changes eps changes every output a little, and "
    "channels of small variance a lot. eps = 0 divides by zero where a variance is 0, and PyTorch refuses "
    "it since 2.10, in inference too. A large eps is a warning only where it makes up a visible part of what "
    "channels are divided by: scaling the weights by k and eps by k^2 leaves the function as it was. "
    "Different values within one model are an info, since published networks have them.",
    fix="give the layer the eps that it was trained with; 1e-5 if that is not known",
    references=(
        "https://github.com/pytorch/pytorch/issues/173337",
        "https://github.com/pytorch/pytorch/issues/127736",
        "https://github.com/qqwweee/keras-yolo3/issues/451",
        "https://github.com/gzuidhof/nn-transfer/pull/3",
    ),
    thresholds=(
        Threshold(
            "largest",
            2e-3,
            "eps above it is unusual",
            "twice the largest default of a framework (Keras and TensorFlow: 1e-3)",
        ),
        Threshold(
            "smallest",
            1e-12,
            "eps below it is unusual",
            "1/sqrt(eps) is then above 1e6: a channel of variance 0 loses all digits of float32",
        ),
        Threshold(
            "leak",
            0.15,
            "a large eps warns where eps/(var + eps) of the median channel exceeds it",
            "survey: at eps = 1e-3 at most 0.11 (EfficientNet-Lite0); 0.15 lowers the gain by 8 %",
        ),
    ),
    inspect=_inspect,
    healthy=examples.inspection,
    sick=lambda: examples.changed("head.bn", eps=1.0),
    not_applicable=_not_applicable,
)
