"""BN205: BatchNorm removes most of a gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.examples.channels import spread
from bnaudit.judge.examples.report import layer as example
from bnaudit.judge.examples.report import report
from bnaudit.judge.obstacles import no_labelled_gradient, one_class
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity
from bnaudit.records.layer import FirstOrder
from bnaudit.records.values import Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    limit = rule.limit("projection")
    alike = one_class(report)
    for layer in report.layers:
        order = layer.first_order
        if not isinstance(order, FirstOrder) or layer.m < rule.limit("values"):
            continue
        left = order.projection
        if not isinstance(left, Spread) or left.q75 >= limit:
            continue
        yield rule.finding(
            f"the projection leaves {left.median:.2g} of the gradient's energy; {_most(order)}",
            layer=layer.label,
            severity=rule.severity if alike is None else Severity.INFO,
            observed=left.median,
            threshold=limit,
            interval=(left.q25, left.q75),
            confidence=(f"quartiles over {left.n} batches" if left.n > 1 else "one batch")
            + (f"; {alike}, if the labels are right" if alike else ""),
        )


def _most(order: FirstOrder) -> str:
    mean, along = order.removed_mean, order.removed_xhat
    if not isinstance(mean, Spread) or not isinstance(along, Spread):
        return "what is removed was not measured"
    if mean.median >= along.median:
        return (
            f"{mean.median:.0%} of it is common to all values of a channel: the loss pushes every sample "
            "the same way"
        )
    return f"{along.median:.0%} of it only asks for another scale of the channel"


def _sick() -> Report:
    sick = example("head.bn")
    assert isinstance(sick.first_order, FirstOrder)  # noqa: S101  # what `layer` makes
    order = replace(
        sick.first_order,
        projection=spread(0.04),
        removed_mean=spread(0.95, 0.01),
        removed_xhat=spread(0.01),
    )
    healthy = report()
    return replace(healthy, layers=(*healthy.layers[:-1], replace(sick, first_order=order)))


RULE = Rule(
    id="BN205",
    name="small-projection",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    summary="Looks for layers whose backward pass throws most of the gradient away.",
    why="BatchNorm removes the part of a gradient that shifts a whole channel or rescales it. Where that is "
    "nearly all of it, the weights in front learn next to nothing: the samples of a batch all pull one "
    "way, as they do with one class a batch, with wrong labels, or with a head that has not been trained. "
    "Where all rows are of one class it is an info.",
    fix="shuffle, so that each batch holds all classes, and check the labels and the loss",
    references=("https://arxiv.org/abs/1805.11604",),
    thresholds=(
        Threshold(
            "projection",
            0.4,
            "share of gradient energy that is left, at the upper quartile over the batches",
            "216 trained networks on their labels, 8 batches of 32 held-back rows: least 0.73; of 8 rows: "
            "0.57",
        ),
        Threshold(
            "values",
            16.0,
            "values per channel below which nothing is said",
            "m values leave (m-2)/m of a random gradient (BN102)",
        ),
    ),
    check=_check,
    healthy=report,
    sick=_sick,
    not_applicable=no_labelled_gradient,
)
