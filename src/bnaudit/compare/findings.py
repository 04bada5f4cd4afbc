"""Findings of two reports, matched: by rule and layer, not by their text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.compare.spread import beyond
from bnaudit.records.snapshot import Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.records.finding import Finding

WORSE, BETTER, SAME = 1, -1, 0

Place = tuple[str, str | None]
"""Rule, and label of the layer in the new report."""

_NUMBERS = re.compile(r"[-+\d.]+(e[-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class FindingMatch:
    """Findings of two reports.

    Attributes:
        pairs: (old, new); an old finding of the whole model may stand in several.
        new: without a partner.
        gone: without a partner.
    """

    pairs: tuple[tuple[Finding, Finding], ...]
    new: tuple[Finding, ...]
    gone: tuple[Finding, ...]


def match_findings(
    old: Sequence[Finding], new: Sequence[Finding], renamed: Mapping[str, str]
) -> FindingMatch:
    """Pairs findings of one rule at one layer.

    A rule that most layers break says so once, of the whole model: such a finding stands for those of
    single layers, and they for it.

    Args:
        old: in the report's order.
        new: in the report's order.
        renamed: old label of a layer -> new label.
    """
    left: dict[Place, list[Finding]] = {}
    for finding in old:
        layer = None if finding.layer is None else renamed.get(finding.layer, finding.layer)
        left.setdefault((finding.rule, layer), []).append(finding)
    partners: dict[int, Finding] = {}
    for same in (_same_fact, _same_place):
        for place, finding in enumerate(new):
            here = left.get((finding.rule, finding.layer), [])
            found = [] if place in partners else [o for o in here if same(o, finding)]
            if found:
                partners[place] = found[0]
                here[:] = [o for o in here if o is not found[0]]
    _stand_in(old, new, left, partners)
    gone = {id(finding) for here in left.values() for finding in here}
    return FindingMatch(
        tuple((partners[i], finding) for i, finding in enumerate(new) if i in partners),
        tuple(finding for i, finding in enumerate(new) if i not in partners),
        tuple(finding for finding in old if id(finding) in gone),
    )


def _stand_in(
    old: Sequence[Finding],
    new: Sequence[Finding],
    left: dict[Place, list[Finding]],
    partners: dict[int, Finding],
) -> None:
    """A finding of the whole model for those of its layers, or they for it."""
    whole = {finding.rule: finding for finding in reversed(old) if finding.layer is None}
    for place, finding in enumerate(new):
        if place in partners:
            continue
        if finding.layer is not None and finding.rule in whole:
            partners[place] = whole[finding.rule]
            left[finding.rule, None] = []
        elif finding.layer is None:
            parts = [here for (rule, _), here in left.items() if rule == finding.rule and here]
            if parts:
                partners[place] = parts[0][0]
                for here in parts:
                    here.clear()


def _same_fact(old: Finding, new: Finding) -> bool:
    """One rule may say two things of a layer, which differ in more than their numbers."""
    return _NUMBERS.sub("#", old.message) == _NUMBERS.sub("#", new.message)


def _same_place(old: Finding, new: Finding) -> bool:  # noqa: ARG001  # they were looked up by it
    return True


def graded(old: Finding, new: Finding) -> tuple[int, str]:
    """(WORSE, BETTER or SAME, why) of a finding that both reports have.

    Severity decides first, then what was observed, beyond its spread and away from the threshold, then
    the channels.
    """
    if old.severity != new.severity:
        change = WORSE if new.severity > old.severity else BETTER
        return change, f"was {old.severity.label}, now {new.severity.label}"
    if old.layer is not None and new.layer is None:
        return WORSE, f"was about {old.layer}, now about the whole model"
    if old.observed is not None and new.observed is not None:
        return _observed(old, new)
    if old.observed is not None or new.observed is not None:
        change = WORSE if new.observed is None else BETTER
        return change, "finite before" if change == WORSE else "finite now"
    return _channels(old, new)


def _observed(old: Finding, new: Finding) -> tuple[int, str]:
    if old.threshold is None or new.threshold is None:
        return SAME, ""
    away = 1 if _quantity(old).value >= old.threshold else -1
    change = away * beyond(_quantity(old), _quantity(new))
    return change, f"was {old.observed:.3g}, now {new.observed:.3g}" if change else ""


def _quantity(finding: Finding) -> Quantity:
    """Without an interval the number is exact."""
    value = finding.observed or 0.0
    low, high = finding.interval or (value, value)
    return Quantity(value, low, high)


def _channels(old: Finding, new: Finding) -> tuple[int, str]:
    before, after = set(old.channels), set(new.channels)
    if not before or not after or before == after or (old.layer is None) != (new.layer is None):
        return SAME, ""
    if after - before:
        more = len(after - before)
        return WORSE, f"{more} more channel{'s' if more > 1 else ''}"
    return BETTER, f"{len(before)} channels before, now {len(after)}"
