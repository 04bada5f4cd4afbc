"""What a family of operators tells the recorder and the sweep; helpers on stacks of tangents.

A stack is a tensor (K, *shape), K directions at a tensor of that shape. Directions are numbered in
the order in which the layers that give birth to them are executed; a stack that is shorter than another
holds the first K of them, and the missing ones are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from bnaudit.measure.sweep.tape import Kept, Shape, Slot
from bnaudit.tap.trees import mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step


@dataclass(frozen=True, slots=True)
class Needs:
    """What is kept of a call until the sweep.

    Attributes:
        constants: tensors without a tangent among the arguments.
        inputs: values of the tensors with one.
        curved: the gradient of the loss at the outputs.
        outputs: (position, output) -> what to keep of it; None keeps nothing.
    """

    constants: bool = False
    inputs: bool = False
    curved: bool = False
    outputs: Callable[[int, Tensor], Sequence[Tensor]] | None = None


class Family(Protocol):
    """Operators that one rule carries tangents through."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        """What the recorder has to keep where these arguments have tangents."""

    def prepare(self, step: Step) -> None:
        """Sets `step.apply`, or `step.obstacle`."""


def rows(tangents: Sequence[Tensor | None]) -> int:
    """The longest of some stacks."""
    return max((t.shape[0] for t in tangents if t is not None), default=0)


def padded(t: Tensor | None, count: int, shape: Shape) -> Tensor:
    """The stack with zeros behind it; a stack of zeros for None."""
    if t is None:
        raise AssertionError("callers give at least one stack")
    if t.shape[0] == count:
        return t
    tail = t.new_zeros(count - t.shape[0], *shape.size)
    return torch.cat([t, tail])


def widened(t: Tensor, size: Sequence[int]) -> Tensor:
    """(K, *shape) broadcast to (K, *size)."""
    if tuple(t.shape[1:]) == tuple(size):
        return t
    ones = [1] * (len(size) - t.dim() + 1)
    return t.reshape(t.shape[0], *ones, *t.shape[1:]).expand(-1, *size)


def filled(tree: Any, slots: Sequence[Any]) -> Any:
    """Arguments with tensors put into the slots."""

    def fill(leaf: Any) -> Any:
        if isinstance(leaf, Slot):
            return slots[leaf.index]
        return leaf.tensor if isinstance(leaf, Kept) else leaf

    return mapped(fill, tree)


def aligned(x: Tensor) -> Tensor:
    """In the memory layout that tangents of images have: operands in another one cost a multiple."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def only(tangents: Sequence[Tensor | None]) -> Tensor:
    """The stack of a call with one."""
    (t,) = tangents
    if t is None:
        raise AssertionError("a call is carried out where there is a stack")
    return t


_FUNCTIONAL: dict[Any, Any] = {}


def functional(func: Any) -> Any:
    """The overload that writes into nothing, of one that may (relu_ -> relu).

    Raises:
        AttributeError: there is none.
    """
    if not func._schema.is_mutable:
        return func
    if func not in _FUNCTIONAL:
        name = str(func._schema.name).split("::")[-1].removesuffix("_")
        packet = getattr(torch.ops.aten, name)
        overloads = [getattr(packet, overload) for overload in packet.overloads()]
        # By types and not by the overload's name: pow_.Scalar is pow.Tensor_Scalar.
        found = next((o for o in overloads if _types(o) == _types(func)), None)
        _FUNCTIONAL[func] = found or getattr(packet, func._overloadname)
    return _FUNCTIONAL[func]


def _types(func: Any) -> list[str]:
    return [str(argument.type) for argument in func._schema.arguments]
