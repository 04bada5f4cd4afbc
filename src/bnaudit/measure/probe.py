"""The handler that records the first-order moments of every BatchNorm call in one backward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.measure.moments import Moments, channel_moments
from bnaudit.measure.rows import Rows, rows_of
from bnaudit.measure.selection import Selection
from bnaudit.tap.call import BatchNormCall, differentiable, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_NO_GRAD = "the model runs this layer without autograd (no_grad)"
_NOT_REACHED = "no gradient reaches this layer (a branch the loss does not use)"


@dataclass(slots=True)
class LayerRecord:
    """What one BatchNorm call left behind on one batch.

    Attributes:
        name, occurrence: which call.
        rank: dimensions of its input.
        channels, m, eps, training: as in `BatchNormCall`.
        dtype: of the activations.
        gamma, running_mean, running_var: float64 copies on the CPU, or None.
        moments: None until backward has passed, or `finish` was called.
        obstacle: why no gradient arrived, or None.
        waiting: the input, until backward passes the layer.
        reads: as in `LayerReport`.
        rows: how the batch's rows share in the moments; None until they are there.
    """

    name: str
    occurrence: int
    rank: int
    channels: int
    m: int
    eps: float
    training: bool
    dtype: torch.dtype
    gamma: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    moments: Moments | None = None
    obstacle: str | None = None
    waiting: Tensor | None = None
    reads: tuple[str, ...] | None = None
    rows: Rows | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the same call on every batch."""
        return (self.name, self.occurrence)

    @property
    def label(self) -> str:
        """As in `LayerReport`."""
        return self.name if self.occurrence == 1 else f"{self.name}#{self.occurrence}"


def _double(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.detach().to("cpu", torch.float64)


def record_of(call: BatchNormCall) -> LayerRecord:
    """The part of a record that the forward pass knows."""
    return LayerRecord(
        name=call.name,
        occurrence=call.occurrence,
        rank=call.x.dim(),
        channels=call.x.shape[1],
        m=call.m,
        eps=call.eps,
        training=call.training,
        dtype=call.x.dtype,
        gamma=_double(call.gamma),
        running_mean=_double(call.running_mean),
        running_var=_double(call.running_var),
    )


@dataclass(slots=True)
class FirstOrderProbe:
    """Normalises, and reduces x, G and g to moments the moment backward passes the layer.

    The hook sits on the autograd node of the BatchNorm itself. What it sees is dL/dz at this
    output before any in-place activation, and this node's own share of dL/dx, so a skip connection that
    reads the same x is not counted. Nothing is kept but a reference to x, which the node holds anyway.
    """

    mode: str
    selection: Selection = field(default_factory=Selection)
    executed: list[str] = field(default_factory=list)
    records: list[LayerRecord] = field(default_factory=list)
    begun: bool = False
    nodes: dict[Any, LayerRecord] = field(default_factory=dict)

    def begin(self) -> None:
        """The backward pass of the loss begins: one that the model ran in its forward is not measured."""
        self.begun = True

    def link(self) -> None:
        """Between forward and backward: writes down which calls feed which, from the autograd graph."""
        feeding: dict[Any, frozenset[str]] = {}
        for node, record in self.nodes.items():
            stack = [node]
            while stack:  # a node's answer follows its parents': depth would exceed Python's stack
                top = stack[-1]
                parents = [p for p, _ in top.next_functions if p is not None]
                open_ones = [p for p in parents if p not in feeding and p not in self.nodes]
                stack += open_ones
                if not open_ones:
                    found = (
                        frozenset({self.nodes[p].label}) if p in self.nodes else feeding[p]
                        for p in parents
                    )
                    feeding[stack.pop()] = frozenset().union(*found)
            record.reads = tuple(r.label for r in self.records if r.label in feeding[node])

    def __call__(self, call: BatchNormCall) -> Tensor:
        """Carries a call of the forward pass out."""
        self.executed.append(call.name)
        if call.name not in self.selection:
            return normalise(call, differentiable(call.x), self.mode)
        record = record_of(call)
        self.records.append(record)
        return self._run(call, record)

    def replay(self, call: BatchNormCall) -> Tensor:
        """A call that activation checkpointing repeats during backward.

        The usual (non-reentrant) kind only refills the saved tensors of nodes that carry their hooks
        already: a second record would count the layer twice. The reentrant kind ran its forward
        without autograd, and these are the nodes that backward will pass.
        """
        waiting = (r for r in self.records if r.name == call.name and r.obstacle == _NO_GRAD)
        record = next(waiting, None)
        if record is None:
            return normalise(call, differentiable(call.x), self.mode)
        record.obstacle = None
        return self._run(call, record)

    def finish(self) -> None:
        """After backward: layers that no gradient reached still have statistics of their own."""
        self.nodes.clear()
        for record in self.records:
            if record.waiting is not None:
                record.obstacle = record.obstacle or _NOT_REACHED
                record.moments = channel_moments(record.waiting, None, None)
                record.rows = rows_of(record.waiting)
                record.waiting = None

    def _run(self, call: BatchNormCall, record: LayerRecord) -> Tensor:
        x = differentiable(call.x)
        z = normalise(call, x, self.mode)
        record.waiting = x.detach()
        if z.grad_fn is None:
            record.obstacle = _NO_GRAD
        else:
            self._attach(z, record)
        return z

    def _attach(self, z: Tensor, record: LayerRecord) -> None:
        """Fills `record.moments` when backward passes the node that made `z`."""

        def hook(grad_in: Sequence[Tensor | None], grad_out: Sequence[Tensor | None]) -> None:
            g, big_g, x = grad_in[0], grad_out[0], record.waiting
            if self.begun and g is not None and big_g is not None and x is not None:
                record.waiting = None
                with torch.no_grad():
                    record.moments = channel_moments(x, big_g, g)
                    record.rows = rows_of(x)

        node: Any = z.grad_fn
        node.register_hook(hook)
        self.nodes[node] = record
