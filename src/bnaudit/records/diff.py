"""What changed between two reports, or two models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnaudit.records.finding import Severity
from bnaudit.records.values import NOT_REQUESTED, Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.records.finding import Finding
    from bnaudit.records.snapshot import LayerSnapshot, Quantity, Snapshot

REMOVED_SEVERITY = Severity.WARNING
"""Of a layer that is no more: pruning removes layers on purpose, an exporter that folds them does not."""


@dataclass(frozen=True, slots=True)
class FindingChange:
    """A finding of both reports that is not what it was.

    Attributes:
        old: before.
        new: now.
        why: what changed, one clause ("was 0.6, now 0.9").
    """

    old: Finding
    new: Finding
    why: str


@dataclass(frozen=True, slots=True)
class NumberChange:
    """A number of a layer that changed by more than its spread.

    Attributes:
        layer: its label now.
        metric: "gain", "reduction", "curvature", "mean_drift" or "variance_drift".
        old: before.
        new: now.
    """

    layer: str
    metric: str
    old: Quantity
    new: Quantity

    @property
    def size(self) -> float:
        """|new - old| over the larger of both: from 0 to 2, whatever the unit."""
        larger = max(abs(self.old.value), abs(self.new.value))
        return abs(self.new.value - self.old.value) / larger if larger else 0.0


Change = float | Skipped

NEITHER = Skipped("stored in neither file")
"""No file can have moved it."""


@dataclass(frozen=True, slots=True)
class Movement:
    """How far a layer's stored arrays moved.

    Each is max_j |new_j - old_j| / max(max_j |old_j|, max_j |new_j|): 0 for the same bits, at most 2.

    Attributes:
        layer: its name now.
        gamma: or why there is none.
        beta: or why there is none.
        running_mean: or why there is none.
        running_var: or why there is none.
        tolerance: what storing in another precision may change; 0 for the same type.
    """

    layer: str
    gamma: Change
    beta: Change
    running_mean: Change
    running_var: Change
    tolerance: float = 0.0

    @property
    def parameters(self) -> bool:
        """Whether gamma or beta moved."""
        return self._moved(self.gamma) or self._moved(self.beta)

    @property
    def statistics(self) -> bool:
        """Whether the running mean or variance moved."""
        return self._moved(self.running_mean) or self._moved(self.running_var)

    @property
    def same(self) -> bool:
        """Whether everything that is stored was compared, and nothing moved."""
        changes = (self.gamma, self.beta, self.running_mean, self.running_var)
        stored = [change for change in changes if change != NEITHER]
        return all(not isinstance(c, Skipped) and c <= self.tolerance for c in stored)

    def _moved(self, change: Change) -> bool:
        return not isinstance(change, Skipped) and change > self.tolerance


@dataclass(frozen=True, slots=True)
class Diff:
    """One comparison.

    Attributes:
        old: the report that is compared with.
        new: the report that is judged.
        appeared: findings that only the new report has.
        worse: findings of both that got worse.
        better: findings of both that got better.
        gone: findings that only the old report has.
        unchanged: how many findings are what they were.
        not_judged: findings of the old report whose rules had nothing to judge by in the new one.
        added: layers that only the new report has.
        removed: layers that only the old report has.
        renamed: old label -> new label.
        numbers: what changed beyond its spread, largest change first.
        movements: of stored parameters and statistics, layer by layer, or why they are not compared.
        settings: (name, old, new) of what the numbers depend on, where it differs.
        frozen: layers that should not have moved, and did.
        fail_on: severity from which new and worse findings fail, None for never.
        notes: what limits the comparison.
    """

    old: Snapshot
    new: Snapshot
    appeared: tuple[Finding, ...] = ()
    worse: tuple[FindingChange, ...] = ()
    better: tuple[FindingChange, ...] = ()
    gone: tuple[Finding, ...] = ()
    unchanged: int = 0
    not_judged: tuple[Finding, ...] = ()
    added: tuple[LayerSnapshot, ...] = ()
    removed: tuple[LayerSnapshot, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[NumberChange, ...] = ()
    movements: tuple[Movement, ...] | Skipped = NOT_REQUESTED
    settings: tuple[tuple[str, str, str], ...] = ()
    frozen: tuple[str, ...] = ()
    fail_on: Severity | None = Severity.ERROR
    notes: tuple[str, ...] = ()

    @property
    def regressions(self) -> int:
        """New and worse findings, removed layers and moved frozen ones that `fail_on` counts."""
        limit = self.fail_on
        if limit is None:
            return 0
        found = [*self.appeared, *(change.new for change in self.worse)]
        count = sum(finding.severity >= limit for finding in found) + len(self.frozen)
        return count + (len(self.removed) if limit <= REMOVED_SEVERITY else 0)

    @property
    def exit_code(self) -> int:
        """0 no regression, 1 regressions, 3 no BatchNorm on either side: nothing was compared."""
        if not self.old.layers and not self.new.layers:
            return 3
        return int(self.regressions > 0)
