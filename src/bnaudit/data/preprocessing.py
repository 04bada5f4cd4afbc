"""What goes wrong with images on their way into a network, and the inputs that they should have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of RGB in 0..1."""


def is_image(x: Tensor) -> bool:
    """Whether these are floating-point images of three channels."""
    return x.dim() == 4 and x.shape[1] == len(_MEAN) and x.is_floating_point()


def undone(x: Tensor) -> Iterator[tuple[str, float | None, Tensor]]:
    """(cause, its number, images without it): causes as in `bnaudit.records.deployment.Evidence`.

    Args:
        x: images, see `is_image`.
    """
    mean, std = (
        torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (_MEAN, _STD)
    )
    yield "inputs-not-normalised", None, (x - mean) / std
    yield "inputs-not-normalised", 255.0, (x / 255 - mean) / std
    yield "inputs-normalised-twice", None, x * std + mean
    yield "channels-reversed", None, x.flip(1)
    # Read by OpenCV, normalised as if it were RGB: each channel with the numbers of another.
    yield "channels-reversed", None, ((x * std + mean).flip(1) - mean) / std
