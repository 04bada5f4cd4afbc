"""The calls of one forward pass that lie behind a BatchNorm, in order, as the sweep replays them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.autograd.graph import GradientEdge

    from bnaudit.measure.sweep.closed_form import Norm
    from bnaudit.measure.sweep.stack import Pairs

    Apply = Callable[[list[Tensor | None]], list[Tensor | None]]
    Form = Callable[[list[Tensor | None], Pairs], Tensor]


class Unsupported(Exception):  # noqa: N818  # not an error: the layers in front go another way
    """A call that the sweep cannot carry a tangent through."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Stands in a call's arguments where a tensor with a tangent was: its position among those."""

    index: int


@dataclass(slots=True)
class Kept:
    """A tensor that the sweep will read; replaced by a copy before the model overwrites it."""

    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Shape:
    """What a tensor with a tangent looked like."""

    size: tuple[int, ...]
    dtype: Any


@dataclass(slots=True)
class Step:
    """One call.

    Attributes:
        func: the ATen overload.
        args, kwargs: its arguments; `Slot` for tensors with a tangent, `Kept` for other tensors.
        inputs: value numbers of the slots.
        values: what stood in the slots, where the call's rule needs it.
        shapes: of what stood in the slots.
        outputs: value numbers of the floating-point outputs, with their positions.
        positions: which outputs of the call these are.
        out_shapes: of the outputs.
        extra: tensors that the rule wanted of the outputs.
        edges: gradient edges of the outputs, where the call is curved.
        adjoints: the loss's gradients there, after backward.
        key: of the BatchNorm call that this is, None for others.
        norm: the closed form of a BatchNorm on batch statistics.
        slope: what the call multiplies tangents by, where that is all it does to them.
        fused: a slope that follows this call, which its rule applies as well.
        saved: bytes that its rule holds for the way back, per direction.
        work: multiplications and additions per direction, where they are many.
        local: whether autograd on the call alone stands in for a rule.
        singly: whether it takes direction by direction.
        apply: carries a stack of tangents through; None until prepared.
        form: its own curvature along pairs of a stack's directions; None where it has none.
        obstacle: why no tangent can pass.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[int]
    values: list[Kept | None]
    shapes: list[Shape]
    outputs: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    out_shapes: list[Shape] = field(default_factory=list)
    extra: list[Kept] = field(default_factory=list)
    edges: list[GradientEdge | None] = field(default_factory=list)
    adjoints: list[Tensor | None] = field(default_factory=list)
    key: tuple[str, int] | None = None
    apply: Apply | None = None
    form: Form | None = None
    norm: Norm | None = None
    slope: Tensor | None = None
    fused: Tensor | None = None
    saved: int = 0
    work: int = 0
    local: bool = False
    singly: bool = False
    obstacle: str | None = None

    @property
    def name(self) -> str:
        """The operator's name without namespace and overload, in-place marks kept."""
        return str(self.func._schema.name).split("::")[-1]

    def forget(self) -> None:
        """Lets go of everything that only the preparation needed."""
        self.args, self.kwargs = (), {}
        self.values, self.extra, self.adjoints, self.edges = [], [], [], []


@dataclass(slots=True)
class Tape:
    """All calls of a forward pass that saw a tensor behind a BatchNorm.

    Attributes:
        steps: in order.
        count: how many values there are.
        loss: value number of the loss, or None where no BatchNorm reaches it.
    """

    steps: list[Step] = field(default_factory=list)
    count: int = 0
    loss: int | None = None

    def new_value(self) -> int:
        """The number of a new value."""
        self.count += 1
        return self.count - 1
