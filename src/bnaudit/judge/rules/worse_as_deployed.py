"""BN209: with its running statistics the network does worse than with those of its batches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.examples.deployment import deployment
from bnaudit.judge.examples.report import report
from bnaudit.judge.remedies import RECOMPUTE, remedy, supposed
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.deployment import OF_INPUTS
from bnaudit.records.finding import NEEDS_RUN, Severity
from bnaudit.records.report import Report
from bnaudit.records.values import Estimate, Skipped
from bnaudit.summary.deployment import (
    deployed,
    explained,
    largest_shares,
    located,
    lower_end,
    mean_of,
    most_by_itself,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.judge.rule import Details
    from bnaudit.records.deployment import Deployment
    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection


_SWEPT = "216 trained networks (docs/defects.md), all held-back rows in batches of 8 to 64: "


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    found = deployed(report)
    if found is None:
        return
    if isinstance(found.running.loss, Skipped) and isinstance(found.batch.loss, Estimate):
        yield rule.finding(
            f"with running statistics {found.running.loss.reason}; with those of the batches it is "
            f"{found.batch.loss.mean:.3g}",
            confidence=_confidence(found.batch.loss),
        )
    elif report.run is not None and report.run.loss.label_free:
        yield from _by_outputs(rule, report, found)
    elif isinstance(found.gap, Estimate):
        yield from _by_loss(rule, report, found, found.gap)


def _by_loss(rule: Rule, report: Report, found: Deployment, gap: Estimate) -> Iterator[Finding]:
    batch, running = mean_of(found.batch.loss), mean_of(found.running.loss)
    if batch is None or running is None or report.run is None:
        return
    guess = report.run.loss.guess
    scale = 5 * batch if guess is None else max(batch, rule.limit("floor") * guess)
    sure = rule.limit("ratio" if gap.n > 1 else "ratio-one-batch")
    far = rule.limit("ratio-error") if gap.n > 1 else sure
    if not (scale > 0 and lower_end(gap) > sure * scale):
        return
    details: Details = {
        "severity": Severity.ERROR if gap.mean >= far * scale else Severity.WARNING,
        "observed": running,
        "threshold": batch + sure * scale,
        "interval": _interval(found.running.loss),
        "confidence": _confidence(gap),
    }
    message = (
        f"the deployed loss (running statistics) is {running:.3g}, and {batch:.3g} with the statistics of "
        f"each batch{_accuracies(found)}"
    )
    yield _with_origin(rule.finding(message, **details), report)


_WITHOUT_LABELS = "labels (--labels) tell whether these answers are worse"


def _by_outputs(rule: Rule, report: Report, found: Deployment) -> Iterator[Finding]:
    distance, limit = found.distance, rule.limit("distance")
    if isinstance(distance, Skipped) or distance.n < 2 or lower_end(distance) <= limit:
        return
    changed = mean_of(found.changed)
    decisions = "" if changed is None else f", and {changed:.0%} of the decisions are others"
    finding = rule.finding(
        f"running statistics move the outputs by {distance.mean:.2g} of what they differ from row to "
        f"row{decisions}",
        observed=distance.mean,
        threshold=limit,
        interval=_interval(distance),
        confidence=_confidence(distance),
    )
    finding = _with_origin(finding, report)
    yield replace(finding, fix=f"{finding.fix}; {_WITHOUT_LABELS}")


def _with_origin(finding: Finding, report: Report) -> Finding:
    """The finding with the layers that it comes from, the cause, and the remedy that follows."""
    where, shares, best = located(report), largest_shares(report), most_by_itself(report)
    if where is None:
        return finding
    clauses = [finding.message]
    free = report.run is not None and report.run.loss.label_free
    gap, brings = ("squared distance", "it") if free else ("gap", "its loss")
    if shares:
        named = ", ".join(f"{share:.3g} from {layer.label}" for layer, share in shares[:3])
        more = f" and the rest from {len(shares) - 3} more" if len(shares) > 3 else ""
        clauses.append(f"of the {gap} of {where.gap:.3g} in batch {where.batch} come {named}{more}")
    if best is not None and len(shares) > 1:
        clauses.append(f"batch statistics at {best[0].label} alone take {best[1]:.3g} off")
    evidence = explained(report)
    if evidence is not None:
        clauses.append(supposed(evidence))
    else:
        clauses.append("no known cause explains it")
    told = evidence is not None and evidence.cause not in {"edited-layers", "other-weights"}
    if not told and not isinstance(where.recomputed, Skipped):
        clauses.append(
            f"statistics recomputed from these batches bring {brings} to {where.recomputed:.3g}"
        )
    layer = None if best is None else best[0].label
    if evidence is not None and evidence.cause in OF_INPUTS and shares:
        layer = shares[0][0].label  # what is in front of it is wrong, wherever it could be mended
    return replace(
        finding, message="; ".join(clauses), fix=remedy(report) or finding.fix, layer=layer
    )


def _accuracies(found: Deployment) -> str:
    running, batch = mean_of(found.running.accuracy), mean_of(found.batch.accuracy)
    if running is None or batch is None:
        return ""
    return f" (accuracy {running:.1%} and {batch:.1%})"


def _interval(value: Estimate | Skipped) -> tuple[float, float] | None:
    if (
        isinstance(value, Skipped)
        or isinstance(value.lower, Skipped)
        or isinstance(value.upper, Skipped)
    ):
        return None
    return value.lower, value.upper


def _confidence(value: Estimate) -> str:
    return f"95 % interval over {value.n} batches" if value.n > 1 else "one batch"


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Report) or subject.run is None:
        return NEEDS_RUN
    if "deployment" not in subject.run.metrics:
        return "needs the metric 'deployment'"
    return subject.deployment.reason if isinstance(subject.deployment, Skipped) else None


def _sick() -> Report:
    return replace(report(), deployment=deployment(1.02))


RULE = Rule(
    id="BN209",
    name="worse-as-deployed",
    severity=Severity.ERROR,
    needs=Needs.DATA,
    summary="Compares the loss with running statistics, as deployed, with that of batch statistics.",
    why="A network runs on its running statistics once it is deployed. Where they do not belong to its "
    "weights and inputs (averaged or extrapolated weights, too few or too small batches, other preprocessing "
    "or resolution, a converter that cut values off) it is worse than in training: fine in train mode, "
    "broken in eval mode.",
    fix=RECOMPUTE,
    references=(
        "https://github.com/pytorch/pytorch/issues/4741",
        "https://github.com/keras-team/keras/issues/7265",
        "https://github.com/huggingface/pytorch-image-models/issues/245",
    ),
    thresholds=(
        Threshold(
            "ratio",
            0.15,
            "how much more the deployed loss is, over the loss with batch statistics or the floor, at the "
            "near end of its interval",
            _SWEPT
            + "largest 0.12 (5 batches of 64), of a network with a constant learning rate; next 0.006",
        ),
        Threshold(
            "ratio-error",
            0.25,
            "the same from which it is an error, at the mean over the batches",
            "a choice: 1.25 times the loss; " + _SWEPT + "largest 0.23",
        ),
        Threshold(
            "ratio-one-batch",
            3.0,
            "the same of a single batch, which has no interval, and an error",
            _SWEPT
            + "mean and twice the deviation of single batches, largest 2.7 (8 rows), 0.8 (32 rows)",
        ),
        Threshold(
            "floor",
            0.1,
            "of the loss of one constant answer: where the loss with batch statistics is below, this takes "
            "its place; of a loss without such an answer five times the loss does",
            "a choice: a network that is nearly always right may double a loss that is next to nothing",
        ),
        Threshold(
            "distance",
            0.5,
            "without labels: |y_run - y_batch| over what the outputs differ from row to row, at the near end "
            "over several batches",
            _SWEPT + "largest 0.32 (32 rows)",
        ),
    ),
    check=_check,
    healthy=report,
    sick=_sick,
    not_applicable=_not_applicable,
)
