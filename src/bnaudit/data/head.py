"""What a model computes in front of its final softmax or sigmoid: its logits.

A classifier that is sure of its answer has probabilities of 0 and 1 to the last digit, and no gradient comes
back through them; and cross entropy of probabilities, taken for logits, is another loss. Autograd's graph
of the output names its last operator in every format alike; a dispatch mode catches what goes into it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bnaudit.data.losses.definition import definition
from bnaudit.data.outputs import floating, named_tensors, primary
from bnaudit.losses import LABEL_FREE, LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor

_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
_OPERATORS = (torch.ops.aten._softmax.default, torch.ops.aten.sigmoid.default)
_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Alias")

PROBABILITIES = "probabilities"
_SUM = 1e-3
"""How far the sum of a row of probabilities may be from 1, in bfloat16 as well."""

_NOISE_SUITS = frozenset({"Softmax", "Sigmoid"})
"""What regression to noise is taken in front of. Other regressions and a user's losses stay as they are."""

_LOG = (
    "taken of the log of the model's probabilities",
    "taken of their log-odds, as it gives probabilities",
)
"""What is said where the logits cannot be reached: of a softmax, of a sigmoid."""


class Logits(dict[str, "Tensor"]):
    """Outputs by name, some of them read in front of their final activation.

    `read` has the names of these.
    """

    def __init__(self, tensors: dict[str, Tensor], read: Collection[str]) -> None:
        super().__init__(tensors)
        self.read = frozenset(read)


class Inputs(TorchDispatchMode):
    """Keeps what goes into a softmax or sigmoid, and what comes out, where that is as large as an output.

    `sizes` are the outputs' numbers of values; None keeps all.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The wrapper that this asks for imports all of TorchDynamo, two seconds, at the first call.
        return False

    def __init__(self, sizes: Collection[int] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes = sizes
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs a call."""
        out = func(*args, **(kwargs or {}))
        if func in _OPERATORS and (self.sizes is None or out.numel() in self.sizes):
            self.pairs.append((args[0], out))
        return out

    def in_front_of(self, y: Tensor, *, shaped: bool = True) -> Tensor | None:
        """What went into the activation that made `y`, in the shape of `y`, or that which it had there."""
        for z, out in reversed(self.pairs):
            found = _as(y, out, z)
            if found is not None:
                return found if shaped else z
        return None


@dataclass(slots=True)
class Head:
    """Where a loss is taken, found once and the same in every pass.

    Attributes:
        loss: its name; "" for one that takes the output as it is.
        labels_are: what it takes the labels for; classes have an axis, over which their softmax runs.
        axis: that of the classes.
        shape: of the output that labels are for, once it was looked at.
        kinds: output -> "Softmax", "Sigmoid", "probabilities", or what is done where there are no logits.
        sizes: of these outputs, in values.
    """

    loss: str
    labels_are: str | None = None
    axis: int = 1
    shape: tuple[int, ...] | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    sizes: set[int] = field(default_factory=set)

    def look(self, output: Any) -> None:
        """Finds it in a differentiable output of the model."""
        tensors = floating(named_tensors(output))
        if not tensors:
            return
        name, y = primary(tensors)
        self.shape = tuple(y.shape)
        suits = self._suits()
        if self.loss != LABEL_FREE:
            tensors = {name: y}
        for name, y in tensors.items():
            kind = final_activation(y, axis=self.axis if self.labels_are == "classes" else None)
            if kind is None and PROBABILITIES in suits and sums_to_one(y, self.axis):
                kind = PROBABILITIES
            if kind in suits:
                self.kinds[name] = str(kind)
                self.sizes.add(y.numel())

    def _suits(self) -> frozenset[str]:
        if self.loss not in LOSSES:
            return _NOISE_SUITS if self.loss == LABEL_FREE else frozenset()
        suits = definition(self.loss).suits
        return suits - {PROBABILITIES} if self.labels_are == "binary" else suits

    def read(self, run: Callable[[], Any]) -> Any:
        """The output of `run`, with logits where they are wanted."""
        if not self.kinds:
            return run()
        with Inputs(self.sizes) as inputs:
            tensors = named_tensors(run())
        read: dict[str, Tensor] = {}
        for name in self.kinds.keys() & tensors.keys():
            y = tensors[name]
            z = inputs.in_front_of(y)
            if z is not None and self.kinds[name] in {"Softmax", "Sigmoid"}:
                read[name] = z
            if name in read:
                continue
            if self.loss == LABEL_FREE:
                del self.kinds[name]
                continue
            small = torch.finfo(y.dtype).tiny
            odds = self.kinds[name] in {"Sigmoid", _LOG[1]}
            read[name] = torch.logit(y, eps=small) if odds else y.clamp_min(small).log()
            self.kinds[name] = _LOG[odds]
        return Logits(tensors | read, read)

    def why(self) -> str:
        """What is to be said of it in the report; nothing where the loss is taken of the output itself."""
        kinds = dict.fromkeys(self.kinds.values())
        parts = [f"taken in front of the final {kind}" for kind in kinds if kind != PROBABILITIES]
        return "; ".join(
            parts + ["of the log of the model's probabilities"] * (PROBABILITIES in kinds)
        )


def final_activation(y: Tensor, *, axis: int | None = None) -> str | None:
    """The activation that an output comes from, but for changes of its shape.

    Args:
        y: the output.
        axis: the one over which a softmax has to run, as a loss on classes does; None for any.
    """
    kind, along = final_node(y, axis)
    if kind not in _ACTIVATIONS or (kind != "Sigmoid" and axis is not None and not along):
        return None
    return kind


def final_node(y: Tensor, axis: int | None = None) -> tuple[str | None, bool]:
    """Name of the last operator, but for changes of the shape, and whether its softmax runs over `axis`."""
    node: Any = y.grad_fn
    viewed, axis = False, (1 if axis is None else axis) % max(y.dim(), 1)
    while node is not None:
        operator = node.name().removesuffix("Backward0")
        if operator in _VIEWS:
            viewed = True
        elif operator == "Permute":
            axis = _signed(node._saved_dims[axis]) % y.dim() if not viewed else axis
        elif operator in {"Transpose", "T"}:
            swapped = (0, 1) if operator == "T" else (node._saved_dim0, node._saved_dim1)
            one, other = (_signed(d) % y.dim() for d in swapped)
            axis = {one: other, other: one}.get(axis, axis)
        else:
            break
        node = node.next_functions[0][0]
    name = None if node is None else node.name().removesuffix("Backward0")
    if name not in {"Softmax", "LogSoftmax"}:
        return name, False
    return name, not viewed and _signed(node._saved_dim) % y.dim() == axis


def _signed(dim: int) -> int:
    """Autograd hands a negative dimension over unsigned."""
    return dim - 2**64 if dim >= 2**63 else dim


def sums_to_one(y: Tensor, axis: int = 1) -> bool:
    """Whether these are probabilities along an axis."""
    values = y.detach()
    if values.dim() < 2 or values.shape[axis] < 2 or not bool((values >= 0).all()):
        return False
    return bool(((values.double().sum(axis) - 1).abs() <= _SUM).all())


def _as(y: Tensor, out: Tensor, z: Tensor) -> Tensor | None:
    """`z`, laid out like `out`, in the shape of `y`: of a view of `out` with all of its values."""
    if (
        y.untyped_storage().data_ptr() != out.untyped_storage().data_ptr()
        or y.numel() != out.numel()
    ):
        return None
    if y.shape == out.shape and y.stride() == out.stride():
        return z
    if y.is_contiguous() and out.is_contiguous():
        return z.reshape(y.shape)
    left = list(zip(out.shape, out.stride(), strict=True))
    order: list[int] = []
    for axis in zip(y.shape, y.stride(), strict=True):
        if axis not in left:
            return None
        order.append(next(i for i, a in enumerate(left) if a == axis and i not in order))
    return z.permute(order) if len(order) == len(left) else None
