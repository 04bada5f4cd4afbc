"""Makes each batch of a session one that has the statistics which the model's layers store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

import torch

from bnaudit.data.batch import Batch
from bnaudit.errors import RunError
from bnaudit.matching import store
from bnaudit.matching.descent import ENOUGH, PATIENCE, Descent
from bnaudit.matching.mismatch import mismatches
from bnaudit.matching.objective import Probe
from bnaudit.matching.tokens import Lookups, Tokens, exchanged, uses_of
from bnaudit.matching.values import Values
from bnaudit.progress import Silent
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

_TOGETHER = 16
"""Of the ids, the share that is exchanged at first."""

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
    session = _typed(session)
    items = session.batches.items
    progress.stage("matching", limit * len(items))
    made = [_Batch(session, index, limit, progress) for index in range(len(items))]
    key = store.key_of(session, limit) if options.match_cache else None
    cached = key is not None and _taken(key, session, made)
    note = None
    if not cached:
        for batch in made:
            batch.optimise()
        if key is not None:
            note = store.write(key, [b.record() for b in made])
    matching = Matching(
        steps=tuple(b.steps for b in made),
        limit=limit,
        start=max(b.begun for b in made),
        end=max(b.left for b in made),
        kept=tuple(f"{name}: {why}" for name, why in made[0].kept.items()),
        cached=cached,
    )
    batches = replace(
        session.batches,
        items=tuple(replace(b.batch, labels=None) for b in made),
        info=replace(session.batches.info, matching=matching),
        labels_from=None,
    )
    notes = [*session.notes, *matching.kept, *filter(None, [note])]
    if not made[0].end.layers:
        notes.append(NO_STATISTICS)
    found = mismatches([(b.start, b.end) for b in made])
    return replace(session, batches=batches, notes=tuple(notes), mismatch=found)


def _taken(key: str, session: Session, made: Sequence[_Batch]) -> bool:
    """Whether the batches were there, and are what they are said to be."""
    found = store.read(key, session)
    if found is None:
        return False
    for batch, kept in zip(made, found, strict=True):
        batch.take(kept)
        if not abs(batch.left - kept.left) <= _SAME * kept.left + _ROUNDING:
            for other in made:
                other.kept.clear()
            return False
    return True


_SAME, _ROUNDING = 0.01, 1e-6
"""How far the objective of a batch from the cache may be from what is said of it."""


def _typed(session: Session) -> Session:
    """With whole numbers where the model takes no others and its format does not say so."""
    undeclared = {s.name for s in session.placed.loaded.inputs if s.dtype is None}
    try:
        with torch.no_grad():
            _Batch(session, 0, 0, Silent()).seen(session.batches.items[0].inputs)
    except RunError:
        whole = replace(
            session.batches,
            items=tuple(
                Batch(
                    tuple(
                        (x > 0).to(torch.int64) if name in undeclared else x
                        for name, x in zip(session.batches.names, batch.inputs, strict=True)
                    )
                )
                for batch in session.batches.items
            ),
        )
        try:
            with torch.no_grad():
                _Batch(session, 0, 0, Silent()).seen(whole.items[0].inputs)
        except RunError:
            return session
        return replace(session, batches=whole)
    return session


@dataclass
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
        begun, left: the objective of the noise and of the matched batch; infinite without layers.
        steps: that were taken.
        ids: inputs that are places in a table.
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
    begun: float = inf
    left: float = inf
    steps: int = 0
    ids: dict[int, Tokens] = field(default_factory=dict)

    @cached_property
    def generator(self) -> torch.Generator:
        """Of this batch alone."""
        seed = self.session.execution.seed * 1_000_003 + self.index
        return torch.Generator().manual_seed(seed)

    def begin(self) -> None:
        """Looks at the noise."""
        self.batch = self.session.batches.items[self.index]
        with torch.no_grad():
            self.start = self.end = self.seen(self.batch.inputs)
        if self.start.layers:
            self.begun = self.left = float(self.start.value())

    def take(self, kept: store.Kept) -> None:
        """A batch that was made before."""
        self.begin()
        self.batch, self.kept = Batch(kept.inputs), dict(kept.kept)
        with torch.no_grad():
            self.end = self.seen(kept.inputs)
        if self.end.layers:
            self.left = float(self.end.value())
        self.steps = kept.steps

    def record(self) -> store.Kept:
        """For the cache."""
        return store.Kept(self.batch.inputs, self.steps, self.left, self.kept)

    def optimise(self) -> None:
        """All of it."""
        self.begin()
        if self.start.layers:
            self.ids = self.tokens()
            leaves = self.leaves()
            self.exchange(leaves)
            self.descend(leaves)
            self.batch = Batch(self.fed(leaves, final=True))
            with torch.no_grad():
                self.end = self.seen(self.batch.inputs)
            self.left = float(self.end.value())
        self.steps = len(self.history)
        self.progress.advance(self.limit - self.steps)

    def seen(self, inputs: Sequence[Tensor], lookups: Lookups | None = None) -> Probe:
        """One pass forward."""
        execution, probe = self.session.execution, Probe()
        others = None if lookups is None else lookups.overrides()
        with tapped(self.session.placed.namer, probe, others=others) as tap:
            tap.start()
            execution.state.restore()
            with torch.random.fork_rng(
                [execution.device] if execution.device.type == "cuda" else []
            ):
                torch.manual_seed(execution.seed + self.index)
                execution.outputs(Batch(tuple(inputs)))
        return probe

    def tokens(self) -> dict[int, Tokens]:
        """Place of an input -> its ids, of those that are places in a table; drawn from it."""
        inputs, lookups = self.batch.inputs, Lookups()
        whole = {
            place: drawn.to(torch.int64)
            for place, drawn in enumerate(inputs)
            if not drawn.is_floating_point() and drawn.dtype != torch.bool and drawn.numel()
        }
        if not whole:
            return {}
        with torch.no_grad():
            self.seen(inputs, lookups)
        found = {}
        for place, ids in whole.items():
            if uses := uses_of(ids, lookups):
                tokens = Tokens(ids, uses, inputs[place].dtype)
                tokens.ids = tokens.drawn(lookups, self.generator)
                found[place] = tokens
        return found

    def leaves(self) -> dict[int, Values]:
        """Place of an input -> its values, of those that can be optimised."""
        execution, names = self.session.execution, self.session.batches.names
        leaves: dict[int, Values] = {}
        for place, drawn in enumerate(self.batch.inputs):
            if place in self.ids:
                continue
            if drawn.dtype == torch.bool or not drawn.numel():
                self.kept[names[place]] = "there is nothing between true and false"
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
        """The inputs with the leaves and the ids in their places."""
        inputs = list(self.batch.inputs)
        for place, tokens in self.ids.items():
            inputs[place] = tokens.ids.to(tokens.dtype)
        for place, leaf in leaves.items():
            inputs[place] = leaf.final() if final else leaf.fed()
        return tuple(inputs)

    def exchange(self, leaves: dict[int, Values]) -> None:
        """Ids for others, as long as that helps."""
        if not self.ids:
            return
        limit = self.limit // 2 if leaves else self.limit
        lookups, best, failed = Lookups(), inf, 0
        count = sum(t.ids.numel() for t in self.ids.values()) // _TOGETHER + 1
        kept = {place: tokens.ids for place, tokens in self.ids.items()}
        proposed: dict[int, tuple[Tensor, Tensor]] = {}
        while len(self.history) < limit and failed < PATIENCE:
            lookups = Lookups()
            with torch.enable_grad():
                value = self.seen(self.fed(leaves), lookups).value()
            self.history.append(float(value.detach()))
            self.told(self.history[-1])
            if self.history[-1] < best:
                best, count, failed = self.history[-1], 2 * count, 0
                kept = {place: tokens.ids for place, tokens in self.ids.items()}
                if best <= ENOUGH or not value.requires_grad:
                    break
                value.backward()
                proposed = {place: t.proposals(lookups) for place, t in self.ids.items()}
            else:
                count, failed = max(count // 4, 1), failed + 1
            for place, (ids, change) in proposed.items():
                self.ids[place].ids = exchanged(kept[place], ids, change, count, self.generator)
        for place, tokens in self.ids.items():
            tokens.ids = kept[place]

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
        if limit < 1:
            return
        descent = Descent(parameters, lambda: self.seen(self.fed(leaves)).value(), limit, self.told)
        for leaf in leaves.values():
            for t in (leaf.u, leaf.shift, leaf.log_scale):
                t.requires_grad_(any(t is p for p in parameters))
        descent.run()
        self.history += descent.history

    def told(self, value: float) -> None:
        """One step more."""
        self.progress.advance()
        self.progress.say(f"mismatch {value:.2g}")
