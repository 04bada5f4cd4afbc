"""Running batches with either kind of statistics, nothing of the model written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.data.loss import outputs_of
from bnaudit.data.outputs import primary
from bnaudit.measure.moments import channel_moments
from bnaudit.tap.call import normalise
from bnaudit.tap.dispatch import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bnaudit.data.batch import Batch
    from bnaudit.measure.collect import Collected, LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.tap.call import BatchNormCall

Key = tuple[str, int]
Statistics = tuple["Tensor", "Tensor"]
"""Mean and variance, (C,) float64 on the CPU."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One batch in one mode: the loss, and the output that labels are for (rows, ...)."""

    loss: float
    output: Tensor


@dataclass(slots=True)
class Modes:
    """Runs batches with either kind of statistics.

    Attributes:
        session: the model and its batches.
        collected: the first-order pass, which ran the audited batches in one of the modes.
        options: which mode that was, and for which layers.
        tracked: whether a call with running statistics was met.
    """

    session: Session
    collected: Collected
    options: AuditOptions
    tracked: bool = False

    def records(self, index: int) -> Sequence[LayerRecord]:
        """What the first-order pass has of a batch, of the selected layers."""
        return self.collected.batches[index]

    def known(self, index: int, mode: str) -> Seen | None:
        """What the first-order pass has of it."""
        if mode != self.options.mode or index >= len(self.collected.losses):
            return None
        output = self.collected.outputs[index]
        return None if output is None else Seen(self.collected.losses[index], output)

    def run(
        self,
        batch: Batch,
        index: int,
        mode: str,
        statistics: Callable[[BatchNormCall], Tensor] | None = None,
    ) -> Seen:
        """One batch in a mode, or with a handler of its calls."""

        def plain(call: BatchNormCall) -> Tensor:
            self.tracked |= call.running_var is not None
            return normalise(call, call.x, mode)

        with tapped(self.session.placed.namer, statistics or plain) as tap, torch.no_grad():
            tap.start()
            output, loss = self.session.execution.both(batch, index)
        return Seen(float(loss), primary(outputs_of(output))[1].detach())

    def statistics(self, index: int) -> dict[Key, tuple[int, Statistics]]:
        """Values per channel, and mean and variance, of each call on a batch that normalises by itself."""
        if self.options.mode == "batch" and self.options.layers is None:
            return {
                r.key: (r.m, (r.moments.mean, r.moments.var))
                for r in self.records(index)
                if r.moments is not None
            }
        return self.noted(self.session.batches.items[index], index)

    def noted(self, batch: Batch, index: int) -> dict[Key, tuple[int, Statistics]]:
        """The same of any batch."""
        found: dict[Key, tuple[int, Statistics]] = {}

        def noting(call: BatchNormCall) -> Tensor:
            moments = channel_moments(call.x, None, None)[0]
            found[call.key] = (call.m, (moments.mean, moments.var))
            return normalise(call, call.x, "batch")

        self.run(batch, index, "batch", noting)
        return found
