"""Stacks of directions: how they lie in memory, and their products pair by pair.

Along two directions t, u at a layer, d2L[t, u] is the sum over the curved operators k behind it, the loss
included, of <adj_k, D2 f_k [t_k, u_k]>: adj_k the gradient of the loss at the output, t_k and u_k the
tangents at the input. Linear operators and masks add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Stacks = list[Tensor | None]


@dataclass(frozen=True, slots=True)
class Plane:
    """A stack as (K, M, C) or (K, N, C, L), whichever is a view of it.

    Attributes:
        t: the view.
        last: whether the channels are its last axis.
    """

    t: Tensor
    last: bool

    @property
    def dims(self) -> tuple[int, ...]:
        """The axes that a channel's values lie along."""
        return (1,) if self.last else (1, 3)

    def vector(self, v: Tensor) -> Tensor:
        """(C,) or (K, C) to broadcast against the stack."""
        if v.dim() == 1:
            return v if self.last else v[:, None]
        return v[:, None] if self.last else v[:, None, :, None]

    def partner(self, x: Tensor) -> Tensor:
        """(N, C, ...) in the same layout."""
        if self.last:
            return x.movedim(1, -1).reshape(-1, x.shape[1])
        return x.reshape(*x.shape[:2], -1)

    def like(self, t: Tensor) -> Tensor:
        """Another stack (K, N, C, ...) in the same layout."""
        if self.last:
            return t.movedim(2, -1).reshape(t.shape[0], -1, t.shape[2])
        return t.reshape(*t.shape[:3], -1)

    def back(self, size: torch.Size) -> Tensor:
        """As (K, N, C, ...)."""
        if not self.last:
            return self.t.view(size)
        return self.t.view(size[0], size[1], *size[3:], size[2]).movedim(-1, 2)


def empty_stack(count: int, size: Sequence[int], like: Tensor) -> Tensor:
    """(count, *size) in the layout of images, channels last where there are positions.

    Args:
        count: directions.
        size: of the tensor, (N, C, ...).
        like: gives dtype and device.
    """
    if len(size) < 3:
        return like.new_empty(count, *size)
    n, channels, *positions = size
    return like.new_empty(count, n, *positions, channels).movedim(-1, 2)


def plane_of(t: Tensor) -> Plane:
    """The view of a stack (K, N, C, ...) that needs no copy, if there is one."""
    moved = t.movedim(2, -1)
    if moved.is_contiguous():
        return Plane(moved.view(t.shape[0], -1, t.shape[2]), last=True)
    return Plane(t.reshape(*t.shape[:3], -1), last=False)


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
