"""Numbers in the types in which files store them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

TYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def rounded(values: Tensor, dtype: str) -> Tensor:
    """The nearest values that the type has, in float64; what is beyond its range becomes its largest."""
    kind = TYPES[dtype]
    limit = torch.finfo(kind).max
    within = torch.where(values.isfinite(), values.clamp(-limit, limit), values)
    return within.to(kind).double()


def is_beyond(values: Tensor, dtype: str) -> bool:
    """Whether a value lies outside the range of the type."""
    return bool((values.abs() > torch.finfo(TYPES[dtype]).max).any())


def encoded(values: Tensor, dtype: str, *, big_endian: bool = False) -> bytes:
    """Their bytes, one value behind the other."""
    kind = TYPES[dtype]
    words = {8: torch.int64, 4: torch.int32, 2: torch.int16}[kind.itemsize]
    array = values.to(kind).contiguous().view(words).numpy()
    data: bytes = array.astype(array.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
    return data
