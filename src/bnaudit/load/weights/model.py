"""What every reader hands on: named tensors in file order, and what the file says of the layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from bnaudit.load.sniff import FileKind


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """One floating-point tensor of a file.

    Attributes:
        name: as the file has it.
        shape: its sizes.
        read: gives the values in float64; converted when asked for, one tensor at a time.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a weight has its output channels.

    Attributes:
        axis: 0 for Linear and Conv, 1 for ConvTranspose and for MatMul's right factor.
        groups: of a transposed convolution, whose axis 1 counts the channels of one group.
        source: who says so: "operator", "batchnorm" (its channel count) or "assumed".
    """

    axis: int
    groups: int = 1
    source: str = "operator"


def layouts_by_class(modules: Iterable[tuple[str, str, Any]]) -> dict[str, Layout]:
    """Where the weights of modules have their output channels, by the names of their classes.

    Args:
        modules: path, class and number of groups (anything, where it has none) of each.
    """
    layouts: dict[str, Layout] = {}
    for path, kind, groups in modules:
        name = f"{path}.weight" if path else "weight"
        if kind.startswith(("ConvTranspose", "LazyConvTranspose")):
            layouts[name] = Layout(1, groups if isinstance(groups, int) else 1)
        elif kind.startswith(("Conv", "LazyConv", "Linear")):
            layouts[name] = Layout(0)
    return layouts


@dataclass(frozen=True, slots=True)
class WeightFile:
    """The weights of one file.

    Attributes:
        path: the file.
        kind: what it is.
        tensors: floating-point tensors in the file's order.
        ordered: whether that order is the order of registration in the network.
        statistics: names of running means and variances, where the file's graph tells them.
        layouts: weight -> where its output channels are, where the file tells the operator.
        feeds: BatchNorm layer -> the weight whose output goes there and nowhere else; None where
            the file has no graph.
        behind: BatchNorm layer -> the weight behind it, wherever else its output goes.
        batchnorms: names of the BatchNorm layers in the graph, or None without one.
        notes: what the user should know of how the file was read.
    """

    path: Path
    kind: FileKind
    tensors: tuple[NamedTensor, ...]
    ordered: bool = True
    statistics: frozenset[str] = frozenset()
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    feeds: Mapping[str, str] | None = None
    behind: Mapping[str, str] = field(default_factory=dict)
    batchnorms: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
