"""BN204: the gradient explodes or vanishes between the last layer and the first."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import TYPE_CHECKING

from bnaudit.judge.examples.channels import spread
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.obstacles import few_rows, no_statistics
from bnaudit.judge.readers import readers
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity
from bnaudit.records.report import Report
from bnaudit.records.values import Skipped, Spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection

_PLAIN = 1.21
"""sqrt(pi/(pi - 1)): growth a layer of BatchNorm and ReLU without skip connections at initialisation."""


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    norms = _reached(report)
    behind = readers(report)
    fed = {label for others in behind.values() for label in others}
    paths = [_path(label, norms, behind) for label in norms if label not in fed]
    path = max(paths, key=lambda path: abs(log(_ratio(path, norms))), default=[])
    if len(path) < 2:
        return
    first, last, ratio = norms[path[0]], norms[path[-1]], _ratio(path, norms)
    interval = (first.q25 / last.q75, first.q75 / last.q25)
    limit = max(rule.limit("ratio"), rule.limit("per-layer") ** (len(path) - 1))
    if interval[0] > limit:
        word, beyond = "explodes", limit
    elif interval[1] < 1 / limit:
        word, beyond = "vanishes", 1 / limit
    else:
        return
    steps = {one: (norms[one].median / norms[two].median, two) for one, two in pairwise(path)}
    at = max(steps, key=lambda one: log(steps[one][0]) * (1 if ratio > 1 else -1))
    step, next_one = steps[at]
    jump = abs(log(step)) > abs(log(ratio)) / 2
    rate = ratio ** (1 / (len(path) - 1))
    severity = rule.severity
    if jump and abs(log(step)) > log(rule.limit("step-error")):
        severity = Severity.ERROR
    if not jump and 1 <= rate <= _PLAIN:
        severity = Severity.INFO
    skips = any(len(others) > 1 for others in behind.values())
    yield rule.finding(
        f"the gradient {word}: |dL/dxhat| at {path[0]} is {ratio:.3g} times that at {path[-1]}, "
        f"{len(path) - 1} layers behind it; "
        + (
            f"a factor {step:.3g} of it lies between {at} and {next_one}"
            if jump
            else f"a factor {rate:.3g} a layer, where BatchNorm with ReLU and no skip connection makes "
            f"{_PLAIN} at initialisation"
        ),
        layer=at if jump else path[0],
        severity=severity,
        fix=_LOOK if jump or skips else rule.fix,
        observed=ratio,
        threshold=beyond,
        interval=interval,
        confidence=f"quartiles over {first.n} batches" if first.n > 1 else "one batch",
    )


_LOOK = (
    "look at the layer where the factor arises: saturated activations (too large a gamma before a sigmoid or "
    "tanh), or weights behind it that are far too small or too large"
)


def _reached(report: Report) -> dict[str, Spread]:
    """Layers that a gradient reaches. Those it does not are another rule's."""
    return {
        layer.label: layer.statistics.grad_xhat_norm
        for layer in report.layers
        if not isinstance(layer.statistics, Skipped)
        and isinstance(layer.statistics.grad_xhat_norm, Spread)
        and layer.statistics.grad_xhat_norm.q25 > 0
    }


def _path(
    label: str, norms: Mapping[str, Spread], behind: Mapping[str, tuple[str, ...]]
) -> list[str]:
    """From a layer to the end of the network, where several layers read one by the largest gradient.

    A layer's gradient is the sum of what comes back from its readers: the largest is what it is made of.
    """
    path = [label]
    while further := [other for other in behind.get(path[-1], ()) if other in norms]:
        path.append(max(further, key=lambda other: norms[other].median))
    return path


def _ratio(path: list[str], norms: Mapping[str, Spread]) -> float:
    return norms[path[0]].median / norms[path[-1]].median


def _not_applicable(subject: Inspection | Report) -> str | None:
    reason = no_statistics(subject)
    if reason is None and isinstance(subject, Report) and len(_reached(subject)) < 2:
        return "needs a gradient at two layers"
    return few_rows(subject) if reason is None and isinstance(subject, Report) else reason


RULE = Rule(
    id="BN204",
    name="gradient-scale",
    severity=Severity.WARNING,
    needs=Needs.RUN,
    summary="Compares |dL/dxhat| (dL/dz times gamma, which no rescaling of weights changes) at the first "
    "layer with that at the last one that reads from it.",
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
        Threshold(
            "step-error",
            1e4,
            "a factor between one layer and the next from which it is an error",
            "weights in front and behind would need learning rates 10,000 times apart; in 216 trained "
            "networks whole networks have 26",
        ),
    ),
    check=_check,
    healthy=report,
    sick=lambda: with_channels(l0={"grad_xhat_norm": spread(9.1)}),
    not_applicable=_not_applicable,
)
