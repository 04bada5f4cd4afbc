"""BN204: the gradient explodes or vanishes between the last layer and the first."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import TYPE_CHECKING

from bnaudit.judge.examples.channels import spread
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.obstacles import few_rows, no_statistics
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity
from bnaudit.records.report import Report
from bnaudit.records.values import Skipped, Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection

Reached = list[tuple[str, Spread]]


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    reached = list(_reached(report))
    if len(reached) < 2:
        return
    (_, first), (_, last) = reached[0], reached[-1]
    ratio = first.median / last.median
    interval = (first.q25 / last.q75, first.q75 / last.q25)
    limit = _limit(rule, len(reached))
    if interval[0] > limit:
        word, beyond = "explodes", limit
    elif interval[1] < 1 / limit:
        word, beyond = "vanishes", 1 / limit
    else:
        return
    place = _step(reached, ratio)
    layer, step = reached[place][0], reached[place][1].median / reached[place + 1][1].median
    jump = abs(log(step)) > abs(log(ratio)) / 2
    behind = reached[place + 1][0]
    yield rule.finding(
        f"the gradient {word}: |dL/dxhat| at {reached[0][0]} is {ratio:.3g} times that at "
        f"{reached[-1][0]}, {len(reached)} layers apart; "
        + (
            f"a factor {step:.3g} of it lies between {layer} and {behind}"
            if jump
            else f"a factor {ratio ** (1 / (len(reached) - 1)):.3g} a layer"
        ),
        layer=layer if jump else reached[0][0],
        observed=ratio,
        threshold=beyond,
        interval=interval,
        confidence=f"quartiles over {first.n} batches" if first.n > 1 else "one batch",
    )


def _reached(report: Report) -> Iterator[tuple[str, Spread]]:
    """Layers that a gradient reaches. Those it does not are another rule's."""
    for layer in report.layers:
        if isinstance(layer.statistics, Skipped):
            continue
        norm = layer.statistics.grad_xhat_norm
        if isinstance(norm, Spread) and norm.q25 > 0:
            yield layer.label, norm


def _limit(rule: Rule, layers: int) -> float:
    return max(rule.limit("ratio"), rule.limit("per-layer") ** (layers - 1))


def _step(reached: Reached, ratio: float) -> int:
    """Between which layer and the next most of it happens: the place of the one in front."""
    sign = 1 if ratio > 1 else -1
    steps = [sign * log(one.median / other.median) for (_, one), (_, other) in pairwise(reached)]
    return max(range(len(steps)), key=lambda place: steps[place])


def _not_applicable(subject: Inspection | Report) -> str | None:
    reason = no_statistics(subject)
    if reason is None and isinstance(subject, Report) and len(list(_reached(subject))) < 2:
        return "needs a gradient at two layers"
    return few_rows(subject) if reason is None and isinstance(subject, Report) else reason


RULE = Rule(
    id="BN204",
    name="gradient-scale",
    severity=Severity.WARNING,
    needs=Needs.RUN,
    summary="Compares |dL/dxhat| (dL/dz times gamma, which no rescaling of weights changes) at the first "
    "layer with that at the last.",
    why="Where gradients differ by orders of magnitude over the depth, no single learning rate fits: one "
    "end trains and the other stands still or diverges. BatchNorm without skip connections multiplies the "
    "gradient by about sqrt(pi/(pi - 1)) = 1.21 a ReLU layer at initialisation, whatever the weights.",
    fix="add skip connections, or look at the layer where the factor arises: saturated activations "
    "(too large a gamma before a sigmoid or tanh), or weights behind it that are far too small",
    references=("https://arxiv.org/abs/1902.08129", "https://arxiv.org/abs/1805.11604"),
    thresholds=(
        Threshold(
            "ratio",
            100.0,
            "first over last layer, or its inverse, at the near quartiles over the batches",
            "216 trained networks of 3 to 10 layers: |dL/dz| 0.7 to 26; 40 plain layers: 321",
        ),
        Threshold(
            "per-layer",
            1.1,
            "growth a layer that is allowed where it makes more than `ratio` (from 50 layers on)",
            "half, in logarithms, of the 1.21 a layer of plain BatchNorm and ReLU (Yang et al. 2019)",
        ),
    ),
    check=_check,
    healthy=report,
    sick=lambda: with_channels(l0={"grad_xhat_norm": spread(9.1)}),
    not_applicable=_not_applicable,
)
