"""Which Linear or convolution feeds a BatchNorm, read off autograd's graph.

From the BatchNorm's input back through casts, changes of shape, crops and constant addends (a bias) to
the operation that multiplies with a weight: with x_j = U w_j + const, dL/dw_j = U'g_j. A crop leaves out
rows of U, and the mean of those that are left takes the bias away all the same. Everything else
that may stand in front of a BatchNorm (a concatenation, the sum at the end of a residual block,
pooling, the network's input) has no one weight, and is named as the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.measure.weight_space.graph import (
    IDENTITY,
    SHAPE,
    Node,
    computed_from,
    describe,
    direct_leaf,
    is_crop,
    leaf,
    operation,
)
from bnaudit.measure.weight_space.unfolded import (
    Cropped,
    Unfolded,
    UnfoldedConvolution,
    UnfoldedProduct,
    computable,
)
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Feeder:
    """The operator in front of one BatchNorm call.

    Attributes:
        kind: "Conv2d", "ConvTranspose1d", "Linear".
        leaves: the parameter, or the parameters that its weight is computed from.
        direct: whether the weight is that parameter (but for casts and changes of shape).
        node: of the operator.
        slot: of the weight among the operands.
        path: the nodes between the BatchNorm and it, nearest to the BatchNorm first.
        unfolded: U, from the input that autograd saved.
        dtype: that it computes in.
        transposed: the operator's output has channels first, (O, m).
    """

    kind: str
    leaves: tuple[Tensor, ...]
    direct: bool
    node: Node
    slot: int
    path: tuple[Node, ...]
    unfolded: Unfolded
    dtype: torch.dtype
    transposed: bool = False

    def pull(self, t: Tensor) -> Tensor | None:
        """A tensor of the BatchNorm's shape in the layout of the operator's output, channels at 1.

        None where an addend between the two broadcast the operator's output.
        """
        for node in self.path:
            if operation(node) in SHAPE or is_crop(node):
                try:
                    t = node(t)  # a rearrangement's gradient is its inverse, a crop's puts 0 around
                except (RuntimeError, IndexError):
                    return None
        if self.kind != "Linear":
            return t
        if self.transposed:
            return t.reshape(t.shape[-2:]).T
        return t.reshape(-1, t.shape[-1])

    def used(self, shape: torch.Size) -> Unfolded | None:
        """U of the positions that a BatchNorm input of this shape has.

        None where channel j of that input is not output channel j.
        """
        if not self.path:
            return self.unfolded
        channel = torch.arange(1, shape[1] + 1, dtype=torch.float32, device=self.unfolded.device)
        tail = [1] * (len(shape) - 2)
        pulled = self.pull(channel.view(1, -1, *tail).expand(shape))
        if pulled is None or pulled.dim() < 2 or pulled.shape[1] != shape[1]:
            return None
        kept = pulled[:, :1] != 0
        expected = channel.view(1, -1, *[1] * (pulled.dim() - 2)) * kept
        if not bool((pulled == expected).all()):
            return None
        return self.unfolded if bool(kept.all()) else Cropped(self.unfolded, kept)


def find_feeder(node: Node | None) -> Feeder | Skipped:
    """The feeder of a BatchNorm, or why there is none.

    Parameters have to require a gradient, and the operator's input to be saved: before backward.

    Args:
        node: that made the BatchNorm's input (its `grad_fn`).
    """
    path: list[Node] = []
    while node is not None and leaf(node) is None:
        name = operation(node)
        if name in _OPERATORS:
            return _OPERATORS[name](node, tuple(path))
        if name in IDENTITY | SHAPE or is_crop(node):
            following: Node | Skipped | None = node.next_functions[0][0]
        elif name in {"Add", "Sub"}:
            following = _without_constant(node)
        else:
            return Skipped(f"fed by {describe(node)}, not by one Linear or convolution")
        if isinstance(following, Skipped):
            return following
        path.append(node)
        node = following
    return Skipped("fed by the network's input or a constant, not by a Linear or convolution")


def _without_constant(node: Node) -> Node | Skipped | None:
    """The operand of a sum that is no parameter or constant, if there is exactly one."""
    (left, _), *others = node.next_functions
    right = others[0][0] if others else None
    constant = [
        operand is None or direct_leaf(operand, expanded=True) is not None
        for operand in (left, right)
    ]
    if constant == [False, True]:
        return left
    if constant == [True, False]:
        if operation(node) == "Sub" or node._saved_alpha != 1:
            return Skipped("fed by a scaled difference, not by one Linear or convolution")
        return right
    if all(constant):
        return None
    return Skipped("fed by a sum of several computed tensors (a residual connection)")


def _convolution(node: Node, path: tuple[Node, ...]) -> Feeder | Skipped:
    weight = node._saved_weight
    rank = weight.dim() - 2
    kind = f"Conv{'Transpose' if node._saved_transposed else ''}{rank}d"

    def build() -> Unfolded:
        return UnfoldedConvolution(
            inputs=computable(node._saved_input.detach()),
            kernel=tuple(weight.shape[2:]),
            stride=tuple(node._saved_stride),
            padding=tuple(node._saved_padding),
            dilation=tuple(node._saved_dilation),
            output_padding=tuple(node._saved_output_padding),
            transposed=bool(node._saved_transposed),
            groups=int(node._saved_groups),
        )

    return _feeder(kind, node, 1, path, build, weight.dtype)


def _addmm(node: Node, path: tuple[Node, ...]) -> Feeder | Skipped:
    if node._saved_alpha != 1:
        return Skipped("fed by a scaled matrix product, not by one Linear or convolution")
    return _product(node, 1, path, ("_saved_mat1", "_saved_mat2"))


def _mm(node: Node, path: tuple[Node, ...]) -> Feeder | Skipped:
    return _product(node, 0, path, ("_saved_self", "_saved_mat2"))


def _bmm(node: Node, path: tuple[Node, ...]) -> Feeder | Skipped:
    """`einsum` takes a plain matrix product as a batch of one."""
    saved = node._saved_self if node._saved_self is not None else node._saved_mat2
    if saved is None or saved.shape[0] != 1:
        return Skipped(f"fed by {describe(node)}, not by one Linear or convolution")
    return _product(node, 0, path, ("_saved_self", "_saved_mat2"))


def _product(
    node: Node, first: int, path: tuple[Node, ...], saved: tuple[str, str]
) -> Feeder | Skipped:
    """A product of a weight with activations; either may be on the left.

    Args:
        node: of the product.
        first: slot of its left factor.
        path: to the BatchNorm.
        saved: attributes of the left and right factor.
    """
    left, right = (node.next_functions[first + i][0] for i in (0, 1))
    side = _weight_side(left, right)
    if side is None:
        return Skipped("fed by a matrix product without a parameter as a factor")

    def build() -> Unfolded:
        inputs = getattr(node, saved[1 - side]).detach()
        inputs = inputs.reshape(inputs.shape[-2:])
        return UnfoldedProduct(computable(inputs if side else inputs.T), bool(side))

    dtype = getattr(node, saved[1 - side]).dtype
    return _feeder("Linear", node, first + side, path, build, dtype, transposed=side == 0)


def _weight_side(left: Node | None, right: Node | None) -> int | None:
    """0 where the left factor is the weight, 1 where the right one is, None where neither is told."""
    direct = [direct_leaf(operand) is not None for operand in (left, right)]
    if any(direct):
        return int(direct[1])
    computed = [bool(computed_from(operand)) for operand in (left, right)]
    return computed.index(True) if sum(computed) == 1 else None


def _linear(node: Node, path: tuple[Node, ...]) -> Feeder | Skipped:
    """The fused operator that some devices have; the CPU and CUDA use addmm."""

    def build() -> Unfolded:
        inputs = node._saved_input.detach()
        return UnfoldedProduct(computable(inputs.reshape(-1, inputs.shape[-1])))

    return _feeder("Linear", node, 1, path, build, node._saved_input.dtype)


def _feeder(
    kind: str,
    node: Node,
    slot: int,
    path: tuple[Node, ...],
    build: Callable[[], Unfolded],
    dtype: torch.dtype,
    *,
    transposed: bool = False,
) -> Feeder | Skipped:
    operand = node.next_functions[slot][0]
    if operand is None:
        return Skipped(f"the weight of the {kind} in front is a constant, without a gradient")
    parameter = direct_leaf(operand)
    leaves: list[Any] = computed_from(operand) if parameter is None else [parameter]
    return Feeder(
        kind=kind,
        leaves=tuple(leaves),
        direct=parameter is not None,
        node=node,
        slot=slot,
        path=path,
        unfolded=build(),
        dtype=dtype,
        transposed=transposed,
    )


_OPERATORS: dict[str, Callable[[Node, tuple[Node, ...]], Feeder | Skipped]] = {
    "Convolution": _convolution,
    "Addmm": _addmm,
    "Mm": _mm,
    "Bmm": _bmm,
    "Linear": _linear,
}
