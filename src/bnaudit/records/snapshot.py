"""What a comparison needs of one report, whoever wrote it: findings, layers, a few numbers of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bnaudit.records.finding import Finding
from bnaudit.records.values import Finite

SnapshotKind = Literal["audit", "inspection"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with the interval that its measurement leaves it.

    Attributes:
        value: the median over the batches, or the number itself.
        low, high: quartiles over the batches, or a sampling interval; the value where there is none.
        spread_known: whether the interval was measured; a number of one batch has none.
    """

    value: Finite
    low: float
    high: float
    spread_known: bool = True


@dataclass(frozen=True, slots=True)
class LayerSnapshot:
    """One layer of a report.

    Attributes:
        label: name, with the call number from the second call on.
        kind: "BatchNorm2d" and the like, or "" where the report does not tell.
        channels: their number, or None where the report does not tell.
        numbers: metric -> what was measured; metrics without a number are not in it.
    """

    label: str
    kind: str
    channels: int | None
    numbers: Mapping[str, Quantity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One report.

    Attributes:
        path: of the report or the model, as the user typed it.
        kind: an audit, or an inspection, which ran nothing.
        model: the model's path in the report.
        tool: version of bnaudit that wrote it.
        settings: what the numbers depend on, by name ("dtype" -> "float32").
        layers: in the report's order.
        findings: worst first.
        suppressed: findings that a configuration silenced.
        not_judged: ids of rules that had nothing to judge by.
    """

    path: str
    kind: SnapshotKind
    model: str
    tool: str
    settings: Mapping[str, str]
    layers: tuple[LayerSnapshot, ...]
    findings: tuple[Finding, ...]
    suppressed: tuple[Finding, ...] = ()
    not_judged: frozenset[str] = frozenset()
