"""Passes over all of the data: what every layer gets, and what the network makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from bnaudit.data.decisions import right
from bnaudit.data.loss import outputs_of
from bnaudit.data.outputs import primary
from bnaudit.errors import RunError
from bnaudit.measure.collect import KEPT, Selection, collect
from bnaudit.progress import Silent
from bnaudit.recalibration.pool import Pool
from bnaudit.tap.call import normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from bnaudit.data.batch import Batch
    from bnaudit.measure.session import Session
    from bnaudit.progress import Progress
    from bnaudit.tap.call import BatchNormCall

Key = tuple[str, int]

Statistics = tuple["Tensor", "Tensor"]
"""Mean and variance as they are stored; (C,) float64, on the CPU."""


@dataclass(slots=True)
class Layer:
    """A BatchNorm layer that ran.

    Attributes:
        name: as an audit calls it.
        channels: their number.
        eps: the layer's.
        stored: its running statistics, None where it keeps none that the model owns.
        paths: of the running mean and of the running variance in the module: every name that they have.
        calls: occurrences in a forward pass.
    """

    name: str
    channels: int
    eps: float
    stored: Statistics | None
    paths: tuple[tuple[str, ...], tuple[str, ...]]
    calls: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Seen:
    """What one pass over the data left behind.

    Attributes:
        pools: call -> what went in.
        losses, right: per batch the loss, and the share of right decisions where labels are classes.
        outputs: per batch, None where they are too large to be kept.
    """

    pools: dict[Key, Pool] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    outputs: list[Tensor | None] = field(default_factory=list)

    def layer(self, name: str) -> Pool:
        """All calls of a layer together."""
        parts = [pool for key, pool in self.pools.items() if key[0] == name]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.merged(part)
        return whole


@dataclass(slots=True)
class Passes:
    """Runs the data through the model; nothing of the model is written.

    Attributes:
        session: the model, placed.
        batches: all of them.
        progress: told of each batch.
        layers: those that ran, by name, in the order of their first call.
    """

    session: Session
    batches: Sequence[Batch]
    progress: Progress
    layers: dict[str, Layer] = field(default_factory=dict)

    def begin(self) -> None:
        """Finds out what all passes have to know: which calls are no layers, and where the loss is taken.

        Raises:
            RunError: the model cannot be run.
        """
        execution, namer = self.session.execution, self.session.placed.namer
        try:
            collect(execution, namer, self.batches[:1], "batch", Selection(), Silent())
        except RunError:
            # Only what needs a gradient: a model that cannot be run at all fails in the next pass.
            if namer.apart is None:
                namer.apart = {}

    def run(self, mode: str, statistics: Mapping[str, Statistics] | None = None) -> Seen:
        """One pass.

        Args:
            mode: "batch", "running", or "own": with what the layer would store of its batch alone.
            statistics: layer -> what stands in the place of its running statistics.

        Raises:
            RunError: the model cannot be run.
        """
        seen, given = Seen(), statistics or {}
        paths = addresses(self.session.placed.module)

        def handle(call: BatchNormCall) -> Tensor:
            self._note(call, paths)
            pool = Pool.of(call.x)
            known = seen.pools.get(call.key)
            seen.pools[call.key] = pool if known is None else known.merged(pool)
            if mode == "own":
                own = instead(call, {call.name: (pool.mean, pool.unbiased)})
                return normalise(own, call.x, "running")
            return normalise(instead(call, given), call.x, mode)

        self.progress.stage(f"running with {mode} statistics", len(self.batches))
        for index, batch in enumerate(self.batches):
            with torch.no_grad():
                self._one(batch, index, handle, seen)
            self.progress.advance()
        return seen

    def _one(
        self, batch: Batch, index: int, handle: Callable[[BatchNormCall], Tensor], seen: Seen
    ) -> None:
        execution = self.session.execution
        with tapped(self.session.placed.namer, handle) as tap:
            tap.start()
            output, loss = execution.both(batch, index)
        y = primary(outputs_of(output))[1].detach()
        seen.losses.append(float(loss))
        share = right(y, batch.labels, execution.loss)
        if share is not None:
            seen.right.append(share)
        small = y.numel() * len(self.batches) <= KEPT
        seen.outputs.append(y.cpu().double() if small else None)

    def _note(self, call: BatchNormCall, paths: Mapping[Address, tuple[str, ...]]) -> None:
        layer = self.layers.get(call.name)
        if layer is None:
            mean, var = call.running_mean, call.running_var
            own = [paths.get(_address(t), ()) if t is not None else () for t in (mean, var)]
            stored = None
            if mean is not None and var is not None and all(own):
                stored = (_double(mean), _double(var))
            layer = Layer(call.name, call.x.shape[1], call.eps, stored, (own[0], own[1]))
            self.layers[call.name] = layer
        layer.calls.add(call.occurrence)

    def selected(self, pattern: str | None) -> list[str]:
        """The layers that a pattern names.

        Raises:
            UsageError: there is none.
        """
        names = list(self.layers)
        Selection(pattern).require_one(names)
        return [name for name in names if pattern is None or fnmatchcase(name, pattern)]


def instead(call: BatchNormCall, statistics: Mapping[str, Statistics]) -> BatchNormCall:
    """The call with other running statistics, where the layer has any."""
    found = statistics.get(call.name)
    if found is None or call.running_mean is None or call.running_var is None:
        return call
    mean, var = found
    return replace(
        call, running_mean=mean.to(call.running_mean), running_var=var.to(call.running_var)
    )


Address = tuple[str, int, int]


def _address(tensor: Tensor) -> Address:
    return (str(tensor.device), tensor.data_ptr(), tensor.numel())


def addresses(module: nn.Module) -> dict[Address, tuple[str, ...]]:
    """Where a parameter or buffer lies -> all of its names."""
    found: dict[Address, tuple[str, ...]] = {}
    for path, tensor in (
        *module.named_buffers(remove_duplicate=False),
        *module.named_parameters(remove_duplicate=False),
    ):
        if tensor.numel():
            found[_address(tensor)] = (*found.get(_address(tensor), ()), path)
    return found


def _double(t: Tensor) -> Tensor:
    return t.detach().cpu().double()
