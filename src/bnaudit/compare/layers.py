"""Which layer of one report is which of another: by label, and renamed ones by where they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.records.snapshot import LayerSnapshot


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
