"""BN208: on this data the model does no better than a constant answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.examples.channels import spread
from bnaudit.judge.examples.report import report
from bnaudit.judge.obstacles import unlike_training
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import NEEDS_RUN, Severity
from bnaudit.records.report import Report
from bnaudit.records.values import Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    loss = report.run.loss if report.run else None
    if loss is None or loss.guess is None or not isinstance(loss.value, Spread):
        return
    value, limit = loss.value, rule.limit("ratio") * loss.guess
    if value.q25 <= limit:
        return
    # Of an untrained network a squared error may be several times the variance of the labels.
    kinds = ("cross_entropy", "bce")
    far = loss.name in kinds and value.q25 > rule.limit("ratio-error") * loss.guess
    yield rule.finding(
        f"{loss.name} is {value.median:.3g}, and one constant answer to these labels reaches "
        f"{loss.guess:.3g}; inputs, labels and weights do not go together",
        severity=Severity.ERROR if far else rule.severity,
        observed=value.median,
        threshold=limit,
        interval=(value.q25, value.q75),
        confidence=f"quartiles over {value.n} batches" if value.n > 1 else "one batch",
    )


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Report) or subject.run is None:
        return NEEDS_RUN
    if subject.run.loss.guess is None:
        return "needs labels of more than one class, or values that differ (--labels)"
    return unlike_training(subject)


def _sick() -> Report:
    healthy = report()
    assert healthy.run is not None  # noqa: S101  # what `report` makes
    loss = replace(healthy.run.loss, value=spread(2.9))
    return replace(healthy, run=replace(healthy.run, loss=loss))


RULE = Rule(
    id="BN208",
    name="worse-than-guessing",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    summary="Compares the loss on the labels with that of one constant answer.",
    why="A trained model that a constant answer beats was given something else than it was trained on: "
    "labels in another order or numbering, mirrored or reordered inputs, or weights that were never trained. "
    "Every number about gradients in the report then describes that mismatch.",
    fix="check that labels and inputs belong together, the numbering of the classes, and the order of the "
    "input's channels and columns",
    references=("https://github.com/lishen/end2end-all-conv/issues/28",),
    thresholds=(
        Threshold(
            "ratio",
            1.0,
            "loss over that of the constant answer, at the lower quartile over the batches",
            "the definition: a model that knows anything of the data is below",
        ),
        Threshold(
            "ratio-error",
            1.5,
            "the same from which a cross-entropy, or a binary one, is an error",
            "untrained networks of 8 architectures, 20 seeds each: at most 1.38, of classifiers; 1.25 with "
            "one binary output (7 architectures)",
        ),
    ),
    check=_check,
    healthy=report,
    sick=_sick,
    not_applicable=_not_applicable,
)
