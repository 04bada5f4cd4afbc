"""Curvature of an operator along tangents: what a node adds to d2L, without any way back.

Along two directions t, u at a layer, d2L[t, u] is the sum over the curved operators k behind it, the loss
included, of <adj_k, D2 f_k [t_k, u_k]>: adj_k the gradient of the loss at the output, t_k and u_k the
tangents at the input. Linear operators and masks add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.sweep.plane import plane_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Stacks = list[Tensor | None]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which products of a layer's directions are wanted.

    Attributes:
        width: directions that a layer gives birth to; a stack holds them layer by layer.
        pairs: positions among them.
    """

    width: int
    pairs: tuple[tuple[int, int], ...]

    def split(self, t: Tensor) -> list[Tensor]:
        """(K, ...) -> per direction (K / width, ...), views."""
        return list(t.unflatten(0, (-1, self.width)).unbind(1))

    def each(self, product: Callable[[int, int], Tensor]) -> Tensor:
        """(K / width, pairs) in float64 from the value (K / width,) of each pair."""
        found = torch.stack([product(a, b) for a, b in self.pairs], 1)
        return found if found.device.type == "mps" else found.double()

    def bilinear(self, t: Tensor, bent: Callable[[Tensor], Tensor]) -> Tensor:
        """<t_b, bent(t_a)> of each pair, `bent` linear and symmetric; each one bent once."""
        parts = self.split(t)
        known: dict[int, Tensor] = {}

        def product(a: int, b: int) -> Tensor:
            if a not in known:
                known[a] = bent(parts[a])
            return dots(known[a], parts[b])

        return self.each(product)


ALONG_G = Pairs(1, ((0, 0),))
"""(Jg)'Hz(Jg) alone."""

ALL = Pairs(3, ((0, 0), (2, 2), (2, 1)))
"""With D^2 G and G: G'HzG and (D^2 G)'HzG, the sum of D_j^2 G_j'(Hz G)_j over the channels."""


def dots(a: Tensor, b: Tensor) -> Tensor:
    """(K,): products of two stacks, direction by direction."""
    if a.dim() < 3:
        return (a * b).flatten(1).sum(1) if a.dim() > 1 else a * b
    plane = plane_of(a)
    left, right = plane.t.flatten(1), plane.like(b).flatten(1).to(a.dtype)
    found: Tensor = torch.linalg.vecdot(left, right)
    return found


def common(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Two stacks cut to the directions that both hold."""
    count = min(s.shape[0], t.shape[0])
    return s[:count], t[:count]


def crossed(
    pairs: Pairs, s: Tensor, t: Tensor, product: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """product(s_a, t_b) + product(s_b, t_a) of each pair: the second derivative of a bilinear operator."""
    left, right = pairs.split(s), pairs.split(t)

    def both(a: int, b: int) -> Tensor:
        if a == b:
            return 2 * product(left[a], right[a])
        return product(left[a], right[b]) + product(left[b], right[a])

    return pairs.each(both)
