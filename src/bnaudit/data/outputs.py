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
    members: list[tuple[str, Any]] = []
    if isinstance(output, Mapping):
        members = [(f"{name}.{k}", v) for k, v in output.items()]
    elif hasattr(output, "_asdict"):
        members = [(f"{name}.{k}", v) for k, v in output._asdict().items()]
    elif is_dataclass(output):
        members = [(f"{name}.{f.name}", getattr(output, f.name)) for f in fields(output)]
    elif isinstance(output, Sequence) and not isinstance(output, (str, bytes)):
        members = [(f"{name}[{i}]", v) for i, v in enumerate(output)]
    return {key: t for part, value in members for key, t in named_tensors(value, part).items()}


def floating(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that a loss can be built on."""
    return {k: t for k, t in tensors.items() if t.is_floating_point() and t.numel()}


def primary(tensors: Mapping[str, Tensor]) -> tuple[str, Tensor]:
    """The tensor that labels are for: one called logits or the like, else the first."""
    tensors = {
        k: t for k, t in tensors.items() if t.dim()
    } or tensors  # a loss beside them is a number
    for wanted in _PREFERRED:
        for key, tensor in tensors.items():
            if key.rpartition(".")[2] == wanted:
                return key, tensor
    return next(iter(tensors.items()))


def own_loss(output: Any) -> Tensor | None:
    """The loss among a model's outputs: the one called so, else the only one that is a single number."""
    numbers = {k: t for k, t in floating(named_tensors(output)).items() if t.dim() == 0}
    called = [t for k, t in numbers.items() if k.rpartition(".")[2] == "loss"]
    return next(iter(called or numbers.values())) if called or len(numbers) == 1 else None
