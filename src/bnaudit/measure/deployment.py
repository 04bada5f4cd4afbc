"""The network as it is deployed: the loss with running statistics beside that with each batch's own.

    gap = L(running) - L(batch),   on the same rows

Where the gap comes from: `measure/location.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from bnaudit.data.decisions import decided, distance, right
from bnaudit.errors import RunError
from bnaudit.measure.enough import affordable
from bnaudit.measure.estimate import ANY, POSITIVE, SHARE, estimate, reach_of
from bnaudit.measure.location import Location
from bnaudit.measure.modes import Modes
from bnaudit.records.deployment import Deployment, LayerGap, Located, Outcome
from bnaudit.records.values import Estimate, Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.data.batch import Batch
    from bnaudit.measure.collect import Collected, Found
    from bnaudit.measure.modes import Seen
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress

Key = tuple[str, int]

_BUDGET = 2e8
"""Values that further batches may send through BatchNorm layers, in each mode: some seconds on one core. A
count and not a time, so that equal runs give equal numbers."""

_WORTH = 0.05
"""Of the loss with batch statistics: a gap below is not located."""

_MOVED = 0.5
"""Of what the outputs differ from row to row: without labels less is not located, and BN209 is silent."""

_UNTRACKED = Skipped("no layer keeps running statistics: every batch is normalised by its own")
_NO_CLASSES = Skipped("the labels are no classes")


def measure_deployment(
    session: Session, collected: Collected, options: AuditOptions, progress: Progress
) -> Found:
    """Losses, decisions and outputs of both modes, and each layer's share where there is a gap.

    Args:
        session: the model and its batches.
        collected: the first-order pass, which ran the audited batches in one of the modes.
        options: which mode that was.
        progress: told of each batch.
    """
    found: Deployment | Skipped = Skipped(
        "made-up inputs say nothing of the deployed network (pass --data)"
    )
    shares: Mapping[Key, LayerGap] = {}
    if not session.batches.info.made_up:
        try:
            found, shares = _measured(Modes(session, collected, options), progress)
        except RunError as error:
            found = Skipped(f"not run in the other mode: {error.message}")
    reason = found if isinstance(found, Skipped) else found.located
    none = reason if isinstance(reason, Skipped) else Skipped("it keeps no running statistics")
    keys = dict.fromkeys(r.key for records in collected.batches for r in records)
    return {"deployment": found, "gap": {key: shares.get(key, none) for key in keys}}


def _measured(
    modes: Modes, progress: Progress
) -> tuple[Deployment | Skipped, Mapping[Key, LayerGap]]:
    """The network's record, and those of the layers where there is a gap."""
    items, further = modes.session.batches.items, _further(modes)
    progress.stage("deployment", len(items) + len(further))
    compared = _Compared(modes.session)
    for index, batch in enumerate(chain(items, further)):
        seen = {
            mode: modes.known(index, mode) or modes.run(batch, index, mode)
            for mode in ("running", "batch")
        }
        if not modes.tracked and not any(r.running_var is not None for r in modes.records(0)):
            return _UNTRACKED, {}
        compared.add(seen["batch"], seen["running"], batch)
        progress.advance()
    gap = compared.estimated(compared.gaps, "loss")
    located, shares = _located(modes, compared, gap)
    found = Deployment(
        batches=len(compared.gaps),
        rows=sum(b.rows for b in (*items, *further)),
        batch=Outcome(compared.loss(compared.batch), compared.accuracy("batch")),
        running=Outcome(compared.loss(compared.running), compared.accuracy("running")),
        gap=gap,
        distance=compared.distance(),
        changed=compared.changed(),
        located=located,
    )
    return found, shares


def _further(modes: Modes) -> Sequence[Batch]:
    further = modes.session.batches.further
    return further[: affordable(further, modes.collected, _BUDGET)]


def _located(
    modes: Modes, compared: _Compared, gap: Estimate | Skipped
) -> tuple[Located | Skipped, Mapping[Key, LayerGap]]:
    items = modes.session.batches.items
    free = modes.session.execution.loss.label_free
    found = compared.distance() if free else gap
    if isinstance(found, Skipped):
        return found, {}
    sure = found.mean if isinstance(found.lower, Skipped) else found.lower
    scale = sum(compared.batch) / len(compared.batch)
    if free and sure < _MOVED:
        return Skipped("the outputs are not moved enough to ask where from"), {}
    if not free and not (sure > 0 and found.mean >= _WORTH * abs(scale)):
        return Skipped("there is no gap to speak of"), {}
    gaps = (compared.distances if free else compared.gaps)[: len(items)]
    index = min(range(len(gaps)), key=lambda i: abs(gaps[i] - found.mean))
    if not free:
        return Location(modes, index, gaps[index]).found()
    seen = modes.known(index, "batch") or modes.run(items[index], index, "batch")
    return Location(modes, index, gaps[index] ** 2, seen.output.double()).found()


@dataclass(slots=True)
class _Compared:
    """The two modes beside each other, batch by batch."""

    session: Session
    rows: list[int] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    right: dict[str, list[float]] = field(default_factory=lambda: {"batch": [], "running": []})
    differing: list[float] = field(default_factory=list)

    def add(self, batch: Seen, running: Seen, rows: Batch) -> None:
        self.rows.append(rows.rows)
        self.batch.append(batch.loss)
        self.running.append(running.loss)
        self.gaps.append(running.loss - batch.loss)
        y, other, loss = batch.output.double(), running.output.double(), self.session.execution.loss
        self.distances.append(distance(other, y))
        shares = {
            mode: None if loss.label_free else right(seen.output, rows.labels, loss)
            for mode, seen in (("batch", batch), ("running", running))
        }
        for mode, share in shares.items():
            if share is not None:
                self.right[mode].append(share)
        classes = None not in shares.values() or (
            loss.label_free and y.dim() == 2 and y.shape[1] > 1
        )
        if classes and y.shape == other.shape:
            differ = decided(y, loss.labels_are) != decided(other, loss.labels_are)
            self.differing.append(float(differ.double().mean()))

    def estimated(
        self, values: Sequence[float], what: str, within: tuple[float, float] = ANY
    ) -> Estimate | Skipped:
        return estimate(values, self.rows, what, within)

    def loss(self, values: Sequence[float]) -> Estimate | Skipped:
        return self.estimated(values, "loss", reach_of(self.session.execution.loss.name))

    def distance(self) -> Estimate | Skipped:
        return self.estimated(self.distances, "distance of the outputs", POSITIVE)

    def accuracy(self, mode: str) -> Estimate | Skipped:
        return self._of_all(self.right[mode], "accuracy")

    def changed(self) -> Estimate | Skipped:
        return self._of_all(self.differing, "share")

    def _of_all(self, values: Sequence[float], what: str) -> Estimate | Skipped:
        if values and len(values) < len(self.rows):
            return Skipped("some batches have no classes that could be compared")
        return self.estimated(values, what, SHARE) if values else _NO_CLASSES
