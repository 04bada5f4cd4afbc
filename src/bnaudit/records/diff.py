"""What changed between two reports, or two models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bnaudit.records.finding import Finding, Severity
from bnaudit.records.snapshot import LayerSnapshot, Quantity, Snapshot
from bnaudit.records.values import NOT_REQUESTED, Limits, Skipped

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
        layer: label in the new report.
        metric: gain: median |gamma|/sigma; reduction: |g|/|G|; curvature: rho along the gradient;
            drifts: the largest of a layer.
        old: before.
        new: now.
    """

    layer: str
    metric: Annotated[str, Limits(among=NUMBERS)]
    old: Quantity
    new: Quantity

    @property
    def size(self) -> float:
        """|new - old| over the larger of both: from 0 to 2, whatever the unit."""
        larger = max(abs(self.old.value), abs(self.new.value))
        return abs(self.new.value - self.old.value) / larger if larger else 0.0


Change = Annotated[float | Skipped, Limits(minimum=0)]
NUMBERS = ("gain", "reduction", "curvature", "mean_drift", "variance_drift")

NEITHER = Skipped("stored in neither file")
"""No file can have moved it."""


@dataclass(frozen=True, slots=True)
class Movement:
    """How far a layer's stored arrays moved.

    Each is max_j |new_j - old_j| / max(max_j |old_j|, max_j |new_j|): 0 for the same bits, at most 2.

    Attributes:
        layer: name in the new file.
        gamma: or why there is none.
        beta: or why there is none.
        running_mean: or why there is none.
        running_var: or why there is none.
        tolerance: what storing in another precision may change; 0 for the same type.
        frozen_but_moved: whether it should not have moved, and did.
    """

    layer: str
    gamma: Change
    beta: Change
    running_mean: Change
    running_var: Change
    tolerance: Annotated[float, Limits(minimum=0, finite=True)] = 0.0
    frozen_but_moved: bool = False

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
class SettingChange:
    """Something that the numbers depend on, and that differs.

    Attributes:
        name: of the setting.
        old: in the old report.
        new: in the new report.
    """

    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Renaming:
    """A layer that is the same under another label.

    Attributes:
        old: label in the old report.
        new: label in the new report.
    """

    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """One comparison.

    Attributes:
        old: the report that is compared with.
        new: the report that is judged.
        settings: under which the two were made differently: numbers under other settings are other
            numbers.
        appeared: findings that only the new report has.
        worse: both have them; more severe, or further beyond the threshold by more than the spread.
        better: both have them; less severe, or less far beyond the threshold by more than the
            spread.
        gone: findings that only the old report has.
        not_judged: only the old report has them, but their rules had nothing to judge by in the new
            one, or are silenced.
        unchanged: how many findings are what they were.
        added: layers that only the new report has.
        removed: only the old report has them; they count as regressions of severity warning.
        renamed: the same kind and channels at the same place, under another label.
        numbers: of layers that changed by more than their spread, largest change first; they never
            fail.
        movements: of stored parameters and statistics, layer by layer, or why they are not
            compared.
        fail_on: severity from which new and worse findings fail, None for never.
        notes: what limits the comparison.
    """

    old: Snapshot
    new: Snapshot
    settings: tuple[SettingChange, ...] = ()
    appeared: tuple[Finding, ...] = ()
    worse: tuple[FindingChange, ...] = ()
    better: tuple[FindingChange, ...] = ()
    gone: tuple[Finding, ...] = ()
    not_judged: tuple[Finding, ...] = ()
    unchanged: int = 0
    added: tuple[LayerSnapshot, ...] = ()
    removed: tuple[LayerSnapshot, ...] = ()
    renamed: tuple[Renaming, ...] = ()
    numbers: tuple[NumberChange, ...] = ()
    movements: tuple[Movement, ...] | Skipped = NOT_REQUESTED
    fail_on: Severity | None = Severity.ERROR
    notes: tuple[str, ...] = ()

    @property
    def frozen(self) -> tuple[str, ...]:
        """Layers that should not have moved, and did."""
        moved = () if isinstance(self.movements, Skipped) else self.movements
        return tuple(movement.layer for movement in moved if movement.frozen_but_moved)

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
