"""Padding: ONNX counts all begins before all ends, and may differ at the two sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from bnaudit.load.onnx.converters.base import Converted, apply, constant, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

Sides = list[tuple[int, int]]


def split_pads(values: dict[str, Any], rank: int) -> tuple[tuple[int, ...] | None, Sides | None]:
    """The padding attributes of a convolution or pool.

    Returns:
        Symmetric padding that torch takes as it is, or None; and one (begin, end) a spatial axis,
        or None where it follows from the input's size (SAME_UPPER, SAME_LOWER).
    """
    mode = values.get("auto_pad", "NOTSET")
    if mode in {"SAME_UPPER", "SAME_LOWER"}:
        return None, None
    pads = [0] * (2 * rank) if mode == "VALID" else list(values.get("pads", [0] * (2 * rank)))
    sides = list(zip(pads[:rank], pads[rank:], strict=True))
    if all(begin == end for begin, end in sides):
        return tuple(begin for begin, _ in sides), sides
    return None, sides


def explicit_pads(
    mode: str,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Sides:
    """Padding for ceil(size / stride) outputs; the odd element goes to the end in SAME_UPPER."""
    sides: Sides = []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        covered = (-(-size // stride) - 1) * stride + (window - 1) * dilation + 1
        total = max(covered - size, 0)
        less, more = total // 2, total - total // 2
        sides.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return sides


def pad_zeros(x: torch.Tensor, sides: Sides, value: float = 0.0) -> torch.Tensor:
    """Pads (or crops, where negative) the last axes; torch lists them from the last on."""
    flat = [amount for side in reversed(sides) for amount in side]
    return functional.pad(x, flat, value=value) if any(flat) else x


def pad(node: NodeProto, draft: Draft) -> Converted:
    """Pad in all its modes, along any axes."""
    mode = options(node).get("mode", "constant")
    fixed = constant(draft, node, 1)
    known = None if fixed is None else [int(amount) for amount in fixed]

    def run(
        x: torch.Tensor,
        pads: torch.Tensor | None = None,
        value: torch.Tensor | None = None,
        axes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        amounts = known if known is not None else pads.tolist()  # type: ignore[union-attr]
        chosen = range(x.dim()) if axes is None else [int(a) % x.dim() for a in axes]
        sides = [(0, 0)] * x.dim()
        for index, axis in enumerate(chosen):
            sides[axis] = (amounts[index], amounts[index + len(amounts) // 2])
        if mode == "constant":
            return pad_zeros(x, sides, 0.0 if value is None else float(value))
        return _pad_by_index(x, sides, mode)

    return apply(node, run)


def _pad_by_index(x: torch.Tensor, sides: Sides, mode: str) -> torch.Tensor:
    for axis, (begin, end) in enumerate(sides):
        if begin == 0 and end == 0:
            continue
        size = x.shape[axis]
        index = torch.arange(-begin, size + end, device=x.device)
        if mode == "edge":
            index = index.clamp(0, size - 1)
        elif mode == "wrap":
            index = index % size
        elif mode == "reflect":
            period = max(2 * (size - 1), 1)
            index = (index % period).where(index % period < size, period - index % period)
        else:
            raise NotImplementedError(f"padding mode {mode!r} is not supported")
        x = x.index_select(axis, index)
    return x
