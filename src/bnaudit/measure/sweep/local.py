"""Any other operator: exact local differentiation of that call alone.

With u a free cotangent, d<u, f(x)>/dx = J'u is linear in u, and its derivative along t is Jt: both
directions of the sweep, and the call's own curvature, come from autograd on this one call. A stack passes at
once, under vmap, where every operator of the derivatives can do that, and direction by direction elsewhere.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch._C._functorch import is_batchedtensor
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, filled, functional, padded, rows
from bnaudit.measure.sweep.stack import dots
from bnaudit.tap.call import aliased, pulled_back
from bnaudit.tap.trees import leaves_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.stack import Pairs
    from bnaudit.measure.sweep.tape import Shape, Step

    Stacks = list[Tensor | None]


class _Graph:
    """One call with autograd of its own, twice differentiable."""

    def __init__(self, step: Step) -> None:
        self.x = [v.tensor.detach().requires_grad_() for v in step.values if v is not None]
        func = functional(step.func)
        with torch.enable_grad():
            inside = [aliased(x) for x in self.x]
            out = leaves_of(func(*filled(step.args, inside), **filled(step.kwargs, inside)))
            picked = [(out[p], i) for i, p in enumerate(step.positions)]
            self.alive = [i for y, i in picked if y.requires_grad]
            self.y = [y for y, _ in picked if y.requires_grad]
            self.u = [torch.zeros_like(y).requires_grad_() for y in self.y]
            self.pull = _grad(self.y, self.x, self.u, create=True)
            adjoints = [step.adjoints[i] for i in self.alive]
            self.curved: list[Tensor] | None = None
            if any(a is not None for a in adjoints):
                full = [
                    torch.zeros_like(y) if a is None else a
                    for y, a in zip(self.y, adjoints, strict=True)
                ]
                self.curved = _grad(self.y, self.x, full, create=True)
        self.shapes = step.out_shapes
        self.seconds([torch.zeros_like(x) for x in self.x])  # raises here where there are none
        self.batched = bool(self.alive) and self._can_be_batched()

    def _can_be_batched(self) -> bool:
        """Whether a stack passes at once, to the same values, on its own or through a loop inside of vmap."""
        t = [torch.stack([x, -x]) for x in self.x]
        u = [torch.stack([y, -y]) for y in self.y]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # an operator without a batching rule says so
                together = [
                    *self.all(self.forward, t),
                    *self.all(self.back, u),
                    *self.all(self.seconds, t),
                ]
        except (RuntimeError, UserWarning, NotImplementedError):
            return False
        return all(found.shape[0] == 2 for found in together)

    def all(
        self, way: Callable[[list[Tensor]], list[Tensor]], stacks: Sequence[Tensor]
    ) -> list[Tensor]:
        """One of the three ways for each direction of some stacks."""
        return list(torch.vmap(lambda *t: tuple(way(list(t))))(*stacks))

    def stacked(
        self, way: Callable[[list[Tensor]], list[Tensor]], stacks: Sequence[Tensor]
    ) -> list[Tensor]:
        """The same, at once where that is possible."""
        if self.batched and len(stacks[0]) > 1:
            return self.all(way, stacks)
        found = [way(list(t)) for t in zip(*stacks, strict=True)]
        return [torch.stack(column) for column in zip(*found, strict=True)]

    @property
    def is_curved(self) -> bool:
        """Whether there is a second derivative."""
        return self.curved is not None and any(c.requires_grad for c in self.curved)

    def forward(self, t: list[Tensor]) -> list[Tensor]:
        """J t."""
        return _grad(self.pull, self.u, t)

    def back(self, grad: list[Tensor]) -> list[Tensor]:
        """J' grad."""
        return _grad(self.y, self.x, grad)

    def seconds(self, t: list[Tensor]) -> list[Tensor]:
        """The derivative of J'a along t, a the gradient of the loss at the outputs."""
        return (
            [torch.zeros_like(x) for x in self.x]
            if self.curved is None
            else _grad(self.curved, self.x, t)
        )


def _grad(
    of: list[Tensor], at: list[Tensor], along: list[Tensor], *, create: bool = False
) -> list[Tensor]:
    pairs = [(f, a) for f, a in zip(of, along, strict=True) if f.requires_grad]
    if not pairs:
        return [torch.zeros_like(x) for x in at]
    outputs, tangents = [f for f, _ in pairs], [a for _, a in pairs]
    if any(is_batchedtensor(a) for a in tangents):  # no scalar is formed inside of vmap
        grad = torch.autograd.grad
        found: list[Tensor | None]
        found = [*grad(outputs, at, tangents, True, create, allow_unused=True)]
    else:
        found = pulled_back(outputs, at, tangents, create=create, retain=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(at, found, strict=True)]


class _Apply(torch.autograd.Function):
    """A stack through one call."""

    @staticmethod
    def forward(ctx: Any, graph: _Graph, *stacks: Tensor) -> tuple[Tensor, ...]:
        ctx.graph = graph
        ctx.save_for_backward(*stacks)
        return tuple(graph.stacked(graph.forward, stacks))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        graph, stacks = ctx.graph, ctx.saved_tensors
        back, bent = graph.stacked(graph.back, grads), graph.stacked(graph.seconds, stacks)
        return None, *(a + b for a, b in zip(back, bent, strict=True))


through: Any = _Apply.apply


def _form(graph: _Graph, shapes: list[Shape], tangents: Stacks, pairs: Pairs) -> Tensor:
    count = rows(tangents)
    like = next(t for t in tangents if t is not None)
    parts = [
        pairs.split(like.new_zeros(count, *s.size) if t is None else padded(t, count, s))
        for t, s in zip(tangents, shapes, strict=True)
    ]
    bent = {
        a: graph.stacked(graph.seconds, [part[a] for part in parts])
        for a in {a for a, _ in pairs.pairs}
    }

    def product(a: int, b: int) -> Tensor:
        terms = [dots(column, part[b]) for column, part in zip(bent[a], parts, strict=True)]
        return torch.stack(terms).sum(0)

    return pairs.each(product)


class _Local:
    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(constants=True, inputs=True, curved=True)

    def prepare(self, step: Step) -> None:
        if torch.Tag.nondeterministic_seeded in step.func.tags:
            step.obstacle = f"{step.name} draws random numbers"
            return
        if not step.out_shapes:
            step.apply = lambda _: []
            return
        try:
            graph = _Graph(step)
        except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            step.obstacle = f"{step.name} cannot be differentiated alone: {reason[:120]}"
            return
        if not graph.alive:  # zeros of its shape, say
            step.apply = lambda _: []
            return
        step.local, step.singly = True, not graph.batched
        step.saved = sum(x.numel() * x.element_size() for x in graph.x)
        shapes, count_out = list(step.shapes), len(step.out_shapes)

        def apply(tangents: Stacks) -> Stacks:
            count = rows(tangents)
            like = next(t for t in tangents if t is not None)
            stacks = [
                like.new_zeros(count, *s.size) if t is None else padded(t, count, s)
                for t, s in zip(tangents, shapes, strict=True)
            ]
            found = through(graph, *stacks)
            out: Stacks = [None] * count_out
            for i, t in zip(graph.alive, found, strict=True):
                out[i] = t
            return out

        step.apply = apply
        if graph.is_curved:
            step.form = partial(_form, graph, shapes)


class _Refused:
    """Operators whose tangents would depend on where a tensor lies in memory, or on chance."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs()

    def prepare(self, step: Step) -> None:
        step.obstacle = f"{step.name} has no rule"


LOCAL = _Local()
REFUSED = _Refused()
