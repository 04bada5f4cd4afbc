"""Which layer and which finding of one report is which of another, and when two numbers differ."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from bnaudit.records.diff import SettingChange
from bnaudit.records.snapshot import Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.records.snapshot import LayerSnapshot, Snapshot

ROUNDING = 1e-4
"""Relative; what another precision or build may change without anything being different. Between float32
and float64 the numbers of the shipped networks differ by at most 1.9e-6 (`bench/spread.py`)."""

ONE_BATCH = 25.0
"""A factor, for the curvature, which is measured on a single batch and has no spread of its own. Over
eight batches of one model, the shipped ResNet, it varies by a factor of up to 21 (`bench/spread.py`)."""


def beyond(old: Quantity, new: Quantity) -> int:
    """1 where the new number is surely larger, -1 where it is surely smaller, 0 where neither is sure.

    Intervals that touch decide nothing, and neither does a difference within rounding.

    Args:
        old: with its interval.
        new: with its interval.
    """
    if not (old.spread_known and new.spread_known):
        sizes = abs(old.value), abs(new.value)
        # A change of sign is one beyond any factor.
        if max(sizes) <= ONE_BATCH * min(sizes) and (old.value > 0) == (new.value > 0):
            return 0
        return 1 if new.value > old.value else -1
    if abs(new.value - old.value) <= ROUNDING * max(abs(old.value), abs(new.value)):
        return 0
    if new.low > old.high and new.value > old.value:
        return 1
    return -1 if new.high < old.low and new.value < old.value else 0


@dataclass(frozen=True, slots=True)
class LayerMatch:
    """Two lists of layers, matched.

    Attributes:
        pairs: (old, new) of the same layer, in the new order.
        renamed: old label -> new label, of pairs whose labels differ.
        added: layers that only the new list has.
        removed: layers that only the old list has.
    """

    pairs: tuple[tuple[LayerSnapshot, LayerSnapshot], ...]
    renamed: Mapping[str, str]
    added: tuple[LayerSnapshot, ...]
    removed: tuple[LayerSnapshot, ...]


def match_layers(old: Sequence[LayerSnapshot], new: Sequence[LayerSnapshot]) -> LayerMatch:
    """Pairs layers of equal label, then those that were renamed where the structure leaves no doubt.

    A stretch between two layers of equal label was renamed if both lists have the same kinds and
    channels there, one for one; elsewhere a wrapper's prefix may have come or gone.

    Args:
        old: in the model's order.
        new: in the model's order.
    """
    renamed = _by_position(old, new)
    renamed |= _by_prefix(old, new, renamed)
    to_old = {after: before for before, after in renamed.items()}
    by_label = {layer.label: layer for layer in old}
    pairs = []
    for layer in new:
        label = layer.label if layer.label in by_label else to_old.get(layer.label)
        if label is not None:
            pairs.append((by_label[label], layer))
    before, after = {a.label for a, _ in pairs}, {b.label for _, b in pairs}
    return LayerMatch(
        tuple(pairs),
        renamed,
        tuple(layer for layer in new if layer.label not in after),
        tuple(layer for layer in old if layer.label not in before),
    )


def _by_position(old: Sequence[LayerSnapshot], new: Sequence[LayerSnapshot]) -> dict[str, str]:
    """Stretches between layers of equal label that have the same structure throughout."""
    before, after = [layer.label for layer in old], [layer.label for layer in new]
    renamed: dict[str, str] = {}
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "replace":
            continue
        left = [layer for layer in old[i1:i2] if layer.label not in set(after)]
        right = [layer for layer in new[j1:j2] if layer.label not in set(before)]
        if len(left) == len(right) and all(map(_alike, left, right)):
            renamed |= {a.label: b.label for a, b in zip(left, right, strict=True)}
    return renamed


def _by_prefix(
    old: Sequence[LayerSnapshot], new: Sequence[LayerSnapshot], renamed: Mapping[str, str]
) -> dict[str, str]:
    """`bn1` and `module.bn1`: a wrapper's prefix, where it leaves no doubt."""
    before, after = {layer.label for layer in old}, {layer.label for layer in new}
    left = [a for a in old if a.label not in after and a.label not in renamed]
    right = [b for b in new if b.label not in before and b.label not in set(renamed.values())]
    inside: dict[str, list[LayerSnapshot]] = {}
    for b in right:
        for end in _endings(b.label):
            inside.setdefault(end, []).append(b)
    outer = {b.label: b for b in right}
    found = {}
    for a in left:
        nested = [*inside.get(a.label, []), *(outer[e] for e in _endings(a.label) if e in outer)]
        candidates = [b for b in nested if _alike(a, b)]
        if len(candidates) == 1:
            found[a.label] = candidates[0].label
    times = Counter(found.values())
    return {a: b for a, b in found.items() if times[b] == 1}


def _endings(label: str) -> list[str]:
    """`a.b.c` -> `b.c`, `c`."""
    parts = label.split(".")
    return [".".join(parts[i:]) for i in range(1, len(parts))]


def _alike(one: LayerSnapshot, other: LayerSnapshot) -> bool:
    """The same kind and a known, equal number of channels."""
    return one.channels is not None and (one.kind, one.channels) == (other.kind, other.channels)


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
        if old.threshold is None or new.threshold is None:
            return SAME, ""
        away = 1 if _quantity(old).value >= old.threshold else -1
        change = away * beyond(_quantity(old), _quantity(new))
        return change, f"was {old.observed:.3g}, now {new.observed:.3g}" if change else ""
    if old.observed is not None or new.observed is not None:
        change = WORSE if new.observed is None else BETTER
        return change, "finite before" if change == WORSE else "finite now"
    return _channels(old, new)


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


def differences(old: Snapshot, new: Snapshot) -> tuple[SettingChange, ...]:
    """Where the two reports were made differently."""
    return tuple(
        SettingChange(name, before, new.settings[name])
        for name, before in old.settings.items()
        if name in new.settings and before != new.settings[name]
    )


def limits(old: Snapshot, new: Snapshot) -> tuple[str, ...]:
    """What limits a comparison, as sentences: numbers under other settings are other numbers."""
    notes = []
    changed = differences(old, new)
    if changed:
        listed = "; ".join(f"{change.name} {change.old}, now {change.new}" for change in changed)
        notes.append(f"made with other settings ({listed}): the comparison is limited")
    if old.tool != new.tool:
        notes.append(f"written by bnaudit {old.tool}, now {new.tool}: rules may have changed")
    return tuple(notes)
