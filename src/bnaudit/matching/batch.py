"""One batch on its way from noise to the statistics that the layers store."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

import torch

from bnaudit.data.batch import Batch
from bnaudit.errors import RunError
from bnaudit.matching import store
from bnaudit.matching.descent import ENOUGH, PATIENCE, Descent
from bnaudit.matching.objective import Probe, Stored
from bnaudit.matching.tokens import Lookups, Tokens, exchanged, uses_of
from bnaudit.matching.values import Values
from bnaudit.tap.dispatch import Tap, tapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.tap.call import BatchNormCall

_FAR = 1.0
"""Of the objective: from here on scale and shift of the inputs are found before their values."""

_FIRST = 3
"""What part of the steps may be spent on that."""

_TOGETHER = 16
"""Of the ids, the share that is exchanged at first."""

_WITH_BACKWARD = 3
"""A forward and backward pass, in forward passes."""

_SHORTER = "fewer --match-steps, --batches or --batch-size make it shorter"


@dataclass
class Work:
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
        stored: by layer, what it stores.
        lookups: what the last pass looked up.
        probe, tap: of the last pass, and of all.
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
    stored: dict[str, Stored] = field(default_factory=dict)
    lookups: Lookups = field(default_factory=Lookups)
    probe: Probe = field(init=False)
    tap: Tap = field(init=False)

    @cached_property
    def generator(self) -> torch.Generator:
        """Of this batch alone."""
        seed = self.session.execution.seed * 1_000_003 + self.index
        return torch.Generator().manual_seed(seed)

    def begin(self) -> None:
        """Looks at the noise."""
        self.batch = self.session.batches.items[self.index]
        began = time.perf_counter()
        with torch.no_grad():
            self.start = self.end = self.seen(self.batch.inputs)
        if self.index == 0:
            passes = _WITH_BACKWARD * self.limit * len(self.session.batches.items)
            self.progress.expect((time.perf_counter() - began) * passes, _SHORTER)
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

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Passes run inside: entering costs as much as a small network's pass."""
        execution = self.session.execution
        devices = [execution.device] if execution.device.type == "cuda" else []
        others = self.lookups.overrides()
        with (
            tapped(self.session.placed.namer, self.carry_out, others=others) as tap,
            torch.random.fork_rng(devices),
        ):
            self.tap = tap
            yield

    def carry_out(self, call: BatchNormCall) -> Tensor:
        """A call of whichever pass runs."""
        return self.probe(call)

    def seen(self, inputs: Sequence[Tensor]) -> Probe:
        """One pass forward."""
        execution, self.probe = self.session.execution, Probe(self.stored)
        self.tap.start()
        self.lookups.made.clear()
        execution.state.restore()
        if execution.device.type == "cpu":
            torch.default_generator.manual_seed(execution.seed + self.index)
        else:  # of all devices, at a third of a small network's pass
            torch.manual_seed(execution.seed + self.index)
        execution.outputs(Batch(tuple(inputs)))
        return self.probe

    def tokens(self) -> dict[int, Tokens]:
        """Place of an input -> its ids, of those that are places in a table; drawn from it."""
        inputs, lookups = self.batch.inputs, self.lookups
        whole = {
            place: drawn.to(torch.int64)
            for place, drawn in enumerate(inputs)
            if not drawn.is_floating_point() and drawn.dtype != torch.bool and drawn.numel()
        }
        if not whole:
            return {}
        lookups.noting = True
        with torch.no_grad():
            self.seen(inputs)
        lookups.noting = False
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
            # bfloat16 has too few digits to go on in small steps.
            precise = torch.promote_types(execution.dtype, torch.float32)
            start = drawn.to(execution.device, precise)
            leaf = Values.of(start, precise if drawn.is_floating_point() else drawn.dtype)
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
        best, failed, self.lookups.noting = inf, 0, True
        count = sum(t.ids.numel() for t in self.ids.values()) // _TOGETHER + 1
        kept = {place: tokens.ids for place, tokens in self.ids.items()}
        proposed: dict[int, tuple[Tensor, Tensor]] = {}
        while len(self.history) < limit and failed < PATIENCE:
            with torch.enable_grad():
                value = self.seen(self.fed(leaves)).value()
            self.history.append(float(value.detach()))
            self.told(self.history[-1])
            if self.history[-1] < best:
                best, count, failed = self.history[-1], 2 * count, 0
                kept = {place: tokens.ids for place, tokens in self.ids.items()}
                if best <= ENOUGH or not value.requires_grad:
                    break
                value.backward()
                proposed = {place: t.proposals(self.lookups) for place, t in self.ids.items()}
            else:
                count, failed = max(count // 4, 1), failed + 1
            for place, (ids, change) in proposed.items():
                self.ids[place].ids = exchanged(kept[place], ids, change, count, self.generator)
        self.lookups.noting = False
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
