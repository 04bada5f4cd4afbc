"""Finding the tensors in whatever a model returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from bnaudit.errors import UsageError

PREFERRED = ("logits", "out", "output", "pred", "predictions")


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
    for wanted in PREFERRED:
        for key, tensor in tensors.items():
            if key.rpartition(".")[2] == wanted:
                return key, tensor
    return next(iter(tensors.items()))


def own_loss(output: Any, *, unasked: bool = False) -> Tensor | None:
    """The loss among a model's outputs: the one called so, else the only one that is a single number.

    Args:
        output: what the model returned.
        unasked: whether it was given no labels: then a single number has to come first, since others have
            one too (a temperature, a share of the experts' loads).
    """
    tensors = floating(named_tensors(output))
    numbers = {k: t for k, t in tensors.items() if t.dim() == 0}
    called = [t for k, t in numbers.items() if k.rpartition(".")[2] == "loss"]
    if called or len(numbers) != 1:
        return next(iter(called), None)
    return numbers.get(next(iter(tensors))) if unasked else next(iter(numbers.values()))


def chosen(output: Any, wanted: str, names: Sequence[str]) -> Tensor:
    """One floating-point tensor of what a model returns.

    Args:
        output: what it returned.
        wanted: its name or number: a key, a field, "output[1]", "1", or a name that the file has for it.
        names: of the file's outputs, in their order.

    Raises:
        UsageError: there is none of this name, or several.
    """
    tensors = named_tensors(output)
    keys = list(tensors)
    shown = [
        names[i] if i < len(names) else key.removeprefix("output.") for i, key in enumerate(keys)
    ]
    found = [
        i for i, key in enumerate(keys) if wanted in {key, key.removeprefix("output."), shown[i]}
    ]
    if not found and wanted.isascii() and wanted.isdecimal() and int(wanted) < len(keys):
        found = [int(wanted)]
    listed = ", ".join(f"{i} {name} {list(tensors[keys[i]].shape)}" for i, name in enumerate(shown))
    if len(found) != 1:
        raise UsageError(
            f"the model has no output {wanted!r}"
            if not found
            else f"{wanted!r} are several outputs",
            hint=f"it has: {listed}",
        )
    tensor = tensors[keys[found[0]]]
    if not tensor.is_floating_point():
        raise UsageError(
            f"the output {wanted!r} holds {str(tensor.dtype).removeprefix('torch.')}: no loss is taken of it",
            hint=f"the model has: {listed}",
        )
    return tensor
