"""L-BFGS on the values of a batch, ended where going on is not worth its time.

A step is one forward and one backward pass. The direction is that of the two loops over the last pairs of
steps and gradient changes (Nocedal and Wright, Numerical Optimization, algorithm 7.4). Along it the step is
shortened until the objective falls as it should (Armijo) and lengthened while the slope is still steep (the
weak Wolfe conditions, by bisection), so that every pair has a positive curvature. Of the networks in
docs/matched.md it needs a fifth of the steps that Adam with a falling rate takes, and has no rate to choose.

Not torch.optim's: it imports TorchDynamo and sympy, which takes longer than a small network's batches.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

ENOUGH = 1e-6
"""Of the objective: means within a thousandth of sigma. What a batch of real rows has by chance is 1/m."""

PATIENCE, WORTH = 8, 0.05
"""The last steps have to have made it smaller by this share."""

_PAIRS = 10

_FALL, _SLOPE = 1e-4, 0.9
"""Wolfe's: what share of the promised fall has to come, and how much of the slope may be left."""

_FIRST = 0.1
"""Of the parameters' root mean square, or of 1 where that is less: the first step."""


class _End(Exception):  # noqa: N818  # no error
    pass


@dataclass(slots=True)
class Descent:
    """One descent.

    Attributes:
        parameters: changed in place; at the end, the best values that were met.
        evaluate: gives the objective of them, differentiable.
        limit: steps at most.
        told: called after each step, with the objective.
        history: the objective of each step.
    """

    parameters: Sequence[Tensor]
    evaluate: Callable[[], Tensor]
    limit: int
    told: Callable[[float], None]
    history: list[float] = field(default_factory=list)
    _best: tuple[float, Tensor | None] = (inf, None)

    def run(self) -> float:
        """The least objective that was met; infinite where it is never finite."""
        x = torch.cat([p.detach().flatten() for p in self.parameters])
        start = x.clone()
        with suppress(_End):
            self._descend(x)
        best, found = self._best
        self._put(start if found is None else found)
        return best

    def _descend(self, x: Tensor) -> None:
        value, gradient = self._at(x)
        if not bool(gradient.any()):  # at a minimum, or no number
            raise _End
        pairs: list[tuple[Tensor, Tensor]] = []
        size = _FIRST * float(x.square().mean().sqrt().clamp(min=1.0))
        while True:
            direction = -_scaled(gradient, pairs)
            if not pairs:
                direction *= size / float(gradient.square().mean().sqrt())
            slope = float(direction @ gradient)
            if not slope < 0:
                raise _End
            length, low, high = 1.0, 0.0, inf
            while True:
                new, there = self._at(x + length * direction)
                if not new <= value + _FALL * length * slope:
                    high = length
                elif float(direction @ there) < _SLOPE * slope:
                    low = length
                else:
                    break
                length = (low + high) / 2 if isfinite(high) else 2 * length
            pairs = [*pairs[1 - _PAIRS :], (length * direction, there - gradient)]
            x, value, gradient = x + length * direction, new, there

    def _at(self, x: Tensor) -> tuple[float, Tensor]:
        """The objective and its gradient; infinite where it is no number, which shortens the step."""
        if len(self.history) >= self.limit:
            raise _End
        self._put(x)
        for p in self.parameters:
            p.grad = None
        with torch.enable_grad():
            loss = self.evaluate()
        value = float(loss.detach())
        value = value if isfinite(value) else inf
        self.history.append(value)
        self.told(value)
        if value < self._best[0]:
            self._best = (value, x)
        if value <= ENOUGH or self._stalls():
            raise _End
        if not isfinite(value):
            return inf, torch.zeros_like(x)
        loss.backward()
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        gradient = torch.cat([part.flatten() for part in parts])
        if not bool(gradient.isfinite().all()):
            return inf, torch.zeros_like(x)
        return value, gradient

    def _put(self, x: Tensor) -> None:
        with torch.no_grad():
            parts = x.split([p.numel() for p in self.parameters])
            for p, part in zip(self.parameters, parts, strict=True):
                p.copy_(part.reshape(p.shape))

    def _stalls(self) -> bool:
        seen = self.history
        return len(seen) > PATIENCE and self._best[0] > (1 - WORTH) * min(seen[:-PATIENCE])


def _scaled(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The gradient times the inverse Hessian that the pairs (step, gradient's change) suggest."""
    q, weights = gradient.clone(), []
    for step, change in reversed(pairs):
        weights.append(float(step @ q) / float(step @ change))
        q -= weights[-1] * change
    if pairs:
        step, change = pairs[-1]
        q *= float(step @ change) / float(change @ change)
    for (step, change), weight in zip(pairs, reversed(weights), strict=True):
        q += (weight - float(change @ q) / float(step @ change)) * step
    return q
