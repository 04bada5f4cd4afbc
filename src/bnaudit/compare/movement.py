"""How far stored parameters and statistics moved: what a "frozen" BatchNorm must not do."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.compare.match import match_layers
from bnaudit.records.diff import NEITHER, Movement
from bnaudit.records.snapshot import LayerSnapshot
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.diff import Change
    from bnaudit.records.inspection import Inspection

# Half the distance of neighbouring numbers, relative: what rounding to the type may change.
_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def movements(old: Inspection, new: Inspection) -> tuple[Movement, ...]:
    """The layers that both files have, renamed ones included.

    Args:
        old: the file that is compared with.
        new: the file that is judged.
    """
    before = {layer.name: layer for layer in old.batchnorms}
    after = {layer.name: layer for layer in new.batchnorms}
    pairs = match_layers(_layers(old), _layers(new)).pairs
    return tuple(
        Movement(
            layer=b.name,
            gamma=_change(a.gamma, b.gamma),
            beta=_change(a.beta, b.beta),
            running_mean=_change(a.running_mean, b.running_mean),
            running_var=_change(a.running_var, b.running_var),
            tolerance=_tolerance(a.dtype, b.dtype),
        )
        for a, b in ((before[one.label], after[other.label]) for one, other in pairs)
    )


def _layers(inspection: Inspection) -> list[LayerSnapshot]:
    return [LayerSnapshot(layer.name, "", layer.channels) for layer in inspection.batchnorms]


def _change(old: Sequence[float] | None, new: Sequence[float] | None) -> Change:
    if old is None and new is None:
        return NEITHER
    if old is None or new is None:
        return Skipped(f"not stored in the {'old' if old is None else 'new'} file")
    if len(old) != len(new):
        return Skipped(f"{len(old)} channels, now {len(new)}")
    if not all(map(isfinite, (*old, *new))):
        return Skipped("not finite")
    scale = max((abs(value) for value in (*old, *new)), default=0.0)
    if scale == 0:
        return 0.0
    # Divided first: the difference of two large numbers may overflow.
    return max(abs(b / scale - a / scale) for a, b in zip(old, new, strict=True))


def _tolerance(old: str | None, new: str | None) -> float:
    """0 for one type: the same layer has the same bits. Two roundings, where the types differ."""
    if old == new:
        return 0.0
    return 2 * max(_ROUNDOFF.get(name or "", 0.0) for name in (old, new))
