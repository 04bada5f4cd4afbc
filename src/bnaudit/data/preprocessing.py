"""What goes wrong with samples on their way into a network, and how each is put right.

A preparation is what should have been done to a batch `x`, as a function and as the Python that a user
pastes. Those that need numbers of the network's (a factor, an offset) are fitted by
`bnaudit.measure.preparation`, which also tries them all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of RGB in 0..1."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What should have been done to a batch.

    Attributes:
        cause: why it is needed, of `bnaudit.records.deployment.CAUSES`.
        value: its number there.
        code: Python statements that do it to the batch `x`.
        apply: the same as a function.
    """

    cause: str
    value: float | None
    code: str
    apply: Callable[[Tensor], Tensor]


def is_prepared(x: Tensor) -> bool:
    """Whether a tensor is samples that are prepared: numbers or pixels, no indices."""
    return x.dim() > 1 and (x.is_floating_point() or x.dtype == torch.uint8)


def plain(x: Tensor) -> Iterator[Preparation]:
    """Other values in the same places, by what is usual.

    Args:
        x: a batch in floating point.
    """
    yield _affine("inputs-scaled", 255.0, "x = x / 255", 1 / 255, 0)
    yield _affine("inputs-scaled", 1 / 255, "x = x * 255", 255, 0)
    other = "inputs-in-other-range"
    yield _affine(other, None, "x = x / 127.5 - 1", 1 / 127.5, -1)
    yield _affine(other, None, "x = (x + 1) * 127.5", 127.5, 127.5)
    yield _affine(other, None, "x = x * 2 - 1", 2, -1)
    yield _affine(other, None, "x = (x + 1) / 2", 0.5, 0.5)
    yield _affine("inputs-inverted", None, "x = 1 - x", -1, 1)
    yield _affine("inputs-inverted", None, "x = 255 - x", -1, 255)
    for axis in (1, -1):
        if x.dim() == 4 and x.shape[axis] == len(_MEAN):
            yield from _of_imagenet(x, axis)


def standardised(x: Tensor) -> Iterator[Preparation]:
    """Channels of mean 0 and variance 1, wherever their axis is."""
    for axis in (1, -1) if x.shape[1] != x.shape[-1] else (1,):
        others = [d for d in range(x.dim()) if d != axis % x.dim()]
        std, mean = torch.std_mean(x, others, keepdim=True, correction=0)
        std = torch.where(std > 0, std, 1)  # of a channel that is constant
        yield Preparation(
            "inputs-not-standardised",
            None,
            f"x = (x - mean) / std  # those of the training data, along axis {axis}",
            partial(_less, mean, std),
        )


def _less(mean: Tensor, std: Tensor, x: Tensor) -> Tensor:
    return (x - mean) / std


def _affine(cause: str, value: float | None, code: str, times: float, plus: float) -> Preparation:
    return Preparation(cause, value, code, lambda x: x * times + plus)


def fitted(sign: int, size: float, plus: float) -> Preparation:
    """Sign * (x + plus) / size, of numbers that were fitted: three digits of them."""
    size, plus = (float(f"{v:.3g}") for v in (size, plus))
    moved = f"x {'+-'[plus < 0]} {abs(plus):.3g}"
    if sign < 0:
        cause, value, code = "inputs-inverted", None, f"-({moved}) / {size:.3g}"
    elif plus == 0:
        cause, value, code = "inputs-scaled", size, f"x / {size:.3g}"
    elif size == 1:
        cause, value, code = "inputs-shifted", -plus, moved
    else:
        cause, value, code = "inputs-in-other-range", None, f"({moved}) / {size:.3g}"
    return Preparation(cause, value, f"x = {code}", lambda x: sign * (x + plus) / size)


def _of_imagenet(x: Tensor, axis: int) -> Iterator[Preparation]:
    end = "[:, None, None]" if axis == 1 else ""
    m, s = (f"torch.tensor({list(v)}){end}" for v in (_MEAN, _STD))
    shape = (-1, 1, 1) if axis == 1 else (-1,)
    mu, sigma = (torch.tensor(v, dtype=x.dtype).reshape(shape) for v in (_MEAN, _STD))
    missing = "inputs-not-normalised"
    yield Preparation(missing, None, f"x = (x - {m}) / {s}", lambda x: (x - mu) / sigma)
    yield Preparation(
        missing, 255.0, f"x = (x / 255 - {m}) / {s}", lambda x: (x / 255 - mu) / sigma
    )
    back = x * sigma + mu
    once = bool((back > -_ROUNDING).all() and (back < 1 + _ROUNDING).all())
    cause = "inputs-normalised" if once else "inputs-normalised-twice"
    yield Preparation(cause, None, f"x = x * {s} + {m}", lambda x: x * sigma + mu)
    code = f"x = (x * {s} + {m}) * 255"
    yield Preparation("inputs-normalised", 255.0, code, lambda x: (x * sigma + mu) * 255)
    # Read by OpenCV, normalised as if it were RGB: each channel with the numbers of another.
    yield Preparation(
        "channels-reversed",
        None,
        f"x = ((x * {s} + {m}).flip({axis}) - {m}) / {s}",
        lambda x: ((x * sigma + mu).flip(axis) - mu) / sigma,
    )


_ROUNDING = 0.01
"""Of an image's range."""


def elsewhere(x: Tensor) -> Iterator[Preparation]:
    """The same values in other places: the order of colours, and axes that were taken for each other."""
    if x.dim() < 3:
        return
    for axis in (1, -1):
        if x.dim() == 4 and x.shape[axis] == len(_MEAN):
            flip = partial(torch.flip, dims=(axis,))
            yield Preparation("channels-reversed", None, f"x = x.flip({axis})", flip)
    layout, shape = "inputs-in-other-layout", list(x.shape)
    if shape[-1] == shape[1]:
        yield Preparation(layout, None, "x = x.movedim(-1, 1)", lambda x: x.movedim(-1, 1))
    elif shape[1] > 1 and shape[-1] > 1:
        last, first = [*shape[2:], shape[1]], [shape[-1], *shape[1:-1]]
        # Reshaped to the shape that was asked for, where the axes had to be moved.
        yield Preparation(
            layout,
            None,
            f"x = x.reshape(-1, {', '.join(map(str, last))}).movedim(-1, 1)",
            lambda x: x.reshape(-1, *last).movedim(-1, 1),
        )
        yield Preparation(
            layout,
            None,
            f"x = x.reshape(-1, {', '.join(map(str, first))}).movedim(1, -1)",
            lambda x: x.reshape(-1, *first).movedim(1, -1),
        )
    if x.dim() == 4 and shape[2] == shape[3] > 1:
        yield Preparation(layout, None, "x = x.transpose(2, 3)", lambda x: x.transpose(2, 3))


def after(moved: Preparation, then: Preparation) -> Preparation:
    """One behind the other, told by the first."""
    return replace(
        moved, code=f"{moved.code}; {then.code}", apply=lambda x: then.apply(moved.apply(x))
    )
