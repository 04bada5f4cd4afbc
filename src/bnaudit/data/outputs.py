"""Finding the tensors in whatever a model returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

_PREFERRED = ("logits", "out", "output", "pred", "predictions")


def named_tensors(output: Any, name: str = "output") -> dict[str, Tensor]:
    """All tensors in a tensor, sequence, mapping, named tuple or dataclass, nested as they like.

    Args:
        output: what the model returned.
        name: of the whole; members are `output.key` or `output[i]`.
    """
    if isinstance(output, Tensor):
        return {name: output}
    found: dict[str, Tensor] = {}
    for key, value in _members(output, name):
        found.update(named_tensors(value, key))
    return found


def _members(output: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(output, Mapping):
        return [(f"{name}.{k}", v) for k, v in output.items()]
    if hasattr(output, "_asdict"):
        return [(f"{name}.{k}", v) for k, v in output._asdict().items()]
    if is_dataclass(output):
        return [(f"{name}.{f.name}", getattr(output, f.name)) for f in fields(output)]
    if isinstance(output, Sequence) and not isinstance(output, (str, bytes)):
        return [(f"{name}[{i}]", v) for i, v in enumerate(output)]
    return []


def floating(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that a loss can be built on."""
    return {k: t for k, t in tensors.items() if t.is_floating_point() and t.numel()}


def primary(tensors: Mapping[str, Tensor]) -> tuple[str, Tensor]:
    """The tensor that labels are for: one called logits or the like, else the first."""
    for wanted in _PREFERRED:
        for key, tensor in tensors.items():
            if key.rpartition(".")[2] == wanted:
                return key, tensor
    return next(iter(tensors.items()))
