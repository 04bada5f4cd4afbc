"""L-BFGS on the values of a batch, ended where going on is not worth its time.

A step is one forward and one backward pass. L-BFGS (10 pairs, strong Wolfe line search) needs a fifth of the
steps that Adam with a falling rate takes to the same mismatch (`docs/matched.md`), and has no rate to choose.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
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
    history: list[float]

    def run(self) -> float:
        """The least objective that was met; infinite where it is never finite."""
        best = inf
        kept = [p.detach().clone() for p in self.parameters]
        optimiser = torch.optim.LBFGS(
            self.parameters,
            max_iter=self.limit,
            max_eval=2 * self.limit,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=_PAIRS,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            nonlocal best, kept
            optimiser.zero_grad()
            with torch.enable_grad():
                loss = self.evaluate()
            value = float(loss.detach())
            if not isfinite(value):
                raise _End
            if value < best:
                best, kept = value, [p.detach().clone() for p in self.parameters]
            self.history.append(value)
            self.told(value)
            if self._over():
                raise _End
            loss.backward()
            if not all(
                p.grad is not None and bool(p.grad.isfinite().all()) for p in self.parameters
            ):
                raise _End
            return loss.detach()

        with suppress(_End):
            optimiser.step(closure)
        with torch.no_grad():
            for p, value in zip(self.parameters, kept, strict=True):
                p.copy_(value)
        return best

    def _over(self) -> bool:
        seen = self.history
        if len(seen) >= self.limit or seen[-1] <= ENOUGH:
            return True
        return len(seen) > PATIENCE and min(seen) > (1 - WORTH) * min(seen[:-PATIENCE])
