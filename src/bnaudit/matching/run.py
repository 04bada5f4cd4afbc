"""Makes each batch of a session one that has the statistics which the model's layers store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING

import torch

from bnaudit.data.batch import Batch
from bnaudit.errors import RunError
from bnaudit.matching.descent import Descent
from bnaudit.matching.mismatch import mismatches
from bnaudit.matching.objective import Probe
from bnaudit.matching.values import Values
from bnaudit.records.matching import Matching
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress

STEPS = 60
"""A batch, where nobody says: of the networks in docs/matched.md all are within the figures after 40."""

_FAR = 1.0
"""Of the objective: from here on scale and shift of the inputs are found before their values."""

_FIRST = 3
"""What part of the steps may be spent on that."""

NO_STATISTICS = "no layer keeps running statistics: the batches are noise, matched to nothing"


def matched(session: Session, options: AuditOptions, progress: Progress) -> Session:
    """The session with matched batches; call inside `untouched`.

    Args:
        session: with the batches to begin with, of source "matched".
        options: how many steps.
        progress: told of each step.

    Raises:
        RunError: the model cannot be run.
    """
    limit = options.match_steps or STEPS
    items = session.batches.items
    progress.stage("matching", limit * len(items))
    made = [_Batch(session, index, limit, progress) for index in range(len(items))]
    for batch in made:
        batch.optimise()
    kept = made[0].kept
    matching = Matching(
        steps=tuple(len(b.history) for b in made),
        limit=limit,
        start=max((b.history[0] for b in made if b.history), default=inf),
        end=max((b.left for b in made), default=inf),
        kept=tuple(f"{name}: {why}" for name, why in kept.items()),
    )
    batches = replace(
        session.batches,
        items=tuple(replace(b.batch, labels=None) for b in made),
        info=replace(session.batches.info, matching=matching),
        labels_from=None,
    )
    notes = session.notes
    if not made[0].end.layers:
        notes = (*notes, NO_STATISTICS)
    found = mismatches([(b.start, b.end) for b in made])
    return replace(session, batches=batches, notes=notes, mismatch=found)


@dataclass(slots=True)
class _Batch:
    """One batch on its way.

    Attributes:
        session: the model, and the batch to begin with.
        index: its number.
        limit: steps at most.
        progress: told of each step.
        history: the objective of each step.
        kept: inputs that are left as they were drawn, and why.
        batch: as far as it is.
        start, end: what the layers saw of the noise, and of the matched batch.
        left: the objective of the matched batch.
    """

    session: Session
    index: int
    limit: int
    progress: Progress
    history: list[float] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    batch: Batch = field(init=False)
    start: Probe = field(init=False)
    end: Probe = field(init=False)
    left: float = inf

    def optimise(self) -> None:
        """All of it."""
        self.batch = self.session.batches.items[self.index]
        with torch.no_grad():
            self.start = self.end = self.seen(self.batch.inputs)
        if self.start.layers:
            self.left = float(self.start.value())
            leaves = self.leaves()
            self.descend(leaves)
            self.batch = Batch(self.fed(leaves, final=True))
            with torch.no_grad():
                self.end = self.seen(self.batch.inputs)
            self.left = float(self.end.value())
        self.progress.advance(self.limit - len(self.history))

    def seen(self, inputs: Sequence[Tensor]) -> Probe:
        """One pass forward."""
        execution, probe = self.session.execution, Probe()
        with tapped(self.session.placed.namer, probe) as tap:
            tap.start()
            execution.state.restore()
            with torch.random.fork_rng(
                [execution.device] if execution.device.type == "cuda" else []
            ):
                torch.manual_seed(execution.seed + self.index)
                execution.outputs(Batch(tuple(inputs)))
        return probe

    def leaves(self) -> dict[int, Values]:
        """Place of an input -> its values, of those that can be optimised."""
        execution, names = self.session.execution, self.session.batches.names
        leaves: dict[int, Values] = {}
        for place, drawn in enumerate(self.batch.inputs):
            if drawn.dtype == torch.bool or not drawn.numel():
                self.kept[names[place]] = "true and false have no values between"
                continue
            start = drawn.to(execution.device, execution.dtype)
            leaf = Values.of(start, execution.dtype if drawn.is_floating_point() else drawn.dtype)
            reason = self.refused({**leaves, place: leaf}, leaf)
            if reason is None:
                leaves[place] = leaf
            else:
                self.kept[names[place]] = reason
        return leaves

    def refused(self, leaves: dict[int, Values], leaf: Values) -> str | None:
        """Why an input cannot be optimised, or None."""
        try:
            with torch.enable_grad():
                value = self.seen(self.fed(leaves)).value()
        except RunError:
            if leaf.dtype.is_floating_point:
                raise
            return "the model takes integers alone"
        found = None
        if value.requires_grad:
            (found,) = torch.autograd.grad(value, [leaf.u], allow_unused=True)
        return (
            None
            if found is not None and bool(found.any())
            else "no layer's statistics depend on it"
        )

    def fed(self, leaves: dict[int, Values], *, final: bool = False) -> tuple[Tensor, ...]:
        """The inputs with the leaves in their places."""
        return tuple(
            drawn
            if place not in leaves
            else leaves[place].final()
            if final
            else leaves[place].fed()
            for place, drawn in enumerate(self.batch.inputs)
        )

    def descend(self, leaves: dict[int, Values]) -> None:
        """First the scales and shifts where they are far off, then the values."""
        if not leaves:
            return
        if self.left > _FAR:
            of_channels = [t for leaf in leaves.values() for t in (leaf.shift, leaf.log_scale)]
            self.phase(of_channels, leaves, self.limit // _FIRST)
        self.phase([leaf.u for leaf in leaves.values()], leaves, self.limit - len(self.history))

    def phase(self, parameters: list[Tensor], leaves: dict[int, Values], limit: int) -> None:
        """A descent in some of the leaves."""

        def told(value: float) -> None:
            self.progress.advance()
            self.progress.say(f"mismatch {value:.2g}")

        descent = Descent(parameters, lambda: self.seen(self.fed(leaves)).value(), limit, told, [])
        for leaf in leaves.values():
            for t in (leaf.u, leaf.shift, leaf.log_scale):
                t.requires_grad_(any(t is p for p in parameters))
        descent.run()
        self.history += descent.history
