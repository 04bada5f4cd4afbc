"""Labels that are no array: boxes a row, mappings, lists. They pass untouched to the user's own loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bnaudit.data.arrays import is_array, to_tensor


def is_structured(value: Any) -> bool:
    """Whether this is a mapping, a record, or a sequence of more than numbers."""
    if is_array(value) or isinstance(value, (bool, int, float)):
        return False
    if isinstance(value, (tuple, list)):
        return any(is_structured(v) or (is_array(v) and v.ndim > 0) for v in value)
    return isinstance(value, Mapping) or not hasattr(value, "__array__")


def targets(value: Any, subject: str) -> Any:
    """Numbers as a tensor; anything else as it is, for a loss that knows what it means.

    Args:
        value: labels of a batch.
        subject: named in errors.

    Raises:
        DataError: an array that holds no real numbers.
    """
    return value if is_structured(value) else to_tensor(value, subject)


def moved(value: Any, device: torch.device) -> Any:
    """The same with its tensors on the device; the object itself where they are there."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if device.type == "cpu":
        return value
    if isinstance(value, Mapping):
        return {key: moved(v, device) for key, v in value.items()}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(moved(v, device) for v in value)
    return value


def described(value: Any) -> str:
    """`int64 [8, 3]`, or what it is instead of an array."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"(a mapping with {', '.join(map(str, value)) or 'nothing'})"
    return f"(a {type(value).__name__})"
